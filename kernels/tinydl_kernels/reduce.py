"""Reductions over axes.

    sum          y[k] = Σ_r x[k, r]            float32 is accumulated in float64; bool and int give int64
    sum_to       the transpose of broadcasting: sums x down to a shape that broadcasts to x's
    max, min     values and int64 indices along one axis: the first winner; NaN beats everything
    logsumexp    m + log Σ_r exp(x[k, r] - m) with m = max_r x[k, r]; all -inf gives -inf, a +inf gives +inf

`dims` is a tuple of axes in increasing order; the reduced axes disappear.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .dispatch import operation
from .errors import ShapeError
from .memory import array_module

Array = Any


@operation(portable=True)
def sum(x, dims):
    """Sum over the axes `dims`."""
    if x.dtype.kind == "f":
        return x.sum(dims, dtype=np.float64).astype(x.dtype)
    return x.sum(dims, dtype=np.int64)


@operation(portable=True)
def sum_to(x, shape):
    """Sum x down to `shape`, which broadcasts to x.shape."""
    return sum.implementations["reference"](x, _stretched(x.shape, shape)).reshape(shape)


@operation(portable=True)
def max(x, dim):
    """(values, int64 indices) of the largest elements along `dim`."""
    return _winners(x, dim, x.argmax)


@operation(portable=True)
def min(x, dim):
    """(values, int64 indices) of the smallest elements along `dim`."""
    return _winners(x, dim, x.argmin)


@operation(portable=True)
def logsumexp(x, dims):
    """log Σ exp(x) over the axes `dims`, computed without overflow."""
    xp = array_module(x)
    wide = x.astype(np.float64)
    top = wide.max(dims, keepdims=True, initial=-np.inf)
    shift = xp.where(xp.isfinite(top), top, 0)
    with np.errstate(all="ignore"):
        return (xp.log(xp.exp(wide - shift).sum(dims)) + shift.reshape(xp.sum(wide, dims).shape)).astype(x.dtype)


def _stretched(shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of `shape` along which an array of shape `target` is repeated when it is broadcast."""
    extra = len(shape) - len(target)
    if extra < 0 or any(t not in (1, s) for s, t in zip(shape[extra:], target, strict=True)):
        raise ShapeError(f"sum_to: expected a shape that broadcasts to {shape}, got {target}")
    return (*range(extra), *(extra + i for i, t in enumerate(target) if t == 1 != shape[extra + i]))


def _winners(x: Array, dim: int, position: Any) -> tuple[Array, Array]:
    _not_empty(x, dim)
    indices = position(dim).astype(np.int64)
    values = array_module(x).take_along_axis(x, array_module(x).expand_dims(indices, dim), dim).squeeze(dim)
    return values, indices


def _not_empty(x: Array, dim: int) -> None:
    if x.shape[dim] == 0:
        raise ShapeError(f"max, min: expected at least one element along dim {dim}, got shape {x.shape}")
