"""Data sets as NumPy arrays. One data set is a file here with `__all__`, and its row in
tests/catalogue/datasets.py.
"""

from __future__ import annotations

from .audit import Audit, audit
from .cifar import CIFAR10, cifar10
from .dataset import ConcatDataset, Dataset, Subset, TensorDataset
from .image_csv import ImageCSV
from .image_folder import ImageFolder
from .medmnist import MedMNIST
from .mnist import MNIST, FashionMNIST, ImageSet, mnist, read_idx
from .pictures import Findings
from .synthetic import signals, spirals, step_function, two_moons, xor
from .usps import USPS

__all__ = [
    "CIFAR10",
    "MNIST",
    "USPS",
    "Audit",
    "ConcatDataset",
    "Dataset",
    "FashionMNIST",
    "Findings",
    "ImageCSV",
    "ImageFolder",
    "ImageSet",
    "MedMNIST",
    "Subset",
    "TensorDataset",
    "audit",
    "cifar10",
    "mnist",
    "read_idx",
    "signals",
    "spirals",
    "step_function",
    "two_moons",
    "xor",
]
