"""Sums and maxima over the lanes of register tiles (simd.py).

    best = across.constant(1, 4, x, -inf)
    for k in ...: best = across.larger(best, simd.load(1, 4, x, k, 0, None, None))
    top = across.largest(best)

Lanes are combined by halves: 16 against 16, then 8 against 8, down to one number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import simd
from .lazy import Module, intrinsic

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
