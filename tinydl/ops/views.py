"""Shapes by NumPy's names, and the sizes of one dim or of all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from ..engine.public import public
from .shape import flatten, normalize_dim, reshape, transpose

__all__ = [
    "numel",
    "ravel",
    "swapaxes",
    "swapdims",
    "unflatten",
]


@public
def numel(input: Tensor) -> int:
    """How many elements there are."""
    return input.array.size


@public
def ravel(input: Tensor) -> Tensor:
    """All elements in one dim; a view where they lie in order."""
    return flatten(input)


@public
def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """`transpose` by NumPy's name."""
    return transpose(input, *(normalize_dim("swapaxes", axis, input.ndim) for axis in (axis0, axis1)))


@public
def swapdims(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """`transpose` by another name."""
    return transpose(input, *(normalize_dim("swapdims", dim, input.ndim) for dim in (dim0, dim1)))


@public
def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """A dim as several of the given sizes, of which one may be -1: what is left."""
    return unflattened("unflatten", input, dim, sizes)


def unflattened(who: str, x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """The same for `who`, which is named in errors."""
    dim = normalize_dim(who, dim, x.ndim)
    wanted = () if isinstance(sizes, (int, np.integer)) else tuple(sizes)
    known, free = math.prod(n for n in wanted if n != -1), wanted.count(-1)
    fits = x.ndim > 0 and len(wanted) > 0 and free < 2 and min(wanted) >= -1
    if not fits or (x.shape[dim] % max(known, 1) if free else x.shape[dim] != known):
        raise ShapeError(f"{who}: expected sizes for the elements of dim {dim} of {x.shape}, got {sizes}")
    rest = x.shape[dim] // max(known, 1)
    return reshape(x, (*x.shape[:dim], *(rest if n == -1 else n for n in wanted), *x.shape[dim + 1 :]))


def stride(input: Tensor, dim: int | None = None) -> int | tuple[int, ...]:
    """How many elements of the memory lie from one place to the next, along each dim or along `dim`."""
    steps = tuple(step // input.dtype.itemsize for step in input.array.strides)
    return steps if dim is None else steps[normalize_dim("stride", dim, input.ndim)]
