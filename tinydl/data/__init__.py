"""Data sets as NumPy arrays, splits, minibatches with a position that can be saved, and files that
are written whole or not at all.
"""

from __future__ import annotations

from ..files import DataError, DownloadError, atomic_write
from . import datasets, transforms
from .datasets.cifar import cifar10
from .datasets.dataset import ConcatDataset, Dataset, Subset, TensorDataset
from .datasets.image_set import ImageSet
from .datasets.mnist import mnist, read_idx
from .loader import Batches, normalize, subset
from .splits import kfold, leave_one_group_out, n_per_class, nested_subsets, split

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
    "kfold",
    "leave_one_group_out",
    "mnist",
    "n_per_class",
    "nested_subsets",
    "normalize",
    "read_idx",
    "split",
    "subset",
    "transforms",
]
