"""Losses as layers: a loss function with its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..engine.core import Tensor
from ..ops import loss, margins, softmax
from ..ops.ctc import ctc_loss
from ..ops.distances import pairwise_distance
from .function_layer import Check, FunctionLayer, layer_of

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CosineEmbeddingLoss",
    "CosineSimilarity",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "MarginRankingLoss",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "PairwiseDistance",
    "PoissonNLLLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "TripletMarginLoss",
]


class _Loss(FunctionLayer):
    pass


def _at_least_0(setting: str) -> Check:
    def check(who: str, value: Any) -> None:
        if value < 0:
            raise ValueError(f"{who}: expected {setting} of at least 0, got {value}")

    return check


def _above_0(setting: str) -> Check:
    def check(who: str, value: Any) -> None:
        if value <= 0:
            raise ValueError(f"{who}: expected {setting} above 0, got {value}")

    return check


def _loss_layer(
    name: str, function: Callable[..., Tensor], without: str = "", **checks: Check
) -> type[_Loss]:
    """The layer of a loss function: what has a default there is a setting, what has none an input."""
    inputs = sum(p.default is p.empty for p in inspect.signature(function).parameters.values())
    return layer_of(
        _Loss, name, function, inputs, without, **{"reduction": softmax.require_reduction, **checks}
    )


CrossEntropyLoss = _loss_layer(
    "CrossEntropyLoss",
    softmax.cross_entropy,
    label_smoothing=softmax.require_smoothing,
    ignore_index=softmax.require_index,
)
NLLLoss = _loss_layer("NLLLoss", loss.nll_loss, ignore_index=softmax.require_index)
MSELoss = _loss_layer("MSELoss", loss.mse_loss, "weight")
L1Loss = _loss_layer("L1Loss", loss.l1_loss, "weight")
SmoothL1Loss = _loss_layer("SmoothL1Loss", loss.smooth_l1_loss, beta=_at_least_0("beta"))
HuberLoss = _loss_layer("HuberLoss", loss.huber_loss, "weight", delta=_above_0("delta"))
BCELoss = _loss_layer("BCELoss", loss.binary_cross_entropy)
BCEWithLogitsLoss = _loss_layer("BCEWithLogitsLoss", loss.binary_cross_entropy_with_logits)
KLDivLoss = _loss_layer(
    "KLDivLoss", loss.kl_div, reduction=lambda who, value: softmax.require_reduction(who, value, "batchmean")
)
HingeEmbeddingLoss = _loss_layer("HingeEmbeddingLoss", loss.hinge_embedding_loss)
MultiMarginLoss = _loss_layer("MultiMarginLoss", loss.multi_margin_loss)
CosineSimilarity = _loss_layer("CosineSimilarity", loss.cosine_similarity)
PairwiseDistance = _loss_layer("PairwiseDistance", pairwise_distance)
CosineEmbeddingLoss = _loss_layer("CosineEmbeddingLoss", loss.cosine_embedding_loss)
TripletMarginLoss = _loss_layer("TripletMarginLoss", loss.triplet_margin_loss)
GaussianNLLLoss = _loss_layer("GaussianNLLLoss", loss.gaussian_nll_loss)
PoissonNLLLoss = _loss_layer("PoissonNLLLoss", loss.poisson_nll_loss)
MarginRankingLoss = _loss_layer("MarginRankingLoss", margins.margin_ranking_loss)
SoftMarginLoss = _loss_layer("SoftMarginLoss", margins.soft_margin_loss)
MultiLabelMarginLoss = _loss_layer("MultiLabelMarginLoss", margins.multilabel_margin_loss)
MultiLabelSoftMarginLoss = _loss_layer("MultiLabelSoftMarginLoss", margins.multilabel_soft_margin_loss)
CTCLoss = _loss_layer("CTCLoss", ctc_loss)
