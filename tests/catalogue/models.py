"""The table of networks: a row for each public one. tests/models/test_model_rows.py walks it.

A row says how to make the network for `classes` classes, what it takes, how many parameters it has in the
words of its publication, and what it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import models
from tinydl.nn import Module


@dataclass(frozen=True)
class Row:
    name: str  # of the public class or function, then what tells variants apart
    make: Callable[..., Module]  # (classes=10)
    input: tuple[int, ...]  # the shape of one sample
    parameters: int  # with 10 classes, running statistics left out
    published: str  # where the number stands, and as what
    bad: Sequence[tuple[Callable[[], Any], type[Exception], str]] = ()  # call, error, message


def of_images(make: Callable[..., Module], *shape: int) -> Callable[[], Any]:
    """A forward pass with images of the wrong shape."""
    return lambda: make()(td.zeros(2, *shape))


PAPER = "arXiv 1712.09936: conv 6, 16, 120, FC 84, 10"
CHANNELS = "conv1: conv2d: x has C=1, weight expects C=3"

ROWS = [
    Row(
        "LeNet",
        models.LeNet,
        (1, 28, 28),
        61_706,
        PAPER,
        [
            (
                lambda: models.LeNet("droput"),
                ValueError,
                "LeNet: expected regularizer in ['batchnorm', 'dropout', 'none'], got 'droput'",
            ),
            (of_images(models.LeNet, 3, 28, 28), ShapeError, "conv1: conv2d: x has C=3, weight expects C=1"),
        ],
    ),
    Row("LeNet batchnorm", lambda **s: models.LeNet("batchnorm", **s), (1, 28, 28), 61_706 + 2 * 84, PAPER),
    Row("LeNet none", lambda **s: models.LeNet("none", **s), (1, 28, 28), 61_706, PAPER),
    *(
        Row(
            f"resnet{6 * n + 2}",
            getattr(models, f"resnet{6 * n + 2}"),
            (3, 32, 32),
            parameters,
            f"arXiv 1512.03385, table 6: {millions}M",
            [(of_images(getattr(models, f"resnet{6 * n + 2}"), 1, 32, 32), ShapeError, CHANNELS)],
        )
        for n, parameters, millions in (
            (3, 269_722, 0.27),
            (5, 464_154, 0.46),
            (7, 658_586, 0.66),
            (9, 853_018, 0.85),
        )
    ),
    Row(
        "ResNet",
        lambda **s: models.ResNet(1, widths=(4, 8, 16), **s),
        (3, 32, 32),
        5_006,
        "counted by hand, 108 + 8 + 304 + 896 + 3,520 + 170",
        [(of_images(lambda: models.ResNet(1), 1, 32, 32), ShapeError, CHANNELS)],
    ),
    Row(
        "ResNet of grey images",
        lambda **s: models.ResNet(1, widths=(4, 8, 16), in_channels=1, **s),
        (1, 28, 28),
        4_934,
        "72 weights of the first convolution less than with three channels",
        [
            (
                of_images(lambda: models.ResNet(1, in_channels=1), 3, 28, 28),
                ShapeError,
                "conv1: conv2d: x has C=3, weight expects C=1",
            )
        ],
    ),
]
