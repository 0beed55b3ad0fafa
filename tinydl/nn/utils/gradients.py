"""Gradients between the backward pass and the step: their norm, clipped, centred.

Every function here leaves parameters without `.grad` alone and binds the others' to a new tensor: the array
of a gradient may be somebody else's. Nothing is asked of the host, so all of them may stand in a recorded
step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from tinydl_kernels.machine.errors import GraphError

from ...engine.core import Tensor, no_grad, state
from ...engine.public import public
from ...ops.creation import zeros
from ...ops.elementwise import add, clip, div, ge, maximum, minimum, mul, sub, to_dtype, where
from ...ops.reduce import mean
from ...ops.shape import stack
from ...ops.statistics import norm

__all__ = [
    "adaptive_clip_grad_",
    "centralize_grad_",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
]


@public
def get_total_norm(
    tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """The norm of all elements of the tensors together, a tensor of shape () off the tape.

    Args:
        tensors: one, or several; of none the norm is 0.
        norm_type: p of the p-norm; inf is the largest |x|.
        error_if_nonfinite: refuse a norm that is infinite or NaN, for which the host must wait for it.

    Raises:
        RuntimeError: such a norm.
        GraphError: `error_if_nonfinite` in a recorded step.
    """
    return _total_norm("get_total_norm", _listed(tensors), norm_type, error_if_nonfinite)


@public
def clip_grads_with_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor) -> None:
    """Scale every gradient by max_norm / (total_norm + 1e-6) where that is less than 1."""
    _require_at_least_0("clip_grads_with_norm_", "max_norm", max_norm)
    _clip_to_norm(_with_gradients(parameters), max_norm, total_norm)


@public
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale the gradients of all parameters together so that their norm is less than `max_norm`; returns the
    norm before, a tensor of shape () that the host does not wait for.

        grad *= min(1, max_norm / (norm + 1e-6))

    As torch.nn.utils.clip_grad_norm_: where the norm is infinite, finite elements become 0 and infinite ones
    NaN; where it is NaN, all become NaN. Pascanu et al. 2012 (arXiv 1211.5063), algorithm 1.

    Args:
        parameters: whose `.grad` is scaled; those without one are left alone.
        max_norm: at least 0; a tensor of shape () where it varies between replays of a recorded step.
        norm_type, error_if_nonfinite: as in `get_total_norm`; with such an error nothing is scaled.
    """
    _require_at_least_0("clip_grad_norm_", "max_norm", max_norm)
    taken = _with_gradients(parameters)
    total = _total_norm("clip_grad_norm_", [g for _, g in taken], norm_type, error_if_nonfinite)
    _clip_to_norm(taken, max_norm, total)
    return total


@public
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip each element of each gradient to [-clip_value, clip_value]."""
    _require_at_least_0("clip_grad_value_", "clip_value", clip_value)
    with no_grad():
        for p, g in _with_gradients(parameters):
            p.grad = clip(g, -clip_value, clip_value)


@public
def adaptive_clip_grad_(
    parameters: Tensor | Iterable[Tensor], clip_factor: float = 0.01, eps: float = 1e-3
) -> None:
    """Clip the gradient of each unit by the norm of the unit's own weights.

        limit = clip_factor max(‖w‖, eps)
        grad *= limit / max(‖grad‖, 1e-6)      where ‖grad‖ >= limit

    A unit is an index of the first dim, with all that the other dims hold; a parameter of at most one dim is
    one unit. The authors leave the last layer out. Brock et al. 2021 (arXiv 2102.06171), equation 3.
    """
    _require_at_least_0("adaptive_clip_grad_", "clip_factor", clip_factor)
    _require_at_least_0("adaptive_clip_grad_", "eps", eps)
    with no_grad():
        for p, g in _with_gradients(parameters):
            length, limit = _unit_norm(g), mul(maximum(_unit_norm(p), eps), clip_factor)
            p.grad = where(ge(length, limit), mul(g, div(limit, maximum(length, 1e-6))), g)


@public
def centralize_grad_(parameters: Tensor | Iterable[Tensor]) -> None:
    """Take from the gradient of each unit its mean, for parameters of more than one dim.

    A unit is an index of the first dim. Before the step, so that moments see it and weight decay does not.
    Yong et al. 2020 (arXiv 2004.01461), equation 1.
    """
    with no_grad():
        for p, g in _with_gradients(parameters):
            if p.ndim > 1:
                p.grad = sub(g, mean(g, tuple(range(1, g.ndim)), keepdim=True))


def _listed(tensors: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _with_gradients(parameters: Tensor | Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(parameter, its gradient) of those that have one, and elements."""
    return [(p, g) for p in _listed(parameters) if (g := p.grad) is not None and p.array.size]


def _total_norm(who: str, tensors: Sequence[Tensor], norm_type: float, error_if_nonfinite: bool) -> Tensor:
    if error_if_nonfinite and state.recorder is not None:
        raise GraphError(
            f"{who}: expected error_if_nonfinite=False in a recorded step, got True: a replay does not look "
            "at the norm"
        )
    tensors = [x for x in tensors if x.array.size]
    if not tensors:
        return zeros(())
    with no_grad():
        dtype = np.result_type(*(x.dtype for x in tensors))
        total = norm(stack([to_dtype(norm(x, norm_type), dtype) for x in tensors]), norm_type)
    if error_if_nonfinite and not math.isfinite(value := total.item()):
        raise RuntimeError(f"{who}: expected a finite norm of order {norm_type}, got {value}")
    return total


def _clip_to_norm(taken: Sequence[tuple[Tensor, Tensor]], max_norm: float, total_norm: Tensor) -> None:
    with no_grad():
        scale = minimum(div(max_norm, add(total_norm, 1e-6)), 1.0)
        for p, g in taken:
            p.grad = mul(g, to_dtype(scale, g.dtype))


def _unit_norm(x: Tensor) -> Tensor:
    return norm(x, 2.0, tuple(range(1, x.ndim)), keepdim=True) if x.ndim > 1 else norm(x)


def _require_at_least_0(who: str, name: str, value: float) -> None:
    if not isinstance(value, Tensor) and not value >= 0:
        raise ValueError(f"{who}: {name}: expected at least 0, got {value}")
