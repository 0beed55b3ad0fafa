"""How a reduction over some axes is cut into passes over (outer, size, inner)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ..cpu import jobs

Array = Any

Pass = tuple[int, int, int, int, bool]
"""(outer, size, inner, part, is it the last?)"""


def passes(
    x: Array, dims: tuple[int, ...], out: Array, zero: float, part_of: Callable[[int, int, int], int]
) -> tuple[Pass, ...]:
    """The passes over the axes `dims` of x; without any, `out` is filled here."""
    scheduled = _scheduled(x.shape, dims, part_of) if x.size else ()
    if not scheduled:
        jobs.spoil()
        out[...] = zero if not x.size else x.reshape(out.shape)
    return scheduled


@lru_cache(maxsize=1024)
def _scheduled(
    sizes: tuple[int, ...], dims: tuple[int, ...], part_of: Callable[[int, int, int], int]
) -> tuple[Pass, ...]:
    """A pass leaves one result for each part_of(outer, size, inner) elements of a line of `size`."""
    shape, passes = list(sizes), []
    pending = [dim for dim in dims if shape[dim] != 1]
    while pending:
        last = first = pending.pop()
        while pending and all(size == 1 for size in shape[pending[-1] + 1 : first]):
            first = pending.pop()
        outer, size, inner = (
            math.prod(part) for part in (shape[:first], shape[first : last + 1], shape[last + 1 :])
        )
        part = part_of(outer, size, inner)
        parts = -(-size // part)
        passes.append((outer, size, inner, part, not pending and parts == 1))
        shape[first : last + 1] = [parts] + [1] * (last - first)
        if parts > 1:
            pending.append(first)
    return tuple(passes)
