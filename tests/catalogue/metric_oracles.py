"""What metrics are held against: scikit-learn, SciPy, and definitions written out the slow way.

Each is called as the function of tinydl.metrics is, prediction first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

sk = pytest.importorskip("sklearn.metrics", reason="the oracle: pip install scikit-learn")
calibration = pytest.importorskip("sklearn.calibration")
optimize = pytest.importorskip("scipy.optimize")
stats = pytest.importorskip("scipy.stats")


def flipped(function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    """scikit-learn's function with the prediction first; scores become classes where it wants classes."""

    def oracle(prediction: Any, target: Any, **options: Any) -> Any:
        p = np.asarray(prediction)
        p = p.argmax(1) if p.dtype.kind == "f" and p.ndim == np.ndim(target) + 1 else p
        options.pop("num_classes", None)
        return function(target, p, **fixed, **options)

    return oracle


def counted(ratio: Callable[..., Any]) -> Callable[..., Any]:
    """The ratio of tp, fp, fn, tn from scikit-learn's matrices per class, averaged here."""

    def oracle(
        prediction: Any,
        target: Any,
        *,
        average: str | None = "binary",
        pos_label: int = 1,
        num_classes: int | None = None,
        sample_weight: Any = None,
        ignore_index: int | None = None,
    ) -> Any:
        p, t = np.asarray(prediction), np.asarray(target)
        p = p.argmax(1) if p.ndim == t.ndim + 1 else p
        if t.ndim == 3:
            if sample_weight is not None:
                sample_weight = np.broadcast_to(np.asarray(sample_weight)[:, None, None], t.shape).ravel()
            p, t = p.ravel(), t.ravel()
            if ignore_index is not None:
                kept = t != ignore_index
                p, t = p[kept], t[kept]
                sample_weight = None if sample_weight is None else sample_weight[kept]
        options = {"sample_weight": sample_weight, "samplewise": average == "samples"}
        matrices = sk.multilabel_confusion_matrix(t, p, **options)
        if average == "binary":
            matrices = matrices[[pos_label]]
        if average == "micro":
            matrices = matrices.sum(0, keepdims=True)
        tn, fp, fn, tp = matrices.reshape(-1, 4).T
        above, below = ratio(tp, fp, fn, tn)
        with np.errstate(invalid="ignore"):
            values = above / below
        if average is None:
            return values
        w = {"weighted": tp + fn, "samples": sample_weight}.get(average)
        w = np.ones(len(values)) if w is None else np.asarray(w)
        fine = ~np.isnan(values)
        return np.average(values[fine], weights=w[fine])

    return oracle


def top_k(prediction: Any, target: Any, **options: Any) -> Any:
    """scikit-learn takes the last of equal scores first: the classes are turned round."""
    C = prediction.shape[1]
    return sk.top_k_accuracy_score(C - 1 - target, prediction[:, ::-1], labels=np.arange(C), **options)


def by_class(score: Callable[..., Any]) -> Callable[..., Any]:
    """Each class against the rest is a multi-label task; each pair is Hand and Till's."""

    def oracle(prediction: Any, target: Any, *, multi_class: Any = None, **options: Any) -> Any:
        p, t = np.asarray(prediction), np.asarray(target)
        if multi_class == "ovo":
            if np.allclose(p.sum(1), 1):  # scikit-learn wants probabilities
                return sk.roc_auc_score(t, p, multi_class="ovo", **options)
            return hand_till(p, t, **options)
        if p.ndim == 2 and t.ndim == 1:
            t = (t[:, None] == np.arange(p.shape[1])).astype(int)
        return score(t, p, **options)

    return oracle


def hand_till(prediction: Any, target: Any, *, average: str = "macro") -> Any:
    """The mean of A(i | j) and A(j | i) over pairs, each A counted pair by pair."""
    values, shares = [], []
    for i, j in itertools.combinations(range(prediction.shape[1]), 2):
        ways = []
        for a, b in ((i, j), (j, i)):
            x, y = prediction[target == a, a], prediction[target == b, a]
            ways.append(np.mean([(u > v) + (u == v) / 2 for u in x for v in y]))
        values.append(np.mean(ways))
        shares.append(np.isin(target, (i, j)).mean() if average == "weighted" else 1)
    return np.average(values, weights=shares)


def slow_operating_point(prediction: Any, target: Any, *, sample_weight: Any = None, **wanted: Any) -> Any:
    """Every threshold is tried, from the one that calls nothing positive down."""
    w = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight)
    tried = []
    for threshold in [np.inf, *np.unique(prediction)[::-1]]:
        found = prediction >= threshold
        sensitivity = w[found & (target == 1)].sum() / w[target == 1].sum()
        specificity = w[~found & (target == 0)].sum() / w[target == 0].sum()
        tried.append((threshold, sensitivity, specificity))
    if "sensitivity" in wanted:
        return next(x for x in tried if x[1] >= wanted["sensitivity"] - 1e-12)
    return [x for x in tried if x[2] >= wanted["specificity"] - 1e-12][-1]


def brier(prediction: Any, target: Any, **options: Any) -> Any:
    more = {} if prediction.ndim == 1 else {"labels": np.arange(prediction.shape[1])}
    return sk.brier_score_loss(target, prediction, **more, **options)


def log_loss(prediction: Any, target: Any, **options: Any) -> Any:
    C = 2 if prediction.ndim == 1 else prediction.shape[1]
    return sk.log_loss(target, prediction, labels=np.arange(C), **options)


def claim(p: Any, t: Any, of: str | None) -> list[tuple[np.ndarray, np.ndarray]]:
    if of == "positive":
        return [(p if p.ndim == 1 else p[:, 1], t == 1)]
    p = np.stack([1 - p, p], 1) if p.ndim == 1 else p
    if of == "classwise":
        return [(p[:, c], t == c) for c in range(p.shape[1])]
    return [(p.max(1), p.argmax(1) == t)]


def reliability(
    prediction: Any,
    target: Any,
    *,
    of: Any = None,
    bins: int = 15,
    strategy: str = "uniform",
    sample_weight: Any = None,
) -> Any:
    """Sample by sample into bins (low, high]; without weights the means are scikit-learn's."""
    p, true = claim(prediction, target, of)[0]
    w = np.ones(len(p)) if sample_weight is None else np.asarray(sample_weight)
    p, true, w = p[w > 0], true[w > 0], w[w > 0]
    edges = np.linspace(0, 1, bins + 1)
    if strategy == "quantile":
        edges = np.percentile(p, edges * 100)
    bin_of = np.array([sum(x > edge for edge in edges[1:-1]) for x in p])
    there = np.unique(bin_of)
    weight = np.array([w[bin_of == b].sum() for b in there])
    if sample_weight is None:
        frequency, probability = calibration.calibration_curve(true, p, n_bins=bins, strategy=strategy)
    else:
        probability, frequency = (
            np.array([np.average(x[bin_of == b], weights=w[bin_of == b]) for b in there]) for x in (p, true)
        )
    return probability, frequency, weight


def slow_calibration_error(
    prediction: Any, target: Any, *, of: Any = None, norm: str = "l1", **options: Any
) -> Any:
    """Bin by bin, in the words of the definition."""
    errors = []
    for p, true in claim(prediction, target, of):
        probability, frequency, n = reliability(p, true.astype(int), of="positive", **options)
        gap, share = np.abs(probability - frequency), n / n.sum()
        by_norm = {"l1": (share * gap).sum(), "l2": np.sqrt((share * gap**2).sum()), "max": gap.max()}
        errors.append(by_norm[norm])
    return np.mean(errors)


def best_temperature(prediction: Any, target: Any, *, sample_weight: Any = None) -> Any:
    """Brent's method on the slope of the mean log loss in 1 / T."""
    z = prediction if prediction.ndim == 2 else np.stack([0 * prediction, prediction], 1)

    def slope(b: float) -> float:
        q = np.exp(b * z - (b * z).max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
        return float(np.average((q * z).sum(1) - z[np.arange(len(z)), target], weights=sample_weight))

    return 1 / optimize.brentq(slope, 0, 1e3, xtol=1e-15, rtol=1e-15)


def wilson(successes: float, n: float, *, confidence: float = 0.95) -> Any:
    """The roots of (p̂ - p)² = z² p (1 - p) / n."""
    z, p = stats.norm.ppf((1 + confidence) / 2), successes / n
    low, high = sorted(np.roots([1 + z * z / n, -2 * p - z * z / n, p * p]).real)
    return p, low, high


def slow_placements(scores: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = scores[target == 1], scores[target == 0]
    kernel = np.array([[(u > v) + (u == v) / 2 for v in y] for u in x])
    return kernel.mean(1), kernel.mean(0)


def slow_delong(prediction: Any, target: Any, *, confidence: float = 0.95) -> Any:
    above, below = slow_placements(prediction, target)
    value = above.mean()
    variance = above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)
    half = stats.norm.ppf((1 + confidence) / 2) * math.sqrt(variance)
    return value, max(value - half, 0), min(value + half, 1)


def slow_delong_test(first: Any, second: Any, target: Any) -> Any:
    (above1, below1), (above2, below2) = (slow_placements(x, target) for x in (first, second))
    S = np.cov(above1, above2) / len(above1) + np.cov(below1, below2) / len(below1)
    difference, error = above1.mean() - above2.mean(), math.sqrt(S[0, 0] + S[1, 1] - 2 * S[0, 1])
    z = difference / error
    return difference, error, z, 2 * stats.norm.sf(abs(z))


def mcnemar(first: Any, second: Any, target: Any, *, exact: bool = True) -> Any:
    first, second = (x.argmax(1) if x.ndim == 2 else x for x in (first, second))
    b = sum((first == target) & (second != target))
    c = sum((first != target) & (second == target))
    if exact:
        return b, c, min(b, c), stats.binomtest(int(b), int(b + c)).pvalue
    statistic = (abs(b - c) - 1) ** 2 / (b + c)
    return b, c, statistic, stats.chi2.sf(statistic, 1)


def slow_bootstrap(
    metric: Any, *arrays: Any, confidence: float = 0.95, stratify: Any = None, **options: Any
) -> Any:
    """Means of resamples are nearly normal: mean ± z s / √n, s within the classes if they are stratified."""
    x = np.asarray(arrays[0])
    groups = [x] if stratify is None else [x[stratify == c] for c in np.unique(stratify)]
    error = math.sqrt(sum(len(group) * group.var() for group in groups)) / len(x)
    half = stats.norm.ppf((1 + confidence) / 2) * error
    return x.mean(), x.mean() - half, x.mean() + half
