"""Softmax, its logarithm, and the cross entropy of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels import softmax as kernels
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ..devices import constant
from ..engine.core import Array, Primitive, Tensor, expand, primitive
from ..engine.promotion import require_floating
from ..engine.public import public
from .elementwise import (
    _weighted,
    div,
    eq,
    exp,
    ge,
    logical_and,
    logical_not,
    logical_or,
    lt,
    mul,
    ne,
    neg,
    sub,
    to_dtype,
    where,
)
from .indexing import from_outside
from .reduce import mean, sum
from .shape import flatten, normalize_dim, permute, reshape, unsqueeze

__all__ = [
    "cross_entropy",
    "log_softmax",
    "softmax",
    "softmin",
]


@primitive(floating=True)
def _softmax(x: Array, *, dim: int) -> Array:
    return kernels.softmax(x, dim)


@primitive(floating=True)
def _softmax_dx(g: Array, y: Array, *, dim: int) -> Array:
    """y (g - Σ g y)."""
    return kernels.softmax_dx(g, y, dim)


@primitive(floating=True)
def _log_softmax(x: Array, *, dim: int) -> Array:
    return kernels.log_softmax(x, dim)


@primitive(floating=True)
def _log_softmax_dx(g: Array, y: Array, *, dim: int) -> Array:
    """g - exp(y) Σ g."""
    return kernels.log_softmax_dx(g, y, dim)


@primitive(floating=True, constant=("target",))
def _cross_entropy(x: Array, target: Array, *, label_smoothing: float, ignored: int) -> Array:
    return kernels.cross_entropy(x, target, label_smoothing, ignored)


@primitive(floating=True, constant=("target",))
def _cross_entropy_dx(g: Array, x: Array, target: Array, *, label_smoothing: float, ignored: int) -> Array:
    """g_n (softmax(x)_n Σ t'_n - t'_n)."""
    return kernels.cross_entropy_dx(g, x, target, label_smoothing, ignored)


@primitive(constant=("target", "out"))
def _counted(target: Array, *, ignored: int, dtype: np.dtype) -> Array:
    """How many positions are not ignored."""
    return kernels.counted(target, ignored, dtype)


_softmax.rule(x=lambda g, out, *, dim: _softmax_dx(g, out, dim=dim))
_softmax_dx.rule(
    g=lambda h, y, *, dim: _softmax_dx(h, y, dim=dim),
    y=lambda h, g, y, *, dim: sub(
        mul(h, sub(g, sum(mul(g, y), dim, True))), mul(g, sum(mul(h, y), dim, True))
    ),
)
_log_softmax.rule(x=lambda g, out, *, dim: _log_softmax_dx(g, out, dim=dim))
_log_softmax_dx.rule(
    g=lambda h, y, *, dim: sub(h, expand(sum(mul(h, exp(y)), dim, True), shape=h.shape)),
    y=lambda h, g, y, *, dim: neg(mul(mul(h, exp(y)), sum(g, dim, True))),
)
_cross_entropy.rule(
    x=lambda g, x, target, *, label_smoothing, ignored: _cross_entropy_dx(
        g, x, target, label_smoothing=label_smoothing, ignored=ignored
    )
)
_cross_entropy_dx.rule(
    g=lambda h, x, target, *, label_smoothing, ignored: sum(
        mul(h, _unit_gradient(x, target, label_smoothing, ignored)), 1
    ),
    # the target's part is constant; Σ t' scales the softmax where soft targets do not sum to 1
    x=lambda h, g, x, target, *, label_smoothing, ignored: _curvature(
        h, g, x, target, label_smoothing, ignored
    ),
)


def _unit_gradient(x: Tensor, target: Tensor, label_smoothing: float, ignored: int) -> Tensor:
    ones = Tensor(memory.array_module(x.array).ones(x.shape[:1], x.dtype))
    return _cross_entropy_dx(ones, x, target, label_smoothing=label_smoothing, ignored=ignored)


def _curvature(
    h: Tensor, g: Tensor, x: Tensor, target: Tensor, label_smoothing: float, ignored: int
) -> Tensor:
    """g_n Σ_k t'_nk times the derivative of the softmax, applied to h; 0 where the target is ignored."""
    bent = _softmax_dx(h, _softmax(x, dim=1), dim=1)
    if target.dtype.kind != "f":
        return where(unsqueeze(ne(target, ignored), 1), mul(unsqueeze(g, 1), bent), 0.0)
    return mul(unsqueeze(mul(g, (1 - label_smoothing) * sum(target, 1) + label_smoothing), 1), bent)


@public
def softmax(input: Tensor, dim: int | None = None) -> Tensor:
    """exp(input), normalized to sum 1 along `dim`; without one along the last of at most two."""
    return _along(_softmax, input, _dim("softmax", input, dim))


def _dim(who: str, x: Tensor, dim: int | None) -> int:
    """Of more than two dims PyTorch guesses the first or second, others the last."""
    if dim is None and x.ndim > 2:
        raise ShapeError(f"{who}: expected dim for {x.shape}, got None")
    return normalize_dim(who, -1 if dim is None else dim, x.ndim)


def _along(function: Primitive, x: Tensor, dim: int) -> Tensor:
    """The function along a dim, the only one of a 0-d tensor."""
    return function(x, dim=dim) if x.ndim else reshape(function(reshape(x, (1,)), dim=0), ())


@public
def log_softmax(input: Tensor, dim: int | None = None) -> Tensor:
    """log softmax(input), without overflow; `dim` as there."""
    return _along(_log_softmax, input, _dim("log_softmax", input, dim))


@public
def softmin(input: Tensor, dim: int | None = None) -> Tensor:
    """softmax(-input)."""
    require_floating("softmin", input)
    return _along(_softmax, neg(input), _dim("softmin", input, dim))


@public
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-Σ_k w_k t'_k log softmax(input)_k for logits (N, K, *) or (K,), t' = (1 - ε) t + ε / K with ε the
    label smoothing.

    target: class indices (N, *) of an integer dtype, or soft targets (N, K, *) of a floating dtype, which
    carry a gradient.
    weight: one per class (K,). ignore_index: an index whose positions count for nothing, in the mean either.
    Another index that is no class is an error; where it goes unseen (on the GPU, in the replay of a
    recorded step) the loss is NaN.
    reduction: "mean" over all positions (for class indices weighted by w_target), "sum", or "none"
    for (N, *). As torch.nn.functional.cross_entropy; label smoothing is the form that sums to 1
    (Szegedy et al., arXiv 1512.00567).
    """
    require_smoothing("cross_entropy", label_smoothing)
    require_index("cross_entropy", ignore_index)
    require_reduction("cross_entropy", reduction)
    target = labels("cross_entropy", target, input)
    soft = target.dtype.kind == "f"
    if input.ndim == 1:
        pair = (unsqueeze(input, 0), unsqueeze(target, 0))
        return reshape(cross_entropy(*pair, weight, ignore_index, reduction, label_smoothing), ())
    _require_target("cross_entropy", input, target, soft)
    if soft:
        target = to_dtype(target, input.dtype)
        if target.requires_grad or weight is not None:
            return _of_distributions(input, target, weight, reduction, label_smoothing)
    elif weight is not None:
        return _of_weighted_classes(input, target, weight, ignore_index, reduction, label_smoothing)
    return _fused(input, target, soft, ignore_index, reduction, label_smoothing)


def _of_distributions(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    """Cross entropy as a composition that is differentiable in soft targets too, with weights."""
    smoothed = target * (1 - label_smoothing) + label_smoothing / (input.shape[1] or 1)
    smoothed = smoothed if weight is None else mul(smoothed, _per_class("cross_entropy", weight, input))
    losses = neg(sum(_weighted(smoothed, log_softmax(input, 1)), 1))
    return reduced("cross_entropy", losses, reduction)


def _of_weighted_classes(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    """Cross entropy of class indices with weights, whose mean is over the sum of the targets' weights."""
    counts, weights, total = class_weights("cross_entropy", input, target, weight, ignore_index)
    counted = unsqueeze(ne(target, ignore_index), 1)
    log_p = log_softmax(where(counted, input, 0.0), 1)
    terms = neg(mul(weights, where(counts, log_p, 0.0)))
    if label_smoothing:
        every = where(counted, _weighted(_per_class("cross_entropy", weight, input), log_p), 0.0)
        terms = terms * (1 - label_smoothing) - every * (label_smoothing / (input.shape[1] or 1))
    return picked("cross_entropy", terms, total, reduction)


def _fused(
    input: Tensor, target: Tensor, soft: bool, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    """Cross entropy as one kernel over rows (N · prod(*), K), without weights."""
    if not soft:
        _require_classes("cross_entropy", target, input.shape[1], ignore_index)
    flat = _rows(target) if soft else _line(to_dtype(target, np.int64))
    losses = _cross_entropy(_rows(input), flat, label_smoothing=label_smoothing, ignored=ignore_index)
    if reduction == "mean" and not soft:
        return div(sum(losses), _counted(flat, ignored=ignore_index, dtype=losses.dtype))
    return reduced("cross_entropy", reshape(losses, (input.shape[0], *input.shape[2:])), reduction)


def labels(who: str, target: Any, like: Tensor) -> Tensor:
    """A target as a tensor, on the device of `like` where it is a list."""
    return target if isinstance(target, Tensor) else from_outside(who, target, like)


def reduced(who: str, losses: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of the losses, or the losses themselves."""
    require_reduction(who, reduction)
    return losses if reduction == "none" else mean(losses) if reduction == "mean" else sum(losses)


def require_reduction(who: str, reduction: str, *more: str) -> None:
    """A ValueError unless the reduction is one of the usual three or of the others that are named."""
    if reduction not in ("mean", "sum", "none", *more):
        first = ", ".join(map(repr, ("mean", "sum", *more)))
        raise ValueError(f"{who}: expected reduction {first} or 'none', got {reduction!r}")


def require_index(who: str, ignore_index: Any) -> None:
    """A TypeError for what is no class: False would be 0, where PyTorch's old signature has size_average."""
    if isinstance(ignore_index, (bool, np.bool_)) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(f"{who}: expected ignore_index an integer, got {ignore_index!r}")


def require_smoothing(who: str, label_smoothing: float) -> None:
    """A ValueError unless the label smoothing is a share."""
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{who}: expected label_smoothing in [0, 1], got {label_smoothing}")


def picked(who: str, terms: Tensor, total: Tensor, reduction: str) -> Tensor:
    """Terms (N, K, *) summed over the classes; their mean is weighted: Σ / total."""
    losses = sum(terms, 1)
    return div(sum(losses), total) if reduction == "mean" else reduced(who, losses, reduction)


def class_weights(
    who: str, input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """(does k count? w_k where k is the target, else 0; both shaped as the input (N, K, *); their sum).

    Ignored positions count with no class; those whose target is no class, where that goes unseen, with all,
    and their weights are NaN. Choose what counts before a product: 0 times an infinite logarithm is not 0.
    """
    _require_target(who, input, target, soft=False)
    _require_classes(who, target, input.shape[1], ignore_index)
    classes = constant(input, np.arange(input.shape[1]).reshape(-1, *(1,) * (input.ndim - 2)))
    wanted = unsqueeze(target, 1)
    hit, known = eq(wanted, classes), logical_and(ge(wanted, 0), lt(wanted, input.shape[1]))
    if ignore_index is not None:
        ignored = eq(wanted, ignore_index)
        hit, known = logical_and(hit, logical_not(ignored)), logical_or(known, ignored)
    own: Any = 1.0 if weight is None else _per_class(who, weight, input)
    weights = to_dtype(where(hit, own, where(known, 0.0, float("nan"))), input.dtype)
    return logical_or(hit, logical_not(known)), weights, sum(weights)


def _per_class(who: str, weight: Tensor, input: Tensor) -> Tensor:
    if weight.shape != input.shape[1:2]:
        raise ShapeError(f"{who}: expected one weight per class {input.shape[1:2]}, got {weight.shape}")
    return reshape(weight, (-1, *(1,) * (input.ndim - 2)))


def _line(x: Tensor) -> Tensor:
    return x if x.ndim == 1 else reshape(x, (-1,))


def _rows(x: Tensor) -> Tensor:
    """(N, K, *) as (N · prod(*), K)."""
    if x.ndim == 2:
        return x
    return flatten(permute(x, 0, *range(2, x.ndim), 1), 0, -2)


def _require_target(who: str, input: Tensor, target: Tensor, soft: bool) -> None:
    wanted = input.shape if soft else (*input.shape[:1], *input.shape[2:])
    if input.ndim < 2 or target.shape != wanted:
        raise ShapeError(
            f"{who}: expected input (N, K, *) and target (N, *) or (N, K, *), got {input.shape} and "
            f"{target.shape}"
        )
    if target.dtype.kind not in ("f" if soft else "iu"):
        raise DtypeError(f"{who}: expected class indices of an integer dtype, got {target.dtype}")


def _require_classes(who: str, target: Tensor, classes: int, ignored: int | None) -> None:
    """Classes in range. They are looked at on the CPU only, where it costs no
    synchronization, and not in a replay.
    """
    if target.device == "cpu":
        wrong = target.array[(target.array < 0) | (target.array >= classes)]
        wrong = wrong if ignored is None else wrong[wrong != ignored]
        if wrong.size:
            raise ShapeError(f"{who}: expected classes in [0, {classes}), got {wrong.min()} .. {wrong.max()}")
