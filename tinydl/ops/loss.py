"""Softmax and losses."""

from __future__ import annotations

import numpy as np
from tinydl_kernels import softmax as kernels
from tinydl_kernels.errors import DtypeError, ShapeError

from ..core import Array, Tensor, expand, primitive
from .elementwise import exp, mul, neg, sub, to_dtype
from .reduce import mean, sum
from .shape import normalize_dim, permute, reshape, unsqueeze


@primitive
def _softmax(x: Array, *, dim: int) -> Array:
    return kernels.softmax(x, dim)


@primitive
def _softmax_dx(g: Array, y: Array, *, dim: int) -> Array:
    """y (g - Σ g y)."""
    return kernels.softmax_dx(g, y, dim)


@primitive
def _log_softmax(x: Array, *, dim: int) -> Array:
    return kernels.log_softmax(x, dim)


@primitive
def _log_softmax_dx(g: Array, y: Array, *, dim: int) -> Array:
    """g - exp(y) Σ g."""
    return kernels.log_softmax_dx(g, y, dim)


@primitive(constant=("target",))
def _cross_entropy(x: Array, target: Array, *, label_smoothing: float) -> Array:
    return kernels.cross_entropy(x, target, label_smoothing)


@primitive(constant=("target",))
def _cross_entropy_dx(g: Array, x: Array, target: Array, *, label_smoothing: float) -> Array:
    """g_n (softmax(x)_n Σ t'_n - t'_n)."""
    return kernels.cross_entropy_dx(g, x, target, label_smoothing)


_softmax.rule(x=lambda g, out, *, dim: _softmax_dx(g, out, dim=dim))
_softmax_dx.rule(
    g=lambda h, y, *, dim: _softmax_dx(h, y, dim=dim),
    y=lambda h, g, y, *, dim: sub(mul(h, sub(g, sum(mul(g, y), dim, True))), mul(g, sum(mul(h, y), dim, True))),
)
_log_softmax.rule(x=lambda g, out, *, dim: _log_softmax_dx(g, out, dim=dim))
_log_softmax_dx.rule(
    g=lambda h, y, *, dim: sub(h, expand(sum(mul(h, exp(y)), dim, True), shape=h.shape)),
    y=lambda h, g, y, *, dim: neg(mul(mul(h, exp(y)), sum(g, dim, True))),
)
_cross_entropy.rule(x=lambda g, x, target, *, label_smoothing: _cross_entropy_dx(g, x, target, label_smoothing=label_smoothing))
_cross_entropy_dx.rule(
    g=lambda h, x, target, *, label_smoothing: sum(mul(h, _unit_gradient(x, target, label_smoothing)), 1),
    # the target's part is constant; Σ t' scales the softmax where soft targets do not sum to 1
    x=lambda h, g, x, target, *, label_smoothing: mul(
        unsqueeze(mul(g, _mass(x, target, label_smoothing)), 1), _softmax_dx(h, _softmax(x, dim=1), dim=1)
    ),
)


def _unit_gradient(x: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
    return _cross_entropy_dx(Tensor(np.ones(x.shape[:1], x.dtype)), x, target, label_smoothing=label_smoothing)


def _mass(x: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
    """Σ_k t'_nk."""
    if target.dtype.kind != "f":
        return Tensor(np.ones(x.shape[:1], x.dtype))
    return (1 - label_smoothing) * sum(target, 1) + label_smoothing


def softmax(input: Tensor, dim: int = -1) -> Tensor:
    """exp(input), normalized to sum 1 along `dim`."""
    return _softmax(input, dim=normalize_dim("softmax", dim, input.ndim))


def log_softmax(input: Tensor, dim: int = -1) -> Tensor:
    """log softmax(input), without overflow."""
    return _log_softmax(input, dim=normalize_dim("log_softmax", dim, input.ndim))


def cross_entropy(input: Tensor, target: Tensor, reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """-Σ_k t'_k log softmax(input)_k for logits (N, K, *), t' = (1 - ε) t + ε / K with ε the label smoothing.

    target: class indices (N, *) of an integer dtype, or soft targets (N, K, *) of the logits' dtype, which carry a gradient.
    reduction: "mean" over all N · prod(*) positions, "sum", or "none" for (N, *).
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"cross_entropy: expected reduction 'mean', 'sum' or 'none', got {reduction!r}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: expected label_smoothing in [0, 1], got {label_smoothing}")
    target = target if isinstance(target, Tensor) else Tensor(np.asarray(target))
    soft = target.dtype.kind == "f"
    wanted = input.shape if soft else (*input.shape[:1], *input.shape[2:])
    if input.ndim < 2 or target.shape != wanted:
        raise ShapeError(
            f"cross_entropy: expected input (N, K, *) and target (N, *) or (N, K, *), got {input.shape} and {target.shape}"
        )
    if target.dtype.kind == "b":
        raise DtypeError("cross_entropy: expected class indices or soft targets, got bool")
    positions = (input.shape[0], *input.shape[2:])
    rows = _rows(input)
    if soft:
        target = _rows(to_dtype(target, input.dtype))
    else:
        target = reshape(to_dtype(target, np.int64), (-1,))
        _require_classes(target, input.shape[1])
    if soft and target.requires_grad:
        smoothed = target * (1 - label_smoothing) + label_smoothing / input.shape[1]
        losses = neg(sum(mul(smoothed, log_softmax(rows, 1)), 1))
    else:
        losses = _cross_entropy(rows, target, label_smoothing=label_smoothing)
    if reduction == "none":
        return reshape(losses, positions)
    return mean(losses) if reduction == "mean" else sum(losses)


def _rows(x: Tensor) -> Tensor:
    """(N, K, *) as (N · prod(*), K)."""
    return x if x.ndim == 2 else reshape(permute(x, 0, *range(2, x.ndim), 1), (-1, x.shape[1]))


def _require_classes(target: Tensor, classes: int) -> None:
    if target.device == "cpu" and target.array.size and not 0 <= target.array.min() <= target.array.max() < classes:
        raise ShapeError(f"cross_entropy: expected classes in [0, {classes}), got {target.array.min()} .. {target.array.max()}")
