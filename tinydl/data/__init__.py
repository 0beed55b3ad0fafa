"""Data sets as NumPy arrays, minibatches with a position that can be saved, and files that are written whole or not at all."""

from __future__ import annotations

from tinydl.data.cifar import cifar10
from tinydl.data.files import DataError, DownloadError, atomic_write
from tinydl.data.loader import Batches, normalize, subset
from tinydl.data.mnist import ImageSet, mnist, read_idx

__all__ = [
    "Batches",
    "DataError",
    "DownloadError",
    "ImageSet",
    "atomic_write",
    "cifar10",
    "mnist",
    "normalize",
    "read_idx",
    "subset",
]
