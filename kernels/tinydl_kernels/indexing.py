"""Moving elements to other places.

    concatenate    arrays one after another along an axis
    pad, crop      a constant frame around x; the part of x within a frame (pad's transpose)
    place          zeros(shape) with [index] = g: the transpose of basic indexing x[index]
    place_diagonal zeros(shape) with g on a diagonal

Each element is read and written once: 2·bytes of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import memory
from .dispatch import operation
from .validate import report

Array = Any
Index = Any  # an int, slice, None or Ellipsis, or a tuple of them


def concatenate(arrays: Sequence[Array | None], dim: int, sizes: Sequence[int]) -> Array:
    """Arrays of equal shapes but for axis `dim`, one after another along it; zeros for a None. sizes: theirs along `dim`.

    The same slicing serves NumPy and CuPy.
    """
    first = next(a for a in arrays if a is not None)
    out = memory.empty((*first.shape[:dim], sum(sizes), *first.shape[dim + 1 :]), first.dtype, first)
    at = 0
    for a, size in zip(arrays, sizes, strict=True):
        out[(slice(None),) * dim + (slice(at, at + size),)] = 0 if a is None else a
        at += size
    return out


def place_diagonal(g: Array, shape: Sequence[int], offset: int, dim1: int, dim2: int) -> Array:
    """zeros(shape) with g (..., diagonal) at [..., i, i + offset] of the axes dim1, dim2. For NumPy and CuPy."""
    out = memory.zeros(tuple(shape), g.dtype, g)
    steps = np.arange(g.shape[-1])
    matrices = memory.array_module(g).moveaxis(out, (dim1, dim2), (-2, -1))
    matrices[..., max(-offset, 0) + steps, max(offset, 0) + steps] = g
    return out


@operation(portable=True)
def pad(x, low, high, value):
    """x with low[i] elements of `value` before and high[i] after it along axis i."""
    return np.pad(x, list(zip(low, high, strict=True)) or 0, constant_values=value)


@pad.cpu
def _(x, low, high, value):
    out = memory.empty(tuple([a + size + b for size, a, b in zip(x.shape, low, high, strict=True)]), x.dtype, x)
    out[...] = value
    out[tuple([slice(a, a + size) for size, a in zip(x.shape, low, strict=True)])] = x
    return out


@operation(portable=True)
def crop(x, low, high):
    """x without its first low[i] and last high[i] elements along axis i."""
    return x[_inside(x.shape, low, high)].copy()


@crop.cpu
def _(x, low, high):
    part = x[_inside(x.shape, low, high)]
    out = memory.empty(part.shape, x.dtype, x)
    out[...] = part
    return out


def _inside(shape: Sequence[int], low: Sequence[int], high: Sequence[int]) -> Index:
    return (*[slice(a, size - b) for size, a, b in zip(shape, low, high, strict=True)], ...)  # ...: an array even if 0-d


@operation(portable=True)
def place(g, shape, index):
    """zeros(shape) with [index] = g, for a basic index: ints, slices, None, Ellipsis."""
    out = memory.array_module(g).zeros(shape, g.dtype)
    out[index] = g
    return out


@place.cpu
def _(g, shape, index):
    out = memory.zeros(shape, g.dtype, g)
    out[index] = g
    return out


def main() -> None:
    """Validate every operation against its reference, then time it."""
    x = np.random.default_rng(0).standard_normal((64, 16, 28, 28)).astype(np.float32)
    frame = (0, 0, 2, 2)
    report(pad, x, frame, frame, 0.0)
    report(crop, x, frame, frame)
    report(place, x, (64, 16, 56, 56), (..., slice(None, None, 2), slice(1, None, 2)))


if __name__ == "__main__":
    main()
