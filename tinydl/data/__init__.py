"""Data sets as NumPy arrays, transforms, splits, samplers, loaders whose position can be saved, and a test
set that is looked at once.
"""

from __future__ import annotations

from ..files import DataError, DownloadError, atomic_write
from . import datasets, transforms
from .datasets.cifar import cifar10
from .datasets.dataset import ConcatDataset, Dataset, Subset, TensorDataset, random_split
from .datasets.image_set import ImageSet
from .datasets.mnist import mnist, read_idx
from .loader import Batches, DataLoader, default_collate, normalize, subset
from .samplers import (
    BatchSampler,
    ClassBalancedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .score_once import HeldOutWarning, ScoreOnce
from .splits import kfold, leave_one_group_out, n_per_class, nested_subsets, split

__all__ = [
    "BatchSampler",
    "Batches",
    "ClassBalancedSampler",
    "ConcatDataset",
    "DataError",
    "DataLoader",
    "Dataset",
    "DownloadError",
    "HeldOutWarning",
    "ImageSet",
    "RandomSampler",
    "Sampler",
    "ScoreOnce",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "atomic_write",
    "cifar10",
    "datasets",
    "default_collate",
    "kfold",
    "leave_one_group_out",
    "mnist",
    "n_per_class",
    "nested_subsets",
    "normalize",
    "random_split",
    "read_idx",
    "split",
    "subset",
    "transforms",
]
