"""Means and paired differences over seeds, their standard errors, and what may be claimed from them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import ShapeError


class Estimate(NamedTuple):
    """A mean over n values and its standard error, s / √n with the unbiased s; NaN for a single value."""

    mean: float
    error: float
    n: int

    def beyond(self, errors: float = 2.0, least: int = 3) -> bool:
        """Is the mean further from 0 than so many standard errors, over at least so many values?"""
        return self.n >= least and abs(self.mean) > errors * self.error

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Student's t interval of the mean; NaN for a single value.

        Raises:
            ValueError: a confidence that is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise ValueError(f"interval: expected confidence between 0 and 1, got {confidence}")
        half = _t_quantile(confidence, self.n - 1) * self.error if self.n > 1 else math.nan
        return self.mean - half, self.mean + half

    def told(self, least: int = 5) -> str:
        """A difference in words: "+0.31 (95 % t interval 0.10 to 0.52, 5 pairs)", and "not shown" behind it
        where the interval holds 0 or there are fewer than `least` pairs.
        """
        if self.n < 2:
            return f"{self.mean:+.2f} (1 pair): not shown"
        low, high = self.interval()
        shown = self.n >= least and (low > 0 or high < 0)
        said = f"{self.mean:+.2f} (95 % t interval {low:.2f} to {high:.2f}, {self.n} pairs)"
        return said if shown else f"{said}: not shown"


def _t_quantile(confidence: float, freedom: int) -> float:
    """t with P(|T| < t) = confidence, by bisection on the angle a = atan(t / √freedom). The probability is a
    finite sum of powers of cos a for whole degrees of freedom (Abramowitz & Stegun 26.7.3 and 26.7.4).
    """

    def within(angle: float) -> float:
        odd = freedom % 2
        term, total = math.cos(angle) if odd else 1.0, 0.0
        for k in range(1 + odd, freedom, 2):
            total += term
            term *= math.cos(angle) ** 2 * k / (k + 1)
        return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < confidence else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def estimate(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean of values (n,), n >= 1, and its standard error.

    Raises:
        ShapeError: no values, or more than one axis.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ShapeError(f"estimate: expected values (n,), n >= 1, got {array.shape}")
    n = array.size
    error = float(array.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(array.mean()), error, n)


def paired_difference(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> Estimate:
    """The mean of a - b, where a[i] and b[i] are of one seed; mean / error is the t of the paired test.

    What the seed decides for both (initialization, data, masks) cancels, so the error is
    smaller than that of two means.

    Raises:
        ShapeError: values that are not pairs.
    """
    if np.shape(a) != np.shape(b):
        raise ShapeError(f"paired_difference: expected pairs, got {np.shape(a)} and {np.shape(b)} values")
    return estimate(np.subtract(a, b, dtype=np.float64))


class Difference(NamedTuple):
    """By how much scores of `name` are above those of `other`, in pairs, and the
    claim that this allows, if any.
    """

    name: str
    other: str
    estimate: Estimate
    claim: str | None


class Comparison(NamedTuple):
    """Means of several methods over the same seeds, and the paired difference of each two of them."""

    means: dict[str, Estimate]
    differences: list[Difference]

    def __str__(self) -> str:
        """A table of two parts."""
        lines = ["mean ± standard error"]
        for name, (mean, error, n) in self.means.items():
            lines.append(
                f"  {name:24} {mean:7.2f}" + (f" ± {error:.2f}  ({n} seeds)" if n > 1 else "  (1 seed)")
            )
        if self.differences:
            lines.append("paired differences; a claim takes three pairs and two standard errors")
        for name, other, (mean, error, _), claim in self.differences:
            spread = "" if math.isnan(error) else f" ± {error:.2f}"
            lines.append(f"  {f'{name} - {other}':24} {mean:+7.2f}{spread}  {claim or 'no claim'}")
        return "\n".join(lines)


def compare(scores: Mapping[str, Sequence[float]]) -> Comparison:
    """Compare methods by scores of which more is better: method -> (seeds,), the same
    seeds in the same order for all.

    That one method is better than another is claimed only where their mean paired difference is further from
    0 than two standard errors, over at least three seeds.

    Raises:
        ShapeError: no scores, or scores that are not pairs.
    """
    differences = []
    for other, name in itertools.combinations(scores, 2):
        found = paired_difference(scores[name], scores[other])
        better, worse = (name, other) if found.mean > 0 else (other, name)
        claim = f"{better} is better than {worse}" if found.beyond(errors=2.0, least=3) else None
        differences.append(Difference(name, other, found, claim))
    return Comparison({name: estimate(values) for name, values in scores.items()}, differences)
