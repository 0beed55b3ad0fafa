"""Data sets as NumPy arrays, minibatches with a position that can be saved, and files that are
written whole or not at all.
"""

from __future__ import annotations

from ..files import DataError, DownloadError, atomic_write
from . import datasets
from .datasets.cifar import cifar10
from .datasets.dataset import ConcatDataset, Dataset, Subset, TensorDataset
from .datasets.mnist import ImageSet, mnist, read_idx
from .loader import Batches, normalize, subset

__all__ = [
    "Batches",
    "ConcatDataset",
    "DataError",
    "Dataset",
    "DownloadError",
    "ImageSet",
    "Subset",
    "TensorDataset",
    "atomic_write",
    "cifar10",
    "datasets",
    "mnist",
    "normalize",
    "read_idx",
    "subset",
]
