"""Scratch by who is at work rather than by task: what a task leaves in the caches serves the next one.

A loop has room for all of its tasks; each takes the first slot that is free, and gives it back. So two
threads use two slots, however many tasks there are. What a task computes must not depend on what it finds.

    slots = free(tasks, scratch)         # scratch has a row for each task
    ...
    slot = take(slots, task)
    ... scratch[slot] ...
    give_back(slots, slot)

Little scratch stays in the caches anyway: there each task has the slot of its number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..machine import memory
from . import simd
from .compiler import parallel
from .lazy import Module, intrinsic, nb

ir = Module("llvmlite.ir")

LITTLE = 1 << 18
"""Bytes of scratch, of all tasks together, that stay in a core's second cache."""


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
    """A free slot; that of the task's number where there are none to choose from, or no compiler."""
    if slots.size == 0:
        return task
    slot = 0
    while not swap(slots, slot, 0, 1):
        slot = (slot + 1) % slots.size
    return slot


def _leave(slots, slot):
    pass


@simd.vectorized(_leave)
def give_back(slots, slot):
    if slots.size:
        swap(slots, slot, 1, 0)


@parallel
def _clear(start, stop, slots):
    slots[:] = 0


def free(tasks: int, *scratch: Any) -> Any:
    """Free slots for so many tasks and their scratch; none if that is little."""
    much = sum(array.nbytes for array in scratch) > LITTLE
    slots = memory.scratch((tasks if much else 0,), np.int64, scratch[0])
    if slots.size:
        _clear(1, 1, slots)
    return slots
