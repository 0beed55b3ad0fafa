"""Losses of margins beyond those of loss.py."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td

from .row import Row, V, X, exactly

SIGNS = exactly(np.array([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]]))
PARTS = exactly(np.array([[1.0, 0.0, 0.3], [0.0, 0.6, 1.0]]))
LABELS = np.array([[2, 0, -1, 1], [-1, 0, 1, 2], [0, 1, 2, 3]])
ONE_SHAPE = "expected input and target of one shape, got (3, 4) and (3,)"


def several_margins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    losses = []
    for row, labels in zip(np.atleast_2d(x), np.atleast_2d(y), strict=True):
        ended = [*labels, -1].index(-1)
        own, others = labels[:ended], [i for i in range(len(row)) if i not in labels[:ended]]
        losses.append(sum(max(0.0, 1 - row[j] + row[i]) for j in own for i in others) / len(row))
    return np.mean(losses)


ROWS: list[Row] = [
    Row(
        "margin_ranking_loss",
        td.margin_ranking_loss,
        [[(2, 3), (2, 3), SIGNS]],
        lambda x, y, t: np.maximum(0, -t * (x - y)).mean(),
        fixed=(2,),
        bad=[((X, X, V), ShapeError, "margin_ranking_loss: expected shapes that broadcast")],
    ),
    Row(
        "soft_margin_loss",
        td.soft_margin_loss,
        [[(2, 3), SIGNS]],
        lambda x, t: np.log1p(np.exp(-t * x)).mean(),
        bad=[((X, V), ShapeError, f"soft_margin_loss: {ONE_SHAPE}")],
    ),
    Row(
        "multilabel_soft_margin_loss",
        td.multilabel_soft_margin_loss,
        [[(2, 3), PARTS], [(2, 3), PARTS, (3,)]],
        lambda x, t, w=1.0: (w * (t * np.log1p(np.exp(-x)) + (1 - t) * np.log1p(np.exp(x)))).mean(),
        bad=[((X, V), ShapeError, f"multilabel_soft_margin_loss: {ONE_SHAPE}")],
    ),
    Row(
        "multilabel_margin_loss",
        td.multilabel_margin_loss,
        [[(3, 4), exactly(LABELS)], [(4,), exactly(LABELS[0])]],
        several_margins,
        bad=[
            (
                (X, td.tensor([0, 1])),
                ShapeError,
                "multilabel_margin_loss: expected input (N, K) or (K,) and a target of its shape, got",
            )
        ],
    ),
]
