"""Batch normalization in a recorded step: its two passes apart, and the second one with what follows.

    y = batch_norm(x); z = relu(y + s)     ->     factors = statistics(x); z = normalized(x, factors, s, relu)

The first pass stays where it is: the running statistics are updated there. The second goes to where its
result is read, so that one walk through memory is in the place of two or three. The bits are the same. And
what can be made again from a few numbers per channel need not be kept (recompute.py).
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from tinydl_kernels import norm

from ..engine.core import Array
from .plan import Buffer, Call, Joined, Place, is_large, memory_of, on_processor, writes


class _Passes(NamedTuple):
    """How a primitive is made in two passes.

    Of the buffers that a call takes the last is the result of the second pass, the one before it the factors.
    """

    first: Callable[..., Any]  # takes what the primitive takes
    second: Callable[..., Any]  # takes some of that, and the factors
    inputs: Sequence[int]  # which
    relu: bool  # may the second end with it?


def _statistics(x: Array, gamma: Array, beta: Array, *, eps: float) -> tuple[Array, ...]:
    return norm.statistics(x, gamma, beta, eps)


def _normalized(x: Array, factors: Array, other: Array | None = None, *, relu: bool = False) -> Array:
    return norm.normalized(x, factors, other, relu)


def _dx_statistics(
    g: Array, x: Array, gamma: Array, mean: Array, var: Array, *, eps: float
) -> tuple[Array, ...]:
    return norm.dx_statistics(g, x, gamma, mean, var, eps)


def _normalized_dx(g: Array, x: Array, factors: Array, other: Array | None = None) -> Array:
    return norm.normalized_dx(g, x, factors, other)


PASSES = {
    "norm.batch_norm": _Passes(_statistics, _normalized, (0,), True),
    "norm.batch_norm_dx": _Passes(_dx_statistics, _normalized_dx, (0, 1), False),
}
"""By the key of the primitive."""
_SECOND = {passes.second: passes for passes in PASSES.values()}


def split_norm(calls: Sequence[Call], buffers: Sequence[Buffer]) -> list[Call]:
    """The calls, those of batch normalization in two passes where they are large."""
    found = []
    for call in calls:
        passes = PASSES.get(call.primitive.key)
        if passes is None or not on_processor(call, buffers) or not is_large(buffers[call.buffers[-1]]):
            found.append(call)
            continue
        *own, result = call.buffers
        shape, dtype, size, _ = buffers[own[-1]]
        factors = Place(own[-1], 0, shape, (size // shape[0], dtype.itemsize), dtype, True)
        first = Joined(passes.first.__name__.strip("_"), passes.first)
        second = Joined(passes.second.__name__.strip("_"), passes.second, True)
        arguments = [*(call.arguments[i] for i in passes.inputs), factors]
        found.append(call._replace(primitive=first, buffers=own))
        found.append(call._replace(primitive=second, arguments=arguments, settings={}, buffers=[result]))
    return found


def join_norm(calls: Sequence[Call], buffers: Sequence[Buffer], live_out: Collection[int]) -> list[Call]:
    """Second passes whose result an addition, relu, or an addition and then relu alone reads become one call
    with that, in its place.
    """
    readers = collections.defaultdict(list)
    for number, call in enumerate(calls):
        for buffer in call.reads():
            readers[buffer].append(number)
    written, found = writes(calls), dict(enumerate(calls))
    for number, call in enumerate(calls):
        passes, at = _SECOND.get(call.primitive.function), number
        for name in ("add", "relu") if passes is not None and passes.relu else ("add",) if passes else ():
            (result,) = call.buffers
            if len(readers[result]) != 1 or result in live_out:
                break
            (place,) = readers[result]
            after = found.get(place)  # none where another second pass has taken it
            moved = any(number < w < place for x in call.arguments for w in written[memory_of(x)])
            if after is None or after.primitive.name != name or moved or not _alike(after, buffers):
                continue
            others = [x for x in after.arguments if not isinstance(x, Place) or x.buffer != result]
            if len(others) != len(after.arguments) - 1:
                continue
            settings = {"relu": True} if name == "relu" else {}
            call = call._replace(
                arguments=[*call.arguments, *others], settings=settings, buffers=after.buffers
            )
            del found[at]
            found[place], at = call, place
    return [found[number] for number in sorted(found)]


def _alike(call: Call, buffers: Sequence[Buffer]) -> bool:
    """Does it work element by element on whole arrays of one shape and dtype?"""
    if not call.primitive.elementwise or len(call.buffers) != 1 or not on_processor(call, buffers):
        return False
    out = buffers[call.buffers[0]]
    return all(
        x is not None
        and (x.shape, x.dtype) == (out.shape, out.dtype)
        and (x.whole if isinstance(x, Place) else x.flags.c_contiguous)
        for x in call.arguments
    )
