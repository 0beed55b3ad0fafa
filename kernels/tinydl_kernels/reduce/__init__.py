"""Reductions over axes.

    sum          y[k] = Σ_r x[k, r]            float32 is accumulated in float64; bool and int give int64
    sum_to       the transpose of broadcasting: x summed down to a shape that broadcasts to x's
    max, min     values and int64 indices along one axis: the first winner; NaN beats everything
    prod         Π_r x[k, r] along one axis
    any_true     is one of x[k, r] not zero? all_true: are all of them?
    logsumexp    m + log Σ_r exp(x[k, r] - m) with m = max_r x[k, r]; all -inf gives -inf, a +inf gives +inf

`dims` is a tuple of axes in increasing order; the reduced axes disappear. x is C-contiguous.

sum and logsumexp are associative, so any pattern of kept (K) and reduced (R) axes is folded in passes, the
innermost R first: K R K R is K·R·K rows of length R, then K blocks of R rows of length K. A long R is cut
into parts, which the next pass folds. What stands between passes is float64 (int64 for integers). The cuts
depend on the shape alone, and so do the bits.
Cost: one read of x; the later passes are small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from ..cpu import jobs, lane_reductions, simd, transcendental
from ..cpu.compiler import kernel, parallel
from ..cuda import launching
from ..machine import memory
from ..machine.dispatch import operation
from ..machine.errors import ShapeError
from ..machine.validate import report

Array = Any
GRAIN = 1 << 15
PART = 1 << 14
"""Elements of a row, or of a block of columns, that one partial result stands for."""
TILE = 1 << 9
"""Columns that are folded together: their accumulators stay in the first cache."""


# ---- Folding in passes: sum, sum_to, logsumexp


def _fold(rows: Any, columns: Any, x: Array, dims: tuple[int, ...], out: Array, zero: float) -> Array:
    """Fold the axes `dims` of x into `out`.

    rows(n, grain, a, y, size, part, parts, zero)             a (outer, size) -> y (outer, parts)
    columns(n, grain, a, y, size, part, parts, inner, zero)  a (outer, size, inner) -> y (outer, parts, inner)
    """
    a = x.reshape(-1)
    for outer, size, inner, part, final in _passes(x, dims, out, zero, _part):
        parts = -(-size // part)
        y = (
            out.reshape(-1)
            if final
            else memory.empty((outer * parts * inner,), np.result_type(type(zero)), x)
        )
        grain = 1 + GRAIN // ((size if size < part else part) * (inner if inner < TILE else TILE))
        if inner == 1:
            rows(outer * parts, grain, a, y, size, part, parts, zero)
        else:
            columns(outer * parts * -(-inner // TILE), grain, a, y, size, part, parts, inner, zero)
        a = y
    return out


def _part(outer: int, size: int, inner: int) -> int:
    return PART // (inner if inner < TILE else TILE)


def _fold_on_cuda(kernel: str, x: Array, dims: tuple[int, ...], out: Array, zero: float) -> Array:
    """Fold the axes `dims` of x into `out` by the kernels {kernel}_{from}_{to}, with
    double between passes over floats.
    """
    x = a = launching.widened(x)
    real = x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)
    for outer, size, inner, part, final in _passes(x, dims, out, zero, launching.team_part):
        parts = -(-size // part)
        y = out if final else memory.empty((outer, parts, inner), np.result_type(type(zero)), x)
        name = f"{kernel}_{_type(a, a is x)}_{_type(y, final)}"
        shape = np.int64(outer), np.int64(size), np.int64(inner), np.int64(parts)
        launching.launch_teams("reduce", name, outer * parts * inner, part, inner, a, y, *shape, real=real)
        a = y
    return out


def _type(array: Array, end: bool) -> str:
    return array.dtype.name if array.dtype.kind != "f" else "real" if end else "double"


Pass = tuple[int, int, int, int, bool]
"""(outer, size, inner, part, is it the last?)"""


def _passes(
    x: Array, dims: tuple[int, ...], out: Array, zero: float, part_of: Callable[[int, int, int], int]
) -> tuple[Pass, ...]:
    """The passes over the axes `dims` of x; without any, `out` is filled here."""
    passes = _scheduled(x.shape, dims, part_of) if x.size else ()
    if not passes:
        jobs.spoil()
        out[...] = zero if not x.size else x.reshape(out.shape)
    return passes


@lru_cache(maxsize=1024)
def _scheduled(
    sizes: tuple[int, ...], dims: tuple[int, ...], part_of: Callable[[int, int, int], int]
) -> tuple[Pass, ...]:
    """A pass leaves one result for each part_of(outer, size, inner) elements of a line of `size`."""
    shape, passes = list(sizes), []
    pending = [dim for dim in dims if shape[dim] != 1]
    while pending:
        last = first = pending.pop()
        while pending and all(size == 1 for size in shape[pending[-1] + 1 : first]):
            first = pending.pop()
        outer, size, inner = (
            math.prod(part) for part in (shape[:first], shape[first : last + 1], shape[last + 1 :])
        )
        part = part_of(outer, size, inner)
        parts = -(-size // part)
        passes.append((outer, size, inner, part, not pending and parts == 1))
        shape[first : last + 1] = [parts] + [1] * (last - first)
        if parts > 1:
            pending.append(first)
    return tuple(passes)


@kernel(fastmath={"reassoc"})
def _total(row, zero):
    total = zero
    for k in range(row.size):  # by index: LLVM does not vectorize Numba's array iterator
        total += row[k]
    return total


@parallel
def _sum_rows(start, stop, a, y, size, part, parts, zero):
    for item in range(start, stop):
        row, at = item // parts, item % parts * part
        count = part if at + part < size else size - at
        y[item] = _total(a[row * size + at : row * size + at + count], zero)


@parallel
def _sum_columns(start, stop, a, y, size, part, parts, inner, zero):
    tiles = (inner + TILE - 1) // TILE
    sums = np.full(TILE, zero)
    for item in range(start, stop):
        block, column = item // tiles, item % tiles * TILE
        outer, at = block // parts, block % parts * part
        count = part if at + part < size else size - at
        width = TILE if column + TILE < inner else inner - column
        for k in range(width):
            sums[k] = zero
        for r in range(at, at + count):
            base = (outer * size + r) * inner + column
            row = a[base : base + width]
            for k in range(width):
                sums[k] += row[k]
        base = block * inner + column
        for k in range(width):
            y[base + k] = sums[k]


def _largest_plainly(row):
    top = row.dtype.type(-np.inf)
    for k in range(row.size):
        top = row[k] if row[k] > top else top
    return top


@simd.vectorized(_largest_plainly)
def largest(row):
    """The largest of a row of floating numbers, -inf if there is none but NaN."""
    x, lanes, top = simd.pointer(row, 0), simd.width(row), row.dtype.type(-np.inf)
    whole, some = row.size - row.size % lanes, row.size - row.size % (4 * lanes)
    if whole:
        # four registers, since each waits for its last comparison
        best = lane_reductions.constant(1, 4, x, top)
        for k in range(0, some, 4 * lanes):
            best = lane_reductions.larger(best, simd.load(1, 4, x, k, 0, None, None))
        last = lane_reductions.constant(1, 1, x, lane_reductions.largest(best))
        for k in range(some, whole, lanes):
            last = lane_reductions.larger(last, simd.load(1, 1, x, k, 0, None, None))
        top = lane_reductions.largest(last)
    for k in range(whole, row.size):
        top = row[k] if row[k] > top else top
    return top


@kernel(fastmath={"reassoc"})
def _log_total(top, row):
    """top + log Σ exp(row - top), where an infinite top shifts nothing: the sum is
    then 0, inf or NaN by itself.
    """
    shift = top if np.isfinite(top) else 0.0
    total = 0.0
    for k in range(row.size):
        total += transcendental.exp(row[k] - shift)
    return shift + np.log(total)


@parallel
def _logsumexp_rows(start, stop, a, y, size, part, parts, zero):
    for item in range(start, stop):
        base, at = item // parts * size, item % parts * part
        count = part if at + part < size else size - at
        row = a[base + at : base + at + count]
        y[item] = _log_total(np.float64(largest(row)), row)


@parallel
def _logsumexp_columns(start, stop, a, y, size, part, parts, inner, zero):
    tiles = (inner + TILE - 1) // TILE
    tops, sums = np.empty(TILE), np.empty(TILE)
    for item in range(start, stop):
        block, column = item // tiles, item % tiles * TILE
        outer, at = block // parts, block % parts * part
        count = part if at + part < size else size - at
        width = TILE if column + TILE < inner else inner - column
        for k in range(width):
            tops[k], sums[k] = zero, 0.0
        for r in range(at, at + count):
            base = (outer * size + r) * inner + column
            row = a[base : base + width]
            for k in range(width):
                tops[k] = row[k] if row[k] > tops[k] else tops[k]
        for k in range(width):
            tops[k] = tops[k] if np.isfinite(tops[k]) else 0.0
        for r in range(at, at + count):
            base = (outer * size + r) * inner + column
            row = a[base : base + width]
            for k in range(width):
                sums[k] += transcendental.exp(row[k] - tops[k])
        base = block * inner + column
        for k in range(width):
            y[base + k] = tops[k] + transcendental.log(sums[k])


def _kept(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([size for dim, size in enumerate(shape) if dim not in dims])


def _sum_into(x: Array, dims: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    floating = x.dtype.kind == "f"
    out = memory.empty(shape, x.dtype if floating else np.int64, x)
    return _fold(_sum_rows, _sum_columns, x, dims, out, 0.0 if floating else 0)


def _sum_into_on_cuda(x: Array, dims: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    floating = x.dtype.kind == "f"
    out = memory.empty(shape, x.dtype if floating else np.int64, x)
    return _fold_on_cuda("sum", x, dims, out, 0.0 if floating else 0)


@operation
def sum(x, dims):
    """Sum over the axes `dims`."""
    if x.dtype.kind == "f":
        return x.sum(dims, dtype=np.float64).astype(x.dtype).reshape(_kept(x.shape, dims))
    return x.sum(dims, dtype=np.int64).reshape(_kept(x.shape, dims))


@sum.loops
def _(x, dims):
    return _sum_into(x, dims, _kept(x.shape, dims))


@sum.cuda
def _(x, dims):
    return _sum_into_on_cuda(x, dims, _kept(x.shape, dims))


@operation
def sum_to(x, shape):
    """Sum x down to `shape`, which broadcasts to x.shape."""
    dims = _stretched(x.shape, shape)
    if x.dtype.kind == "f":
        return x.sum(dims, dtype=np.float64).astype(x.dtype).reshape(shape)
    return x.sum(dims, dtype=np.int64).reshape(shape)


@sum_to.loops
def _(x, shape):
    return _sum_into(x, _stretched(x.shape, shape), shape)


@sum_to.cuda
def _(x, shape):
    return _sum_into_on_cuda(x, _stretched(x.shape, shape), shape)


def _stretched(shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of `shape` along which an array of shape `target` is repeated when it is broadcast."""
    extra = len(shape) - len(target)
    if extra < 0 or any(t not in (1, s) for s, t in zip(shape[extra:], target, strict=True)):
        raise ShapeError(f"sum_to: expected a shape that broadcasts to {shape}, got {target}")
    return (*range(extra), *(extra + i for i, t in enumerate(target) if t == 1 != shape[extra + i]))


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
    return _fold(_logsumexp_rows, _logsumexp_columns, x, dims, out, -np.inf)


@logsumexp.cuda
def _(x, dims):
    return _fold_on_cuda("logsumexp", x, dims, memory.empty(_kept(x.shape, dims), x.dtype, x), -np.inf)


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
    return _fold_on_cuda("prod", x, dims, out, 1.0 if floating else 1)


@operation
def any_true(x, dims):
    """Is one of the elements over the axes `dims` not zero?"""
    return x.any(dims)


@any_true.cuda
def _(x, dims):
    return _fold_on_cuda("any", x, dims, memory.empty(_kept(x.shape, dims), np.bool_, x), False)


@operation
def all_true(x, dims):
    """Are all elements over the axes `dims` not zero?"""
    return x.all(dims)


@all_true.cuda
def _(x, dims):
    return _fold_on_cuda("all", x, dims, memory.empty(_kept(x.shape, dims), np.bool_, x), True)


# ---- The winner along one axis: max, min


def _winner_loop(name: str, beats: Callable[..., Any]) -> Any:
    """The loop of max or min over the kept elements: x (outer, size, inner) ->
    values, indices (outer, inner).
    """

    def loop(start, stop, x, values, indices, size, inner):
        if inner == 1:
            for item in range(start, stop):
                row = x[item * size : (item + 1) * size]
                best, index = row[0], 0
                for r in range(1, size):
                    if beats(row[r], best):
                        best, index = row[r], r
                values[item], indices[item] = best, index
            return
        while start < stop:  # a run of neighbours with one outer index
            outer, column = start // inner, start % inner
            count = inner - column if inner - column < stop - start else stop - start
            base = outer * size * inner + column
            best, index = values[start : start + count], indices[start : start + count]
            for k in range(count):
                best[k], index[k] = x[base + k], 0
            for r in range(1, size):
                row = x[base + r * inner : base + r * inner + count]
                for k in range(count):
                    if beats(row[k], best[k]):
                        best[k], index[k] = row[k], r
            start += count

    loop.__name__ = loop.__qualname__ = f"{name}_loop"
    return parallel(loop)


@kernel
def _above(a, b):
    return a > b or (a != a and b == b)


@kernel
def _below(a, b):
    return a < b or (a != a and b == b)


_max_loop, _min_loop = _winner_loop("max", _above), _winner_loop("min", _below)


@operation
def max(x, dim):
    """(values, int64 indices) of the largest elements along `dim`."""
    _check_not_empty("max", x, dim)
    return _taken(x, x.argmax(dim, keepdims=True), dim)


@max.loops
def _(x, dim):
    _check_not_empty("max", x, dim)
    return _winners(_max_loop, x, dim)


@max.cuda
def _(x, dim):
    _check_not_empty("max", x, dim)
    return _winners_on_cuda("max", x, dim)


@operation
def min(x, dim):
    """(values, int64 indices) of the smallest elements along `dim`."""
    _check_not_empty("min", x, dim)
    return _taken(x, x.argmin(dim, keepdims=True), dim)


@min.loops
def _(x, dim):
    _check_not_empty("min", x, dim)
    return _winners(_min_loop, x, dim)


@min.cuda
def _(x, dim):
    _check_not_empty("min", x, dim)
    return _winners_on_cuda("min", x, dim)


def _taken(x: Array, indices: Array, dim: int) -> tuple[Array, Array]:
    return np.take_along_axis(x, indices, dim).squeeze(dim), indices.squeeze(dim)


def _winners(loop: Any, x: Array, dim: int) -> tuple[Array, Array]:
    shape = _kept(x.shape, (dim % x.ndim,))
    values, indices = memory.empty(shape, x.dtype, x), memory.empty(shape, np.int64, x)
    size, inner = x.shape[dim], math.prod(x.shape[dim % x.ndim + 1 :])
    loop(values.size, 1 + GRAIN // size, x.reshape(-1), values.reshape(-1), indices.reshape(-1), size, inner)
    return values, indices


def _winners_on_cuda(name: str, x: Array, dim: int) -> tuple[Array, Array]:
    wide = launching.widened(x)
    if wide is not x:
        winners, indices = _winners_on_cuda(name, wide, dim)
        values = memory.empty(winners.shape, x.dtype, x)
        values[...] = winners
        return values, indices
    shape = _kept(x.shape, (dim % x.ndim,))
    values, indices = memory.empty(shape, x.dtype, x), memory.empty(shape, np.int64, x)
    size, inner = x.shape[dim], math.prod(x.shape[dim % x.ndim + 1 :])
    kernel, real = (
        (f"{name}_real", x.dtype) if x.dtype.kind == "f" else (f"{name}_{x.dtype}", np.dtype(np.float32))
    )
    outer, candidates, places = values.size // inner if inner else 0, x, None
    while values.size:
        parts = -(-size // launching.team_part(outer, size, inner))
        some = (
            (values, indices)
            if parts == 1
            else [memory.empty((outer, parts, inner), d, x) for d in (x.dtype, np.int64)]
        )
        sizes = np.int64(outer), np.int64(size), np.int64(inner), np.int64(parts)
        arguments = (candidates, places, *some, *sizes)
        launching.launch_teams(
            "reduce", kernel, outer * parts * inner, -(-size // parts), inner, *arguments, real=real
        )
        if parts == 1:
            break
        (candidates, places), size = some, parts
    return values, indices


def _check_not_empty(name: str, x: Array, dim: int) -> None:
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
        report(sum_to, rows, (1, 100))
        for op in (max, min):
            report(op, rows, 1)
            report(op, images, 1)
        report(prod, rows, 0)
        report(any_true, np.greater(rows, 5), (0,))
        report(logsumexp, rows, (1,))
        report(logsumexp, images, (1,))
