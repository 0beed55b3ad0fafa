"""Layers that give images another size, in both modes."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from tinydl import nn

from .layers import layer
from .row import Row, X

SIZES = {1: (2, 2, 4), 2: (2, 2, 4, 3), 3: (1, 2, 3, 4, 3)}
SIDES = {1: (1, 2), 2: (1, 2, 0, 1), 3: (1, 2, 0, 1, 2, 1)}
MODES = {"ReflectionPad": "reflect", "ReplicationPad": "edge", "CircularPad": "wrap"}


def padded(axes: int, mode: str, **more: float) -> object:
    """numpy.pad of the last axes, by the same sides."""
    sides = SIDES[axes]
    pairs = [(0, 0), (0, 0), *[(sides[2 * k], sides[2 * k + 1]) for k in reversed(range(axes))]]
    return lambda x: np.pad(x, pairs, mode=mode, **more)  # type: ignore[call-overload]


def margins(axes: int) -> list[Row]:
    bad = [((X[0, 0],), ShapeError, "pad: expected pairs for at most 0 dims, got")]
    rows = layer(
        f"ConstantPad{axes}d",
        lambda dtype: getattr(nn, f"ConstantPad{axes}d")(SIDES[axes], 0.5),
        [[SIZES[axes]]],
        padded(axes, "constant", constant_values=0.5),
        bad=bad,
    )
    rows += layer(
        f"ZeroPad{axes}d",
        lambda dtype: getattr(nn, f"ZeroPad{axes}d")(SIDES[axes]),
        [[SIZES[axes]]],
        padded(axes, "constant"),
        bad=bad,
    )
    for kind, mode in MODES.items():
        rows += layer(
            f"{kind}{axes}d",
            lambda dtype, kind=kind: getattr(nn, f"{kind}{axes}d")(SIDES[axes]),
            [[SIZES[axes]]],
            padded(axes, mode),
            bad=bad,
        )
    return rows


def doubled(x: np.ndarray) -> np.ndarray:
    return x.repeat(2, -1).repeat(2, -2)


def bilinear(x: np.ndarray) -> np.ndarray:
    """2 x 2 corners on 3 x 3 places."""
    weights = np.array([[1, 0], [0.5, 0.5], [0, 1]])
    return np.einsum("nchw,yh,xw->ncyx", x, weights, weights)


BAD = [((X,), ShapeError, "interpolate: expected input of")]

ROWS: list[Row] = [
    *[row for axes in (1, 2, 3) for row in margins(axes)],
    *layer("Upsample", lambda dtype: nn.Upsample(scale_factor=2), [[(2, 2, 3, 2)]], doubled, bad=BAD),
    *layer(
        "UpsamplingNearest2d",
        lambda dtype: nn.UpsamplingNearest2d(scale_factor=2),
        [[(2, 2, 3, 2)]],
        doubled,
        bad=BAD,
    ),
    *layer(
        "UpsamplingBilinear2d",
        lambda dtype: nn.UpsamplingBilinear2d((3, 3)),
        [[(2, 2, 2, 2)]],
        bilinear,
        bad=BAD,
    ),
    *layer(
        "PixelShuffle",
        lambda dtype: nn.PixelShuffle(2),
        [[(2, 4, 3, 2)]],
        lambda x: x.reshape(2, 1, 2, 2, 3, 2).transpose(0, 1, 4, 2, 5, 3).reshape(2, 1, 6, 4),
        bad=[((X,), ShapeError, "pixel_shuffle: expected (*, C·2², H, W), got (3, 4)")],
    ),
    *layer(
        "PixelUnshuffle",
        lambda dtype: nn.PixelUnshuffle(2),
        [[(2, 1, 4, 2)]],
        lambda x: x.reshape(2, 1, 2, 2, 1, 2).transpose(0, 1, 3, 5, 2, 4).reshape(2, 4, 2, 1),
        bad=[((X,), ShapeError, "pixel_unshuffle: expected (*, C, H·2, W·2), got (3, 4)")],
    ),
]
