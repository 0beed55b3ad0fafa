"""What a table of results may say: t intervals, claims corrected for their number, what is reproduced."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from .statistics import Estimate

ALPHA = 0.05
LEAST_PAIRS, LEAST_RUNS = 5, 10
TOLERANCE, MOST_OF_ERROR = 0.15, 0.1  # points of accuracy


def t_probability(t: float, freedom: int) -> float:
    """P(|T| >= |t|) of Student's t with so many degrees of freedom, at least 1: the finite series of
    Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    if freedom < 1:
        raise ValueError(f"t_probability: expected freedom of at least 1, got {freedom}")
    if math.isnan(t) or math.isinf(t):
        return math.nan if math.isnan(t) else 0.0
    angle = math.atan(abs(t) / math.sqrt(freedom))
    cosine2, odd = math.cos(angle) ** 2, freedom % 2
    term = total = math.cos(angle) if odd else 1.0
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine2 * (k - 1) / k
        total += term
    if odd:
        within = 2 / math.pi * (angle + (math.sin(angle) * total if freedom > 1 else 0.0))
    else:
        within = math.sin(angle) * total
    return max(0.0, 1 - within)


def t_quantile(freedom: int, level: float = 0.95) -> float:
    """The t that |T| stays below with probability `level`, 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"t_quantile: expected a level between 0 and 1, got {level}")
    low, high = 0.0, 1.0
    while t_probability(high, freedom) > 1 - level:
        low, high = high, 2 * high
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if t_probability(middle, freedom) > 1 - level else (low, middle)
    return 0.5 * (low + high)


def t_interval(found: Estimate, level: float = 0.95) -> tuple[float, float]:
    """Low and high end around a mean; NaN for a single value."""
    if found.n < 2:
        return math.nan, math.nan
    reach = t_quantile(found.n - 1, level) * found.error
    return found.mean - reach, found.mean + reach


class Claim(NamedTuple):
    """A mean paired difference, its t interval at the level that Holm's correction asks for, and what may be
    said of it.
    """

    estimate: Estimate
    low: float
    high: float
    verdict: str

    @property
    def holds(self) -> bool:
        return self.verdict in ("above 0", "below 0")


def claims(
    differences: Mapping[str, Estimate], planned: int = LEAST_PAIRS, family: int = 0
) -> dict[str, Claim]:
    """One family of paired differences, by name. A difference is "above 0" or "below 0" where its 95 % t
    interval, Holm-corrected within the family, excludes 0 (Holm 1979: the k-th smallest of m probabilities,
    from 0, is held against .05 / (m - k), until the first that is larger).

    Differences of fewer pairs than `planned`, or than 5, get no verdict; they count in m, since the family
    was chosen before, and so do those that are still to come where `family` says that there will be more.
    Where all pairs differ by the same, the interval is that point.
    """
    m, going, found = max(family, len(differences)), True, {}
    order = sorted(differences, key=lambda name: _probability(differences[name]))
    for k, name in enumerate(order):
        estimate = differences[name]
        least = max(planned, LEAST_PAIRS)
        if estimate.n < least:
            found[name] = Claim(
                estimate, *t_interval(estimate, 1 - ALPHA / m), f"n = {estimate.n} of {least}"
            )
            continue
        level = 1 - ALPHA / (m - k)
        low, high = t_interval(estimate, level)
        going = going and (low > 0 or high < 0)
        verdict = ("above 0" if estimate.mean > 0 else "below 0") if going else "not shown"
        found[name] = Claim(estimate, low, high, verdict)
    return {name: found[name] for name in differences}


def _probability(estimate: Estimate) -> float:
    """Of a difference as large where there is none; last in order where nothing can be said."""
    if estimate.n < LEAST_PAIRS:
        return 2.0
    if estimate.error == 0:
        return float(estimate.mean == 0)
    return t_probability(estimate.mean / estimate.error, estimate.n - 1)


def reproduction(ours: Estimate, published: float | None, planned: int = LEAST_RUNS) -> str:
    """ "reproduced" where n = 10 or more and |ours - published| <= .15 + min(2 standard errors, .1), both in
    percentage points; "not reproduced: +.31"; "n = 3 of 10" while runs are missing; "" where nothing is
    published.
    """
    if published is None:
        return ""
    least = max(planned, LEAST_RUNS)
    if ours.n < least:
        return f"n = {ours.n} of {least}"
    off = ours.mean - published
    if abs(off) <= TOLERANCE + min(2 * ours.error, MOST_OF_ERROR) + 1e-9:
        return "reproduced"
    return f"not reproduced: {off:+.2f}"
