"""Sums, maxima and their places over the lanes of register tiles (simd.py).

    best = lane_reductions.constant(1, 4, x, -inf)
    for k in ...: best = lane_reductions.larger(best, simd.load(1, 4, x, k, 0, None, None))
    top = lane_reductions.largest(best)

Lanes are combined by halves: each of 16 with one of the other 8, then of 4, down to one number.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from . import simd
from .lazy import Module, intrinsic, kernel, nb

ir = Module("llvmlite.ir")


@intrinsic(prefer_literal=True)
def constant(typing, rows, vectors, y, number):
    """tile[i, p] = number, of y's dtype. The sizes are constants."""
    if not simd._literal(rows, vectors):
        return None
    tile = simd._tile_type()(y.dtype, rows.literal_value, vectors.literal_value)

    def code(context, builder, signature, args):
        emit = simd._Emitter(context, builder, tile)
        return emit.tiled([[emit.spread(args[3])] * tile.vectors] * tile.rows)

    return tile(rows, vectors, y, y.dtype), code


@intrinsic(prefer_literal=True)
def zeros(typing, vectors):
    """A row of float64 zeros, so many registers."""
    if not simd._literal(vectors):
        return None
    tile = simd._tile_type()(nb.float64, 1, vectors.literal_value)

    def code(context, builder, signature, args):
        emit = simd._Emitter(context, builder, tile)
        return emit.tiled([[emit.zero] * tile.vectors])

    return tile(vectors), code


@intrinsic
def larger(typing, tile, other):
    """The larger of tile[i, p] and other[i, p]; NaN in `other` is not."""

    def code(context, builder, signature, args):
        emit = simd._Emitter(context, builder, tile)
        pairs = zip(*map(emit.vectors, args))
        return emit.tiled([[_larger(builder, x, y) for x, y in zip(*rows)] for rows in pairs])

    return tile(tile, other), code


@intrinsic
def largest(typing, tile):
    """The largest number of a tile without NaN."""

    def code(context, builder, signature, args):
        return _combined(simd._Emitter(context, builder, tile), args[0], lambda a, b: _larger(builder, a, b))

    return tile.dtype(tile), code


@intrinsic
def padded(typing, tile, end, number):
    """tile[i, p] for p < end, else `number`."""

    def code(context, builder, signature, args):
        emit = simd._Emitter(context, builder, tile)
        masks, padding = emit.masks(None, args[1]), emit.spread(args[2])
        rows = emit.vectors(args[0])
        return emit.tiled([[builder.select(m, v, padding) for m, v in zip(masks, row)] for row in rows])

    return tile(tile, nb.intp, tile.dtype), code


@intrinsic
def negative(typing, tile):
    """-tile[i, p]"""

    def code(context, builder, signature, args):
        emit = simd._Emitter(context, builder, tile)
        return emit.tiled([[builder.fneg(vector) for vector in row] for row in emit.vectors(args[0])])

    return tile(tile), code


@intrinsic
def has_nan(typing, tile):
    """Is one of the numbers of a tile NaN?"""

    def code(context, builder, signature, args):
        emit = simd._Emitter(context, builder, tile)
        vectors = [vector for row in emit.vectors(args[0]) for vector in row]
        # a comparison asks two vectors at once
        found = [builder.fcmp_unordered("uno", a, b) for a, b in zip(vectors[::2], vectors[-1::-2])]
        bits = _lane_bits(builder, functools.reduce(builder.or_, found))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return nb.types.boolean(tile), code


@intrinsic
def add_wide(typing, sums, tile):
    """sums[j] += tile[i, p] in float64, where lane j is one of those that p's register is spread over."""
    per = tile.lanes // sums.lanes

    def code(context, builder, signature, args):
        emit, narrow = simd._Emitter(context, builder, sums), simd._Emitter(context, builder, tile)
        totals = emit.vectors(args[0])[0]
        for row in narrow.vectors(args[1]):
            for j, vector in enumerate(row):
                for part in range(per):
                    lanes = narrow.lane_numbers(list(range(part * sums.lanes, (part + 1) * sums.lanes)))
                    piece = builder.shuffle_vector(vector, vector, lanes) if per > 1 else vector
                    piece = builder.fpext(piece, sums.register) if per > 1 else piece
                    at = (j * per + part) % len(totals)
                    totals[at] = builder.fadd(totals[at], piece)
        return emit.tiled([totals])

    return sums(sums, tile), code


@intrinsic
def first_place(typing, tile, number):
    """The first p with tile[0, p] = number, 64 if there is none; of one row, of 64 numbers at most."""
    if tile.rows != 1 or tile.lanes * tile.vectors > 64:
        return None

    def code(context, builder, signature, args):
        emit, int64 = simd._Emitter(context, builder, tile), ir.IntType(64)
        wanted, places = emit.spread(args[1]), ir.Constant(int64, 0)
        for j, vector in enumerate(emit.vectors(args[0])[0]):
            bits = builder.zext(_lane_bits(builder, builder.fcmp_ordered("==", vector, wanted)), int64)
            places = builder.or_(places, builder.shl(bits, ir.Constant(int64, j * tile.lanes)))
        return builder.cttz(places, ir.Constant(ir.IntType(1), 0))

    return nb.intp(tile, tile.dtype), code


def _lane_bits(builder: Any, mask: Any) -> Any:
    """A mask as an integer, a bit for each lane."""
    return builder.bitcast(mask, ir.IntType(mask.type.count))


@intrinsic
def total(typing, tile):
    """The sum of all numbers of a tile."""

    def code(context, builder, signature, args):
        return _combined(simd._Emitter(context, builder, tile), args[0], builder.fadd)

    return tile.dtype(tile), code


def _larger(builder: Any, a: Any, b: Any) -> Any:
    """b where it is larger than a, else a."""
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


def _combined(emit: Any, value: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """One number of all numbers of a tile."""
    all_lanes, *others = (vector for row in emit.vectors(value) for vector in row)
    for vector in others:
        all_lanes = combine(all_lanes, vector)
    half = emit.tile.lanes // 2
    while half:  # each lane with the one `half` lanes away
        turned = emit.lane_numbers([lane ^ half for lane in range(emit.tile.lanes)])
        all_lanes = combine(all_lanes, emit.builder.shuffle_vector(all_lanes, all_lanes, turned))
        half //= 2
    return emit.builder.extract_element(all_lanes, ir.Constant(ir.IntType(32), 0))


# ---- A row of numbers


@kernel
def _largest_of_row_plainly(row):
    top = row.dtype.type(-np.inf)
    for k in range(row.size):
        top = row[k] if row[k] > top else top
    return top


@simd.vectorized(_largest_of_row_plainly)
def largest_of_row(row):
    """The largest of a row of floating numbers, -inf if there is none but NaN."""
    x, step, lowest = simd.pointer(row, 0), 4 * simd.width(row), row.dtype.type(-np.inf)
    if 4 * row.size < step:
        return _largest_of_row_plainly(row)
    rest = row.size % step
    whole = row.size - rest
    last = padded(simd.load(1, 4, x, whole, 0, None, rest), rest, lowest)
    # four registers, since each waits for its last comparison
    best = larger(constant(1, 4, x, lowest), last)
    for k in range(0, whole, step):
        best = larger(best, simd.load(1, 4, x, k, 0, None, None))
    return largest(best)
