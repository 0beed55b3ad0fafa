"""Layers that give images another size, in both modes."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import nn

from .layers import layer
from .row import Row, X, uniform

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


def _at_places(x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Bilinear, with zeros outside and the edges at -1 and 1."""
    (N, _, H, W), out = x.shape, np.zeros((*x.shape[:2], *grid.shape[1:3]))
    for n, i, j in np.ndindex(N, *grid.shape[1:3]):
        v, u = ((grid[n, i, j, 1] + 1) * H - 1) / 2, ((grid[n, i, j, 0] + 1) * W - 1) / 2
        for h in range(H):
            for w in range(W):
                out[n, :, i, j] += x[n, :, h, w] * max(0, 1 - abs(v - h)) * max(0, 1 - abs(u - w))
    return out


def _affine(theta: np.ndarray) -> np.ndarray:
    """For images of 2 x 4."""
    y, x = np.meshgrid([-0.5, 0.5], [-0.75, -0.25, 0.25, 0.75], indexing="ij")
    return np.einsum("nij,hwj->nhwi", theta, np.stack([x, y, np.ones((2, 4))], -1))


ROWS += [
    Row(
        "grid_sample",
        td.grid_sample,
        [
            [(2, 2, 3, 4), uniform(-1.2, 1.2, 2, 2, 3, 2)],
            [(1, 1, 1, 1), uniform(-0.9, 0.9, 1, 1, 1, 2)],
            [(0, 1, 2, 2), (0, 1, 1, 2)],
        ],
        _at_places,
        bad=[((X, X), ShapeError, "grid_sample: expected input (N, C, H, W) and grid (N, OH, OW, 2), or")],
        tolerance=1e-4,
    ),
    Row(
        "grid_sample bicubic",
        lambda x, grid: td.grid_sample(x, grid, "bicubic", "reflection", True),
        [[(1, 2, 3, 4), uniform(-1.2, 1.2, 1, 2, 3, 2)]],
        lambda x, grid: _bicubic(x, grid),
        tolerance=1e-4,
    ),
    Row(
        "affine_grid of nothing",
        lambda theta: td.affine_grid(theta, (theta.shape[0], 1, 2, 4)),
        [[(0, 2, 3)]],
        _affine,
    ),
    Row(
        "affine_grid",
        lambda theta: td.affine_grid(theta, (theta.shape[0], 1, 2, 4)),
        [[(2, 2, 3)]],
        _affine,
        bad=[
            (
                (td.ones(2, 3, 3),),
                ShapeError,
                "affine_grid: expected theta (N, 2, 3) for a size (N, C, H, W), or",
            )
        ],
    ),
]


def _kernel(t: float) -> float:
    t, a = abs(t), -0.75
    if t < 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a if t < 2 else 0.0


def _bicubic(x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Cubic, with the image reflected at the centres of its outer pixels, which are at -1 and 1."""
    (N, _, H, W), out = x.shape, np.zeros((*x.shape[:2], *grid.shape[1:3]))
    far = np.pad(x, [(0, 0), (0, 0), (4, 4), (4, 4)], "reflect")
    for n, i, j in np.ndindex(N, *grid.shape[1:3]):
        v, u = (grid[n, i, j, 1] + 1) / 2 * (H - 1) + 4, (grid[n, i, j, 0] + 1) / 2 * (W - 1) + 4
        for h, w in np.ndindex(H + 8, W + 8):
            out[n, :, i, j] += far[n, :, h, w] * _kernel(v - h) * _kernel(u - w)
    return out
