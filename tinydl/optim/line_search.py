"""A line search for the strong Wolfe conditions, in float64.

Nocedal & Wright, Numerical optimization (2nd edition, 2006), algorithms 3.5 and 3.6; the order of the tests
and the cubic interpolation are those of torch.optim.LBFGS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

DECREASE, FLATTEN = 1e-4, 0.9
"""By how much of the slope the value must fall, and to how much of it the slope."""


class Point(NamedTuple):
    """What is known at length t along a direction."""

    t: float
    value: float
    gradient: Any
    slope: float


def strong_wolfe(
    at: Callable[[float], Point], start: Point, t: float, largest: float, tolerance: float, trials: int
) -> Point:
    """A point with value <= start's + 1e-4 t slope, and |slope| <= 0.9 start's; or the one with the smallest
    value of the last bracket, once trials are over.

    Args:
        at: evaluates a length.
        start: at length 0; its slope is negative.
        t: the first length that is tried.
        largest: the largest |element| of the direction.
        tolerance: a bracket whose width times `largest` is smaller is not divided.
        trials: how many lengths are tried after the first.
    """

    def too_high(point: Point) -> bool:
        # not "value > ...": NaN is too high
        return not point.value <= start.value + DECREASE * point.t * start.slope

    def is_flat(point: Point) -> bool:
        return abs(point.slope) <= -FLATTEN * start.slope

    previous, point = start, at(t)
    for trial in range(trials):
        if too_high(point) or (trial > 1 and point.value >= previous.value):
            break
        if is_flat(point):
            return point
        if point.slope >= 0:
            break
        least, most = point.t + 0.01 * (point.t - previous.t), 10 * point.t
        previous, point = point, at(_cubic(previous, point, least, most))
    else:
        return (start, point)[_lower([start, point])]
    return _zoom(at, (previous, point), largest, tolerance, trials - trial, too_high, is_flat)


def _zoom(
    at: Callable[[float], Point],
    bracket: tuple[Point, Point],
    largest: float,
    tolerance: float,
    trials: int,
    too_high: Callable[[Point], bool],
    is_flat: Callable[[Point], bool],
) -> Point:
    """The point that a bracket encloses."""
    ends = list(bracket)
    low = _lower(ends)
    near = False  # was the last trial close to an end, and left there?
    for _ in range(trials):
        a, b = sorted(end.t for end in ends)
        if a == b or (b - a) * largest < tolerance:
            break
        t = _cubic(ends[0], ends[1], a, b)
        margin = 0.1 * (b - a)
        close = min(b - t, t - a) < margin
        if close and (near or t >= b or t <= a):
            t = b - margin if abs(t - b) < abs(t - a) else a + margin
            close = False
        near = close
        point = at(t)
        if too_high(point) or point.value >= ends[low].value:
            ends[1 - low] = point
            low = _lower(ends)
            continue
        if is_flat(point):
            return point
        if point.slope * (ends[1 - low].t - ends[low].t) >= 0:
            ends[1 - low] = ends[low]
        ends[low] = point
    return ends[low]


def _lower(ends: list[Point]) -> int:
    """Which of two points has the smaller value; the first on a tie, and never one that is NaN."""
    return int(not ends[0].value <= ends[1].value and not math.isnan(ends[1].value))


def _cubic(p: Point, q: Point, least: float, most: float) -> float:
    """Where the cubic through two points with their slopes has its minimum, within bounds; their middle if it
    has none, or a value is not finite.
    """
    a, b = (p, q) if p.t <= q.t else (q, p)
    e = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
    square = e * e - a.slope * b.slope
    if not 0 <= square < math.inf:
        return (least + most) / 2
    root = math.sqrt(square)
    bend = b.slope - a.slope + 2 * root
    if bend == 0:
        return (least + most) / 2
    t = b.t - (b.t - a.t) * ((b.slope + root - e) / bend)
    return min(max(t, least), most)
