"""The confusion matrix, and what is read from all of it: balanced accuracy, MCC, Cohen's kappa."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .checks import choice, undefined
from .counted import Counted
from .metric import once

__all__ = [
    "MCC",
    "BalancedAccuracy",
    "CohenKappa",
    "ConfusionMatrix",
    "balanced_accuracy",
    "cohen_kappa",
    "confusion_matrix",
    "mcc",
]


class ConfusionMatrix(Counted):
    """Counts of true against predicted classes in pieces; see `confusion_matrix`."""

    name = "confusion_matrix"
    multilabel_too = True

    def __init__(self, *, num_classes: int | None = None, normalize: str | None = None) -> None:
        choice(self.name, "normalize", normalize, (None, "true", "pred", "all"))
        self.normalize = normalize
        super().__init__(num_classes)

    def _value(self) -> np.ndarray:
        matrix = self._state["matrix"]
        if self.normalize is None:
            return matrix.copy()
        axes = {"true": -1, "pred": -2, "all": (-2, -1)}[self.normalize]
        total = matrix.sum(axes, keepdims=True)
        if (total == 0).any():
            undefined(self.name, f"normalize={self.normalize!r} is 0 / 0 where nothing was counted")
        return np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)


class BalancedAccuracy(Counted):
    """Mean recall of the classes in pieces; see `balanced_accuracy`."""

    name = "balanced_accuracy"

    def __init__(self, *, adjusted: bool = False, num_classes: int | None = None) -> None:
        self.adjusted = bool(adjusted)
        super().__init__(num_classes)

    def _value(self) -> float:
        matrix = self._state["matrix"]
        actual = matrix.sum(1)
        there = actual > 0
        if not there.any() or (self.adjusted and there.sum() == 1):
            undefined(self.name, f"undefined, the targets have {there.sum()} classes")
            return math.nan
        if matrix[:, ~there].any():
            undefined(self.name, "no targets of a class that was predicted, which is left out of the mean")
        value = float((np.diag(matrix)[there] / actual[there]).mean())
        chance = 1 / there.sum()
        return float((value - chance) / (1 - chance)) if self.adjusted else value


class MCC(Counted):
    """Matthews' correlation in pieces; see `mcc`."""

    name = "mcc"

    def __init__(self, *, num_classes: int | None = None) -> None:
        super().__init__(num_classes)

    def _value(self) -> float:
        matrix = self._state["matrix"]
        actual, predicted = matrix.sum(1, dtype=np.float64), matrix.sum(0, dtype=np.float64)
        if (actual > 0).sum() < 2 or (predicted > 0).sum() < 2:
            undefined(self.name, "undefined, all targets or all predictions are of one class")
            return math.nan
        n = actual.sum()
        # Means rather than sums: the squares of a million pixels' counts would lose digits.
        actual, predicted, hits = actual / n, predicted / n, np.trace(matrix) / n
        covariance = hits - actual @ predicted
        # 1 - Σ p² = Σ p (1 - p) without cancellation
        spread = [p @ _rest(p) for p in (actual, predicted)]
        return float(covariance / math.sqrt(spread[0] * spread[1]))


def _rest(p: np.ndarray) -> np.ndarray:
    """The sum of the other elements, for each element, without a subtraction."""
    return (1 - np.eye(len(p))) @ p


class CohenKappa(Counted):
    """Agreement beyond chance in pieces; see `cohen_kappa`."""

    name = "cohen_kappa"

    def __init__(self, *, weights: str | None = None, num_classes: int | None = None) -> None:
        choice(self.name, "weights", weights, (None, "linear", "quadratic"))
        self.weights = weights
        super().__init__(num_classes)

    def _value(self) -> float:
        matrix = self._state["matrix"].astype(np.float64)
        total = matrix.sum()
        i = np.arange(len(matrix))
        apart = np.abs(i[:, None] - i)
        cost = {None: apart > 0, "linear": apart, "quadratic": apart**2}[self.weights]
        expected = (cost * np.outer(matrix.sum(1), matrix.sum(0))).sum()
        if not expected > 0:
            undefined(self.name, "undefined, all targets and predictions are of one class")
            return math.nan
        return float(1 - (cost * matrix).sum() * total / expected)


def confusion_matrix(
    prediction: Any,
    target: Any,
    *,
    num_classes: int | None = None,
    normalize: str | None = None,
    sample_weight: Any = None,
) -> np.ndarray:
    """How many samples of class i (row) were taken for class j (column).

    Args:
        prediction: classes (n,), or scores (n, C) of which the largest counts; labels 0 or 1 (n, L) of a
            multi-label task. More axes, (n, ...) and (n, C, ...), are pixels.
        target: classes (n,) from 0; labels (n, L); pixels (n, ...).
        num_classes: C; by default as many as there are columns of scores, or the largest class + 1.
        normalize: None, counts; "true" or "pred", rows or columns sum to 1; "all", everything does. A row
            without samples is NaN with one warning (scikit-learn: 0).
        sample_weight: (n,).

    Returns:
        (C, C), or one matrix [[tn, fp], [fn, tp]] per label (L, 2, 2); int64, with weights float64.

    Raises:
        ShapeError: shapes that do not fit, classes out of range, no samples.
        DtypeError: predictions that are neither classes nor scores of classes.
    """
    metric = ConfusionMatrix(num_classes=num_classes, normalize=normalize)
    return once(metric, prediction, target, sample_weight)


def balanced_accuracy(
    prediction: Any,
    target: Any,
    *,
    adjusted: bool = False,
    num_classes: int | None = None,
    sample_weight: Any = None,
) -> float:
    """Mean recall over the classes that the targets have.

    Args:
        prediction, target, num_classes, sample_weight: as in `confusion_matrix`, one label per sample.
        adjusted: so that chance is 0 and perfect is 1; NaN with one warning for a single class.

    A predicted class without targets is left out with one warning. Errors as in `confusion_matrix`.
    """
    metric = BalancedAccuracy(adjusted=adjusted, num_classes=num_classes)
    return once(metric, prediction, target, sample_weight)


def mcc(prediction: Any, target: Any, *, num_classes: int | None = None, sample_weight: Any = None) -> float:
    """Matthews' correlation coefficient, for any number of classes (Gorodkin, 2004).

    For two, (tp tn - fp fn) / √((tp + fp)(tp + fn)(tn + fp)(tn + fn)). Where all targets or all predictions
    are of one class it is 0 / 0: NaN with one warning (scikit-learn: 0). Arguments and errors as in
    `confusion_matrix`, one label per sample.
    """
    return once(MCC(num_classes=num_classes), prediction, target, sample_weight)


def cohen_kappa(
    prediction: Any,
    target: Any,
    *,
    weights: str | None = None,
    num_classes: int | None = None,
    sample_weight: Any = None,
) -> float:
    """Cohen's kappa, 1 - observed / expected disagreement.

    Args:
        prediction, target, num_classes, sample_weight: as in `confusion_matrix`, one label per sample.
        weights: what it costs to take class i for j: None, 1; "linear", |i - j|; "quadratic", (i - j)².

    NaN with one warning where everything is of one class. Errors as in `confusion_matrix`.
    """
    metric = CohenKappa(weights=weights, num_classes=num_classes)
    return once(metric, prediction, target, sample_weight)
