"""How well scores put the positives before the negatives: ROC, AUC, precision-recall, average precision.

Scores may be anything finite that grows with the belief in class 1 (probabilities, logits): only their order
counts. Equal scores are one threshold: no order among them is made up.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from .checks import choice, classes, finite, indicators, same_length, undefined, weights
from .metric import Kept

__all__ = [
    "AUC",
    "AveragePrecision",
    "OperatingPoint",
    "PrecisionRecallCurve",
    "ROCCurve",
    "auc",
    "average_precision",
    "operating_point",
    "precision_recall_curve",
    "roc_curve",
]


class ROC(NamedTuple):
    """Points of a ROC curve, from (0, 0) to (1, 1); score >= threshold is positive."""

    fpr: np.ndarray
    tpr: np.ndarray
    thresholds: np.ndarray


class PR(NamedTuple):
    """Points of a precision-recall curve by growing threshold; at the end stands (1, 0), of no threshold."""

    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray


class Point(NamedTuple):
    """What to call positive: score >= threshold; and what that gave where it was chosen."""

    threshold: float
    sensitivity: float
    specificity: float


def _binary(who: str, prediction: Any, target: Any, sample_weight: Any) -> tuple[np.ndarray, ...]:
    """Scores (n,), targets bool (n,) and weights, of the samples whose weight is not 0."""
    p, t = finite(who, "prediction", prediction), indicators(who, "target", target)
    if p.ndim == 2 and p.shape[1] == 2 and t.ndim == 1:
        raise ShapeError(
            f"{who}: expected scores (n,) of class 1, got {p.shape}: take prediction[:, 1] of probabilities, "
            "prediction[:, 1] - prediction[:, 0] of logits"
        )
    if p.ndim != 1:
        raise ShapeError(f"{who}: expected scores (n,) of class 1, got {p.shape}")
    same_length(who, p, t)
    if not len(p):
        raise ShapeError(f"{who}: expected at least one sample, got none")
    w = weights(who, sample_weight, p.shape)
    return (p, t, np.ones(len(p), np.int64)) if w is None else (p[w > 0], t[w > 0], w[w > 0])


def _steps(p: np.ndarray, t: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False and true positives (weights) at each different score, from the largest down."""
    order = np.argsort(-p, kind="stable")
    p, t, w = p[order], t[order], w[order]
    last = np.flatnonzero(np.append(p[1:] != p[:-1], True)[: len(p)])
    return np.cumsum(w * ~t)[last], np.cumsum(w * t)[last], p[last]


def _missing(who: str, fps: np.ndarray, tps: np.ndarray, negatives: bool = True) -> bool:
    """Is there no positive or no negative? Says so once."""
    without = [name for name, x in (("positives", tps), ("negatives", fps)) if not x.size or x[-1] == 0]
    without = without if negatives else without[:1] if "positives" in without else []
    if without:
        undefined(who, f"undefined, there are no {' and no '.join(without)}")
    return bool(without)


def _rates(steps: np.ndarray) -> np.ndarray:
    return steps / steps[-1] if steps.size and steps[-1] > 0 else np.full(len(steps), np.nan)


def roc_curve(
    prediction: Any, target: Any, *, drop_intermediate: bool = True, sample_weight: Any = None
) -> ROC:
    """The receiver operating characteristic: true against false positive rate, for falling thresholds.

    Args:
        prediction: scores (n,) of class 1.
        target: (n,), 0 or 1.
        drop_intermediate: leave out points on the straight line between their neighbours.
        sample_weight: (n,); samples of weight 0 are left out.

    Returns:
        (fpr, tpr, thresholds), float64 of one length; the first threshold is inf: nothing is positive. A rate
        without negatives (or positives) is NaN, with one warning.

    Raises:
        ShapeError: scores that are not finite or not (n,), targets other than 0 and 1, no samples.
    """
    who = "roc_curve"
    fps, tps, thresholds = _steps(*_binary(who, prediction, target, sample_weight))
    _missing(who, fps, tps)
    if drop_intermediate and len(fps) > 2:
        corners = (np.diff(fps, 2) != 0) | (np.diff(tps, 2) != 0)
        kept = np.concatenate([[True], corners, [True]])
        fps, tps, thresholds = fps[kept], tps[kept], thresholds[kept]
    fpr, tpr = (_rates(np.append(0.0, x)) for x in (fps, tps))
    return ROC(fpr, tpr, np.append(np.inf, thresholds))


def precision_recall_curve(prediction: Any, target: Any, *, sample_weight: Any = None) -> PR:
    """Precision against recall for growing thresholds.

    Without positives recall is NaN, with one warning (scikit-learn: 1). Arguments and errors as in
    `roc_curve`.

    Returns:
        (precision, recall, thresholds), float64; the first two one longer, ending with precision 1, recall 0.
    """
    who = "precision_recall_curve"
    fps, tps, thresholds = _steps(*_binary(who, prediction, target, sample_weight))
    _missing(who, fps, tps, negatives=False)
    precision = tps / (tps + fps)
    return PR(np.append(precision[::-1], 1.0), np.append(_rates(tps)[::-1], 0.0), thresholds[::-1])


def _auc(who: str, fps: np.ndarray, tps: np.ndarray) -> float:
    """The trapezoids under the steps: the share of pairs in the right order, equal scores counted half."""
    if not fps.size or fps[-1] == 0 or tps[-1] == 0:
        return math.nan
    before = np.append(0, tps[:-1])
    pairs = np.diff(fps, prepend=0) @ (before + tps) / 2
    return float(pairs / fps[-1] / tps[-1])


def _precision(who: str, fps: np.ndarray, tps: np.ndarray) -> float:
    """Σ (recall_k - recall_{k-1}) precision_k: steps, which unlike trapezoids are not too hopeful."""
    if not tps.size or tps[-1] == 0:
        return math.nan
    return float((np.diff(tps, prepend=0) * tps / (tps + fps)).sum() / tps[-1])


def _columns(
    who: str, score: Any, p: np.ndarray, t: np.ndarray, w: np.ndarray | None, average: str | None
) -> Any:
    """The average over columns of scores (n, C) and labels bool (n, C)."""
    if not len(p):
        raise ShapeError(f"{who}: expected at least one sample, got none")
    w = np.ones(len(p), np.int64) if w is None else w
    p, t, w = p[w > 0], t[w > 0], w[w > 0]
    if average == "micro":
        p, t, w = p.reshape(-1, 1), t.reshape(-1, 1), np.repeat(w, p.shape[1])
    elif average == "samples":
        values = np.array([score(who, *_steps(*row, np.ones(p.shape[1], np.int64))[:2]) for row in zip(p, t)])
        share = w.astype(np.float64)
    if average != "samples":
        values = np.array([score(who, *_steps(p[:, k], t[:, k], w)[:2]) for k in range(p.shape[1])])
        share = w @ t if average == "weighted" else np.ones(len(values))
    fine = ~np.isnan(values)
    if not fine.all() or not len(values):
        what = "samples" if average == "samples" else "classes"
        names = "" if average == "micro" else f" for {what} {np.flatnonzero(~fine).tolist()}"
        left = "" if average in (None, "micro") else ", left out of the mean"
        undefined(who, f"undefined{names}, without positives or negatives{left}")
    if average is None:
        return values
    return float(np.average(values[fine], weights=share[fine])) if share[fine].sum() > 0 else math.nan


def _one_vs_one(p: np.ndarray, t: np.ndarray, average: str | None) -> float:
    """Hand and Till, "A simple generalisation of the area under the ROC curve" (2001), equation 7."""
    choice("auc", "average of multi_class='ovo'", average, ("macro", "weighted"))
    if not len(p):
        raise ShapeError("auc: expected at least one sample, got none")
    there = np.unique(t)
    if len(there) < p.shape[1]:
        absent = np.setdiff1d(np.arange(p.shape[1]), there).tolist()
        undefined("auc", f"undefined for pairs with classes {absent}, of which there are no samples")
    values, shares = [], []
    for a, b in itertools.combinations(there, 2):
        pair = (t == a) | (t == b)
        ones = np.ones(pair.sum(), np.int64)
        ways = [_auc("auc", *_steps(p[pair, k], t[pair] == k, ones)[:2]) for k in (a, b)]
        values.append(sum(ways) / 2)
        shares.append(pair.mean() if average == "weighted" else 1.0)
    return float(np.average(values, weights=shares)) if values else math.nan


def auc(
    prediction: Any,
    target: Any,
    *,
    multi_class: str | None = None,
    average: str | None = "macro",
    sample_weight: Any = None,
) -> Any:
    """The area under the ROC curve: how often a positive has a larger score than a negative (equal: half).

    Args:
        prediction: scores (n,) of class 1; (n, C) with `multi_class`; (n, L) of a multi-label task.
        target: 0 or 1 (n,); classes (n,) from 0 to C - 1; labels (n, L).
        multi_class: for classes, "ovr", each against the rest, or "ovo", each pair (Hand and Till 2001).
        average: over classes or labels: "macro", "weighted" by their positives (pairs: by their samples),
            and but for "ovo" also "micro" and None; for labels also "samples".
        sample_weight: (n,); not for "ovo".

    Returns:
        A float, or (C,). NaN where there are no positives or no negatives, with one warning; such classes
        are left out of means (scikit-learn: the mean is NaN).

    Raises:
        ShapeError: scores that are not finite, shapes that do not fit, classes out of range, no samples.
    """
    who = "auc"
    p, t = finite(who, "prediction", prediction), classes(who, "target", target)
    choice(who, "multi_class", multi_class, (None, "ovr", "ovo"))
    if t.ndim == 2:
        return _labels(who, _auc, p, t, average, sample_weight)
    if multi_class is None:
        if p.ndim == 2 and p.shape[1] > 2:
            raise ShapeError(f"{who}: expected multi_class='ovr' or 'ovo' for scores {p.shape}, got None")
        fps, tps, _ = _steps(*_binary(who, p, t, sample_weight))
        return math.nan if _missing(who, fps, tps) else _auc(who, fps, tps)
    if p.ndim != 2:
        raise ShapeError(f"{who}: multi_class={multi_class!r}: expected scores (n, C), got {p.shape}")
    same_length(who, p, classes(who, "target", t, p.shape[1]))
    w = weights(who, sample_weight, t.shape)
    if multi_class == "ovo":
        if w is not None:
            raise ShapeError(f"{who}: multi_class='ovo' takes no sample_weight")
        return _one_vs_one(p, t, average)
    choice(who, "average", average, ("macro", "weighted", "micro", None))
    return _columns(who, _auc, p, t[:, None] == np.arange(p.shape[1]), w, average)


def _labels(
    who: str, score: Any, p: np.ndarray, t: np.ndarray, average: str | None, sample_weight: Any
) -> Any:
    choice(who, "average", average, ("macro", "weighted", "micro", "samples", None))
    if p.shape != t.shape:
        raise ShapeError(f"{who}: expected scores of labels {t.shape}, got {p.shape}")
    return _columns(
        who, score, p, indicators(who, "target", t), weights(who, sample_weight, p.shape[:1]), average
    )


def average_precision(
    prediction: Any, target: Any, *, average: str | None = "macro", sample_weight: Any = None
) -> Any:
    """Average precision, Σ (recall_k - recall_{k-1}) precision_k over falling thresholds.

    Args:
        prediction: scores (n,) of class 1; (n, C); (n, L) of a multi-label task.
        target: 0 or 1 (n,); classes (n,), each against the rest; labels (n, L).
        average: over classes or labels: "macro", "weighted" by their positives, "micro", None; for labels
            also "samples".
        sample_weight: (n,).

    Returns:
        A float, or (C,). NaN without positives, with one warning (scikit-learn: 0); such classes are left out
        of means.

    Raises:
        ShapeError: as in `auc`.
    """
    who = "average_precision"
    p, t = finite(who, "prediction", prediction), classes(who, "target", target)
    if t.ndim == 2:
        return _labels(who, _precision, p, t, average, sample_weight)
    if p.ndim == 2 and p.shape[1] > 2:
        choice(who, "average", average, ("macro", "weighted", "micro", None))
        same_length(who, p, classes(who, "target", t, p.shape[1]))
        w = weights(who, sample_weight, t.shape)
        return _columns(who, _precision, p, t[:, None] == np.arange(p.shape[1]), w, average)
    fps, tps, _ = _steps(*_binary(who, p, t, sample_weight))
    return math.nan if _missing(who, fps, tps, negatives=False) else _precision(who, fps, tps)


def operating_point(
    prediction: Any,
    target: Any,
    *,
    sensitivity: float | None = None,
    specificity: float | None = None,
    sample_weight: Any = None,
) -> Point:
    """The threshold for a wanted sensitivity (the largest that has it) or specificity (the smallest).

    Choose it on validation data and use it on the test data, score >= threshold: chosen on the test data it
    promises what no new patient will see.

    Args:
        prediction, target, sample_weight: as in `roc_curve`.
        sensitivity, specificity: one of them, in [0, 1].

    Returns:
        (threshold, sensitivity, specificity), the rates on these samples. The threshold is one of the scores,
        or inf where nothing may be positive. NaN without positives or negatives, with one warning.

    Raises:
        ShapeError: as in `roc_curve`; not exactly one rate wanted, or out of range.
    """
    who = "operating_point"
    given = [x for x in (sensitivity, specificity) if x is not None]
    if len(given) != 1 or not 0 <= given[0] <= 1:
        raise ShapeError(f"{who}: expected a sensitivity or a specificity in [0, 1], got {given}")
    fps, tps, thresholds = _steps(*_binary(who, prediction, target, sample_weight))
    if _missing(who, fps, tps):
        return Point(math.nan, math.nan, math.nan)
    fpr, tpr = (_rates(np.append(0.0, x)) for x in (fps, tps))
    thresholds = np.append(np.inf, thresholds)
    # Weights add up with rounding: a rate that was asked for must not be missed by the last bit.
    if sensitivity is not None:
        i = int(np.argmax(tpr >= sensitivity - 1e-12))
    else:
        i = int(np.flatnonzero(1 - fpr >= given[0] - 1e-12)[-1])
    return Point(float(thresholds[i]), float(tpr[i]), float(1 - fpr[i]))


class ROCCurve(Kept):
    """Points of the ROC curve in pieces; see `roc_curve`."""

    function = staticmethod(roc_curve)


class PrecisionRecallCurve(Kept):
    """Points of the precision-recall curve in pieces; see `precision_recall_curve`."""

    function = staticmethod(precision_recall_curve)


class AUC(Kept):
    """Area under the ROC curve in pieces; see `auc`."""

    function = staticmethod(auc)


class AveragePrecision(Kept):
    """Average precision in pieces; see `average_precision`."""

    function = staticmethod(average_precision)


class OperatingPoint(Kept):
    """The threshold for a wanted rate, in pieces; see `operating_point`."""

    function = staticmethod(operating_point)
