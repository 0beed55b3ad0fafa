"""Reductions over axes.

    sum          y[k] = Σ_r x[k, r]            float32 is accumulated in float64; bool and int give int64
    wide_sum     the same, left in float64
    sum_to       the transpose of broadcasting: x summed down to a shape that broadcasts to x's
    amax, amin   the largest, the smallest of x[k, r]: NaN where there is one; 0.0 is above -0.0
    max, min     values and int64 indices along one axis: the first winner; NaN beats everything
    prod         Π_r x[k, r] along one axis
    any_true     is one of x[k, r] not zero? all_true: are all of them?
    logsumexp    m + log Σ_r exp(x[k, r] - m) with m = max_r x[k, r]; all -inf gives -inf, a +inf gives +inf

`dims` is a tuple of axes in increasing order; the reduced axes disappear. x is C-contiguous.

sums, extremes and logsumexp are associative, so any pattern of kept (K) and reduced (R) axes is folded in
passes, the innermost R first: K R K R is K·R·K rows of length R, then K blocks of R rows of length K. A long
R is cut into parts, which the next pass folds. What stands between passes is float64 (int64 for integers; of
extremes what they are of). The cuts depend on the shape alone, and so do the bits. Cost: one read of x; the
later passes are small.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..machine import memory
from ..machine.dispatch import operation
from ..machine.errors import ShapeError
from ..machine.validate import report
from . import launches, loops

Array = Any


# ---- Folding in passes: sum, sum_to, amax, amin, logsumexp


def _total(x: Array, dims: Any, dtype: Any) -> Array:
    """The sum, taken in float64; inf - inf is NaN without a warning."""
    with np.errstate(all="ignore"):
        return x.sum(dims, dtype=np.float64).astype(dtype)


@operation
def sum(x, dims):
    """Sum over the axes `dims`."""
    if x.dtype.kind == "f":
        return _total(x, dims, x.dtype).reshape(_kept(x.shape, dims))
    return x.sum(dims, dtype=np.int64).reshape(_kept(x.shape, dims))


@sum.loops
def _(x, dims):
    return _sum_into(x, dims, _kept(x.shape, dims))


@sum.cuda
def _(x, dims):
    return _sum_into_on_cuda(x, dims, _kept(x.shape, dims))


@operation
def wide_sum(x, dims):
    """Sum of floating x over the axes `dims`, left in float64."""
    return _total(x, dims, np.float64).reshape(_kept(x.shape, dims))


@wide_sum.loops
def _(x, dims):
    out = memory.empty(_kept(x.shape, dims), np.float64, x)
    return loops.fold(loops.sum_rows, loops.sum_columns, x, dims, out, 0.0)


@wide_sum.cuda
def _(x, dims):
    return launches.fold("sum", x, dims, memory.empty(_kept(x.shape, dims), np.float64, x), 0.0)


@operation
def sum_to(x, shape):
    """Sum x down to `shape`, which broadcasts to x.shape."""
    dims = _stretched(x.shape, shape)
    if x.dtype.kind == "f":
        return _total(x, dims, x.dtype).reshape(shape)
    return x.sum(dims, dtype=np.int64).reshape(shape)


@sum_to.loops
def _(x, shape):
    return _sum_into(x, _stretched(x.shape, shape), shape)


@sum_to.cuda
def _(x, shape):
    return _sum_into_on_cuda(x, _stretched(x.shape, shape), shape)


@operation
def amax(x, dims):
    """The largest element over the axes `dims`."""
    return _extreme("amax", x, dims, np.max, 0.0)


@amax.loops
def _(x, dims):
    _check_not_empty("amax", x, *dims)
    return loops.extreme(x, dims, memory.empty(_kept(x.shape, dims), x.dtype, x), least=False)


@amax.cuda
def _(x, dims):
    _check_not_empty("amax", x, *dims)
    return launches.extreme("amax", x, dims, _kept(x.shape, dims))


@operation
def amin(x, dims):
    """The smallest element over the axes `dims`."""
    return _extreme("amin", x, dims, np.min, -0.0)


@amin.loops
def _(x, dims):
    _check_not_empty("amin", x, *dims)
    return loops.extreme(x, dims, memory.empty(_kept(x.shape, dims), x.dtype, x), least=True)


@amin.cuda
def _(x, dims):
    _check_not_empty("amin", x, *dims)
    return launches.extreme("amin", x, dims, _kept(x.shape, dims))


def _extreme(name: str, x: Array, dims: tuple[int, ...], pick: Any, zero: float) -> Array:
    """As NumPy has it; `zero` where one of the zeros has that sign."""
    _check_not_empty(name, x, *dims)
    y = pick(x, axis=dims)
    if x.dtype.kind == "f":
        such = ((x == 0) & (np.signbit(x) == np.signbit(zero))).any(dims)
        y = np.where(y == 0, np.where(such, x.dtype.type(zero), x.dtype.type(-zero)), y)
    return y


@operation
def logsumexp(x, dims):
    """log Σ exp(x) over the axes `dims`, without overflow."""
    wide = x.astype(np.float64)
    top = wide.max(dims, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(top), top, 0)
    with np.errstate(all="ignore"):
        y = np.log(np.exp(wide - shift).sum(dims, keepdims=True)) + shift
    return y.astype(x.dtype).reshape(_kept(x.shape, dims))


@logsumexp.loops
def _(x, dims):
    out = memory.empty(_kept(x.shape, dims), x.dtype, x)
    return loops.fold(loops.logsumexp_rows, loops.logsumexp_columns, x, dims, out, -np.inf)


@logsumexp.cuda
def _(x, dims):
    return launches.fold("logsumexp", x, dims, memory.empty(_kept(x.shape, dims), x.dtype, x), -np.inf)


# ---- Products and truth


@operation
def prod(x, dim):
    """Product along the axis `dim`, in float64 or int64."""
    floating = x.dtype.kind == "f"
    with np.errstate(all="ignore"):
        return x.prod(dim, dtype=np.float64 if floating else np.int64).astype(
            x.dtype if floating else np.int64
        )


@prod.cuda
def _(x, dim):
    floating = x.dtype.kind == "f"
    dims = (dim % x.ndim,)
    out = memory.empty(_kept(x.shape, dims), x.dtype if floating else np.int64, x)
    return launches.fold("prod", x, dims, out, 1.0 if floating else 1)


@operation
def any_true(x, dims):
    """Is one of the elements over the axes `dims` not zero?"""
    return x.any(dims)


@any_true.cuda
def _(x, dims):
    return launches.fold("any", x, dims, memory.empty(_kept(x.shape, dims), np.bool_, x), False)


@operation
def all_true(x, dims):
    """Are all elements over the axes `dims` not zero?"""
    return x.all(dims)


@all_true.cuda
def _(x, dims):
    return launches.fold("all", x, dims, memory.empty(_kept(x.shape, dims), np.bool_, x), True)


# ---- The winner along one axis: max, min


@operation
def max(x, dim):
    """(values, int64 indices) of the largest elements along `dim`."""
    _check_not_empty("max", x, dim)
    return _taken(x, x.argmax(dim, keepdims=True), dim)


@max.loops
def _(x, dim):
    _check_not_empty("max", x, dim)
    return loops.winners(loops.max_loop, loops.max_rows, x, dim)


@max.cuda
def _(x, dim):
    _check_not_empty("max", x, dim)
    return launches.winners("max", x, dim)


@operation
def min(x, dim):
    """(values, int64 indices) of the smallest elements along `dim`."""
    _check_not_empty("min", x, dim)
    return _taken(x, x.argmin(dim, keepdims=True), dim)


@min.loops
def _(x, dim):
    _check_not_empty("min", x, dim)
    return loops.winners(loops.min_loop, loops.min_rows, x, dim)


@min.cuda
def _(x, dim):
    _check_not_empty("min", x, dim)
    return launches.winners("min", x, dim)


# ---- What the operations share


def _kept(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([size for dim, size in enumerate(shape) if dim not in dims])


def _sum_into(x: Array, dims: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    floating = x.dtype.kind == "f"
    out = memory.empty(shape, x.dtype if floating else np.int64, x)
    return loops.fold(loops.sum_rows, loops.sum_columns, x, dims, out, 0.0 if floating else 0)


def _sum_into_on_cuda(x: Array, dims: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    floating = x.dtype.kind == "f"
    out = memory.empty(shape, x.dtype if floating else np.int64, x)
    return launches.fold("sum", x, dims, out, 0.0 if floating else 0)


def _stretched(shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of `shape` along which an array of shape `target` is repeated when it is broadcast."""
    extra = len(shape) - len(target)
    if extra < 0 or any(t not in (1, s) for s, t in zip(shape[extra:], target, strict=True)):
        raise ShapeError(f"sum_to: expected a shape that broadcasts to {shape}, got {target}")
    return (*range(extra), *(extra + i for i, t in enumerate(target) if t == 1 != shape[extra + i]))


def _taken(x: Array, indices: Array, dim: int) -> tuple[Array, Array]:
    return np.take_along_axis(x, indices, dim).squeeze(dim), indices.squeeze(dim)


def _check_not_empty(name: str, x: Array, *dims: int) -> None:
    for dim in dims:
        if x.shape[dim] == 0:
            raise ShapeError(f"{name}: expected at least one element along dim {dim}, got shape {x.shape}")


def main() -> None:
    """Validate against the reference, then time the patterns of a training step."""
    random = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        images, rows = (
            random.standard_normal((64, 32, 16, 16)).astype(dtype),
            random.standard_normal((1000, 100)).astype(dtype),
        )
        for dims in ((0, 2, 3), (0, 1, 2, 3), (1,)):
            report(sum, images, dims)
        report(sum, rows, (0,))
        report(wide_sum, rows, (1,))
        for dims in ((0, 2, 3), (0, 1, 2, 3), (1,)):
            report(amax, images, dims)
        report(sum_to, rows, (1, 100))
        for op in (max, min):
            report(op, rows, 1)
            report(op, images, 1)
        report(prod, rows, 0)
        report(any_true, np.greater(rows, 5), (0,))
        report(logsumexp, rows, (1,))
        report(logsumexp, images, (1,))
