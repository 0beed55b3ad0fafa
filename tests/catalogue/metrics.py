"""The table of metrics: one row for each function, which names the class that is fed in pieces.

tests/metrics/test_metric_rows.py walks it. A case is (how to draw the arguments, options);
metric_arguments.py draws them, metric_oracles.py has the oracles. To add a metric, write it and add a row:
here for metrics of predicted classes, in metrics_of_scores.py for those of scores, probabilities and numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from . import metric_oracles as oracles
from . import metrics_of_scores
from .metric_arguments import (
    Row,
    classes,
    exactly,
    labels,
    masks,
    scores,
)
from .metric_oracles import counted, flipped, sk

NAN = float("nan")
CLASSES = (1, 0, 2, 1), (1, 0, 2, 2)
LABELS = np.array([[1, 0], [1, 1]])
SEVERAL = "choose 'micro', 'macro', 'weighted' or None"
FRACTIONS = (
    "expected integer classes (2,), or scores with a class axis, got float64 (2,): compare with a threshold"
)

BAD_CLASSES: list[Any] = [
    (([0, 1], [0, 1, 1]), {}, ShapeError, "got prediction (2,), target (3,)"),
    (([0.2, 0.9], [0, 1]), {}, DtypeError, FRACTIONS),
    (([0, -1], [0, 1]), {}, ShapeError, "prediction: expected classes 0 or more, got -1"),
    (([0, 1], [0, 0.5]), {}, DtypeError, "target: expected integer classes, got float64 with fractions"),
    (([[0.1, NAN]], [1]), {}, ShapeError, "prediction: expected finite numbers, got nan"),
    (([[0.1, 0.2]], [2]), {}, ShapeError, "target: expected classes 0 to 1, got 2"),
    ((["a", "b"], [0, 1]), {}, DtypeError, "prediction: expected numbers, got <U1"),
    (
        ([0, 1], [0, 1]),
        {"sample_weight": [1, -1]},
        ShapeError,
        "sample_weight: expected weights of 0 or more",
    ),
    (([0, 1], [0, 1]), {"sample_weight": [1]}, ShapeError, "sample_weight: expected (2,), got (1,)"),
    (([], []), {}, ShapeError, "expected at least one sample, got none"),
]
BAD_MATRIX: list[Any] = [
    *BAD_CLASSES,
    (([0, 1], [0, 3]), {"num_classes": 3}, ShapeError, "target: expected classes 0 to 2, got 3"),
    (([0, 1], [0, 2**30]), {}, ShapeError, "expected classes below 16384, or num_classes, got 1073741824"),
    (([0, 1], [0, 1]), {"num_classes": 0}, ShapeError, "num_classes: expected 1 or more, got 0"),
    (([[1, 2]], [0]), {"num_classes": 3}, ShapeError, "expected scores of num_classes=3 classes, got (1, 2)"),
]
ONE_LABEL: list[Any] = [((LABELS, LABELS), {}, ShapeError, "labels of a multi-label task")]
BAD_RATIO: list[Any] = [
    *((arguments, {"average": "macro", **options}, *rest) for arguments, options, *rest in BAD_MATRIX),
    (CLASSES, {}, ShapeError, f"average='binary': expected two classes (n,), got 3 classes: {SEVERAL}"),
    (CLASSES, {"num_classes": 3}, ShapeError, f"got num_classes=3: {SEVERAL}"),
    (CLASSES, {"average": "mean"}, ShapeError, "average: expected 'binary', 'micro', 'macro', 'weighted'"),
    (([0, 1], [0, 1]), {"pos_label": 2}, ShapeError, "pos_label: expected 0, 1, got 2"),
]
BAD_LABELS: list[Any] = [
    ((LABELS, LABELS), {}, ShapeError, f"got labels (2, 2): {SEVERAL}"),
    ((2 * LABELS, LABELS), {"average": "macro"}, ShapeError, "prediction: expected labels 0 or 1, got 2"),
    (
        (LABELS, LABELS),
        {"average": None, "num_classes": 3},
        ShapeError,
        "expected num_classes=3 labels, got (2, 2)",
    ),
    (CLASSES, {"average": "samples"}, ShapeError, "average='samples': expected labels (n, L), got (4,)"),
]

AVERAGES = ("micro", "macro", "weighted", None)
RATIO_CASES: list[Any] = [
    (classes(40, 2), {}),
    (classes(40, 2), {"pos_label": 0}),
    (scores(40, 2, levels=2), {}),
    (exactly([1, 0, 1, 1], [1, 0, 0, 1]), {}),
    *((classes(60, 5, absent=[3]), {"average": average}) for average in AVERAGES),
    *((scores(60, 4, levels=2), {"average": average, "num_classes": 4}) for average in AVERAGES),
]
LABEL_CASES: list[Any] = [(labels(40, 3), {"average": average}) for average in (*AVERAGES, "samples")]
MASK_CASES: list[Any] = [
    (masks(6, 2), {}),
    *((masks(6, 4), {"average": average}) for average in AVERAGES),
    *((masks(6, 4), {"average": average, "ignore_index": 3}) for average in ("micro", "macro", "weighted")),
]

NO_POSITIVES = ([0, 0, 0], [0, 0, 0])
ALL_POSITIVE = ([1, 1, 1], [1, 1, 1])


def ratio(name: str, metric: str, oracle: Any, never: Any, cases: Any = (*RATIO_CASES, *LABEL_CASES)) -> Row:
    """`never` are arguments for which it is 0 / 0."""
    return Row(name, metric, cases, oracle, [*BAD_RATIO, *BAD_LABELS], [(never, {})])


RECALL = counted(lambda tp, fp, fn, tn: (tp, tp + fn))
RATIOS = [
    ratio("recall", "Recall", flipped(sk.recall_score, zero_division=np.nan), NO_POSITIVES),
    ratio("sensitivity", "Sensitivity", RECALL, NO_POSITIVES, RATIO_CASES[::4]),
    ratio("tpr", "TPR", RECALL, NO_POSITIVES, RATIO_CASES[::4]),
    ratio("specificity", "Specificity", counted(lambda tp, fp, fn, tn: (tn, tn + fp)), ALL_POSITIVE),
    ratio("fpr", "FPR", counted(lambda tp, fp, fn, tn: (fp, fp + tn)), ALL_POSITIVE),
    ratio("precision", "Precision", flipped(sk.precision_score, zero_division=np.nan), NO_POSITIVES),
    ratio("fdr", "FDR", counted(lambda tp, fp, fn, tn: (fp, fp + tp)), NO_POSITIVES),
    ratio("f1", "F1", flipped(sk.f1_score, zero_division=np.nan), NO_POSITIVES),
    Row(
        "dice",
        "Dice",
        [*RATIO_CASES, *MASK_CASES],
        counted(lambda tp, fp, fn, tn: (2 * tp, 2 * tp + fp + fn)),
        BAD_RATIO,
        [(NO_POSITIVES, {}), (([0, 1], [0, 9]), {"ignore_index": 9})],
    ),
    Row(
        "iou",
        "IoU",
        [*RATIO_CASES, *MASK_CASES],
        counted(lambda tp, fp, fn, tn: (tp, tp + fp + fn)),
        BAD_RATIO,
        [(NO_POSITIVES, {})],
    ),
]

MATRIX_CASES: list[Any] = [
    (classes(40, 2), {}),
    (classes(60, 5, absent=[1]), {}),
    (scores(50, 3, levels=2), {"num_classes": 3}),
]
MATRICES = [
    Row(
        "confusion_matrix",
        "ConfusionMatrix",
        [*MATRIX_CASES, *((classes(60, 4), {"normalize": over}) for over in ("true", "pred", "all"))],
        flipped(sk.confusion_matrix),
        [
            *BAD_MATRIX,
            (CLASSES, {"normalize": "rows"}, ShapeError, "normalize: expected None, 'true', 'pred'"),
        ],
        [(([0, 2], [0, 2]), {"normalize": "true"}), (([0, 0], [0, 1]), {"normalize": "pred"})],
    ),
    Row(
        "balanced_accuracy",
        "BalancedAccuracy",
        [
            *MATRIX_CASES,
            *((draw, options | {"adjusted": True}) for draw, options in MATRIX_CASES),
            (exactly([0, 3, 3, 0, 3], [0, 3, 0, 3, 3]), {"adjusted": True}),  # there is no class 1 or 2
        ],
        flipped(sk.balanced_accuracy_score),
        [*BAD_MATRIX, *ONE_LABEL],
        [(([0, 0], [0, 0]), {"adjusted": True})],
    ),
    Row(
        "mcc",
        "MCC",
        MATRIX_CASES,
        flipped(sk.matthews_corrcoef),
        [*BAD_MATRIX, *ONE_LABEL],
        [(([0, 0], [0, 1]), {}), (([0, 1], [1, 1]), {}), (([2], [2]), {})],
    ),
    Row(
        "cohen_kappa",
        "CohenKappa",
        [
            (draw, options | {"weights": cost})
            for draw, options in MATRIX_CASES
            for cost in (None, "linear", "quadratic")
        ],
        flipped(sk.cohen_kappa_score),
        [
            *BAD_MATRIX,
            *ONE_LABEL,
            (CLASSES, {"weights": "cubic"}, ShapeError, "weights: expected None, 'linear'"),
        ],
        [(([1, 1], [1, 1]), {})],
    ),
]

HITS = [
    Row(
        "accuracy",
        "Accuracy",
        [*MATRIX_CASES[:2], (scores(50, 3, levels=2), {}), (labels(30, 3), {})],
        flipped(sk.accuracy_score),
        BAD_CLASSES,
        [(([0, 1], [0, 1]), {"sample_weight": [0, 0]})],
    ),
    Row(
        "hamming_loss",
        "HammingLoss",
        [(labels(30, 3), {})],
        flipped(sk.hamming_loss),
        [
            (([0, 1], [0, 1]), {}, ShapeError, "expected labels (n, L) and (n, L), got (2,) and (2,)"),
            ((LABELS, 2 * LABELS), {}, ShapeError, "target: expected labels 0 or 1, got 2"),
        ],
        [((LABELS, LABELS), {"sample_weight": [0, 0]})],
        exact=False,
    ),
    Row(
        "top_k_accuracy",
        "TopKAccuracy",
        [(scores(50, 5), {"k": k}) for k in (1, 2, 4)]
        + [(scores(50, 5, levels=1), {"k": k}) for k in (1, 2, 4)],
        oracles.top_k,
        [
            (([[1.0, 2, 3]], [0]), {"k": 0}, ShapeError, "k: expected 1 or more, got 0"),
            (([[1.0, 2, 3]], [0]), {"k": 4}, ShapeError, "k: expected 1 to 3 (the classes), got 4"),
            (([1.0, 2], [0, 1]), {}, ShapeError, "expected scores (n, C), got (2,)"),
            (([[1.0, 2, 3]], [3]), {}, ShapeError, "target: expected classes 0 to 2, got 3"),
        ],
        [(([[1.0, 2, 3]], [0]), {"sample_weight": [0]})],
    ),
]

ROWS: list[Row] = [*RATIOS, *MATRICES, *HITS, *metrics_of_scores.ROWS]
