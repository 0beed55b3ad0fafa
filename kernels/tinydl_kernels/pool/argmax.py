"""Registers of winners inside kernels: in each lane the largest value so far, and where it was found.

    best = argmax.none(x)
    for each tap:
        best = argmax.larger(best, x, at, step, begin, end)  # lane p meets x[at + p step], begin <= p < end
    argmax.store(best, values, indices, to, step, end)

A later value wins if it is larger, if it is NaN, or if it is the first that its lane meets. `x`, `values` and
`indices` (int64) are pointers, as on tiles (simd.py). A place is counted from the pointer x, and 32 bits must
hold it, so a plane has at most `LARGEST` places. `step` is a constant, 1 or 2.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from ..cpu import simd
from ..cpu.lazy import Module, intrinsic, nb

ir = Module("llvmlite.ir")
extending = Module("numba.extending")

LARGEST = 1 << 30
"""Places that a plane may have: half of what 32 bits count, for the taps in its padding."""
UNMET = -(1 << 31)
"""Stands for the place of a winner where there is none."""


@functools.cache
def _winner_type() -> Any:
    base: Any = nb.types.Type
    model: Any = extending.models.PrimitiveModel

    class Winner(base):
        """{values, starts}: a register of numbers, and for each lane the `at` of its winner, or UNMET."""

        def __init__(self, dtype: Any) -> None:
            self.dtype, self.lanes = dtype, simd.lanes(dtype.bitwidth // 8)
            super().__init__(name=f"winner({dtype}, {self.lanes})")

        @property
        def starts(self) -> Any:
            return ir.VectorType(ir.IntType(32), self.lanes)

    @extending.register_model(Winner)
    class WinnerModel(model):
        def __init__(self, manager: Any, winner: Any) -> None:
            registers = [simd._tile_type()(winner.dtype, 1, 1).register, winner.starts]
            super().__init__(manager, winner, ir.LiteralStructType(registers))

    return Winner


def _paired(builder: Any, values: Any, starts: Any) -> Any:
    pair = ir.Constant(ir.LiteralStructType([values.type, starts.type]), ir.Undefined)
    return builder.insert_value(builder.insert_value(pair, values, 0), starts, 1)


def _lanes(builder: Any, count: int, begin: Any, end: Any) -> Any:
    """The mask of the lanes from `begin` on and before `end`: cheaper by shifting ones than by comparing
    numbers of lanes.
    """
    number = ir.IntType(64)

    def ones(n: Any) -> Any:
        """So many, from lane 0 on."""
        for bound, beyond in ((0, "<"), (count, ">")):
            limit = ir.Constant(number, bound)
            n = builder.select(builder.icmp_signed(beyond, n, limit), limit, n)
        return builder.sub(builder.shl(ir.Constant(number, 1), n), ir.Constant(number, 1))

    bits = builder.and_(ones(end), builder.not_(ones(begin)))
    return builder.bitcast(builder.trunc(bits, ir.IntType(count)), ir.VectorType(ir.IntType(1), count))


@intrinsic
def none(typing, x):
    """Nothing found: -inf at -1."""
    winner = _winner_type()(x.dtype)

    def code(context, builder, signature, args):
        register = simd._tile_type()(x.dtype, 1, 1).register
        values = ir.Constant(register, [-math.inf] * winner.lanes)
        return _paired(builder, values, ir.Constant(winner.starts, [UNMET] * winner.lanes))

    return winner(x), code


@intrinsic(prefer_literal=True)
def larger(typing, best, x, at, step, begin, end):
    """best, after lane p has met x[at + p step] for begin <= p < end."""
    if not isinstance(step, nb.types.IntegerLiteral) or step.literal_value not in (1, 2):
        return None
    stride = step.literal_value

    def code(context, builder, signature, args):
        pair, pointer, start, _, first, last = args
        emit = simd._Emitter(context, builder, simd._tile_type()(best.dtype, 1, stride))
        values, starts = builder.extract_value(pair, 0), builder.extract_value(pair, 1)
        met = _lanes(builder, best.lanes, first, last)
        row = builder.gep(pointer, [start])
        if stride == 1:
            value = emit.load(row, 0, met)
        else:  # the even ones of two registers; what follows the last is not read
            two, one = ir.Constant(ir.IntType(64), 2), ir.Constant(ir.IntType(64), 1)
            begin, end = builder.mul(first, two), builder.sub(builder.mul(last, two), one)
            read = _lanes(builder, 2 * best.lanes, begin, end)
            halves = [emit.lane_numbers(list(range(i, i + best.lanes))) for i in (0, best.lanes)]
            low, high = (
                emit.load(row, j, builder.shuffle_vector(read, read, half)) for j, half in enumerate(halves)
            )
            value = builder.shuffle_vector(low, high, emit.lane_numbers(list(range(0, 2 * best.lanes, 2))))
        start = emit.spread(builder.trunc(start, ir.IntType(32)), best.starts)
        wins = builder.or_(
            builder.fcmp_unordered("uno", value, value), builder.fcmp_ordered(">", value, values)
        )
        wins = builder.or_(
            wins, builder.icmp_signed("==", starts, ir.Constant(best.starts, [UNMET] * best.lanes))
        )
        wins = builder.and_(wins, met)
        return _paired(builder, builder.select(wins, value, values), builder.select(wins, start, starts))

    return best(best, x, nb.intp, step, nb.intp, nb.intp), code


@intrinsic(prefer_literal=True)
def store(typing, best, values, indices, to, step, end):
    """values[to + p], indices[to + p] = lane p     for p < end"""
    if not isinstance(step, nb.types.IntegerLiteral):
        return None

    def code(context, builder, signature, args):
        pair, to_values, to_indices, start, _, last = args
        emit = simd._Emitter(context, builder, simd._tile_type()(best.dtype, 1, 1))
        mask = _lanes(builder, best.lanes, ir.Constant(ir.IntType(64), 0), last)
        emit.store(builder.extract_value(pair, 0), builder.gep(to_values, [start]), 0, mask)
        starts, number = builder.extract_value(pair, 1), ir.VectorType(ir.IntType(64), best.lanes)
        met = builder.icmp_signed("!=", starts, ir.Constant(best.starts, [UNMET] * best.lanes))
        steps = ir.Constant(number, [p * step.literal_value for p in range(best.lanes)])
        places = builder.add(builder.sext(starts, number), steps)
        places = builder.select(met, places, ir.Constant(number, [-1] * best.lanes))
        at = builder.bitcast(builder.gep(to_indices, [start]), number.as_pointer())
        align = ir.Constant(ir.IntType(32), 8)
        emit.call(f"llvm.masked.store.v{best.lanes}i64.p0", ir.VoidType(), places, at, align, mask)
        return context.get_dummy_value()

    return nb.void(best, values, indices, nb.intp, step, nb.intp), code
