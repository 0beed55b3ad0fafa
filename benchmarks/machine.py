"""The machine's limits, as compiled code meets them: fused multiply-adds in registers, and
a copy from memory to memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.cpu import simd, threads
from tinydl_kernels.cpu.compiler import parallel
from tinydl_kernels.cpu.lazy import Module, intrinsic, nb

ir = Module("llvmlite.ir")

CHAINS = 12
"""Independent sums, for the unit's latency; with the two factors they fit into the 16 registers of AVX2."""
ROUNDS = 1 << 18
COPIED = 1 << 24
"""Numbers that are copied: 64 MiB of float32 each way."""


@intrinsic
def multiply_add(typing, rounds, start):
    """Σ over the lanes and chains of s, where each of `rounds` rounds takes s to s ·
    start + start in every chain.
    """

    def code(context, builder, signature, args):
        single, width = ir.FloatType(), simd.lanes(4)
        vector = ir.VectorType(single, width)
        name = f"llvm.fma.v{width}f32"
        fma = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(vector, [vector] * 3), name
        )
        factor = ir.Constant(vector, ir.Undefined)
        for lane in range(width):
            factor = builder.insert_element(factor, args[1], ir.Constant(ir.IntType(32), lane))
        starts = [factor]  # all different, or the chains would be seen to be one
        for _ in range(1, CHAINS):
            starts.append(builder.fadd(starts[-1], factor))
        before = builder.block
        loop, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        count = builder.phi(args[0].type)
        sums = [builder.phi(vector) for _ in range(CHAINS)]
        results = [builder.call(fma, [s, factor, factor]) for s in sums]
        left = builder.sub(count, ir.Constant(count.type, 1))
        for phi, first, following in zip((count, *sums), (args[0], *starts), (left, *results), strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed(">", left, ir.Constant(left.type, 0)), loop, after)
        builder.position_at_end(after)
        total = results[0]
        for result in results[1:]:
            total = builder.fadd(total, result)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return nb.float32(nb.int64, nb.float32), code


@parallel
def _multiply_add(start, stop, rounds, sums):
    for i in range(start, stop):
        sums[i] = multiply_add(rounds, np.float32(0.5))


@parallel
def _copy(start, stop, source, target):
    for i in range(start, stop):
        target[i] = source[i]


class Limit:
    """A loop and its work: flops or bytes of one call."""

    def __init__(self, call: Any, work: float) -> None:
        self.call, self.work = call, work


def peak_flops() -> Limit:
    """Fused multiply-adds on all threads, float32, everything in registers."""
    pieces = 4 * threads.get_num_threads()
    sums = np.empty(pieces, np.float32)
    work = 2.0 * pieces * ROUNDS * CHAINS * simd.lanes(4)
    return Limit(lambda: _multiply_add(pieces, 1, ROUNDS, sums), work)


def copy() -> Limit:
    """A copy on all threads: each byte is read once and written once."""
    source, target = np.ones(COPIED, np.float32), np.zeros(COPIED, np.float32)
    grain = COPIED // (4 * threads.get_num_threads())
    return Limit(lambda: _copy(COPIED, grain, source, target), 2.0 * source.nbytes)
