"""CIFAR-10 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny
Images", 2009), the binary version.

A batch file holds 10,000 records of 3,073 bytes: the label, then 1,024 red, 1,024 green and
1,024 blue pixels, row by row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...archives import decompressed, parsing, tar_members
from ...files import DataError, DataFile, find
from .dataset import TensorDataset
from .image_set import ImageSet

__all__ = ["CIFAR10", "cifar10"]

RECORDS = 10_000
RECORD_BYTES = 1 + 3 * 32 * 32
MEMBERS = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
ARCHIVE = DataFile(
    name="cifar-10/cifar-10-binary.tar.gz",
    checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",  # the figure that its page publishes
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    also=("cifar-10/cifar-10-batches-bin", "cifar-10-batches-bin", "cifar-10/cifar-10-binary.tar.xz"),
    size=170_052_171,
)


def cifar10(split: str = "train", data: str | os.PathLike[str] | None = None) -> ImageSet:
    """The 50,000 training or 10,000 test images of CIFAR-10, in the canonical order.

    They come (see `files.find`) from the folder `data` or TINYDL_DATA, which holds
    ``cifar-10/cifar-10-batches-bin/*.bin`` or ``cifar-10/cifar-10-binary.tar.gz`` or ``.tar.xz``; else from
    the cache; else from the author's page (170 MB). An archive is read to its end, where its checksum is, and
    never unpacked to disk; that takes seconds, an unpacked folder does not.

    Args:
        split: "train" or "test".
        data: the folder above ``cifar-10/``. If given, the files are there or it is an error.

    Returns:
        images uint8 (n, 3, 32, 32) in RGB, labels int64 (n,) of 0…9, source.

    Raises:
        DataError: a folder without the files, or a damaged file.
        DownloadError: the archive is nowhere to be had.
    """
    if split not in MEMBERS:
        raise ValueError(f"cifar10: split: expected one of {', '.join(MEMBERS)}, got {split!r}")
    (path,), source = find([ARCHIVE], data)
    wanted = MEMBERS[split]
    images = np.empty((len(wanted), RECORDS, 3, 32, 32), np.uint8)
    labels = np.empty((len(wanted), RECORDS), np.int64)
    missing = set(wanted)
    for member, raw in (_folder_members if os.path.isdir(path) else _archive_members)(path, wanted):
        i = wanted.index(member)
        labels[i], images[i] = _records(f"{path}: {member}", raw)
        missing.discard(member)
    if missing:
        raise DataError(f"{path}: expected {', '.join(wanted)}; not in it: {', '.join(sorted(missing))}")
    # (batches, RECORDS, 3, 32, 32) -> (n, 3, 32, 32)
    return ImageSet(
        images.reshape(-1, 3, 32, 32),
        labels.reshape(-1),
        f"CIFAR-10, {labels.size:,} {split} images from {source}",
    )


class CIFAR10(TensorDataset):
    """The 50,000 training or 10,000 test images of CIFAR-10, from where `cifar10` finds them.

    Returns:
        inputs uint8 (n, 3, 32, 32), targets int64 (n,), ten classes.
    """

    def __init__(self, split: str = "train", data: str | os.PathLike[str] | None = None) -> None:
        images, labels, source = cifar10(split, data)
        super().__init__(images, labels, classes=CLASSES, name=f"CIFAR-10 {split}", source=source)


def _folder_members(path: Path, wanted: tuple[str, ...]) -> Iterator[tuple[str, bytearray]]:
    for member in wanted:
        if os.path.exists(path / member):
            with parsing(path / member, "damaged file"), decompressed(path / member) as stream:
                yield member, stream.read(RECORDS * RECORD_BYTES + 1)


def _archive_members(path: Path, wanted: tuple[str, ...]) -> Iterator[tuple[str, bytearray]]:
    return tar_members(path, dict.fromkeys(wanted, RECORDS * RECORD_BYTES))


def _records(who: str, raw: bytearray) -> tuple[np.ndarray, np.ndarray]:
    if len(raw) != RECORDS * RECORD_BYTES:
        raise DataError(
            f"{who}: expected {RECORDS * RECORD_BYTES} bytes, {RECORDS} records of {RECORD_BYTES}, got "
            f"{len(raw)}"
        )
    records = np.frombuffer(raw, np.uint8).reshape(RECORDS, RECORD_BYTES)
    labels = records[:, 0]
    if labels.max() > 9:
        raise DataError(f"{who}: expected labels of 0 to 9, got {labels.max()}")
    return labels, records[:, 1:].reshape(RECORDS, 3, 32, 32)
