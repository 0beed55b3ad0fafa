"""How often the prediction is right: accuracy, top-k accuracy, Hamming loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from .checks import classes, finite, host, indicators, predicted, same_length, weights
from .metric import Mean, once

__all__ = ["Accuracy", "HammingLoss", "TopKAccuracy", "accuracy", "hamming_loss", "top_k_accuracy"]


class Accuracy(Mean):
    """The part of the predictions that is right, in pieces; see `accuracy`."""

    name = "accuracy"

    def update(self, prediction: Any, target: Any, sample_weight: Any = None) -> None:
        p, t = host(self.name, "prediction", prediction), host(self.name, "target", target)
        if t.ndim > 1 and not (t.ndim == 2 and p.shape == t.shape):  # pixels count one by one
            p, t, _ = predicted(self.name, p, t)
            w = weights(self.name, sample_weight, t.shape)
            p, t, sample_weight = p.ravel(), t.ravel(), None if w is None else w.ravel()
        super().update(p, t, sample_weight)

    def _values(self, prediction: Any, target: Any) -> np.ndarray:
        if target.ndim == 2:
            p = indicators(self.name, "prediction", prediction)
            return (p == indicators(self.name, "target", target)).all(1)
        p, t, _ = predicted(self.name, prediction, target)
        return p == t

    def _value(self) -> float:
        return float(super()._value())


class HammingLoss(Mean):
    """The part of the labels that is wrong, in pieces; see `hamming_loss`."""

    name = "hamming_loss"

    def _values(self, prediction: Any, target: Any) -> np.ndarray:
        p, t = indicators(self.name, "prediction", prediction), indicators(self.name, "target", target)
        if p.ndim != 2 or p.shape != t.shape or p.shape[1] == 0:
            raise ShapeError(f"{self.name}: expected labels (n, L) and (n, L), got {p.shape} and {t.shape}")
        return (p != t).mean(1)

    def _value(self) -> float:
        return float(super()._value())


class TopKAccuracy(Mean):
    """How often the true class is among the k best, in pieces; see `top_k_accuracy`."""

    name = "top_k_accuracy"

    def __init__(self, *, k: int = 2) -> None:
        if k < 1:
            raise ShapeError(f"{self.name}: k: expected 1 or more, got {k}")
        self.k = k
        super().__init__()

    def _values(self, prediction: Any, target: Any) -> np.ndarray:
        p = finite(self.name, "prediction", prediction)
        if p.ndim != 2 or p.shape[1] == 0:
            raise ShapeError(f"{self.name}: expected scores (n, C), got {p.shape}")
        t = classes(self.name, "target", target, p.shape[1])
        same_length(self.name, p, t)
        if self.k > p.shape[1]:
            raise ShapeError(f"{self.name}: k: expected 1 to {p.shape[1]} (the classes), got {self.k}")
        own = p[np.arange(len(p)), t][:, None]
        before = np.arange(p.shape[1]) < t[:, None]
        return ((p > own) | ((p == own) & before)).sum(1) < self.k

    def _value(self) -> float:
        return float(super()._value())


def accuracy(prediction: Any, target: Any, *, sample_weight: Any = None) -> float:
    """The part of the predictions that is right.

    Args:
        prediction: classes (n,), or scores (n, C) of which the largest counts (of equal ones the first);
            labels 0 or 1 (n, L) of a multi-label task, right where all L are. More axes, (n, ...) and
            (n, C, ...), are pixels, which count one by one.
        target: classes (n,) from 0; labels (n, L); pixels (n, ...).
        sample_weight: (n,).

    Raises:
        ShapeError: shapes that do not fit, classes out of range, no samples.
        DtypeError: predictions that are neither classes nor scores of classes, such as probabilities (n,).
    """
    return once(Accuracy(), prediction, target, sample_weight)


def hamming_loss(prediction: Any, target: Any, *, sample_weight: Any = None) -> float:
    """The part of all labels 0 or 1, (n, L), that is predicted wrong. Errors as in `accuracy`."""
    return once(HammingLoss(), prediction, target, sample_weight)


def top_k_accuracy(prediction: Any, target: Any, *, k: int = 2, sample_weight: Any = None) -> float:
    """How often the true class is among the k of the largest scores.

    Of equal scores the class of the smaller number comes first, so that k = 1 is `accuracy` and a constant
    prediction is right only for the first k classes.

    Args:
        prediction: scores (n, C).
        target: classes (n,) from 0 to C - 1.
        k: 1 to C.
        sample_weight: (n,).

    Raises:
        ShapeError: shapes that do not fit, classes out of range, scores that are not finite, no samples.
    """
    return once(TopKAccuracy(k=k), prediction, target, sample_weight)
