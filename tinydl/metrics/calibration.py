"""Are probabilities what they say? Log loss, Brier score, calibration error, temperature scaling.

Probabilities are probabilities: a number outside [0, 1] is an error, never put through a sigmoid silently.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from .checks import choice, classes, finite, probabilities, same_length, undefined, weights
from .metric import Kept, Mean, once

__all__ = [
    "Brier",
    "CalibrationError",
    "LogLoss",
    "ReliabilityCurve",
    "brier",
    "calibration_error",
    "fit_temperature",
    "log_loss",
    "reliability_curve",
]


class Reliability(NamedTuple):
    """Per bin that is not empty: mean probability, how often it came true, number of samples (or weight)."""

    probability: np.ndarray
    frequency: np.ndarray
    samples: np.ndarray


class LogLoss(Mean):
    """Mean negative log likelihood in pieces; see `log_loss`."""

    name = "log_loss"

    def _values(self, prediction: Any, target: Any) -> np.ndarray:
        p, t = probabilities(self.name, prediction, target)
        own = np.where(t == 1, p, 1 - p) if p.ndim == 1 else p[np.arange(len(p)), t]
        eps = np.finfo(np.float64).eps
        return -np.log(np.clip(own, eps, 1 - eps))

    def _value(self) -> float:
        return float(super()._value())


class Brier(Mean):
    """Mean squared error of probabilities in pieces; see `brier`."""

    name = "brier"

    def _values(self, prediction: Any, target: Any) -> np.ndarray:
        p, t = probabilities(self.name, prediction, target)
        if p.ndim == 1:
            return np.square(p - t)
        errors = np.square(p - (t[:, None] == np.arange(p.shape[1]))).sum(1)
        return errors / 2 if p.shape[1] == 2 else errors

    def _value(self) -> float:
        return float(super()._value())


def log_loss(prediction: Any, target: Any, *, sample_weight: Any = None) -> float:
    """Mean of -log p(true class), p held within [2.2e-16, 1 - 2.2e-16].

    Args:
        prediction: probabilities (n,) of class 1, or (n, C) that sum to 1.
        target: classes (n,).
        sample_weight: (n,).

    Raises:
        ShapeError: values outside [0, 1] or rows that do not sum to 1, shapes that do not fit, no samples.
    """
    return once(LogLoss(), prediction, target, sample_weight)


def brier(prediction: Any, target: Any, *, sample_weight: Any = None) -> float:
    """Brier score: mean of (p - y)² for two classes, of Σ_c (p_c - [y = c])² for more.

    So (n, 2) gives the same as (n,), and three classes or more lie in [0, 2], as in scikit-learn. Arguments
    and errors as in `log_loss`.
    """
    return once(Brier(), prediction, target, sample_weight)


def _claims(who: str, prediction: Any, target: Any, of: str | None, w: np.ndarray | None) -> list[Any]:
    """(probability, came true, weight) to compare; one triple per class for of="classwise"."""
    choice(who, "of", of, (None, "confidence", "positive", "classwise"))
    p, t = probabilities(who, prediction, target)
    if not len(p):
        raise ShapeError(f"{who}: expected at least one sample, got none")
    if of is None and p.ndim == 1:
        raise ShapeError(
            f"{who}: expected of='positive' (P(y = 1) against y) or of='confidence' (max(p, 1 - p) against "
            f"right or wrong) for probabilities {p.shape}, got None: they are two numbers"
        )
    if of == "positive":
        if p.ndim == 2 and p.shape[1] != 2:
            raise ShapeError(f"{who}: of='positive': expected two classes, got probabilities {p.shape}")
        return [(p if p.ndim == 1 else p[:, 1], t == 1, w)]
    if p.ndim == 1:
        p = np.stack([1 - p, p], 1)
    if of == "classwise":
        return [(p[:, c], t == c, w) for c in range(p.shape[1])]
    return [(p.max(1), p.argmax(1) == t, w)]


def _reliability(
    claim: tuple[np.ndarray, np.ndarray, np.ndarray | None], bins: int, strategy: str
) -> Reliability:
    """Bins (low, high], the first with its lower edge; equal numbers never fall into two."""
    p, true, w = claim
    if w is not None:
        p, true, w = p[w > 0], true[w > 0], w[w > 0]
    if strategy == "uniform" or not len(p):
        edges = np.linspace(0, 1, bins + 1)
    else:
        edges = np.percentile(p, np.linspace(0, 1, bins + 1) * 100)
    which = np.searchsorted(edges[1:-1], p)
    weight = np.ones(len(p)) if w is None else w
    count = np.bincount(which, weight, bins)
    there = count > 0
    said, came = (np.bincount(which, weight * x, bins)[there] / count[there] for x in (p, true))
    return Reliability(said, came, count[there])


def _settings(who: str, bins: int, strategy: str) -> None:
    choice(who, "strategy", strategy, ("uniform", "quantile"))
    if bins < 1:
        raise ShapeError(f"{who}: bins: expected 1 or more, got {bins}")


def reliability_curve(
    prediction: Any,
    target: Any,
    *,
    of: str | None = None,
    bins: int = 15,
    strategy: str = "uniform",
    sample_weight: Any = None,
) -> Reliability:
    """Bins of probabilities, and how often they came true.

    Args:
        prediction: probabilities (n,) of class 1, or (n, C) that sum to 1.
        target: classes (n,).
        of: whose probability: "confidence", of the predicted class (of equal ones the first), came true where
            that was right, the default for (n, C); "positive", of class 1 of two. For (n,) it has to be said.
        bins: how many.
        strategy: bins of "uniform" width on [0, 1], or with equal numbers of samples, "quantile" (adaptive).
        sample_weight: (n,); quantiles are of the samples, not of their weights.

    Returns:
        (probability, frequency, samples), one per bin that is not empty.

    Raises:
        ShapeError: values outside [0, 1] or rows that do not sum to 1, shapes that do not fit, no samples.
    """
    who = "reliability_curve"
    _settings(who, bins, strategy)
    choice(who, "of", of, (None, "confidence", "positive"))
    w = weights(who, sample_weight, np.shape(target))
    return _reliability(_claims(who, prediction, target, of, w)[0], bins, strategy)


def calibration_error(
    prediction: Any,
    target: Any,
    *,
    of: str | None = None,
    bins: int = 15,
    strategy: str = "uniform",
    norm: str = "l1",
    sample_weight: Any = None,
) -> float:
    """Expected calibration error (ECE): by how much frequencies differ from probabilities, over bins.

    Σ_b (n_b / n) |probability_b - frequency_b| (Guo et al., ICML 2017, equation 3; Naeini et al. 2015).
    of="classwise" is its mean over the classes' own probabilities (Kull et al. 2019); strategy="quantile" is
    adaptive (Nixon et al. 2019), both together are their ACE.

    Args:
        prediction, target, bins, strategy, sample_weight: as in `reliability_curve`.
        of: as there, or "classwise".
        norm: "l1"; "l2", the root of the mean of squares; "max", the largest difference.

    Returns:
        A float in [0, 1]; NaN with one warning where all weights are 0.

    Raises:
        ShapeError: as in `reliability_curve`.
    """
    who = "calibration_error"
    _settings(who, bins, strategy)
    choice(who, "norm", norm, ("l1", "l2", "max"))
    w = weights(who, sample_weight, np.shape(target))
    errors = []
    for claim in _claims(who, prediction, target, of, w):
        said, came, count = _reliability(claim, bins, strategy)
        if not len(count):
            undefined(who, "undefined, all weights are 0")
            return math.nan
        gap, share = np.abs(said - came), count / count.sum()
        errors.append({"l1": share @ gap, "l2": math.sqrt(share @ gap**2), "max": gap.max()}[norm])
    return float(np.mean(errors))


class ReliabilityCurve(Kept):
    """Bins of probabilities and how often they came true, in pieces; see `reliability_curve`."""

    function = staticmethod(reliability_curve)


class CalibrationError(Kept):
    """Expected calibration error in pieces; see `calibration_error`."""

    function = staticmethod(calibration_error)


def fit_temperature(prediction: Any, target: Any, *, sample_weight: Any = None) -> float:
    """The T that makes softmax(logits / T) the most likely: temperature scaling (Guo et al., ICML 2017).

    Fitted on validation data; the predicted classes stay. In b = 1 / T the mean log loss is convex, with the
    slope mean(Σ_c softmax(b z)_c z_c - z_y), whose zero is bracketed and then found by Newton steps that fall
    back on halving; in float64.

    Args:
        prediction: logits (n, C), or (n,) of class 1 against class 0 (for sigmoid(logit / T)).
        target: classes (n,).
        sample_weight: (n,).

    Returns:
        T > 0. NaN with one warning where there is none: logits no better than chance (T would be infinite),
        or every sample right (T would be 0).

    Raises:
        ShapeError: logits that are not finite, shapes that do not fit, classes out of range, no samples.
    """
    who = "fit_temperature"
    z = finite(who, "prediction", prediction)
    z = np.stack([np.zeros(len(z)), z], 1) if z.ndim == 1 else z
    if z.ndim != 2 or z.shape[1] < 2 or not len(z):
        raise ShapeError(f"{who}: expected logits (n,) or (n, C), C >= 2, n >= 1, got {np.shape(prediction)}")
    t = classes(who, "target", target, z.shape[1])
    same_length(who, z, t)
    given = weights(who, sample_weight, t.shape)
    w = np.full(len(z), 1 / len(z)) if given is None else given / (given.sum() or 1.0)
    z = z - z[np.arange(len(z)), t][:, None]  # relative to the true class
    scale = float(np.abs(z).max())
    z = z / (scale or 1.0)

    def slope(b: float) -> tuple[float, float]:
        """First and second derivative of the mean log loss."""
        e = np.exp(b * (z - z.max(1, keepdims=True)))
        q = e / e.sum(1, keepdims=True)
        mean = (q * z).sum(1)
        return float(w @ mean), float(w @ (q * np.square(z - mean[:, None])).sum(1))

    if not slope(0.0)[0] < 0:
        undefined(who, "undefined, the logits are no better than chance")
        return math.nan
    if not (w[z.max(1) > 0]).any():
        undefined(who, "undefined, the largest logit is right for every sample")
        return math.nan
    low, high = 0.0, 1.0
    while slope(high)[0] < 0:
        low, high = high, 2 * high
    b = (low + high) / 2
    for _ in range(200):
        first, second = slope(b)
        low, high = (b, high) if first < 0 else (low, b)
        step = b - first / second if second > 0 else low
        new = step if low < step < high else (low + high) / 2
        if abs(new - b) <= 1e-15 * b:
            break
        b = new
    return scale / b
