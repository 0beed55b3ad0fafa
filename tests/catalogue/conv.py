"""Convolution and what is made of its windows: a plain one, and one that uses every
setting; other numbers of axes.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError
from tinydl_kernels.machine.window import Window

import tinydl as td
from tinydl.ops import conv

from . import references as ref
from .row import (
    PLANE,
    Row,
    V,
    X,
)

USUAL = Window.conv("conv2d", (2, 3, 5, 4), (4, 3, 3, 2), 1, 1)
ODD = Window.conv("conv2d", (2, 4, 6, 5), (6, 2, 2, 3), (2, 1), ((1, 0), (2, 1)), (2, 1), 2)
SETTINGS: dict[Window, dict[str, Any]] = {
    USUAL: {"pads": ((1, 1), (1, 1))},
    ODD: {"stride": (2, 1), "pads": ((1, 0), (2, 1)), "dilation": (2, 1), "groups": 2},
}
SIZES = {USUAL: ((2, 3, 5, 4), (4, 3, 3, 2)), ODD: ((2, 4, 6, 5), (6, 2, 2, 3))}


def _conv_rows(name: str, window: Window) -> list[Row]:
    x, w = SIZES[window]
    y = (x[0], w[0], *window.out)
    forward = functools.partial(ref.conv, **SETTINGS[window])
    return [
        Row(
            f"conv.conv {name}",
            lambda *t: conv._conv(*t, window=window),
            [[x, w, w[:1]]],
            forward,
            "conv.conv",
        ),
        Row(
            f"conv.conv_dx {name}",
            lambda g, w: conv._conv_dx(g, w, window=window),
            [[y, w]],
            lambda g, w: ref.pullback(forward, [np.zeros(x), w], [g], 0),
            "conv.conv_dx",
        ),
        Row(
            f"conv.conv_dw {name}",
            lambda x, g: conv._conv_dw(x, g, window=window),
            [[x, y]],
            lambda x, g: ref.pullback(forward, [x, np.zeros(w)], [g], 1),
            "conv.conv_dw",
        ),
    ]


def _axes(axes: int) -> list[Row]:
    """Convolution and its transpose over a number of axes."""
    image, kernel = (3, 4, 2)[:axes], (3, 2, 2)[:axes]
    plain, transposed = getattr(td, f"conv{axes}d"), getattr(td, f"conv_transpose{axes}d")
    return [
        Row(
            f"conv{axes}d {axes} axes",
            lambda x, w, b: plain(x, w, b, 2, 1, groups=2),
            [[(2, 4, *image), (2, 2, *kernel), (2,)]],
            lambda x, w, b: ref.conv(x, w, b, 2, 1, groups=2),
            bad=[((X, td.ones(3), None), ShapeError, f"conv{axes}d: ")],
        ),
        Row(
            f"conv_transpose{axes}d",
            lambda x, w, b: transposed(x, w, b, 2, 1, 1),
            [[(2, 3, *image), (3, 2, *kernel), (2,)]],
            lambda x, w, b: ref.conv_transpose(x, w, b, 2, 1, 1),
            bad=[((X, td.ones(3), None), ShapeError, f"conv_transpose{axes}d: ")],
        ),
    ]


ROWS: list[Row] = [
    Row(
        "conv2d",
        lambda x, w, b=None: td.conv2d(x, w, b, 2, 1),
        [
            [(2, 3, 5, 6), (4, 3, 3, 3), (4,)],
            [(1, 1, 1, 1), (1, 1, 2, 2), (1,)],
            [(0, 2, 4, 4), (3, 2, 2, 2), (3,)],
        ],
        lambda x, w, b: ref.conv(x, w, b, (2, 2), ((1, 1), (1, 1))),
        bad=[
            ((X, X), ShapeError, "conv2d: x expected 4 axes (N, C, H, W), got 2: x (3, 4), weight (3, 4)"),
            ((PLANE, td.ones(3, 1, 2, 2)), ShapeError, "conv2d: x has C=2, weight expects C=1 (groups 1)"),
            ((PLANE, td.ones(3, 2, 2, 2), V[:2]), ShapeError, "conv2d: expected bias (3,), got (2,)"),
            (
                (PLANE, td.ones(3, 2, 2, 2).double()),
                DtypeError,
                "conv2d: expected one dtype, got float32 and float64",
            ),
        ],
    ),
    *_conv_rows("usual", USUAL),
    *_conv_rows("odd", ODD),
    *[row for axes in (1, 2, 3) for row in _axes(axes)],
]
