"""USPS handwritten digits (Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning"), as one HDF5
file: ``train/data`` and ``test/data`` (n, 256) float32 in [0, 1], ``train/target`` and ``test/target`` (n,).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ...archives import allowance, check_regular, parsing
from ...files import DataError, DataFile, find
from .dataset import TensorDataset

__all__ = ["USPS"]

FILE = DataFile(
    name="usps/usps.h5",
    # no figure is published for this form: that of the file whose counts are the canonical 7291 and 2007
    checksum="sha256:734f88c541104a956d88be2c95d03b4a463ffd74ccc2ba9c80841fb98e3fcb36",
    urls=(),
)
COMPLAINT = "not a whole HDF5 file of USPS digits"


class USPS(TensorDataset):
    """The 7,291 training or 2,007 test images of USPS. Needs h5py (the extra "data").

    Args:
        split: "train" or "test".
        data: the folder above ``usps/``; else TINYDL_DATA (see `files.find`). There is no download.

    Returns:
        inputs float32 (n, 1, 16, 16) in [0, 1], targets int64 (n,), classes "0" to "9".

    Raises:
        DataError: no such file, or a damaged one.
        ImportError: h5py is not installed.
    """

    def __init__(self, split: str = "train", data: str | os.PathLike[str] | None = None) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"USPS: split: expected one of train, test, got {split!r}")
        (path,), source = find([FILE], data)
        pixels, labels = _read(path, split)
        super().__init__(
            pixels.reshape(-1, 1, 16, 16),
            labels,
            classes=[str(digit) for digit in range(10)],
            name=f"USPS {split}",
            source=f"USPS, {len(labels):,} {split} images from {source}",
        )


def _read(path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        import h5py
    except ImportError as error:
        raise ImportError('USPS: needs h5py: pip install "tinydl[data]"') from error

    check_regular(path)
    with parsing(path, COMPLAINT), h5py.File(path, "r") as file:
        pixels = _dataset(h5py, file, path, f"{split}/data")
        labels = _dataset(h5py, file, path, f"{split}/target")
        if pixels.ndim != 2 or pixels.shape[1] != 256 or labels.shape != pixels.shape[:1]:
            raise DataError(
                f"{path}: {COMPLAINT}: expected (n, 256) and (n,), got {pixels.shape} and {labels.shape}"
            )
        if pixels.dtype.kind != "f" or labels.dtype.kind not in "iu":
            raise DataError(
                f"{path}: {COMPLAINT}: expected floats and integers, got {pixels.dtype}, {labels.dtype}"
            )
        found, targets = pixels[:].astype(np.float32), labels[:].astype(np.int64)
    if not len(targets) or targets.min() < 0 or targets.max() > 9:
        raise DataError(f"{path}: {COMPLAINT}: expected labels of 0 to 9")
    if not (found.min() >= 0 and found.max() <= 1):
        raise DataError(f"{path}: {COMPLAINT}: expected pixels of 0 to 1")
    return found, targets


def _dataset(h5py: Any, file: Any, path: Path, name: str) -> Any:
    """A data set of the file itself: a link, or an external or virtual one, could read any other file."""
    group = file
    for part in name.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise DataError(f"{path}: {COMPLAINT}: expected {name}")
        group = group[part]
    if not isinstance(group, h5py.Dataset) or group.is_virtual or group.external:
        raise DataError(f"{path}: {COMPLAINT}: expected {name} to be an array of this file")
    if group.nbytes > allowance(path):
        raise DataError(f"{path}: not read: {name} unpacks to {group.nbytes:,} bytes")
    return group
