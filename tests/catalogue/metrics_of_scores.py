"""Rows of the table of metrics (metrics.py): of scores, probabilities and numbers; intervals and tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from . import metric_oracles as oracles
from .metric_arguments import (
    Row,
    binary,
    chances,
    exactly,
    label_scores,
    numbers,
    scores,
    two_classifiers,
    two_models,
)
from .metric_oracles import flipped, sk

NAN = float("nan")
LABELS = np.array([[1, 0], [1, 1]])
AVERAGES = ("micro", "macro", "weighted", None)

BAD_SCORES: list[Any] = [
    (([0.1, 0.2], [0, 2]), {}, ShapeError, "target: expected labels 0 or 1, got 2"),
    (([0.1, NAN], [0, 1]), {}, ShapeError, "prediction: expected finite numbers, got nan"),
    (([0.1, 0.2], [0, 1, 1]), {}, ShapeError, "expected"),
    (([[0.1, 0.2]], [1]), {}, ShapeError, "take prediction[:, 1] of probabilities"),
    (([0.1, 0.2], [0, 1]), {"sample_weight": [1, NAN]}, ShapeError, "sample_weight: expected finite numbers"),
    (([], []), {}, ShapeError, "expected at least one sample, got none"),
]
ONE_KIND = [(([0.1, 0.2], [1, 1]), {}), (([0.1, 0.2], [0, 0]), {})]
BINARY_CASES: list[Any] = [(binary(60), {}), (binary(60, levels=2), {}), (binary(30, levels=1), {})]
COLUMN_CASES: list[Any] = [
    *((scores(60, 4, levels=2), {"average": average}) for average in AVERAGES),
    *((label_scores(40, 3), {"average": average}) for average in (*AVERAGES, "samples")),
]
RANKS = [
    Row(
        "roc_curve",
        "ROCCurve",
        [*BINARY_CASES, *((draw, {"drop_intermediate": False}) for draw, _ in BINARY_CASES)],
        flipped(sk.roc_curve),
        BAD_SCORES,
        ONE_KIND,
    ),
    Row(
        "precision_recall_curve",
        "PrecisionRecallCurve",
        BINARY_CASES,
        flipped(sk.precision_recall_curve),
        BAD_SCORES,
        ONE_KIND[1:],
    ),
    Row(
        "auc",
        "AUC",
        [
            *BINARY_CASES,
            *((draw, {"multi_class": "ovr", **options}) for draw, options in COLUMN_CASES[:4]),
            *COLUMN_CASES[4:],
            *(
                (scores(60, 4, levels=2), {"multi_class": "ovo", "average": average})
                for average in ("macro", "weighted")
            ),
            *(
                (chances(60, 4), {"multi_class": "ovo", "average": average})
                for average in ("macro", "weighted")
            ),
        ],
        oracles.by_class(sk.roc_auc_score),
        [
            *BAD_SCORES,
            (
                ([[1.0, 2, 3]], [1]),
                {},
                ShapeError,
                "expected multi_class='ovr' or 'ovo' for scores (1, 3), got None",
            ),
            (([1.0, 2], [1, 0]), {"multi_class": "ovr"}, ShapeError, "expected scores (n, C), got (2,)"),
            (
                ([[1.0, 2, 3]], [1]),
                {"multi_class": "all"},
                ShapeError,
                "multi_class: expected None, 'ovr', 'ovo'",
            ),
            (([[1.0, 2, 3]], [3]), {"multi_class": "ovr"}, ShapeError, "expected classes 0 to 2, got 3"),
            (
                ([[1.0, 2, 3]], [1]),
                {"multi_class": "ovo", "sample_weight": [1]},
                ShapeError,
                "multi_class='ovo' takes no sample_weight",
            ),
            (
                ([[1.0, 2, 3]], [1]),
                {"multi_class": "ovo", "average": None},
                ShapeError,
                "expected 'macro', 'weighted'",
            ),
            (([[1.0, 2, 3]], LABELS), {}, ShapeError, "expected scores of labels (2, 2), got (1, 3)"),
        ],
        [
            *ONE_KIND,
            (([[1.0, 2], [2, 1]], [[0, 1], [0, 1]]), {}),
            (([[1.0, 2, 3]], [1]), {"multi_class": "ovr", "average": None}),
            (([[1.0, 2, 3]], [1]), {"multi_class": "ovo"}),
        ],
    ),
    Row(
        "average_precision",
        "AveragePrecision",
        [*BINARY_CASES, *COLUMN_CASES],
        oracles.by_class(sk.average_precision_score),
        [
            *BAD_SCORES,
            (([[1.0, 2, 3]], [1]), {"average": "samples"}, ShapeError, "average: expected 'macro'"),
        ],
        ONE_KIND[1:],
    ),
    Row(
        "operating_point",
        "OperatingPoint",
        [
            (draw, {rate: x})
            for draw, _ in BINARY_CASES
            for rate in ("sensitivity", "specificity")
            for x in (0, 0.8, 1)
        ],
        oracles.slow_operating_point,
        [
            (
                ([0.1, 0.2], [0, 1]),
                {},
                ShapeError,
                "expected a sensitivity or a specificity in [0, 1], got []",
            ),
            (([0.1, 0.2], [0, 1]), {"sensitivity": 1.5}, ShapeError, "in [0, 1], got [1.5]"),
            *(
                (arguments, {"sensitivity": 0.9, **options}, *rest)
                for arguments, options, *rest in BAD_SCORES
            ),
        ],
        [(arguments, {"sensitivity": 0.9}) for arguments, _ in ONE_KIND],
    ),
]

BAD_CHANCES: list[Any] = [
    (
        ([0.1, 1.2], [0, 1]),
        {},
        ShapeError,
        "expected probabilities in [0, 1], got 1.2: apply softmax or sigmoid",
    ),
    (([-0.5, 0.2], [0, 1]), {}, ShapeError, "expected probabilities in [0, 1], got -0.5"),
    (([[0.5, 0.6]], [0]), {}, ShapeError, "expected probabilities that sum to 1 over the classes, got 1.1"),
    (([0.1, 0.2], [0, 2]), {}, ShapeError, "target: expected classes 0 to 1, got 2"),
    (([[0.5, 0.5]], [0, 1]), {}, ShapeError, "got"),
    (([0.1, NAN], [0, 1]), {}, ShapeError, "prediction: expected finite numbers, got nan"),
]
CHANCES: list[Any] = [(chances(50, 1), {}), (chances(50, 2), {}), (chances(50, 4), {})]
OF: list[Any] = [
    (chances(60, 1, levels=2), {"of": "positive"}),
    (chances(60, 1), {"of": "confidence", "bins": 5}),
    (chances(60, 4, levels=2), {}),
    (chances(60, 2), {"of": "positive", "bins": 4}),
    (exactly([0.0, 0.2, 0.4, 0.6, 1.0, 0.2], [0, 1, 0, 1, 1, 0]), {"of": "positive", "bins": 5}),
]
ADAPTIVE: list[Any] = [(draw, options | {"strategy": "quantile"}) for draw, options in OF]
BAD_BINS: list[Any] = [
    *((arguments, {"of": "positive"}, *rest) for arguments, _, *rest in BAD_CHANCES),
    (([0.1, 0.2], [0, 1]), {}, ShapeError, "expected of='positive' (P(y = 1) against y) or of='confidence'"),
    (([0.1, 0.2], [0, 1]), {"of": "positive", "bins": 0}, ShapeError, "bins: expected 1 or more, got 0"),
    (
        ([0.1, 0.2], [0, 1]),
        {"of": "positive", "strategy": "kmeans"},
        ShapeError,
        "strategy: expected 'uniform'",
    ),
    (([[0.2, 0.3, 0.5]], [0]), {"of": "positive"}, ShapeError, "of='positive': expected two classes"),
    (([], []), {"of": "positive"}, ShapeError, "expected at least one sample, got none"),
]
NOTHING = {"sample_weight": [0, 0]}
CALIBRATION = [
    Row(
        "log_loss",
        "LogLoss",
        [*CHANCES, (exactly([0.0, 1.0, 0.5], [1, 1, 0]), {})],
        oracles.log_loss,
        BAD_CHANCES,
        [(([0.1, 0.2], [0, 1]), NOTHING)],
        exact=False,
    ),
    Row(
        "brier", "Brier", CHANCES, oracles.brier, BAD_CHANCES, [(([0.1, 0.2], [0, 1]), NOTHING)], exact=False
    ),
    Row("reliability_curve", "ReliabilityCurve", [*OF, *ADAPTIVE], oracles.reliability, BAD_BINS),
    Row(
        "calibration_error",
        "CalibrationError",
        [
            *OF,
            *ADAPTIVE,
            *((chances(60, 3), {"of": "classwise", "norm": norm}) for norm in ("l1", "l2", "max")),
            (chances(60, 3), {"of": "classwise", "strategy": "quantile", "bins": 6}),
        ],
        oracles.slow_calibration_error,
        [*BAD_BINS, (([0.1, 0.2], [0, 1]), {"norm": "l3"}, ShapeError, "norm: expected 'l1', 'l2', 'max'")],
        [(([0.1, 0.2], [0, 1]), {"of": "positive"} | NOTHING)],
    ),
    Row(
        "fit_temperature",
        None,
        [
            (scores(80, 3), {}),
            (binary(80), {}),
            (scores(200, 10), {}),
            (exactly([3.0, 3, 3, -3], [1, 1, 0, 0]), {}),
        ],
        oracles.best_temperature,
        [
            (([[1.0, NAN]], [0]), {}, ShapeError, "prediction: expected finite numbers, got nan"),
            (([[1.0, 2]], [2]), {}, ShapeError, "target: expected classes 0 to 1, got 2"),
            (([[1.0]], [0]), {}, ShapeError, "expected logits (n,) or (n, C), C >= 2, n >= 1, got (1, 1)"),
            (([[1.0, 2]], [0, 1]), {}, ShapeError, "expected a target (1,)"),
        ],
        [(([1.0, -1], [1, 0]), {}), (([1.0, -1], [0, 1]), {}), (([0.0, 0], [0, 1]), {})],
        tolerance=1e-11,
    ),
]

BAD_NUMBERS: list[Any] = [
    (
        ([1.0, 2], [[1.0], [2]]),
        {},
        ShapeError,
        "expected two arrays (n, ...) of one shape, got (2,) and (2, 1)",
    ),
    (([1.0, NAN], [1.0, 2]), {}, ShapeError, "prediction: expected finite numbers, got nan"),
    (([1.0, 2], [1.0, 2]), {"multioutput": "all"}, ShapeError, "multioutput: expected 'uniform_average'"),
    (([], []), {}, ShapeError, "expected at least one sample, got none"),
]
OUTPUTS: list[Any] = [
    (numbers(40), {}),
    (numbers(40, 3), {}),
    (numbers(40, 3), {"multioutput": "raw_values"}),
]
REGRESSION = [
    *(
        Row(
            name,
            metric,
            OUTPUTS,
            flipped(oracle),
            BAD_NUMBERS,
            [(([1.0, 2], [1.0, 2]), NOTHING)],
            exact=False,
        )
        for name, metric, oracle in (
            ("mse", "MSE", sk.mean_squared_error),
            ("mae", "MAE", sk.mean_absolute_error),
        )
    ),
    Row(
        "r2",
        "R2",
        OUTPUTS,
        flipped(sk.r2_score),
        BAD_NUMBERS,
        [(([1.0], [1.0]), {}), (([1.0, 2], [0.1, 0.1]), {}), (([1.0, 2], [1.0, 2]), NOTHING)],
    ),
]

INTERVALS = [
    Row(
        "wilson",
        None,
        [(lambda _, k=k: (k, 20), {"confidence": c}) for k in (1, 7, 19) for c in (0.8, 0.95)],
        oracles.wilson,
        [
            ((3, 2), {}, ShapeError, "wilson: expected 0 <= successes <= n and n > 0, got 3 of 2"),
            ((0, 0), {}, ShapeError, "got 0 of 0"),
            ((1, 2), {"confidence": 95}, ShapeError, "confidence: expected a number between 0 and 1, got 95"),
        ],
        weighted=False,
    ),
    Row(
        "bootstrap",
        None,
        [
            (lambda g: (np.mean, g.normal(size=400)), {"resamples": 1000}),
            (lambda g: (np.mean, g.normal(size=400)), {"resamples": 1000, "confidence": 0.8}),
            (
                lambda g: (np.mean, g.normal(size=400) + 3 * (np.arange(400) % 2)),
                {"resamples": 1000, "stratify": np.arange(400) % 2},
            ),
        ],
        oracles.slow_bootstrap,
        [
            ((np.mean,), {}, ShapeError, "expected arrays of one length, got the shapes []"),
            (
                (np.mean, [1, 2], [1]),
                {},
                ShapeError,
                "expected arrays of one length, got the shapes [(2,), (1,)]",
            ),
            ((np.mean, []), {}, ShapeError, "expected arrays of one length, got the shapes [(0,)]"),
            (
                (np.mean, [1]),
                {"resamples": 0},
                ShapeError,
                "expected resamples >= 1 and a seed of 64 bits, got 0",
            ),
            ((np.mean, [1]), {"seed": -1}, ShapeError, "a seed of 64 bits, got 2000 and -1"),
            ((np.mean, [1]), {"stratify": [1, 2]}, ShapeError, "stratify: expected (1,), got (2,)"),
            ((np.mean, [1]), {"confidence": 1}, ShapeError, "confidence: expected a number between 0 and 1"),
        ],
        weighted=False,
        tolerance=0.02,
    ),
    Row(
        "delong",
        None,
        [*BINARY_CASES, (binary(40, levels=3), {"confidence": 0.8})],
        oracles.slow_delong,
        [
            (([0.1, 0.2], [0, 2]), {}, ShapeError, "target: expected labels 0 or 1, got 2"),
            (([[0.1, 0.2]], [0]), {}, ShapeError, "expected scores (n,) of class 1, got (1, 2)"),
            (([0.1, NAN], [0, 1]), {}, ShapeError, "prediction: expected finite numbers, got nan"),
            (([0.1], [0, 1]), {}, ShapeError, "expected a target (1,)"),
            (
                ([0.1, 0.2], [0, 1]),
                {"confidence": 0},
                ShapeError,
                "confidence: expected a number between 0 and 1",
            ),
        ],
        [(([0.1, 0.2, 0.3], [0, 1, 1]), {}), (([0.1, 0.2], [1, 1]), {}), (([], []), {})],
        weighted=False,
    ),
    Row(
        "delong_test",
        None,
        [(two_models(60), {}), (two_models(60, levels=2), {})],
        oracles.slow_delong_test,
        [(([0.1, 0.2], [0.1], [0, 1]), {}, ShapeError, "delong_test: expected a target (1,)")],
        [(([0.1, 0.2], [0.1, 0.2], [0, 1]), {}), (([1, 2, 3, 4], [1, 2, 3, 4], [0, 1, 0, 1]), {})],
        weighted=False,
    ),
    Row(
        "mcnemar",
        None,
        [(two_classifiers(n, 3), {"exact": exact}) for n in (60, 400) for exact in (True, False)],
        oracles.mcnemar,
        [
            (([0, 1], [0, 1], []), {}, ShapeError, "mcnemar: expected a target (n,), n >= 1, got (0,)"),
            (([0, 1], [0], [0, 1]), {}, ShapeError, "got prediction (1,), target (2,)"),
            (([0.5, 1], [0, 1], [0, 1]), {}, DtypeError, "expected integer classes (2,)"),
        ],
        weighted=False,
    ),
]

ROWS: list[Row] = [*RANKS, *CALIBRATION, *REGRESSION, *INTERVALS]
