"""Scratch by who is at work rather than by task: what a task leaves in the caches serves the next one.

A loop has room for all of its tasks; each takes the first slot that is free, and gives it back. So two
threads use two slots, however many tasks there are. What a task computes must not depend on what it finds.

    slot = take(slots, task)             # slots: an int64 of 0 for each task
    ... scratch[slot] ...
    give_back(slots, slot)
"""

from __future__ import annotations

from . import simd
from .compiler import parallel
from .lazy import Module, intrinsic, nb

ir = Module("llvmlite.ir")


@intrinsic
def swap(typing, array, index, expected, value):
    """Put `value` in the place of array[index], in one step; False if something else was there."""

    def code(context, builder, signature, args):
        array_type = signature.args[0]
        at = builder.gep(context.make_array(array_type)(context, builder, args[0]).data, [args[1]])
        return builder.extract_value(builder.cmpxchg(at, args[2], args[3], "seq_cst"), 1)

    return nb.boolean(array, nb.int64, nb.int64, nb.int64), code


def _own(slots, task):
    return task


@simd.vectorized(_own)
def take(slots, task):
    """A free slot; without a compiler that of the task."""
    slot = 0
    while not swap(slots, slot, 0, 1):
        slot = (slot + 1) % slots.size
    return slot


def _leave(slots, slot):
    pass


@simd.vectorized(_leave)
def give_back(slots, slot):
    swap(slots, slot, 1, 0)


@parallel
def clear(start, stop, slots):
    """All are free: clear(1, 1, slots)."""
    slots[:] = 0
