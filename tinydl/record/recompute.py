"""Memory for time in a recorded step: what is cheap to make is not kept where the step takes the most memory,
but computed again just before it is read.

    time ->     make y ... read y ... peak ... read y          y lies there all the time
                make y ... read y ... peak ... make y, read y  and here it does not

The same kernel on the same arrays gives the same bits. So a call may be made again wherever all that it reads
still holds what it held, or can be made again itself; what draws random numbers, writes, or waits for other
processes is never made again.

The search is greedy. Of all gaps between two accesses of a buffer that span the peak, the one is opened whose
buffer costs the fewest bytes of traffic for each byte that it frees; then the peak is looked for anew, until
nothing that would lower it is left. Nothing is computed twice where that lowers no peak.

Time is counted in slots: call number v stands in slot 2 v + 1, and what is made again for it in slot 2 v.
"""

from __future__ import annotations

import bisect
import collections
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from .plan import Buffer, Call, Place, memory_of, writes

CHEAP = frozenset(
    {
        *("core.cast", "core.contiguous", "padding.pad", "shape.place"),
        *("norm.batch_norm", "norm.batch_norm_dx", "norm.batch_norm_dx_dx"),
    }
)
"""By their keys, primitives that do no more than walk through their arrays, as the elementwise ones do."""
LARGE = 1 << 14
"""Bytes from which on it matters how long a buffer is kept."""
AT_ONCE = 8
"""Calls that may be made again for one output."""


def recompute(calls: Sequence[Call], buffers: list[Buffer], live_out: Collection[int]) -> list[Call]:
    """The calls of a step and those that are made again, with the same results in less memory. New buffers
    are added to `buffers`.
    """
    search = _Search(calls, buffers, live_out)
    while search.lower():
        pass
    return _made_again(calls, buffers, search)


class _Gap(NamedTuple):
    """From an access of a buffer to the slot in which it is made again, with what that takes."""

    buffer: int
    start: int
    end: int
    made: Collection[int]  # the buffers that are made again, this one and those that it needs
    taken: int  # bytes at the end, beside the buffer itself
    traffic: int  # bytes read and written


class _Search:
    """Which buffers are dropped after which of their accesses."""

    def __init__(self, calls: Sequence[Call], buffers: Sequence[Buffer], live_out: Collection[int]) -> None:
        self.calls = calls
        self.size = [buffer.size for buffer in buffers]
        self.maker: dict[int, int] = {}
        self.accesses: dict[int, list[int]] = collections.defaultdict(list)  # slots, ascending
        self.writes = writes(calls)
        self.dropped: dict[int, set[int]] = collections.defaultdict(set)  # by slot, the buffers
        for number, call in enumerate(calls):
            slot = 2 * number + 1
            for buffer in call.buffers:
                self.maker[buffer] = number
            for buffer in {*call.buffers, *call.reads()}:
                self.accesses[buffer].append(slot)
        for buffer in live_out:
            self.accesses[buffer].append(2 * len(calls))
        self.profile = np.zeros(2 * len(calls) + 1, np.int64)  # bytes that live in each slot
        for buffer, slots in self.accesses.items():
            self.profile[slots[0] : slots[-1] + 1] += self.size[buffer]
        self.candidates = [
            buffer
            for buffer in self.maker
            if self.size[buffer] >= LARGE and buffer not in live_out and self._repeatable(buffer)
        ]
        self.refused: set[tuple[int, int]] = set()  # a buffer and the start of a gap

    def _repeatable(self, buffer: int) -> bool:
        """May the call that makes a buffer be made again, if its inputs are there?"""
        primitive = self.calls[self.maker[buffer]].primitive
        cheap = primitive.elementwise or primitive.key in CHEAP
        return cheap and not primitive.collective and (True, buffer) not in self.writes

    def lower(self) -> bool:
        """Open the cheapest gap at the peak. False if none lowers it."""
        peak = int(self.profile.argmax())
        found = []
        for buffer in self.candidates:
            slots = self.accesses[buffer]
            i = bisect.bisect_left(slots, peak)
            if not 0 < i < len(slots) or slots[i] == peak or (buffer, slots[i - 1]) in self.refused:
                continue
            if buffer in self.dropped[slots[i - 1]]:
                continue
            gap = self._gap(buffer, slots[i - 1], slots[i] & ~1)
            if gap is None or self.profile[gap.end] + gap.taken >= self.profile[peak]:
                self.refused.add((buffer, slots[i - 1]))
            elif peak < gap.end:
                found.append(gap)
        if found:
            self._open(min(found, key=lambda gap: gap.traffic / self.size[gap.buffer]))
        return bool(found)

    def _gap(self, buffer: int, start: int, end: int) -> _Gap | None:
        """The gap of a buffer that is made again in slot `end`, or None if it cannot be."""
        made: dict[int, None] = {}
        if not self._needed(buffer, end, made):
            return None
        calls = [self.calls[number] for number in {self.maker[other] for other in made}]
        outputs = sum(self.size[other] for call in calls for other in call.buffers)
        inputs = sum(self.size[other] for call in calls for other in call.reads())
        return _Gap(buffer, start, end, made, outputs - self.size[buffer], outputs + inputs)

    def _needed(self, buffer: int, slot: int, made: dict[int, None]) -> bool:
        """Can a buffer be made again in a slot? What must be made for it is added to `made`."""
        number = self.maker[buffer]
        call = self.calls[number]
        if len(made) == AT_ONCE or not self._repeatable(buffer):
            return False
        made[buffer] = None
        if any(number < w < slot // 2 for x in call.arguments for w in self.writes.get(memory_of(x), ())):
            return False
        return all(
            other in made or self._alive(other, slot) or self._needed(other, slot, made)
            for other in call.reads()
        )

    def _alive(self, buffer: int, slot: int) -> bool:
        """Is a buffer there in a slot, or so small that it may stay?"""
        slots = self.accesses[buffer]
        i = bisect.bisect_right(slots, slot) - 1
        if self.size[buffer] < LARGE or slots[i] == slot:
            return True
        return i + 1 < len(slots) and buffer not in self.dropped[slots[i]]

    def _open(self, gap: _Gap) -> None:
        """Drop the buffer of a gap, and note what is read for it in its last slot."""
        for buffer in gap.made:
            self._access(buffer, gap.end, True)
            for other in self.calls[self.maker[buffer]].reads():
                if other not in gap.made:
                    self._access(other, gap.end, False)
        self.profile[gap.start + 1 : gap.end] -= self.size[gap.buffer]
        self.profile[gap.end] += gap.taken

    def _access(self, buffer: int, slot: int, drop: bool) -> None:
        """Note an access; `drop` the buffer after the one before it."""
        slots = self.accesses[buffer]
        i = bisect.bisect_left(slots, slot)
        if drop:
            before = slots[i - 1]
            if buffer in self.dropped[before]:
                self.dropped[slot].add(buffer)
            self.dropped[before].add(buffer)
        if i == len(slots) or slots[i] != slot:
            slots.insert(i, slot)


def _made_again(calls: Sequence[Call], buffers: list[Buffer], search: _Search) -> list[Call]:
    """The calls as the search has decided, each with the buffers that hold its arguments by then."""
    found: list[Call] = []
    now: dict[int, int | None] = {}  # where the content of a buffer lies: in itself unless it is here

    def placed(x: Any) -> Any:
        number = now.get(x.buffer) if isinstance(x, Place) else None
        return x if number is None else x._replace(buffer=number)

    def make(buffer: int, slot: int) -> None:
        if now.get(buffer, buffer) is not None:
            return
        call = calls[search.maker[buffer]]
        for other in call.reads():
            make(other, slot)
        arguments = [placed(x) for x in call.arguments]
        numbers = range(len(buffers), len(buffers) + len(call.buffers))
        buffers.extend(buffers[other] for other in call.buffers)
        found.append(call._replace(arguments=arguments, buffers=numbers))
        for other, number in zip(call.buffers, numbers, strict=True):
            if now.get(other, other) is None and slot in search.accesses[other]:
                now[other] = number

    for number, call in enumerate(calls):
        for buffer in call.reads():
            make(buffer, 2 * number)
        found.append(call._replace(arguments=[placed(x) for x in call.arguments]))
        for slot in (2 * number, 2 * number + 1):
            now.update(dict.fromkeys(search.dropped[slot]))
    return found
