"""The table of data sets: a row for each public one. tests/data/test_dataset_rows.py walks it; damaged files
and mirrors have tests of their own, test_mnist.py and test_cifar.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tinydl.data import datasets
from tinydl.data.datasets import ImageSet


@dataclass(frozen=True)
class Row:
    name: str  # of the public function, then what tells variants apart
    load: Callable[..., ImageSet]  # (split, data=None)
    sizes: dict[str, int]  # by split
    image: tuple[int, ...]
    classes: int
    title: str  # which the source sentence begins with
    bad: Sequence[tuple[Callable[[], Any], type[Exception], str]]  # call, error, message


ROWS = [
    Row(
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
    Row(
        "mnist fashion",
        lambda split, data=None: datasets.mnist(split, data, "fashion-mnist"),
        {"train": 60_000, "test": 10_000},
        (28, 28),
        10,
        "Fashion-MNIST, ",
        [],
    ),
    Row(
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
