"""Losses of margins beyond those of loss.py: rankings, and several labels at once."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Tensor, add
from ..engine.public import public
from .elementwise import (
    _weighted,
    clip,
    eq,
    ge,
    logical_and,
    logical_not,
    mul,
    neg,
    relu,
    sub,
    to_dtype,
    where,
)
from .functions import logsigmoid
from .indexing import gather, places, scatter_add
from .loss import _require
from .reduce import mean, sum
from .scan import cumsum
from .shape import common_shape, reshape, unsqueeze
from .softmax import reduced, require_reduction

__all__ = [
    "margin_ranking_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "soft_margin_loss",
]


@public
def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """max(0, margin - target · (input1 - input2)) for targets ±1: 1 where input1 shall be the larger."""
    require_reduction("margin_ranking_loss", reduction)
    common_shape("margin_ranking_loss", input1, input2, target)
    if len({x.ndim for x in (input1, input2, target)}) > 1:
        got = f"{input1.shape}, {input2.shape}, {target.shape}"
        raise ShapeError(f"margin_ranking_loss: expected inputs and target of as many dims, got {got}")
    loss = clip(sub(margin, mul(target, sub(input1, input2))), min=0.0)  # whose slope at 0 is 1, PyTorch's
    return reduced("margin_ranking_loss", loss, reduction)


@public
def soft_margin_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target · input)) for targets ±1, without overflow."""
    _require("soft_margin_loss", input, target, reduction)
    return reduced("soft_margin_loss", neg(logsigmoid(mul(target, input))), reduction)


@public
def multilabel_soft_margin_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """The mean over the classes, the last dim, of the binary cross entropies of sigmoid(input), for targets
    in [0, 1]; weight one per class.
    """
    _require("multilabel_soft_margin_loss", input, target, reduction)
    common_shape("multilabel_soft_margin_loss", input, weight)
    positive = _weighted(target, logsigmoid(input))
    loss = neg(add(positive, _weighted(sub(1.0, target), logsigmoid(neg(input)))))
    loss = loss if weight is None else mul(loss, weight)
    return reduced("multilabel_soft_margin_loss", mean(loss, -1), reduction)


@public
def multilabel_margin_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Σ over labels j and other classes i of max(0, 1 - (x_j - x_i)) / K, for scores (N, K) or (K,) and the
    labels of each row, ended by the first -1.
    """
    require_reduction("multilabel_margin_loss", reduction)
    index = places("multilabel_margin_loss", target, input)
    if input.ndim not in (1, 2) or index.shape != input.shape:
        raise ShapeError(
            f"multilabel_margin_loss: expected input (N, K) or (K,) and a target of its shape, got "
            f"{input.shape} and {index.shape}"
        )
    if input.ndim == 1:
        loss = multilabel_margin_loss(unsqueeze(input, 0), unsqueeze(index, 0), "none")
        return reshape(loss, ())
    named = eq(cumsum(to_dtype(logical_not(ge(index, 0)), np.int64), 1), 0)
    index = where(named, index, 0)
    nothing = constant(input, np.zeros(input.shape, np.int64))
    label = scatter_add(nothing, 1, index, to_dtype(named, np.int64))
    own = unsqueeze(gather(input, 1, index), 2)
    pairs = logical_and(unsqueeze(named, 2), unsqueeze(eq(label, 0), 1))
    short = relu(add(sub(1.0, own), unsqueeze(input, 1)))
    loss = mul(sum(where(pairs, short, 0.0), (1, 2)), 1 / max(input.shape[1], 1))
    return reduced("multilabel_margin_loss", loss, reduction)
