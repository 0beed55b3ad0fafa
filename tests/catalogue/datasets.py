"""The table of data sets: a row for each class or function that makes one. tests/data/test_datasets.py and
test_pictures.py walk it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

from tinydl.data import datasets
from tinydl.data.datasets import ImageSet


@dataclass(frozen=True)
class Row:
    name: str
    make: Callable[..., Any]
    shape: tuple[int, ...] = ()  # of a sample's input
    classes: int = 0
    checksum: str = ""  # of what the defaults make
    counts: dict[str, list[int]] = field(default_factory=dict)  # of the stored sets, by split
    bad: Sequence[tuple[Callable[[], Any], type[Exception], str]] = ()  # call, error, message


@dataclass(frozen=True)
class ImageSetRow:
    name: str  # of the public function, then what tells variants apart
    load: Callable[..., ImageSet]  # (split, data=None)
    sizes: dict[str, int]  # by split
    image: tuple[int, ...]
    classes: int
    title: str  # which the source sentence begins with
    bad: Sequence[tuple[Callable[[], Any], type[Exception], str]]  # call, error, message


IMAGE_SETS = [
    ImageSetRow(
        "mnist",
        datasets.mnist,
        {"train": 60_000, "test": 10_000},
        (28, 28),
        10,
        "MNIST, ",
        [
            (
                lambda: datasets.mnist("valid"),
                ValueError,
                "mnist: split: expected one of train, test, got 'valid'",
            ),
            (lambda: datasets.mnist(name="letters"), ValueError, "mnist: name: expected one of mnist,"),
        ],
    ),
    ImageSetRow(
        "mnist fashion",
        lambda split, data=None: datasets.mnist(split, data, "fashion-mnist"),
        {"train": 60_000, "test": 10_000},
        (28, 28),
        10,
        "Fashion-MNIST, ",
        [],
    ),
    ImageSetRow(
        "cifar10",
        datasets.cifar10,
        {"train": 50_000, "test": 10_000},
        (3, 32, 32),
        10,
        "CIFAR-10, ",
        [
            (
                lambda: datasets.cifar10("valid"),
                ValueError,
                "cifar10: split: expected one of train, test, got 'valid'",
            )
        ],
    ),
]
"""The functions that give arrays; tests/data/test_dataset_rows.py walks them."""

STORED = [
    Row(
        "MNIST",
        datasets.MNIST,
        (1, 28, 28),
        10,
        counts={
            "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        },
    ),
    Row(
        "FashionMNIST",
        datasets.FashionMNIST,
        (1, 28, 28),
        10,
        counts={"train": [6000] * 10, "test": [1000] * 10},
    ),
    Row("CIFAR10", datasets.CIFAR10, (3, 32, 32), 10, counts={"test": [1000] * 10}),
    Row(
        "USPS",
        datasets.USPS,
        (1, 16, 16),
        10,
        counts={
            "train": [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644],
            "test": [359, 264, 198, 166, 200, 160, 170, 147, 166, 177],
        },
    ),
    Row(
        "MedMNIST",
        lambda split, data=None: datasets.MedMNIST("pneumoniamnist", split, data),
        (1, 28, 28),
        2,
        counts={"train": [1214, 3494], "val": [135, 389], "test": [234, 390]},
    ),
]
"""Found in files."""

MADE = [
    Row(
        "two_moons",
        datasets.two_moons,
        (2,),
        2,
        "sha256:f1252acca0b9fc000142783301b1707f73530ab07d99e15b794af077dbef27aa",
        bad=[
            (lambda: datasets.two_moons(1), ShapeError, "two_moons: n: expected 2 or more, got 1"),
            (
                lambda: datasets.two_moons(noise=-1),
                ValueError,
                "noise: expected a finite number from 0, got -1",
            ),
            (lambda: datasets.two_moons(seed=-1), ShapeError, r"seed: expected 0 to 2\*\*32 - 1, got -1"),
        ],
    ),
    Row(
        "spirals",
        datasets.spirals,
        (2,),
        2,
        "sha256:aadefe788fd4d144c4e8c21ee1f974c220b53b2c273b039f156001c75b60aeda",
        bad=[
            (lambda: datasets.spirals(classes=1), ShapeError, "spirals: classes: expected 2 or more, got 1")
        ],
    ),
    Row(
        "xor",
        datasets.xor,
        (2,),
        2,
        "sha256:4ea833404ea4e691b96a2409c3d1ef761cc3a69b7c1f3e13d9866313afa0f558",
        bad=[(lambda: datasets.xor(3), ShapeError, "xor: n: expected 4 or more, got 3")],
    ),
    Row(
        "step_function",
        datasets.step_function,
        (1,),
        0,
        "sha256:c8764f292a4ade434936a6b8fa9949e663af443e4ce461338e39b4038612b9b7",
        bad=[(lambda: datasets.step_function(0), ShapeError, "step_function: n: expected 1 or more, got 0")],
    ),
    Row(
        "signals",
        datasets.signals,
        (40,),
        10,
        "sha256:4fa1de5713f4493f7d6b0498b3bd51dafaa8091486cc5b8db8439c5ae5a43728",
        bad=[(lambda: datasets.signals(noise=float("nan")), ValueError, "noise: expected a finite number")],
    ),
]
"""Made by a program from a seed."""

ROWS = [
    *IMAGE_SETS,
    *STORED,
    *MADE,
    Row("TensorDataset", datasets.TensorDataset),
    Row("Subset", datasets.Subset),
    Row("ConcatDataset", datasets.ConcatDataset),
    Row("ImageFolder", datasets.ImageFolder),
    Row("ImageCSV", datasets.ImageCSV),
    Row("audit", datasets.audit),
]

HELPERS = {"Audit", "Dataset", "Findings", "ImageSet", "random_split", "read_idx"}
"""Public, and no data sets."""
