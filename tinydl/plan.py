"""A recorded step before it is bound to memory: its calls, which of them are needed, and where their buffers lie.

While a step is recorded its buffers come and go as in any eager step. What stays is a description: a `Buffer` for each array
that the allocator gave, and a `Place` for each argument that lies in one. When the step is over, calls whose results nobody
reads are dropped, and the buffers are laid out in one block of memory, where two share bytes if their lives do not overlap.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from .core import Array

ALIGNMENT = 64
"""Bytes: a line of the cache, and the largest vector register."""


class Buffer(NamedTuple):
    """An array that the allocator gave."""

    shape: tuple[int, ...]
    dtype: np.dtype
    size: int  # in bytes
    module: Any  # numpy or cupy


class Place(NamedTuple):
    """An array that lies in a buffer."""

    buffer: int
    offset: int  # in bytes
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    whole: bool  # is it the buffer itself?


class Call(NamedTuple):
    """A call of a primitive. Arguments are places, arrays from outside, or None."""

    primitive: Any
    arguments: list[Any]
    settings: dict[str, Any]
    backend: str | None
    buffers: range  # that it took from the allocator, by number

    def bound(self, bind: Callable[[Any], Any]) -> Callable[[], Any]:
        """The call with the arrays that `bind` gives for its arguments."""
        return functools.partial(self.primitive.function, *map(bind, self.arguments), **self.settings)

    def reads(self) -> set[int]:
        """The buffers that its arguments lie in."""
        return {x.buffer for x in self.arguments if isinstance(x, Place)}


def live(calls: Sequence[Call], kept: Collection[int]) -> list[Call]:
    """The calls that write, or that lead to one that does or to a buffer that is kept."""
    read, found = set(kept), []
    for call in reversed(calls):
        if hasattr(call.primitive, "writes") or not read.isdisjoint(call.buffers):
            found.append(call)
            read |= call.reads()
    return found[::-1]


def lay_out(buffers: Sequence[Buffer], calls: Sequence[Call], kept: Collection[int]) -> dict[int, Array]:
    """Memory for the buffers of the calls, by number: one block a device.

    The largest come first, each at the lowest address that is free while it lives (greedy by size; Pisarchyk & Lee,
    arXiv 2001.03288, section 4.2). It lives from the call that takes it to the last that reads it; to the end if it is kept.
    """
    lives: dict[int, list[int]] = {}
    for number, call in enumerate(calls):
        for buffer in itertools.chain(call.buffers, call.reads()):
            lives.setdefault(buffer, [number, number])[1] = number
    for buffer in kept:
        lives[buffer][1] = len(calls)
    planned = {}
    for module in {buffers[number].module for number in lives}:
        numbers = sorted((n for n in lives if buffers[n].module is module), key=lambda n: -buffers[n].size)
        sizes = np.array([-(-buffers[n].size // ALIGNMENT) * ALIGNMENT for n in numbers])
        starts = _addresses(sizes, np.array([lives[n] for n in numbers]))
        block = module.empty(int((starts + sizes).max()) + ALIGNMENT, np.uint8)
        first = -address(block) % ALIGNMENT
        for number, start in zip(numbers, (starts + first).tolist(), strict=True):
            shape, dtype, size, _ = buffers[number]
            planned[number] = block[start : start + size].view(dtype).reshape(shape)
    return planned


def _addresses(sizes: np.ndarray, lives: np.ndarray) -> np.ndarray:
    """Where each of the buffers begins; sizes descend, lives (n, 2) are its first and last call."""
    starts = np.zeros_like(sizes)
    for i, size in enumerate(sizes):
        meets = np.flatnonzero((lives[:i, 0] <= lives[i, 1]) & (lives[:i, 1] >= lives[i, 0]))
        meets = meets[starts[meets].argsort(kind="stable")]
        ends = np.maximum.accumulate(np.concatenate(([0], (starts + sizes)[meets])))  # of all that begin before
        gaps = starts[meets] - ends[:-1] >= size
        starts[i] = ends[gaps.argmax() if gaps.any() else -1]
    return starts


def address(array: Array) -> int:
    return array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else array.data.ptr


def owner(array: Array) -> Array:
    """The array whose memory `array` is a view of, or itself."""
    while isinstance(array.base, type(array)):
        array = array.base
    return array


def view(base: Array, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype) -> Array:
    """The array that lies `offset` bytes into the memory of `base`."""
    if isinstance(base, np.ndarray):
        return np.ndarray(shape, dtype, base, offset, strides)
    return type(base)(shape, dtype, base.data + offset, strides)
