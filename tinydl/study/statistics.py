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
        """mean ± t · error, with the quantile t of Student's distribution of n - 1 degrees of freedom; NaN
        for a single value.

        Raises:
            ValueError: confidence that is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise ValueError(f"interval: expected confidence between 0 and 1, got {confidence}")
        half = math.nan if self.n < 2 else _student(confidence, self.n - 1) * self.error
        return self.mean - half, self.mean + half

    def told(self, least: int = 5) -> str:
        """A difference in words: the mean, its 95 % interval, and "shown" if that excludes 0 over at least so
        many values, else "not shown".
        """
        low, high = self.interval()
        shown = self.n >= least and low * high > 0
        within = "" if self.n < 2 else f" (95 % {low:+.2f} to {high:+.2f}, {self.n} pairs)"
        return f"{self.mean:+.2f}{within}: {'shown' if shown else 'not shown'}"


def _student(confidence: float, degrees: int) -> float:
    """t with P(|T| < t) = confidence for T of Student's distribution; for whole degrees of freedom this is a
    finite sum in the angle atan(t / √degrees) (Abramowitz & Stegun, 26.7.3 and 26.7.4), found by bisection.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        term = math.sin(angle) * (math.cos(angle) if degrees % 2 else 1.0)
        total = 0.0 if degrees == 1 else term
        for k in range(2 + degrees % 2, degrees - 1, 2):
            term *= (k - 1) / k * math.cos(angle) ** 2
            total += term
        found = 2 / math.pi * (angle + total) if degrees % 2 else total
        low, high = (angle, high) if found < confidence else (low, angle)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


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
