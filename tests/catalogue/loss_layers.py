"""Losses as layers, in both modes. What a function's row says of it holds for its layer too."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl import nn

from . import loss, margins
from .layers import layer
from .row import Row, V, X, exactly

BY_NAME = {row.name: row for row in (*loss.ROWS, *margins.ROWS)}
LAYERS = {
    "MSELoss": "mse_loss",
    "L1Loss": "l1_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "HuberLoss": "huber_loss",
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "KLDivLoss": "kl_div",
    "NLLLoss": "nll_loss",
    "CrossEntropyLoss": "cross_entropy",
    "HingeEmbeddingLoss": "hinge_embedding_loss",
    "MultiMarginLoss": "multi_margin_loss",
    "CosineSimilarity": "cosine_similarity",
    "CosineEmbeddingLoss": "cosine_embedding_loss",
    "TripletMarginLoss": "triplet_margin_loss",
    "GaussianNLLLoss": "gaussian_nll_loss",
    "PoissonNLLLoss": "poisson_nll_loss",
    "MarginRankingLoss": "margin_ranking_loss",
    "SoftMarginLoss": "soft_margin_loss",
    "MultiLabelMarginLoss": "multilabel_margin_loss",
    "MultiLabelSoftMarginLoss": "multilabel_soft_margin_loss",
}


def of_function(name: str, function: str) -> list[Row]:
    """The layer in both modes on the first sample of its function's row."""
    row = BY_NAME[function]
    inputs, second = len(row.samples[0]), [*inspect.signature(getattr(td, function)).parameters][1]
    bad = [((X, *["a"] * (inputs - 1)), DtypeError, f"{function}: expected a tensor for {second!r}, got str")]
    make = getattr(nn, name)
    rows = layer(
        name, lambda dtype: make(), row.samples[:1], row.reference, inputs=inputs, bad=row.bad[:1] or bad
    )
    return [replace(mode, fixed=row.fixed) for mode in rows]


ROWS: list[Row] = [
    *[row for name, function in LAYERS.items() for row in of_function(name, function)],
    *layer(
        "PairwiseDistance",
        lambda dtype: nn.PairwiseDistance(),
        [[(3, 4), (3, 4)]],
        lambda x, y: np.linalg.norm(x - y + 1e-6, axis=-1),
        inputs=2,
        bad=[((X, V), ShapeError, "pairwise_distance: expected shapes that broadcast, got (3, 4), (3,)")],
    ),
    *layer(
        "CTCLoss",
        lambda dtype: nn.CTCLoss(),
        [[(4, 2, 3), exactly([[1, 2], [1, 0]]), exactly([4, 3]), exactly([2, 1])]],
        lambda x, *_: (loss._ctc(np.exp(x), [(4, (1, 2)), (3, (1,))]) / [2, 1]).mean(),
        inputs=4,
        bad=[
            (
                (X, "a", "a", "a"),
                DtypeError,
                "ctc_loss: input_lengths: expected an index of integers, got <U1",
            )
        ],
    ),
]
