"""Layers over spatial axes in both modes. Inputs are x (and indices) and the parameters."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import nn

from . import references as ref
from .conv import ODD, SETTINGS
from .layers import layer
from .row import PLANE, Row, apart, positive

LINE, SPREAD, HALVES = (5, 4, 3), (3, 2, 3), (2, 2, 2)


def _layers(axes: int) -> list[Row]:
    """Every kind of layer over a number of axes."""
    sizes, size = LINE[:axes], SPREAD[:axes]
    image, kernel = (2, 2, *sizes), (3, 2, 1)[:axes]
    some, places = (2, 2, *HALVES[:axes]), functools.partial(_places, axes)

    def rows(kind: str, make: Any, sample: Any, reference: Any, inputs: int = 1) -> list[Row]:
        name = f"{kind}{axes}d"
        return layer(name, lambda dtype: make(getattr(nn, name), dtype), [sample], reference, inputs=inputs)

    return [
        *rows(
            "Conv",
            lambda f, dtype: f(2, 3, kernel, 2, 1, dtype=dtype),
            [image, (3, 2, *kernel), (3,)],
            lambda x, w, b: ref.conv(x, w, b, 2, 1),
        ),
        *rows(
            "ConvTranspose",
            lambda f, dtype: f(2, 3, kernel, 2, 0, 1, dtype=dtype),
            [some, (2, 3, *kernel), (3,)],
            lambda x, w, b: ref.conv_transpose(x, w, b, 2, 0, 1),
        ),
        *rows("MaxPool", lambda f, dtype: f(2), [apart(*image)], lambda x: ref.max_pool(x, 2, 2)),
        *rows("AvgPool", lambda f, dtype: f(2, 1), [image], lambda x: ref.avg_pool(x, 2, 1)),
        *rows(
            "LPPool",
            lambda f, dtype: f(2, 2, 1),
            [positive(*image)],
            lambda x: (ref.windows(x, 2) ** 2).sum(-1) ** 0.5,
        ),
        *rows(
            "MaxUnpool",
            lambda f, dtype: f(2),
            [some, places],
            lambda x, i: ref.max_unpool(x, i, (4,) * axes),
            2,
        ),
        *rows(
            "AdaptiveAvgPool",
            lambda f, dtype: f(size),
            [image],
            lambda x: ref.adaptive_pool(x, size, np.mean),
        ),
        *rows(
            "AdaptiveMaxPool",
            lambda f, dtype: f(size),
            [apart(*image)],
            lambda x: ref.adaptive_pool(x, size, np.max),
        ),
    ]


def _places(axes: int, generator: np.random.Generator) -> np.ndarray:
    """Where a window each of 2 positions an axis puts its winner: no two at one place."""
    drawn = [generator.permutation(4**axes)[: 2**axes] for _ in range(4)]
    return np.reshape(drawn, (2, 2, *HALVES[:axes]))


def _local(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    seen = ref.windows(x, 2, (2, 1), (1, 0))  # (N, C, OH, OW, K)
    return np.einsum("nchwk,hwock->nohw", seen, w.reshape(*w.shape[:3], seen.shape[1], -1)) + b


ROWS: list[Row] = [
    *[row for axes in (1, 2, 3) for row in _layers(axes)],
    *layer(
        "Conv2d odd",
        lambda dtype: nn.Conv2d(4, 6, (2, 3), (2, 1), ((1, 0), (2, 1)), (2, 1), 2, dtype=dtype),
        [[(2, 4, 6, 5), (6, 2, 2, 3), (6,)]],
        functools.partial(ref.conv, **SETTINGS[ODD]),
        bad=[((PLANE,), ShapeError, "conv2d: x has C=2, weight expects C=4 (groups 2)")],
    ),
    *layer(
        "Conv2d circular",
        lambda dtype: nn.Conv2d(2, 3, 3, padding="same", padding_mode="circular", dtype=dtype),
        [[(2, 2, 4, 3), (3, 2, 3, 3), (3,)]],
        lambda x, w, b: ref.conv(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="wrap"), w, b),
    ),
    *layer(
        "LocallyConnected2d",
        lambda dtype: nn.LocallyConnected2d(2, 3, (4, 3), 2, (2, 1), (1, 0), dtype=dtype),
        [[(2, 2, 4, 3), (3, 2, 3, 8), (3, 3, 2)]],
        _local,
        bad=[
            (
                (PLANE,),
                ShapeError,
                "locally_connected2d: expected weight (3, 3, 'O', 8), got input (1, 2, 4, 4)",
            )
        ],
    ),
    *layer("GlobalAvgPool2d", lambda dtype: nn.GlobalAvgPool2d(), [[(2, 2, 4, 6)]], lambda x: x.mean((2, 3))),
    *layer(
        "GlobalMaxPool2d", lambda dtype: nn.GlobalMaxPool2d(), [[apart(2, 2, 4, 6)]], lambda x: x.max((2, 3))
    ),
    *layer("Unfold", lambda dtype: nn.Unfold(2), [[(2, 2, 4, 3)]], lambda x: ref.unfold(x, 2)),
    *layer(
        "Fold",
        lambda dtype: nn.Fold((4, 3), 2),
        [[(2, 8, 6)]],
        lambda y: ref.pullback(lambda x: ref.unfold(x, 2), [np.zeros((2, 2, 4, 3))], [y], 0),
        bad=[
            (
                (td.ones(1, 8, 5),),
                ShapeError,
                "fold: expected 6 columns for output_size (4, 3), got (1, 8, 5)",
            )
        ],
    ),
]
