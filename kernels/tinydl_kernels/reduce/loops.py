"""The loops of reductions on the processor, over rows and over columns side by side."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..cpu import lane_reductions, simd, transcendental
from ..cpu.compiler import kernel, parallel
from ..machine import memory
from .passes import passes

Array = Any

GRAIN = 1 << 15
PART = 1 << 14
"""Elements of a row, or of a block of columns, that one partial result stands for."""
TILE = 1 << 9
"""Columns that are folded together: their accumulators stay in the first cache."""


def fold(rows: Any, columns: Any, x: Array, dims: tuple[int, ...], out: Array, zero: Any) -> Array:
    """Fold the axes `dims` of x into `out`.

    rows(n, grain, a, y, size, part, parts, zero)             a (outer, size) -> y (outer, parts)
    columns(n, grain, a, y, size, part, parts, inner, zero)  a (outer, size, inner) -> y (outer, parts, inner)

    `zero` is the result of nothing, or what else the loops take in its place.
    """
    between = x.dtype if isinstance(zero, tuple) else np.result_type(type(zero))
    a = x.reshape(-1)
    for outer, size, inner, part, final in passes(x, dims, out, zero, _part):
        parts = -(-size // part)
        y = out.reshape(-1) if final else memory.empty((outer * parts * inner,), between, x)
        grain = 1 + GRAIN // ((size if size < part else part) * (inner if inner < TILE else TILE))
        if inner == 1:
            rows(outer * parts, grain, a, y, size, part, parts, zero)
        else:
            columns(outer * parts * -(-inner // TILE), grain, a, y, size, part, parts, inner, zero)
        a = y
    return out


def _part(outer: int, size: int, inner: int) -> int:
    return PART // (inner if inner < TILE else TILE)


@kernel(fastmath={"reassoc"})
def _total(row, zero):
    total = zero
    for k in range(row.size):  # by index: LLVM does not vectorize Numba's array iterator
        total += row[k]
    return total


@parallel
def sum_rows(start, stop, a, y, size, part, parts, zero):
    for item in range(start, stop):
        row, at = item // parts, item % parts * part
        count = part if at + part < size else size - at
        y[item] = _total(a[row * size + at : row * size + at + count], zero)


@parallel
def sum_columns(start, stop, a, y, size, part, parts, inner, zero):
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


# ---- Extremes: the bits of numbers as integers in their order, the larger of which vector code finds


class Order(NamedTuple):
    """How the bits of a dtype become keys, integers of as many bits (`_key`); all are of that type."""

    flip: Any  # the bits to invert: all, for the smallest of integers
    magnitude: Any  # of floating numbers the bits but the sign, else 0
    infinity: Any  # the key of infinity; of integers none is above
    nan: Any  # what is neither above nor below anything has this key, the highest
    zero: Any
    lowest: Any


@lru_cache
def _order(dtype: np.dtype, least: bool) -> Order:
    kind = np.dtype(f"i{dtype.itemsize}")
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    if dtype.kind == "f":
        infinity, nan = (int(np.array(x, dtype).view(kind)) for x in (np.inf, np.nan))
        numbers = (low if least else 0, high, infinity, nan)
    else:
        flip = low if dtype.kind == "u" else 0
        numbers = (~flip if least else flip, 0, high, 0)
    return Order(*map(kind.type, (*numbers, 0, low)))


@kernel
def _key(bits, order):
    """A higher one for the bits of a larger number. Below 0 the bits of floating numbers run backwards."""
    flipped = bits ^ order.flip
    key = flipped ^ (order.magnitude if flipped < order.zero else order.zero)
    return type(bits)(order.nan if flipped & order.magnitude > order.infinity else key)


@kernel
def _bits(key, order):
    """The bits that have this key."""
    bits = key ^ (order.magnitude if key < order.zero else order.zero) ^ order.flip
    return type(key)(order.nan if key > order.infinity else bits)


@parallel
def extreme_rows(start, stop, a, y, size, part, parts, order):
    for item in range(start, stop):
        row, at = item // parts, item % parts * part
        count = part if at + part < size else size - at
        line = a[row * size + at : row * size + at + count]
        top = order.lowest
        for k in range(count):
            key = _key(line[k], order)
            top = key if key > top else top
        y[item] = _bits(top, order)


@parallel
def extreme_columns(start, stop, a, y, size, part, parts, inner, order):
    tiles = (inner + TILE - 1) // TILE
    tops = np.empty(TILE, a.dtype)
    for item in range(start, stop):
        block, column = item // tiles, item % tiles * TILE
        outer, at = block // parts, block % parts * part
        count = part if at + part < size else size - at
        width = TILE if column + TILE < inner else inner - column
        for k in range(width):
            tops[k] = order.lowest
        for r in range(at, at + count):
            base = (outer * size + r) * inner + column
            row = a[base : base + width]
            for k in range(width):
                key = _key(row[k], order)
                tops[k] = key if key > tops[k] else tops[k]
        base = block * inner + column
        for k in range(width):
            y[base + k] = _bits(tops[k], order)


def extreme(x: Array, dims: tuple[int, ...], out: Array, least: bool) -> Array:
    """The largest or the least over the axes `dims` of x, into `out`."""
    if out.size:
        order = _order(x.dtype, least)
        kind = order.zero.dtype
        fold(extreme_rows, extreme_columns, x.view(kind), dims, out.view(kind), order)
    return out


@kernel(fastmath={"reassoc"})
def _log_total(top, row):
    """top + log Σ exp(row - top), where an infinite top shifts nothing: the sum is then 0, inf or NaN by
    itself.
    """
    shift = top if np.isfinite(top) else 0.0
    total = 0.0
    for k in range(row.size):
        total += transcendental.exp(row[k] - shift)
    return shift + np.log(total)


@parallel
def logsumexp_rows(start, stop, a, y, size, part, parts, zero):
    for item in range(start, stop):
        base, at = item // parts * size, item % parts * part
        count = part if at + part < size else size - at
        row = a[base + at : base + at + count]
        y[item] = _log_total(np.float64(lane_reductions.largest_of_row(row)), row)


@parallel
def logsumexp_columns(start, stop, a, y, size, part, parts, inner, zero):
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


# ---- The winner along one axis: max, min


BLOCK = 1 << 12
"""Numbers of a row whose best one is found before its place, which is then looked for in the first cache."""


def _place_in_tiles(vectors: int, least: bool, beats: Any) -> Any:
    """place(row): of the first winner of a row of floating numbers, in tiles so many vectors wide."""

    def plain(row):
        place = 0
        for k in range(1, row.size):
            if beats(row[k], row[place]):
                place = k
        return place

    @kernel
    def rising(tile):
        return lane_reductions.negative(tile) if least else tile

    @simd.vectorized(plain)
    def place_in_tiles(row):
        x, step, lowest = simd.pointer(row, 0), vectors * simd.width(row), row.dtype.type(-np.inf)
        best, place = lowest, 0
        for at in range(0, row.size, BLOCK):
            stop = at + BLOCK if at + BLOCK < row.size else row.size
            rest = (stop - at) % step
            whole = stop - rest
            last = rising(simd.load(1, vectors, x, whole, 0, None, rest))
            last = lane_reductions.padded(last, rest, lowest)
            tops, nan = last, lane_reductions.has_nan(last)
            for k in range(at, whole, step):
                numbers = rising(simd.load(1, vectors, x, k, 0, None, None))
                tops, nan = lane_reductions.larger(tops, numbers), nan | lane_reductions.has_nan(numbers)
            if nan:
                while row[at] == row[at]:
                    at += 1
                return at
            top = lane_reductions.largest(tops)
            if top > best:  # from behind, without a branch: that it is found is not foreseen
                best, p = top, lane_reductions.first_place(last, top)
                place = whole + p if p < 64 else place
                for k in range(whole - step, at - 1, -step):
                    numbers = rising(simd.load(1, vectors, x, k, 0, None, None))
                    p = lane_reductions.first_place(numbers, top)
                    place = k + p if p < 64 else place
        return place

    return place_in_tiles


def _row_loop(name: str, least: bool, beats: Any) -> Any:
    """The loop of max or min over rows of floating numbers: x (outer, size) -> values, indices (outer)."""
    short, long = (_place_in_tiles(vectors, least, beats) for vectors in (1, 4))

    def loop(start, stop, x, values, indices, size):
        for item in range(start, stop):
            row = x[item * size : (item + 1) * size]
            place = short(row) if size <= simd.width(row) else long(row)
            values[item], indices[item] = row[place], place

    loop.__name__ = loop.__qualname__ = f"{name}_rows"
    return parallel(loop)


def _winner_loop(name: str, beats: Any) -> Any:
    """The loop of max or min over the kept elements: x (outer, size, inner) -> values, indices (outer,
    inner).
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


max_loop, min_loop = _winner_loop("max", _above), _winner_loop("min", _below)
max_rows, min_rows = _row_loop("max", False, _above), _row_loop("min", True, _below)


def winners(loop: Any, rows: Any, x: Array, dim: int) -> tuple[Array, Array]:
    """Values and places of the first winners along `dim`: by `rows` over rows of floating numbers, else by
    `loop`.
    """
    shape = x.shape[: dim % x.ndim] + x.shape[dim % x.ndim + 1 :]
    values, indices = memory.empty(shape, x.dtype, x), memory.empty(shape, np.int64, x)
    size, inner = x.shape[dim], math.prod(x.shape[dim % x.ndim + 1 :])
    arguments = values.size, 1 + GRAIN // size, x.reshape(-1), values.reshape(-1), indices.reshape(-1), size
    if inner == 1 and x.dtype.kind == "f":
        rows(*arguments)
    else:
        loop(*arguments, inner)
    return values, indices
