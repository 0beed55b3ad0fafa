"""Images read at any places: spatial transformers. Jaderberg et al., arXiv 1506.02025.

Composed of gathers with weights that depend on the places, so all orders of derivative exist; where the
interpolation has a kink they are those of one side, as in PyTorch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Tensor, add, expand
from ..engine.promotion import require_floating, require_one_dtype
from ..engine.public import public
from .arithmetic import round
from .elementwise import abs, div, ge, le, logical_and, mul, sub, to_dtype, where
from .functions import floor
from .indexing import gather
from .matmul import matmul
from .shape import reshape, transpose, unbind, unsqueeze

__all__ = [
    "affine_grid",
    "grid_sample",
]

CUBIC = -0.75
"""The parameter of the cubic kernel, PyTorch's. Keys, IEEE TASSP 29(6), 1981."""


@public
def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Where the pixels of an image of `size` come from under affine maps, for `grid_sample`.

    theta (N, 2, 3) and size (N, C, H, W) give (N, H, W, 2); (N, 3, 4) and (N, C, D, H, W) give
    (N, D, H, W, 3). The last dim is (x, y[, z]); -1 and 1 are the outer edges of the image, or with
    `align_corners` the centres of its outer pixels.
    """
    axes = len(size) - 2
    if axes not in (2, 3) or theta.shape != (size[0], axes, axes + 1):
        raise ShapeError(
            "affine_grid: expected theta (N, 2, 3) for a size (N, C, H, W), or (N, 3, 4) for "
            f"(N, C, D, H, W), got {theta.shape} and {tuple(size)}"
        )
    require_floating("affine_grid", theta)
    lines = [_line(n, bool(align_corners)) for n in size[2:]]
    planes = [*reversed(np.meshgrid(*lines, indexing="ij")), np.ones(tuple(size[2:]))]
    base = constant(theta, np.stack(planes, -1).reshape(-1, axes + 1).astype(theta.dtype))
    return reshape(matmul(base, transpose(theta, 1, 2)), (size[0], *size[2:], axes))


def _line(n: int, align_corners: bool) -> np.ndarray:
    line = np.linspace(-1, 1, n) if n > 1 else np.zeros(n)
    return line if align_corners else line * (n - 1) / max(n, 1)


@public
def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The image (N, C, H, W) at the places grid (N, OH, OW, 2): (N, C, OH, OW); volumes (N, C, D, H, W) at
    (N, OD, OH, OW, 3).

    Args:
        grid: (x, y[, z]) as `affine_grid` gives them.
        mode: "bilinear", "nearest" (without a gradient of the grid) or, for images, "bicubic".
        padding_mode: what lies outside: "zeros", "border" (the nearest pixel), "reflection".
        align_corners: see `affine_grid`; None is False.
    """
    axes = input.ndim - 2
    if (
        axes not in (2, 3)
        or grid.ndim != input.ndim
        or grid.shape[0] != input.shape[0]
        or grid.shape[-1] != axes
    ):
        raise ShapeError(
            "grid_sample: expected input (N, C, H, W) and grid (N, OH, OW, 2), or (N, C, D, H, W) and "
            f"(N, OD, OH, OW, 3), got {input.shape} and {grid.shape}"
        )
    if mode not in MODES or (mode == "bicubic" and axes == 3):
        raise ValueError(
            f"grid_sample: expected mode 'bilinear', 'nearest' or, for images, 'bicubic', got {mode!r}"
        )
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            f"grid_sample: expected padding_mode 'zeros', 'border' or 'reflection', got {padding_mode!r}"
        )
    if 0 in input.shape[2:]:
        raise ShapeError(f"grid_sample: expected at least one pixel, got {input.shape}")
    require_floating("grid_sample", input)
    require_one_dtype("grid_sample", input.dtype, grid.dtype)
    sizes, align = input.shape[2:], bool(align_corners)
    scalar = input.dtype.type
    places = [
        reshape(g, (g.shape[0], math.prod(g.shape[1:]))) for g in reversed(unbind(grid, -1))
    ]  # by axis of the image
    places = [
        mul(add(g, scalar(1)), scalar((n - 1) / 2)) if align
        else sub(mul(add(g, scalar(1)), scalar(n / 2)), scalar(0.5))
        for g, n in zip(places, sizes, strict=True)
    ]  # fmt: skip
    read = read_at(input, places, mode, padding_mode, align)
    return reshape(read, (*input.shape[:2], *grid.shape[1:-1]))


def read_at(
    input: Tensor,
    places: Sequence[Tensor],
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align: bool = False,
) -> Tensor:
    """The image (N, C, *) at places (N, P) along each of its axes, counted in pixels: (N, C, P)."""
    sizes = input.shape[2:]
    if mode != "bicubic":
        places = [_padded(x, n, padding_mode, align) for x, n in zip(places, sizes, strict=True)]
    taps = [MODES[mode](x) for x in places]
    if mode == "bicubic":
        taps = [
            [(_padded(i, n, padding_mode, align), w) for i, w in line]
            for line, n in zip(taps, sizes, strict=True)
        ]
    pixels = reshape(input, (*input.shape[:2], math.prod(sizes)))
    total: Any = None
    for corner in itertools.product(*taps):
        value = _pixels(pixels, [i for i, _ in corner], sizes)
        for _, weight in corner:
            value = value if weight is None else mul(value, unsqueeze(weight, 1))
        total = value if total is None else add(total, value)
    return total


Taps = list[tuple[Tensor, Tensor | None]]  # whole places along an axis with their weights; None: one


def _nearest(x: Tensor) -> Taps:
    return [(round(x), None)]


def _linear(x: Tensor) -> Taps:
    first = floor(x)
    after = sub(x, first)
    return [(first, sub(x.dtype.type(1), after)), (add(first, x.dtype.type(1)), after)]


def _cubic(x: Tensor) -> Taps:
    first, scalar = floor(x), x.dtype.type
    after = sub(x, first)
    before = sub(scalar(1), after)
    return [
        (add(first, scalar(k - 1)), weight)
        for k, weight in enumerate((_far(after + 1), _near(after), _near(before), _far(before + 1)))
    ]


def _near(t: Tensor) -> Tensor:
    return ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1


def _far(t: Tensor) -> Tensor:
    return ((CUBIC * t - 5 * CUBIC) * t + 8 * CUBIC) * t - 4 * CUBIC


MODES: dict[str, Callable[[Tensor], Taps]] = {"bilinear": _linear, "nearest": _nearest, "bicubic": _cubic}


def _padded(x: Tensor, n: int, padding_mode: str, align: bool) -> Tensor:
    """Places along an axis of n pixels brought into it, unless what lies outside is zero."""
    if padding_mode == "zeros":
        return x
    scalar = x.dtype.type
    if padding_mode == "reflection":
        low, span = (0.0, n - 1.0) if align else (-0.5, float(n))
        if not span:
            return mul(x, scalar(0))
        apart = abs(sub(x, scalar(low)))
        turns = floor(div(apart, scalar(span)))
        rest = sub(apart, mul(turns, scalar(span)))
        even = le(sub(turns, mul(floor(mul(turns, scalar(0.5))), scalar(2))), scalar(0.5))
        x = add(where(even, rest, sub(scalar(span), rest)), scalar(low))
    # at the bounds themselves there is no gradient, as in PyTorch
    return where(le(x, scalar(0)), scalar(0), where(ge(x, scalar(n - 1)), scalar(n - 1), x))


def _pixels(pixels: Tensor, places: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """The numbers (N, C, P) at whole places (N, P) along each axis, and zero where there is no pixel."""
    inside, at = None, None
    for place, n in zip(places, sizes, strict=True):
        here = logical_and(ge(place, place.dtype.type(0)), le(place, place.dtype.type(n - 1)))
        whole = to_dtype(where(here, place.detach(), place.dtype.type(0)), "int64")
        inside = here if inside is None else logical_and(inside, here)
        at = whole if at is None else add(mul(at, n), whole)
    assert at is not None
    assert inside is not None
    index = expand(unsqueeze(at, 1), shape=(*pixels.shape[:2], at.shape[-1]))
    return where(unsqueeze(inside, 1), gather(pixels, 2, index), pixels.dtype.type(0))
