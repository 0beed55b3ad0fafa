"""How many tasks, and their scratch: by who is at work rather than by task, so that what a task leaves in the
caches serves the next one.

Each task of a loop takes the first slot that is free, and gives it back. So two threads use two slots,
however many tasks there are. What a task computes must not depend on what it finds.

    scratch = memory.scratch((rows(tasks), ...), ...)
    slots = free(tasks, scratch)
    ...
    slot = take(slots, task)
    ... scratch[slot] ...
    give_back(slots, slot)

Little scratch stays in the caches anyway: there each task has the slot of its number. Where there are fewer
rows than threads, as more of them have come since, some wait for others to give theirs back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..machine import memory
from . import simd
from .compiler import parallel
from .lazy import Module, intrinsic, nb
from .threads import get_num_threads

ir = Module("llvmlite.ir")

MOST, WORTH = 64, 1 << 22
"""Tasks at most, and flops of each from which on more of them are worth what a cut costs."""
FEW = 16
"""Rows that there are at least, if there are so many tasks."""
LITTLE = 1 << 18
"""Bytes of scratch, of all tasks together, that stay in a core's second cache."""
NONE = np.empty(0, np.int64)
"""No slots to choose from."""


@intrinsic
def swap(typing, array, index, expected, value):
    """Put `value` in the place of array[index], in one step; False if something else was there."""

    def code(context, builder, signature, args):
        array_type = signature.args[0]
        at = builder.gep(context.make_array(array_type)(context, builder, args[0]).data, [args[1]])
        return builder.extract_value(builder.cmpxchg(at, args[2], args[3], "seq_cst"), 1)

    return nb.boolean(array, nb.int64, nb.int64, nb.int64), code


def _own(slots, task):
    return task % slots.size if slots.size else task


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


def tasks_of(flops: int, least: int, threads: int | None = None) -> int:
    """Tasks to aim at where cuts change no sums: at least so many, more of WORTH flops each for many threads.

    A cut costs something (images are framed twice, panels packed twice), in vain where few share the work.
    """
    threads = get_num_threads() if threads is None else threads
    return max(least, min(MOST, flops // WORTH, 2 * threads))


def rows(tasks: int) -> int:
    """Rows of scratch for so many tasks: as many as may be at work at once."""
    return min(tasks, max(FEW, get_num_threads()))


def free(tasks: int, *scratch: Any) -> Any:
    """Free slots for so many tasks and their scratch; none if that is little and has a row for each."""
    much = rows(tasks) < tasks or sum(array.nbytes for array in scratch) > LITTLE
    if not much:
        return NONE
    slots = memory.scratch((rows(tasks),), np.int64, scratch[0])
    _clear(1, 1, slots)
    return slots
