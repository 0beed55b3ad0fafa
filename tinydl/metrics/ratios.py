"""Ratios of the counts of a confusion matrix: precision, recall and their relatives, F1.

For one class against the rest (tp, fp, fn, tn are numbers of samples, or their weights):

    recall = sensitivity = tpr    tp / (tp + fn)        precision    tp / (tp + fp)
    specificity                   tn / (tn + fp)        fdr          fp / (fp + tp)
    fpr                           fp / (fp + tn)        f1           2 tp / (2 tp + fp + fn)
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from .checks import choice, indicators, undefined, weights
from .counted import Counted, Counts, counts
from .metric import once

__all__ = [
    "F1",
    "FDR",
    "FPR",
    "TPR",
    "Precision",
    "Recall",
    "Sensitivity",
    "Specificity",
    "f1",
    "fdr",
    "fpr",
    "precision",
    "recall",
    "sensitivity",
    "specificity",
    "tpr",
]


class Ratio(Counted):
    """numerator / denominator of the counts of each class, averaged as scikit-learn does."""

    multilabel_too = True
    averages: ClassVar[tuple[str | None, ...]] = ("binary", "micro", "macro", "weighted", "samples", None)

    def __init__(
        self, *, average: str | None = "binary", pos_label: int = 1, num_classes: int | None = None
    ) -> None:
        choice(self.name, "average", average, self.averages)
        choice(self.name, "pos_label", pos_label, (0, 1))
        if average == "binary" and num_classes not in (None, 2):
            raise ShapeError(f"{self.name}: {self._several(f'num_classes={num_classes}')}")
        self.average, self.pos_label = average, pos_label
        if average == "samples":
            self.keys = ("sum", "weight", "undefined")
        super().__init__(num_classes)

    @staticmethod
    def ratio(c: Counts) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError("Ratio.ratio")

    def _several(self, got: str) -> str:
        return (
            "average='binary': expected two classes (n,), "
            f"got {got}: choose 'micro', 'macro', 'weighted' or None"
        )

    def _count_classes(self, prediction: np.ndarray, target: np.ndarray, sample_weight: Any) -> None:
        if self.average == "samples":
            raise ShapeError(f"{self.name}: average='samples': expected labels (n, L), got {target.shape}")
        super()._count_classes(prediction, target, sample_weight)

    def _meet(self, size: int) -> None:
        if self.average == "binary" and size > 2:
            raise ShapeError(f"{self.name}: {self._several(f'{size} classes')}")

    def _count_labels(self, prediction: np.ndarray, target: np.ndarray, sample_weight: Any) -> None:
        if self.average == "binary":
            raise ShapeError(f"{self.name}: {self._several(f'labels {target.shape}')}")
        if self.average != "samples":
            super()._count_labels(prediction, target, sample_weight)
            return
        p, t = indicators(self.name, "prediction", prediction), indicators(self.name, "target", target)
        w = weights(self.name, sample_weight, t.shape[:1])
        each = Counts(*((a & b).sum(1) for a, b in ((p, t), (p, ~t), (~p, t), (~p, ~t))))
        above, below = self.ratio(each)
        fine = below > 0
        w = np.ones(len(t)) if w is None else w
        values = np.divide(above, below, out=np.zeros(len(t)), where=fine)
        if len(t):
            self._add(len(t), sum=w @ values, weight=w @ fine, undefined=int((~fine).sum()))

    def _value(self) -> Any:
        if self.average == "samples":
            if self._state["undefined"]:
                undefined(self.name, f"0 / 0 for {self._state['undefined']} samples, left out of the mean")
            weight = float(self._state["weight"])
            return float(self._state["sum"]) / weight if weight else math.nan
        matrix = self._state["matrix"]
        if self.average == "binary" and len(matrix) == 1:  # class 0 alone was met
            matrix = np.pad(matrix, (0, 1))
        c = counts(matrix)
        if self.average == "binary":
            c = Counts(*(x[[self.pos_label]] for x in c))
        # The rest averages over classes that occur; one that is in neither is none.
        occurs = c.tp + c.fp + c.fn > 0
        if self.average in ("micro", "macro", "weighted") and matrix.ndim == 2:
            c = Counts(*(x[occurs] for x in c))
        if self.average == "micro":
            c = Counts(*(x.sum(keepdims=True) for x in c))
        above, below = self.ratio(c)
        fine = below > 0
        values = np.divide(above, below, out=np.full(len(above), np.nan), where=fine)
        if not fine.all() or not len(values):
            undefined(self.name, self._reason(fine, occurs))
        if self.average is None:
            return values
        support = (c.tp + c.fn)[fine]
        if self.average == "weighted" and support.sum() > 0:
            return float(np.average(values[fine], weights=support))
        return float(values[fine].mean()) if fine.any() else math.nan

    def _reason(self, fine: np.ndarray, occurs: np.ndarray) -> str:
        if not fine.any():
            return "undefined, 0 / 0"
        names = np.flatnonzero(occurs) if len(fine) == occurs.sum() else np.arange(len(fine))
        left = "" if self.average is None else ", left out of the mean"
        return f"undefined, 0 / 0, for classes {names[~fine].tolist()}{left}"


class Recall(Ratio):
    """tp / (tp + fn) in pieces; see `recall`."""

    name = "recall"

    @staticmethod
    def ratio(c: Counts) -> tuple[np.ndarray, np.ndarray]:
        return c.tp, c.tp + c.fn


class Sensitivity(Recall):
    """Recall by its name in medicine; see `recall`."""

    name = "sensitivity"


class TPR(Recall):
    """Recall by its name on ROC curves; see `recall`."""

    name = "tpr"


class Specificity(Ratio):
    """tn / (tn + fp) in pieces; see `specificity`."""

    name = "specificity"

    @staticmethod
    def ratio(c: Counts) -> tuple[np.ndarray, np.ndarray]:
        return c.tn, c.tn + c.fp


class FPR(Ratio):
    """fp / (fp + tn) in pieces; see `fpr`."""

    name = "fpr"

    @staticmethod
    def ratio(c: Counts) -> tuple[np.ndarray, np.ndarray]:
        return c.fp, c.fp + c.tn


class Precision(Ratio):
    """tp / (tp + fp) in pieces; see `precision`."""

    name = "precision"

    @staticmethod
    def ratio(c: Counts) -> tuple[np.ndarray, np.ndarray]:
        return c.tp, c.tp + c.fp


class FDR(Ratio):
    """fp / (fp + tp) in pieces; see `fdr`."""

    name = "fdr"

    @staticmethod
    def ratio(c: Counts) -> tuple[np.ndarray, np.ndarray]:
        return c.fp, c.fp + c.tp


class F1(Ratio):
    """2 tp / (2 tp + fp + fn) in pieces; see `f1`."""

    name = "f1"

    @staticmethod
    def ratio(c: Counts) -> tuple[np.ndarray, np.ndarray]:
        return 2 * c.tp, 2 * c.tp + c.fp + c.fn


def recall(
    prediction: Any,
    target: Any,
    *,
    average: str | None = "binary",
    pos_label: int = 1,
    num_classes: int | None = None,
    sample_weight: Any = None,
) -> Any:
    """Recall (sensitivity, true positive rate): the part of the positives that is found, tp / (tp + fn).

    Args:
        prediction: classes (n,), or scores (n, C) of which the largest counts; labels 0 or 1 (n, L) of a
            multi-label task. More axes, (n, ...) and (n, C, ...), are pixels.
        target: classes (n,) from 0; labels (n, L); pixels (n, ...).
        average: "binary", of class `pos_label` of two; "micro", of the summed counts; "macro", the mean over
            the classes; "weighted", the same weighted by their number of samples; "samples", the mean over
            the samples of a multi-label task; None, an array with one value per class.
        pos_label: the positive class, 0 or 1.
        num_classes: C; by default as many as there are columns of scores, or the largest class + 1.
        sample_weight: (n,).

    Returns:
        A float, or (C,). A class where the value is 0 / 0 is NaN with one warning, and left out of means, as
        in scikit-learn with `zero_division=nan`; so are classes that are neither predicted nor true.

    Raises:
        ShapeError: shapes that do not fit, classes out of range, no samples.
        DtypeError: predictions that are neither classes nor scores of classes, such as probabilities (n,).
    """
    metric = Recall(average=average, pos_label=pos_label, num_classes=num_classes)
    return once(metric, prediction, target, sample_weight)


def sensitivity(
    prediction: Any,
    target: Any,
    *,
    average: str | None = "binary",
    pos_label: int = 1,
    num_classes: int | None = None,
    sample_weight: Any = None,
) -> Any:
    """tp / (tp + fn), recall by its name in medicine. Arguments, result and errors as in `recall`."""
    metric = Sensitivity(average=average, pos_label=pos_label, num_classes=num_classes)
    return once(metric, prediction, target, sample_weight)


def tpr(
    prediction: Any,
    target: Any,
    *,
    average: str | None = "binary",
    pos_label: int = 1,
    num_classes: int | None = None,
    sample_weight: Any = None,
) -> Any:
    """True positive rate, tp / (tp + fn): recall again. Arguments, result and errors as in `recall`."""
    metric = TPR(average=average, pos_label=pos_label, num_classes=num_classes)
    return once(metric, prediction, target, sample_weight)


def specificity(
    prediction: Any,
    target: Any,
    *,
    average: str | None = "binary",
    pos_label: int = 1,
    num_classes: int | None = None,
    sample_weight: Any = None,
) -> Any:
    """The part of the negatives left alone, tn / (tn + fp). Arguments, result and errors as in `recall`."""
    metric = Specificity(average=average, pos_label=pos_label, num_classes=num_classes)
    return once(metric, prediction, target, sample_weight)


def fpr(
    prediction: Any,
    target: Any,
    *,
    average: str | None = "binary",
    pos_label: int = 1,
    num_classes: int | None = None,
    sample_weight: Any = None,
) -> Any:
    """False positive rate, fp / (fp + tn) = 1 - specificity. Arguments, result and errors as in `recall`."""
    metric = FPR(average=average, pos_label=pos_label, num_classes=num_classes)
    return once(metric, prediction, target, sample_weight)


def precision(
    prediction: Any,
    target: Any,
    *,
    average: str | None = "binary",
    pos_label: int = 1,
    num_classes: int | None = None,
    sample_weight: Any = None,
) -> Any:
    """The part of the findings that is right, tp / (tp + fp). Arguments, result and errors as in `recall`."""
    metric = Precision(average=average, pos_label=pos_label, num_classes=num_classes)
    return once(metric, prediction, target, sample_weight)


def fdr(
    prediction: Any,
    target: Any,
    *,
    average: str | None = "binary",
    pos_label: int = 1,
    num_classes: int | None = None,
    sample_weight: Any = None,
) -> Any:
    """False discovery rate, fp / (fp + tp) = 1 - precision. Arguments, result and errors as in `recall`."""
    metric = FDR(average=average, pos_label=pos_label, num_classes=num_classes)
    return once(metric, prediction, target, sample_weight)


def f1(
    prediction: Any,
    target: Any,
    *,
    average: str | None = "binary",
    pos_label: int = 1,
    num_classes: int | None = None,
    sample_weight: Any = None,
) -> Any:
    """Harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn).

    average="macro" is the mean of the classes' F1, not F1 of mean precision and recall. Arguments, result and
    errors as in `recall`.
    """
    metric = F1(average=average, pos_label=pos_label, num_classes=num_classes)
    return once(metric, prediction, target, sample_weight)
