"""Losses beyond cross-entropy. `reduction` is "mean", "sum" or "none", as in PyTorch; shapes of input and
target broadcast only where that is said.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, add
from ..engine.promotion import is_scalar, require_numbers
from ..engine.public import public
from .elementwise import (
    _weighted,
    abs,
    clip,
    div,
    eq,
    exp,
    floated,
    gt,
    log,
    logical_and,
    lt,
    minimum,
    mul,
    ne,
    neg,
    pow,
    relu,
    square,
    sub,
    where,
    zeros_as,
)
from .functions import logsigmoid
from .indexing import from_outside
from .norm import normalize
from .reduce import sum
from .shape import broadcast_to, common_shape, normalize_dim, reshape, unsqueeze
from .softmax import class_weights, labels, picked, reduced, require_index, require_reduction
from .statistics import norm

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cosine_similarity",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "multi_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "sum_of_squares",
    "triplet_margin_loss",
]


def _require(who: str, input: Tensor, target: Tensor, reduction: str, *more: str) -> None:
    """What all of these ask for, before anything is computed: numbers, one shape, a known reduction."""
    require_reduction(who, reduction, *more)
    require_numbers(who, input)
    if input.shape != target.shape:
        raise ShapeError(
            f"{who}: expected input and target of one shape, got {input.shape} and {target.shape}"
        )


def _weighted_by(who: str, losses: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return losses
    if weight.shape != losses.shape:
        raise ShapeError(f"{who}: expected weight of the input's shape {losses.shape}, got {weight.shape}")
    return _weighted(weight, losses)


def _averaged(who: str, losses: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """As `reduced`, with losses that weigh differently: their mean is divided by the sum of the weights."""
    losses = _weighted_by(who, losses, weight)
    if weight is None or reduction != "mean":
        return reduced(who, losses, reduction)
    return div(sum(losses), sum(weight))


@public
def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """(input - target)², times `weight` of the same shape, by whose sum the mean is divided."""
    _require("mse_loss", input, target, reduction)
    return _averaged("mse_loss", square(sub(input, target)), weight, reduction)


@public
def sum_of_squares(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """½ Σ (input - target)² over all dims but the first; reduced over the batch."""
    _require("sum_of_squares", input, target, reduction)
    squares = square(sub(input, target))
    return reduced(
        "sum_of_squares",
        mul(sum(squares, tuple(range(1, input.ndim))) if input.ndim > 1 else squares, 0.5),
        reduction,
    )


@public
def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """|input - target|, times `weight` of the same shape, by whose sum the mean is divided."""
    _require("l1_loss", input, target, reduction)
    return _averaged("l1_loss", abs(sub(input, target)), weight, reduction)


@public
def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """½ d² / beta where |d| < beta, else |d| - ½ beta, with d = input - target.
    Girshick, arXiv 1504.08083.
    """
    _require("smooth_l1_loss", input, target, reduction)
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: expected beta of at least 0, got {beta}")
    d = sub(input, target)
    size = abs(d)
    if beta == 0:
        return reduced("smooth_l1_loss", size, reduction)
    near = lt(size, beta)
    loss = where(near, div(square(where(near, d, 0.0)), 2 * beta), sub(size, 0.5 * beta))
    return reduced("smooth_l1_loss", loss, reduction)


@public
def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """½ d² where |d| < delta, else delta (|d| - ½ delta), with d = input - target. Huber, 1964. Times
    `weight` of the same shape; the mean is over all elements, as in PyTorch.
    """
    _require("huber_loss", input, target, reduction)
    if delta <= 0:
        raise ValueError(f"huber_loss: expected delta above 0, got {delta}")
    d = sub(input, target)
    size = abs(d)
    near = lt(size, delta)
    loss = where(near, mul(square(where(near, d, 0.0)), 0.5), mul(sub(size, 0.5 * delta), delta))
    return reduced("huber_loss", _weighted_by("huber_loss", loss, weight), reduction)


@public
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-(t log p + (1 - t) log(1 - p)) for probabilities p = input; the logarithms are at least -100.

    At p = 0 and p = 1 the logarithm that is cut off has derivative 0.
    """
    _require("binary_cross_entropy", input, target, reduction)
    common_shape("binary_cross_entropy", input, weight)
    loss = neg(add(mul(target, _bounded_log(input)), mul(sub(1.0, target), _bounded_log(sub(1.0, input)))))
    return reduced("binary_cross_entropy", loss if weight is None else mul(loss, weight), reduction)


def _bounded_log(x: Tensor) -> Tensor:
    """max(log x, -100); at 0 its derivative is 0."""
    inside = ne(x, 0.0)
    return where(inside, clip(log(where(inside, x, 1.0)), min=-100.0), -100.0)


@public
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of p = sigmoid(input), without overflow, for infinite logits too: a class of
    target 0 counts nothing. `pos_weight` (broadcast) multiplies the positive term.
    """
    _require("binary_cross_entropy_with_logits", input, target, reduction)
    common_shape("binary_cross_entropy_with_logits", input, weight, pos_weight)
    positive = _weighted(target, logsigmoid(input))
    if pos_weight is not None:
        positive = mul(positive, pos_weight)
    loss = neg(add(positive, _weighted(sub(1.0, target), logsigmoid(neg(input)))))
    return reduced(
        "binary_cross_entropy_with_logits", loss if weight is None else mul(loss, weight), reduction
    )


@public
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-input[n, target_n] for log-probabilities (N, K, *) or (K,) and classes (N, *); the mean
    is weighted by `weight` (K,).

    Positions of `ignore_index` count for nothing. Another index that is no class is an error; where it goes
    unseen (on the GPU, in the replay of a recorded step) the loss is NaN.
    """
    require_index("nll_loss", ignore_index)
    require_reduction("nll_loss", reduction)
    target = labels("nll_loss", target, input)
    if input.ndim == 1:
        return reshape(
            nll_loss(unsqueeze(input, 0), unsqueeze(target, 0), weight, ignore_index, reduction), ()
        )
    counts, coefficients, total = class_weights("nll_loss", input, target, weight, ignore_index)
    return picked("nll_loss", neg(mul(coefficients, where(counts, input, 0.0))), total, reduction)


@public
def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """KL(target ‖ exp(input)) pointwise: t (log t - input), for log-probabilities `input`; 0 where t is 0.

    "mean" divides by the number of elements, "batchmean" by the batch, which is the
    divergence of the definition.
    """
    _require("kl_div", input, target, reduction, "batchmean")
    if log_target:
        never = logical_and(eq(target, -math.inf), eq(input, input))
        target, input = where(never, 0.0, target), where(never, 0.0, input)
        loss = mul(exp(target), sub(target, input))
    else:
        positive = gt(target, 0.0)
        loss = sub(
            where(positive, mul(target, log(where(positive, target, 1.0))), 0.0), _weighted(target, input)
        )
    if reduction == "batchmean":
        return div(sum(loss), float(input.shape[0] if input.ndim else 1))
    return reduced("kl_div", loss, reduction)


@public
def hinge_loss(input: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """max(0, margin - target · input) for targets ±1."""
    _require("hinge_loss", input, target, reduction)
    return reduced("hinge_loss", relu(sub(margin, mul(target, input))), reduction)


@public
def hinge_embedding_loss(
    input: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """input where target = 1, max(0, margin - input) where target = -1; other targets have both."""
    _require("hinge_embedding_loss", input, target, reduction)
    near = where(ne(target, -1.0), input, 0.0)
    far = where(ne(target, 1.0), clip(sub(margin, input), min=0.0), 0.0)
    return reduced("hinge_embedding_loss", add(near, far), reduction)


@public
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ_{k ≠ y} max(0, margin - x_y + x_k)ᵖ / K for scores (N, K) or (K,) and classes (N,) or (),
    times weight_y. p is 1 or 2.
    """
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: expected p of 1 or 2, got {p}")
    if input.ndim not in (1, 2) or (weight is not None and weight.shape != input.shape[-1:]):
        got = f"{input.shape}" if weight is None else f"{input.shape} and {weight.shape}"
        raise ShapeError(f"multi_margin_loss: expected input (N, K) or (K,) and weight (K,), got {got}")
    require_reduction("multi_margin_loss", reduction)
    target = labels("multi_margin_loss", target, input)
    if input.ndim == 1:
        if target.shape not in ((), (1,)):
            raise ShapeError(f"multi_margin_loss: expected one class for {input.shape}, got {target.shape}")
        rows = unsqueeze(input, 0), reshape(target, (1,))
        return reshape(multi_margin_loss(*rows, p, margin, weight, reduction), target.shape)
    own, one_hot, _ = class_weights("multi_margin_loss", input, target, None, None)
    right = sum(mul(one_hot, where(own, input, 0.0)), 1, keepdim=True)
    short = pow(relu(add(sub(margin, right), input)), p)
    loss = where(eq(one_hot, 1.0), 0.0, short)
    if weight is not None:
        loss = mul(loss, sum(mul(one_hot, where(own, weight, 0.0)), 1, keepdim=True))
    return reduced("multi_margin_loss", div(sum(loss, 1), float(input.shape[1])), reduction)


@public
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """⟨x1, x2⟩ / (max(‖x1‖, eps) max(‖x2‖, eps)) along `dim`."""
    shape = common_shape("cosine_similarity", x1, x2)
    x1, x2 = (x if x.shape == shape else broadcast_to(x, shape) for x in floated(x1, x2))
    dim = normalize_dim("cosine_similarity", dim, len(shape))
    return sum(mul(normalize(x1, 2.0, dim, eps), normalize(x2, 2.0, dim, eps)), dim)


@public
def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """1 - cos(input1, input2) where target = 1, max(0, cos - margin) where target =
    -1, else 0; inputs (N, D), target (N,).
    """
    if input1.shape != input2.shape or target.shape != input1.shape[:-1]:
        got = f"{input1.shape}, {input2.shape}, {target.shape}"
        raise ShapeError(f"cosine_embedding_loss: expected inputs (N, D), target (N,), got {got}")
    require_reduction("cosine_embedding_loss", reduction)
    cosine = cosine_similarity(input1, input2, dim=-1)
    return reduced(
        "cosine_embedding_loss",
        where(
            eq(target, 1.0),
            sub(1.0, cosine),
            where(eq(target, -1.0), clip(sub(cosine, margin), min=0.0), 0.0),
        ),
        reduction,
    )


@public
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(a, p) - d(a, n) + margin) with d(x, y) = ‖x - y + eps‖_p over the last
    dim; Balntas et al., BMVC 2016.
    """

    if p <= 0:
        raise ValueError(f"triplet_margin_loss: expected p above 0, got {p}")

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return norm(add(sub(x, y), eps), p, -1)

    _require("triplet_margin_loss", anchor, positive, reduction)
    _require("triplet_margin_loss", anchor, negative, reduction)
    far = distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return reduced(
        "triplet_margin_loss", clip(add(sub(distance(anchor, positive), far), margin), min=0.0), reduction
    )


@public
def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """½ (log v + (input - target)² / v), plus ½ log 2π if `full`; v = max(var, eps), whose gradient goes to
    var below eps too, as in PyTorch: it can grow again. The target broadcasts to the input, or the input to
    the target; var, which is not negative, has the input's shape but for one dim of size 1, or one number per
    row, or is a number.
    """
    require_reduction("gaussian_nll_loss", reduction)
    require_numbers("gaussian_nll_loss", input)
    common_shape("gaussian_nll_loss", input, target)
    if is_scalar(var):
        var = add(zeros_as(input), float(var))
    if isinstance(var, (np.ndarray, list, tuple)):
        var = from_outside("gaussian_nll_loss", var, input)
    if var.shape == input.shape:
        pass
    elif var.shape == input.shape[:-1]:
        var = unsqueeze(var, -1)
    elif var.ndim != input.ndim or [m for m, n in zip(var.shape, input.shape, strict=True) if m != n] != [1]:
        raise ShapeError(
            f"gaussian_nll_loss: expected var of the input's shape or one per row {input.shape}, got "
            f"{var.shape}"
        )
    if isinstance(var.array, np.ndarray) and (var.array < 0).any():
        raise ValueError(f"gaussian_nll_loss: expected var of at least 0, got {var.array.min()}")
    v = where(lt(var, eps), add(sub(var, var.detach()), eps), var)
    loss = mul(add(log(v), div(square(sub(input, target)), v)), 0.5)
    return reduced("gaussian_nll_loss", add(loss, 0.5 * math.log(2 * math.pi)) if full else loss, reduction)


@public
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """exp(input) - target · input, or input - target log(input + eps) without `log_input`;
    `full` adds Stirling's term.
    """
    _require("poisson_nll_loss", input, target, reduction)
    if isinstance(eps, bool):  # PyTorch's old signature has size_average here
        raise TypeError(f"poisson_nll_loss: expected eps a number, got {eps!r}")
    if log_input:
        loss = sub(exp(input), _weighted(target, input))
    else:
        rate = add(input, eps)
        nothing = logical_and(eq(target, 0.0), eq(rate, 0.0))  # 0 log 0 = 0
        loss = sub(input, mul(target, log(where(nothing, 1.0, rate))))
    if full:
        safe = where(gt(target, 1.0), target, 1.0)
        stirling = add(sub(mul(safe, log(safe)), safe), mul(log(mul(safe, 2 * math.pi)), 0.5))
        loss = add(loss, where(gt(target, 1.0), stirling, 0.0))
    return reduced("poisson_nll_loss", loss, reduction)
