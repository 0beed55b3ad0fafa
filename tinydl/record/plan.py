"""A recorded step before it is bound to memory: its calls, which of them are needed,
and where their buffers lie.

While a step is recorded its buffers come and go as in any eager step. What stays is a description: a
`Buffer` for each array that the allocator gave, and a `Place` for each argument that lies in one. When the
step is over, calls whose results nobody reads are dropped, relu joins the call before it, chains of
elementwise calls become one loop each, and the buffers are laid out in one block of memory, where two share
bytes if their lives do not overlap.
"""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels import conv, elementwise, matmul
from tinydl_kernels.machine.window import Window

from ..engine.core import Array

WORTH = 1 << 14
"""Numbers from which on elementwise calls are fused: a loop costs half a second to compile, once."""
ALIGNMENT = 64
"""Bytes: a line of the cache, and the largest vector register."""


def _conv_relu(x: Array, w: Array, b: Array, *, window: Window) -> Array:
    return conv.forward(x, w, b, window, True)


def _linear_relu(x: Array, w: Array, b: Array) -> Array:
    return matmul.linear(x, w, b, True)


WITH_RELU: dict[str, Callable[..., Array]] = {"conv.conv": _conv_relu, "matmul.linear": _linear_relu}
"""By the key of a primitive: the same and then relu, bit for bit, where a kernel has it as an epilogue."""


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
    buffers: Sequence[int]  # that it took from the allocator, by number

    def bound(self, bind: Callable[[Any], Any]) -> Callable[[], Any]:
        """The call with the arrays that `bind` gives for its arguments."""
        return functools.partial(self.primitive.function, *map(bind, self.arguments), **self.settings)

    def writes(self) -> bool:
        """Does it write into any of its arguments?"""
        return bool(self.primitive.writes(len(self.arguments), self.settings))

    def reads(self) -> set[int]:
        """The buffers that its arguments lie in."""
        return {x.buffer for x in self.arguments if isinstance(x, Place)}


def memory_of(x: Any) -> tuple[bool, int]:
    """What identifies the memory of an argument: (does it lie in a buffer?, which)."""
    return (True, x.buffer) if isinstance(x, Place) else (False, id(x if x is None else owner(x)))


def writes(calls: Sequence[Call]) -> dict[tuple[bool, int], list[int]]:
    """By their memory, the calls that write into it, by number."""
    found: dict[tuple[bool, int], list[int]] = collections.defaultdict(list)
    for number, call in enumerate(calls):
        for i in call.primitive.writes(len(call.arguments), call.settings):
            found[memory_of(call.arguments[i])].append(number)
    return found


def live(calls: Sequence[Call], live_out: Collection[int]) -> list[Call]:
    """The calls that write, or that lead to one that does or to a buffer that is live after the step; and
    those that other processes wait for.
    """
    read, found = set(live_out), []
    for call in reversed(calls):
        if call.writes() or call.primitive.collective or not read.isdisjoint(call.buffers):
            found.append(call)
            read |= call.reads()
    return found[::-1]


class Joined:
    """Stands for the primitives of several calls that are made as one. They write into no input."""

    key, collective = "", False

    def __init__(self, name: str, function: Callable[..., Any], elementwise: bool = False) -> None:
        self.name, self.function, self.elementwise = name, function, elementwise

    @staticmethod
    def writes(inputs: int, settings: dict[str, Any]) -> Sequence[int]:
        return ()


def join_relu(calls: Sequence[Call], buffers: Sequence[Buffer], live_out: Collection[int]) -> list[Call]:
    """Calls whose results relu alone reads become one with it, where there is a kernel for both."""
    readers = collections.Counter(buffer for call in calls for buffer in call.reads())
    makers = {buffer: number for number, call in enumerate(calls) for buffer in call.buffers}
    found = dict(enumerate(calls))
    for number, call in enumerate(calls):
        x = call.arguments[0] if call.primitive.name == "relu" else None
        if not isinstance(x, Place) or not x.whole or readers[x.buffer] != 1 or x.buffer in live_out:
            continue
        maker, (result,) = calls[makers[x.buffer]], call.buffers
        both = WITH_RELU.get(maker.primitive.key)
        if both and on_processor(maker, buffers) and on_processor(call, buffers):
            taken = [result if buffer == x.buffer else buffer for buffer in maker.buffers]
            found[makers[x.buffer]] = maker._replace(
                primitive=Joined(f"{maker.primitive.name}_relu", both), buffers=taken
            )
            del found[number]
    return list(found.values())


class _End(NamedTuple):
    """The last call of a chain so far: its number, and its result as a tree of operations on operands."""

    number: int
    tree: Any
    operands: list[Any]


def fuse(calls: Sequence[Call], buffers: Sequence[Buffer], live_out: Collection[int]) -> list[Call]:
    """Elementwise calls that alone read the result of another become one with it: what stands between is
    never stored.

    Only where both work on whole arrays of one shape and floating dtype, large enough to be worth a loop of
    their own.
    """
    readers = collections.Counter(buffer for call in calls for buffer in call.reads())
    ends: dict[int, _End] = {}  # by the buffer of the result
    found = dict(enumerate(calls))
    for number, call in enumerate(calls):
        if call.writes():
            ends.clear()  # it may write to what a chain reads
        if not _fusable(call, buffers):
            continue
        (result,) = call.buffers
        joined = {
            x.buffer
            for x in call.arguments
            if isinstance(x, Place)
            and x.whole
            and x.buffer in ends
            and readers[x.buffer] == 1
            and x.buffer not in live_out
            and buffers[x.buffer].shape == buffers[result].shape
        }
        tree, operands = _tree(call, ends, joined)
        if len(operands) > elementwise.OPERANDS:
            joined = set()
            tree, operands = _tree(call, ends, joined)
        ends[result] = _End(number, tree, operands)
        if joined:
            chain = elementwise.chained(tree)
            found[number] = call._replace(primitive=Joined(chain.__name__, chain, True), arguments=operands)
        for buffer in joined:
            del found[ends[buffer].number]
    return list(found.values())


def _tree(call: Call, ends: dict[int, _End], joined: Collection[int]) -> tuple[Any, list[Any]]:
    """A call as a tree of operations (see `elementwise.chained`) that includes the chains in `joined`; the
    tree's operands.
    """
    operands: dict[Any, tuple[int, Any]] = {}

    def numbered(x: Any) -> int:
        return operands.setdefault(x if isinstance(x, Place) else id(x), (len(operands), x))[0]

    def part(x: Any) -> Any:
        if not isinstance(x, Place) or x.buffer not in joined:
            return numbered(x)
        end = ends[x.buffer]
        return moved(end.tree, [numbered(y) for y in end.operands])

    def moved(tree: Any, numbers: list[int]) -> Any:
        return (
            numbers[tree]
            if isinstance(tree, int)
            else (tree[0], *(moved(branch, numbers) for branch in tree[1:]))
        )

    tree = (call.primitive.name, *map(part, call.arguments))
    return tree, [x for _, x in operands.values()]


def _fusable(call: Call, buffers: Sequence[Buffer]) -> bool:
    """Is it an operation of one element at a time on enough numbers of one floating dtype, in Numba?"""
    primitive = call.primitive
    if not primitive.elementwise or call.settings or len(call.buffers) != 1:
        return False
    if not on_processor(call, buffers):
        return False
    out = buffers[call.buffers[0]]
    same = all(x is not None and x.dtype == out.dtype for x in call.arguments)
    return primitive.name in elementwise.scalars and out.dtype.kind == "f" and same and is_large(out)


def is_large(buffer: Buffer) -> bool:
    """Does it hold enough numbers to be worth a loop of its own?"""
    return buffer.size >= WORTH * buffer.dtype.itemsize


def on_processor(call: Call, buffers: Sequence[Buffer]) -> bool:
    """Do the kernels in Numba run the call?"""
    return call.backend in (None, "cpu") and all(buffers[buffer].module is np for buffer in call.buffers)


def lay_out(buffers: Sequence[Buffer], calls: Sequence[Call], live_out: Collection[int]) -> dict[int, Array]:
    """Memory for the buffers of the calls, by number: one block per device.

    The largest come first, each at the lowest address that is free while it lives (greedy by size;
    Pisarchyk & Lee, arXiv 2001.03288, section 4.2). It lives from the call that takes it to the last that
    reads it; to the end if it is live after the step.
    """
    lives: dict[int, list[int]] = {}
    for number, call in enumerate(calls):
        for buffer in itertools.chain(call.buffers, call.reads()):
            lives.setdefault(buffer, [number, number])[1] = number
    for buffer in live_out:
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
    """Where each of the buffers begins. `sizes` descend; `lives` (n, 2): the first and last call of each."""
    starts = np.zeros_like(sizes)
    for i, size in enumerate(sizes):
        meets = np.flatnonzero((lives[:i, 0] <= lives[i, 1]) & (lives[:i, 1] >= lives[i, 0]))
        meets = meets[starts[meets].argsort(kind="stable")]
        # how far those reach that begin before each of them
        ends = np.maximum.accumulate(np.concatenate(([0], (starts + sizes)[meets])))
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


def view(
    base: Array, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype
) -> Array:
    """The array that lies `offset` bytes into the memory of `base`."""
    if isinstance(base, np.ndarray):
        return np.ndarray(shape, dtype, base, offset, strides)
    return type(base)(shape, dtype, base.data + offset, strides)
