"""What a table of results may say: t intervals, claims corrected for their number, what is reproduced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .statistics import Estimate, t_probability

ALPHA = 0.05
LEAST_PAIRS, LEAST_RUNS = 5, 10
TOLERANCE, MOST_OF_ERROR = 0.15, 0.1  # points of accuracy


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
            low, high = estimate.interval(1 - ALPHA / m)
            found[name] = Claim(estimate, low, high, f"n = {estimate.n} of {least}")
            continue
        level = 1 - ALPHA / (m - k)
        low, high = estimate.interval(level)
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
