"""Every formula of a classifier's report, worked through on one confusion matrix and one ROC curve.

    python examples/metrics.py

Twelve people, five of them ill, and a model's probability that each is. First the threshold .5 makes a
confusion matrix of them, and each ratio is written out: in letters, in numbers, as a value. Then the
threshold falls from above the largest score to the smallest, which gives the ROC curve, its area and what is
read from it. Every value computed here by hand is compared with that of `tinydl.metrics`; the last part says
how sure any of it is.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path

import numpy as np

from tinydl import metrics
from tinydl.files import DataError

try:
    from matplotlib.figure import Figure

    from tinydl import viz
except ImportError as error:
    sys.exit(f"metrics: {error}: pip install '.[examples]'")

ILL = np.array([1, 1, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0])
MODEL = np.array([0.95, 0.9, 0.8, 0.7, 0.6, 0.6, 0.4, 0.35, 0.3, 0.2, 0.1, 0.05])
OTHER = np.array([0.9, 0.4, 0.7, 0.8, 0.3, 0.6, 0.7, 0.45, 0.2, 0.6, 0.1, 0.3])  # a second model, less good
THRESHOLD = 0.5

FOUND = (MODEL >= THRESHOLD).astype(int)
FORMULAS = {
    "accuracy": ("(tp + tn) / n", metrics.accuracy(FOUND, ILL)),
    "sensitivity": ("tp / (tp + fn)", metrics.sensitivity(FOUND, ILL)),
    "  = recall": ("tp / positives", metrics.recall(FOUND, ILL)),
    "  = TPR": ("1 - fn / positives", metrics.tpr(FOUND, ILL)),
    "specificity": ("tn / (tn + fp)", metrics.specificity(FOUND, ILL)),
    "FPR": ("fp / (fp + tn)", metrics.fpr(FOUND, ILL)),
    "precision": ("tp / (tp + fp)", metrics.precision(FOUND, ILL)),
    "FDR": ("fp / (tp + fp)", metrics.fdr(FOUND, ILL)),
    "balanced accuracy": ("(tp / positives + tn / negatives) / 2", metrics.balanced_accuracy(FOUND, ILL)),
    "F1 = Dice": ("2 * tp / (2 * tp + fp + fn)", metrics.f1(FOUND, ILL)),
    "F1 of the healthy": ("2 * tn / (2 * tn + fp + fn)", metrics.f1(FOUND, ILL, pos_label=0)),
    "F1, macro": (
        "(2 * tp / (2 * tp + fp + fn) + 2 * tn / (2 * tn + fp + fn)) / 2",
        metrics.f1(FOUND, ILL, average="macro"),
    ),
    "F1, micro": ("2 * (tp + tn) / (2 * (tp + tn) + 2 * (fp + fn))", metrics.f1(FOUND, ILL, average="micro")),
    "IoU (Jaccard)": ("tp / (tp + fp + fn)", metrics.iou(FOUND, ILL)),
    "MCC": (
        "(tp * tn - fp * fn) / sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))",
        metrics.mcc(FOUND, ILL),
    ),
    "Cohen's kappa": (
        "1 - (fp + fn) / n / ((positives * (tn + fn) + negatives * (tp + fp)) / n**2)",
        metrics.cohen_kappa(FOUND, ILL),
    ),
}
"""Name -> the formula, and the value of tinydl.metrics."""


def agree(name: str, by_hand: float, value: float) -> None:
    """The point of the page: both are one number."""
    if not math.isclose(by_hand, value, rel_tol=1e-12, abs_tol=1e-12):
        sys.exit(f"metrics: {name}: by hand {by_hand}, tinydl.metrics {value}")


def confusion_matrix() -> np.ndarray:
    matrix = metrics.confusion_matrix(FOUND, ILL)
    (tn, fp), (fn, tp) = matrix.tolist()
    print(f"A threshold of {THRESHOLD} on {len(ILL)} people\n")
    print("              called healthy    called ill")
    print(f"    healthy          tn = {tn}        fp = {fp}")
    print(f"    ill              fn = {fn}        tp = {tp}\n")
    numbers = {"tp": tp, "fp": fp, "fn": fn, "tn": tn, "n": len(ILL)}
    numbers |= {"positives": tp + fn, "negatives": tn + fp}
    for name, (formula, value) in FORMULAS.items():
        in_numbers = re.sub(r"[a-z]+", lambda word: str(numbers.get(word[0], word[0])), formula)
        agree(name, eval(in_numbers, {"sqrt": math.sqrt}), value)
        print(f"  {name:18} {formula}\n  {'':18} = {in_numbers} = {value:.4f}")
    return matrix


def roc_curve() -> metrics.ranking.ROC:
    curve = metrics.roc_curve(MODEL, ILL, drop_intermediate=False)
    positives, negatives = ILL.sum(), (1 - ILL).sum()
    print("\n\nThe threshold falls: who has that score or more is called ill\n")
    print("  threshold  tp  fp   TPR   FPR   trapezoid under the step")
    area = average_precision = 0.0
    before = (0.0, 0.0, 0)
    for threshold, fpr, tpr in zip(curve.thresholds, curve.fpr, curve.tpr, strict=True):
        tp, fp = int(sum(ILL[threshold <= MODEL])), int(sum(1 - ILL[threshold <= MODEL]))
        agree("TPR", tp / positives, tpr)
        agree("FPR", fp / negatives, fpr)
        trapezoid = (fpr - before[0]) * (tpr + before[1]) / 2
        area += trapezoid
        average_precision += (tp - before[2]) / positives * (tp / (tp + fp)) if tp + fp else 0.0
        before = (fpr, tpr, tp)
        print(f"  {threshold:9.2f} {tp:3} {fp:3}  {tpr:.2f}  {fpr:.2f}   {trapezoid:.4f}")
    ill, healthy = MODEL[ILL == 1], MODEL[ILL == 0]
    pairs = sum(float(a > b) + (a == b) / 2 for a in ill for b in healthy)
    value = metrics.auc(MODEL, ILL)
    agree("AUC", area, value)
    agree("AUC", pairs / (positives * negatives), value)
    print(f"\n  AUC = the sum of the trapezoids = {area:.4f}")
    print(f"      = pairs (ill, healthy) in the right order, equal scores counted half: {pairs} of ", end="")
    print(f"{positives} * {negatives} = {value:.4f}")
    agree("average precision", average_precision, metrics.average_precision(MODEL, ILL))
    print(f"  average precision = sum of (step in recall) * precision = {average_precision:.4f}")
    point = metrics.operating_point(MODEL, ILL, sensitivity=0.9)
    print(f"  for a sensitivity of .9 or more: threshold {point.threshold}, which has sensitivity ", end="")
    print(f"{point.sensitivity:.2f} and specificity {point.specificity:.2f}")
    return curve


def probabilities() -> None:
    print("\n\nAre they probabilities?\n")
    own = np.where(ILL == 1, MODEL, 1 - MODEL)
    rows = (
        ("log loss", "mean of -log p(what was so)", float(-np.log(own).mean()), metrics.log_loss(MODEL, ILL)),
        ("Brier score", "mean of (p - y)²", float(((MODEL - ILL) ** 2).mean()), metrics.brier(MODEL, ILL)),
    )
    for name, formula, by_hand, value in rows:
        agree(name, by_hand, value)
        print(f"  {name:18} {formula} = {value:.4f}")
    curve = metrics.reliability_curve(MODEL, ILL, of="positive", bins=4)
    print("  bins of P(ill):    mean probability, part that is ill, people")
    for row in zip(*curve, strict=True):
        print("  {:18} {:.3f}  {:.3f}  {:.0f}".format("", *row))
    by_hand = float(np.abs(curve.probability - curve.frequency) @ curve.samples / len(ILL))
    value = metrics.calibration_error(MODEL, ILL, of="positive", bins=4)
    agree("ECE", by_hand, value)
    print(f"  {'ECE of P(ill)':18} mean over people of |probability - part| = {value:.4f}")
    value = metrics.calibration_error(MODEL, ILL, of="confidence", bins=4)
    print(f"  {'ECE of confidence':18} of max(p, 1 - p) against right or wrong: {value:.4f}, another number")
    temperature = metrics.fit_temperature(np.log(MODEL / (1 - MODEL)), ILL)
    print(f"  {'temperature':18} T = {temperature:.4f}: dividing the logits by it gives the least log loss")


def certainty() -> None:
    print("\n\nHow sure is that, of twelve people?\n")
    hits, positives = int(sum(FOUND & ILL)), int(ILL.sum())
    rows = (
        (f"sensitivity, {hits} of {positives}", "Wilson", metrics.wilson(hits, positives)),
        ("AUC", "DeLong", metrics.delong(MODEL, ILL)),
        ("AUC", "bootstrap", metrics.bootstrap(metrics.auc, MODEL, ILL, stratify=ILL)),
        ("F1", "bootstrap", metrics.bootstrap(metrics.f1, FOUND, ILL, stratify=ILL)),
    )
    for name, method, (estimate, low, high) in rows:
        print(f"  {name:20} {estimate:.3f}   95 % interval {low:.3f} to {high:.3f}   ({method})")
    test = metrics.delong_test(MODEL, OTHER, ILL)
    print(f"  AUC above a second model's by {test.difference:.3f}, p = {test.pvalue:.3f} (DeLong, paired)")
    mcnemar = metrics.mcnemar(FOUND, OTHER >= THRESHOLD, ILL)
    print(f"  right where the other is wrong {mcnemar.only_first} times, wrong where it is right ", end="")
    print(f"{mcnemar.only_second} times, p = {mcnemar.pvalue:.3f} (McNemar, exact)")


def picture(matrix: np.ndarray, curve: metrics.ranking.ROC) -> Figure:
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(matrix, cmap="Blues", vmin=0, vmax=2 * matrix.max())
    for (row, column), count in np.ndenumerate(matrix):
        name = (("tn", "fp"), ("fn", "tp"))[row][column]
        left.text(column, row, f"{name} = {count}", ha="center", va="center", fontsize=14)
    left.set(xticks=(0, 1), yticks=(0, 1), xticklabels=("called healthy", "called ill"))
    left.set(yticklabels=("healthy", "ill"), title=f"confusion matrix, threshold {THRESHOLD}")
    right.plot([0, 1], [0, 1], color="#555555", linestyle=":", linewidth=1)
    right.fill_between(curve.fpr, curve.tpr, color="#0072b2", alpha=0.15, linewidth=0)
    right.plot(curve.fpr, curve.tpr, color="#0072b2", marker="o", label="each threshold")
    at = metrics.fpr(FOUND, ILL), metrics.tpr(FOUND, ILL)
    right.plot(*at, "D", color="#d55e00", label=f"threshold {THRESHOLD}")
    wanted = metrics.operating_point(MODEL, ILL, sensitivity=0.9)
    right.plot(
        1 - wanted.specificity, wanted.sensitivity, "s", color="#009e73", label="sensitivity .9 or more"
    )
    right.set(xlabel="FPR = 1 - specificity", ylabel="TPR = sensitivity", aspect="equal")
    right.set_title(f"ROC curve, AUC {metrics.auc(MODEL, ILL):.3f}")
    right.legend(frameon=False, loc="lower right")
    return figure


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="metrics", description="A classifier's report, formula by formula.")
    parser.add_argument("--out", type=Path, default=Path("results/metrics"), help="folder of the picture")
    out = parser.parse_args(arguments).out
    matrix = confusion_matrix()
    curve = roc_curve()
    probabilities()
    certainty()
    try:
        out.mkdir(parents=True, exist_ok=True)
        viz.save(picture(matrix, curve), out / "metrics.png")
    except (DataError, OSError) as error:
        print(f"metrics: {error}", file=sys.stderr)
        return 1
    print(f"\n{out / 'metrics.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
