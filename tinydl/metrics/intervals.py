"""How sure is a score, and is one model better than another? Wilson, bootstrap, DeLong, McNemar."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from .checks import (
    UndefinedMetricWarning,
    classes,
    finite,
    host,
    indicators,
    predicted,
    same_length,
    undefined,
)

__all__ = ["bootstrap", "delong", "delong_test", "mcnemar", "wilson"]


class Interval(NamedTuple):
    """A score and its confidence interval."""

    estimate: float
    low: float
    high: float


class DeLongTest(NamedTuple):
    """The difference of two AUCs (first minus second), its standard error, z, and the two-sided p-value."""

    difference: float
    error: float
    z: float
    pvalue: float


class McNemarTest(NamedTuple):
    """Samples that only the first (second) model gets right, the statistic, and the two-sided p-value."""

    only_first: int
    only_second: int
    statistic: float
    pvalue: float


def _quantile(who: str, confidence: float) -> float:
    """z with P(|N(0, 1)| < z) = confidence."""
    if not 0 < confidence < 1:
        raise ShapeError(f"{who}: confidence: expected a number between 0 and 1, got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(successes: float, n: float, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (E. B. Wilson, JASA 1927): of accuracy, sensitivity, ...

    With p = successes / n and z the normal quantile, (p + z²/2n ± z √(p (1 - p) / n + z²/4n²)) / (1 + z²/n).
    It stays in [0, 1] and is no point at 0 or n successes, unlike p ± z √(p (1 - p) / n).

    Raises:
        ShapeError: successes outside [0, n], n not positive, confidence outside (0, 1).
    """
    if not (0 < n < math.inf and 0 <= successes <= n):
        raise ShapeError(f"wilson: expected 0 <= successes <= n and n > 0, got {successes} of {n}")
    z = _quantile("wilson", confidence)
    p = successes / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + side * half) / (1 + z * z / n) for side in (-1, 1))
    # The ends are exact there; rounding would leave 1e-18.
    return Interval(p, 0.0 if successes == 0 else low, 1.0 if successes == n else high)


def bootstrap(
    metric: Callable[..., float],
    *arrays: Any,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    stratify: Any = None,
) -> Interval:
    """Percentile interval of any score, over samples drawn with replacement (B. Efron, 1979).

    The arrays are resampled together, so a difference of two models is paired:
    `bootstrap(lambda a, b, y: auc(a, y) - auc(b, y), a, b, y)`.

    Args:
        metric: of the arrays, a number.
        arrays: n samples each.
        confidence: of the interval.
        resamples: how many.
        seed: 0 to 2**64 - 1; the same seed draws the same samples, in every version of NumPy.
        stratify: None, or (n,) classes: each resample has as many of each as there are. Without it a rare
            class may be missing; resamples in which the score is NaN are left out, with one warning.

    Raises:
        ShapeError: arrays of unequal length or empty, a setting out of range.
    """
    who = "bootstrap"
    given = [host(who, f"array {i}", x) for i, x in enumerate(arrays)]
    lengths = {x.shape[:1] for x in given}
    if len(lengths) != 1 or lengths in ({()}, {(0,)}):
        raise ShapeError(f"{who}: expected arrays of one length, got the shapes {[x.shape for x in given]}")
    if resamples < 1 or not 0 <= seed < 1 << 64:
        raise ShapeError(f"{who}: expected resamples >= 1 and a seed of 64 bits, got {resamples} and {seed}")
    _quantile(who, confidence)
    n = len(given[0])
    groups = [np.arange(n)]
    if stratify is not None:
        labels = host(who, "stratify", stratify)
        if labels.shape != (n,):
            raise ShapeError(f"{who}: stratify: expected {(n,)}, got {labels.shape}")
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    stream = np.random.Philox(key=np.array([seed, 0], np.uint64))
    values = np.empty(resamples)
    for i in range(resamples):
        rows = np.concatenate([group[_draw(stream, len(group))] for group in groups])
        with warnings.catch_warnings():  # one warning for all of them follows
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            values[i] = metric(*(x[rows] for x in given))
    estimate = float(metric(*given))
    fine = values[~np.isnan(values)]
    if len(fine) < resamples:
        undefined(
            who, f"the score is undefined in {resamples - len(fine)} of {resamples} resamples, left out"
        )
    if not len(fine):
        return Interval(estimate, math.nan, math.nan)
    low, high = np.percentile(fine, [50 * (1 - confidence), 50 * (1 + confidence)])
    return Interval(estimate, float(low), float(high))


def _draw(stream: np.random.Philox, n: int) -> np.ndarray:
    """n indices below n, each from the 53 upper bits of a raw word."""
    return ((stream.random_raw(n) >> np.uint64(11)) * 2.0**-53 * n).astype(np.int64)


def _midranks(x: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal numbers share the mean of theirs."""
    _, which, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[which]


def _placements(who: str, scores: list[Any], target: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUCs (k,), and the part of the negatives under each positive (k, positives), of the positives over each
    negative (k, negatives), by ranks (Sun and Xu, IEEE Signal Processing Letters 2014).
    """
    t = indicators(who, "target", target)
    above, below = [], []
    for score in scores:
        p = finite(who, "prediction", score)
        if p.ndim != 1:
            raise ShapeError(f"{who}: expected scores (n,) of class 1, got {p.shape}")
        same_length(who, p, t)
        positives, negatives = p[t], p[~t]
        ranks = _midranks(np.concatenate([positives, negatives]))
        m, n = len(positives), len(negatives)
        if m and n:
            above.append((ranks[:m] - _midranks(positives)) / n)
            below.append(1 - (ranks[m:] - _midranks(negatives)) / m)
    if not above or min(m, n) < 2:
        undefined(who, f"undefined, expected two positives and two negatives, got {t.sum()}, {(~t).sum()}")
        return np.full(len(scores), np.nan), np.zeros((len(scores), 0)), np.zeros((len(scores), 0))
    return np.mean(above, 1), np.array(above), np.array(below)


def _covariance(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Of the AUCs, (k, k)."""
    return sum(np.atleast_2d(np.cov(x)) / x.shape[1] for x in (above, below))


def delong(prediction: Any, target: Any, *, confidence: float = 0.95) -> Interval:
    """The AUC with DeLong's interval, AUC ± z √variance within [0, 1] (DeLong et al., Biometrics 1988).

    The variance is that of the positives' and of the negatives' placement values, each over its number. For
    an AUC of exactly 1 or 0 it is 0: the interval is a point, and says too much.

    Args:
        prediction: scores (n,) of class 1, anything finite.
        target: 0 or 1 (n,).
        confidence: of the interval.

    Returns:
        (estimate, low, high); NaN with fewer than two positives or negatives, with one warning.

    Raises:
        ShapeError: scores that are not finite or not (n,), targets other than 0 and 1.
    """
    z = _quantile("delong", confidence)
    values, above, below = _placements("delong", [prediction], target)
    if np.isnan(values[0]):
        return Interval(math.nan, math.nan, math.nan)
    half = z * math.sqrt(_covariance(above, below)[0, 0])
    return Interval(float(values[0]), max(0.0, float(values[0] - half)), min(1.0, float(values[0] + half)))


def delong_test(first: Any, second: Any, target: Any) -> DeLongTest:
    """Do two models have the same AUC on one test set? DeLong's paired test (Biometrics 1988).

    Args:
        first, second: scores (n,) of class 1 of the same samples.
        target: 0 or 1 (n,).

    Returns:
        (difference, error, z, pvalue). Where both models rank the pairs alike the error is 0: z and p are NaN
        with one warning, as with fewer than two positives or negatives.

    Raises:
        ShapeError: as in `delong`.
    """
    values, above, below = _placements("delong_test", [first, second], target)
    difference = float(values[0] - values[1])
    if math.isnan(difference):
        return DeLongTest(math.nan, math.nan, math.nan, math.nan)
    contrast = [x[0] - x[1] for x in (above, below)]
    error = math.sqrt(sum(x.var(ddof=1) / len(x) for x in contrast))
    if not error > 0:
        undefined("delong_test", "z is undefined, the difference has no variance")
        return DeLongTest(difference, 0.0, math.nan, math.nan)
    z = difference / error
    return DeLongTest(difference, error, z, math.erfc(abs(z) / math.sqrt(2)))


def mcnemar(first: Any, second: Any, target: Any, *, exact: bool = True) -> McNemarTest:
    """Do two models make errors at the same rate on one test set? (Q. McNemar, Psychometrika 1947)

    Only samples on which one is right and the other wrong say anything; under equality each is a fair coin.

    Args:
        first, second: classes (n,), or scores (n, C) of which the largest counts.
        target: classes (n,).
        exact: the binomial test, whose statistic is the smaller count; else (|b - c| - 1)² / (b + c) against
            χ² with one degree of freedom (Edwards' correction), for more than 25 such samples.

    Returns:
        (only_first, only_second, statistic, pvalue). Without a single such sample p is 1.

    Raises:
        ShapeError: shapes that do not fit, classes out of range, no samples.
    """
    who = "mcnemar"
    t = classes(who, "target", target)
    if t.ndim != 1 or not len(t):
        raise ShapeError(f"{who}: expected a target (n,), n >= 1, got {t.shape}")
    a, b = (np.equal(*predicted(who, x, t)[:2]) for x in (first, second))
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    n, least = only_first + only_second, min(only_first, only_second)
    if exact:
        # In integers: 2 ** n is beyond a float from n = 1024 on.
        tail = sum(math.comb(n, k) for k in range(least + 1))
        return McNemarTest(only_first, only_second, float(least), min(1.0, 2 * tail / 2**n))
    statistic = max(0, abs(only_first - only_second) - 1) ** 2 / n if n else 0.0
    return McNemarTest(only_first, only_second, statistic, math.erfc(math.sqrt(statistic / 2)))
