"""What a row of the schedules says, and closed forms that several rows need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Make = Callable[[Any, Any], Any]
Bad = Mapping[str, Make]
"""What is refused, by the message after the name of the class."""


@dataclass(frozen=True)
class Schedule:
    name: str  # of the class, then what tells variants apart
    make: Make  # (namespace, optimizer) -> a schedule
    expected: Callable[[float, int], float]  # (base rate, steps done) -> rate, in NumPy
    bad: Bad = field(default_factory=dict)  # with a ValueError
    mistyped: Bad = field(default_factory=dict)  # with a TypeError
    torch: bool = True  # does PyTorch have the class, with these values?
    steps: int = 60
    records: bool = True


@dataclass(frozen=True)
class Fed:
    """A schedule whose step takes a number."""

    name: str
    make: Make
    numbers: Callable[[int], float]  # what step t is told
    bad: Bad = field(default_factory=dict)
    mistyped: Bad = field(default_factory=dict)
    torch: bool = True


def restarted(t: int, n: int, mult: int) -> float:
    """The part of its round that a schedule with restarts has done after t steps."""
    while t >= n:
        t, n = t - n, n * mult
    return t / n


def triangle(t: int, up: int, down: int) -> float:
    """From 0 to 1 in `up` steps and back in `down`."""
    x = t % (up + down)
    return x / up if x <= up else (up + down - x) / down


def one_cycle(
    t: int, n: int, part: float, high: float, way: Callable[[float], float], three: bool = False
) -> float:
    """Up until step p, then down until step n - 1, by a `way` from 0 to 1."""
    low, p, end = high / 25, part * n - 1, n - 1
    t = min(t, end)
    if t <= p and p > 0:
        return low + (high - low) * way(t / p)
    if not three:
        return high + (low / 1e4 - high) * way((t - p) / (end - p))
    if t <= 2 * p:
        return high + (low - high) * way((t - p) / p)
    return low + (low / 1e4 - low) * way((t - 2 * p) / (end - 2 * p))


def steady(lr: Any) -> dict[str, bool]:
    """What tells PyTorch's schedules to leave the momentum."""
    return {"cycle_momentum": False}
