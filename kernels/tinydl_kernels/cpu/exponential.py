"""exp on register tiles (simd.py): the bits of `transcendental.exp`, in masked registers where a row ends.

LLVM makes vector code of a loop over `transcendental.exp` too, but computes what is left at the end of a row
one number at a time.
"""

from __future__ import annotations

import functools
from typing import Any

from . import lane_reductions, simd, transcendental
from .lazy import Module, intrinsic, kernel

ir = Module("llvmlite.ir")


@intrinsic
def exp_above(typing, tile, top):
    """exp(tile[i, p] - top)"""

    def code(context, builder, signature, args):
        emit = simd._Emitter(context, builder, tile)
        shift = emit.spread(args[1])
        rows = emit.vectors(args[0])
        return emit.tiled([[_exp(emit, builder.fsub(vector, shift)) for vector in row] for row in rows])

    return tile(tile, tile.dtype), code


def _exp(emit: Any, x: Any) -> Any:
    builder, bits = emit.builder, emit.tile.dtype.bitwidth
    numbers = transcendental.EXP_SINGLE if bits == 32 else transcendental.EXP_DOUBLE
    word = ir.VectorType(ir.IntType(bits), emit.tile.lanes)

    def spread(number: float) -> Any:
        return ir.Constant(emit.register, [number] * emit.tile.lanes)

    def words(number: int) -> Any:
        return ir.Constant(word, [number] * emit.tile.lanes)

    def power(k: Any) -> Any:
        moved = builder.shl(builder.add(k, words(numbers.bias)), words(numbers.mantissa))
        return builder.bitcast(moved, emit.register)

    low, high, rounding = spread(numbers.low), spread(numbers.high), spread(numbers.rounding)
    x = builder.select(builder.fcmp_ordered("<", x, low), low, x)
    x = builder.select(builder.fcmp_ordered(">", x, high), high, x)
    shifted = emit.multiply_add(x, spread(numbers.log2_e), rounding)
    k = builder.fsub(shifted, rounding)
    r = emit.multiply_add(k, spread(-numbers.ln2_high), x)
    r = emit.multiply_add(k, spread(-numbers.ln2_low), r)
    first, *others = map(spread, numbers.Q)
    Q = functools.reduce(lambda Q, term: emit.multiply_add(Q, r, term), others, first)
    y = builder.fadd(spread(1.0), emit.multiply_add(builder.fmul(r, r), Q, r))
    k = builder.sub(builder.bitcast(shifted, word), words(numbers.rounding_bits))
    half = builder.ashr(k, words(1))
    return builder.fmul(builder.fmul(y, power(half)), power(builder.sub(k, half)))


@kernel(fastmath={"reassoc"})
def exp_line_plainly(x, top, y):
    total = 0.0
    for k in range(x.size):
        y[k] = transcendental.exp(x[k] - top)
    for k in range(x.size):  # a loop of its own: float64 would halve the lanes of the exponential
        total += y[k]
    return total


@simd.vectorized(exp_line_plainly)
def exp_line(x, top, y):
    """y = exp(x - top); returns its sum, which is float64. Two rows."""
    lanes = simd.width(x)
    if x.size < lanes:
        return exp_line_plainly(x, top, y)
    source, to, rest = simd.pointer(x, 0), simd.pointer(y, 0), x.size % lanes
    sums = lane_reductions.zeros(2)
    for k in range(0, x.size - rest, lanes):
        tile = exp_above(simd.load(1, 1, source, k, 0, None, None), top)
        simd.store(tile, to, k, 0, None, None)
        sums = lane_reductions.add_wide(sums, tile)
    if rest:
        k = x.size - rest
        tile = exp_above(simd.load(1, 1, source, k, 0, None, rest), top)
        simd.store(tile, to, k, 0, None, rest)
        sums = lane_reductions.add_wide(sums, lane_reductions.padded(tile, rest, 0))
    return lane_reductions.total(sums)
