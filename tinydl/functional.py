"""Derivatives of functions of tensors, of any order: vjp, jvp, hvp, jacobian, hessian; functional_call.

Signatures are those of torch.func (hvp: torch.autograd.functional). They are built on `grad` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.errors import GraphError, ShapeError

from .core import Tensor, enable_grad, grad, state
from .ops.shape import reshape, stack
from .pullback import alias, zeros_like


def vjp(func: Callable[..., Any], *primals: Tensor) -> tuple[Any, Callable[..., tuple[Tensor, ...]]]:
    """(func(*primals), vjp_fn): vjp_fn(cotangents) gives the vector-Jacobian product for each primal, as often as asked."""
    with enable_grad():
        fresh = [alias(x) for x in primals]
        outputs = func(*fresh)
    single = isinstance(outputs, Tensor)
    values = [outputs] if single else list(outputs)

    def vjp_fn(*cotangents: Any) -> tuple[Tensor, ...]:
        given = cotangents[0] if len(cotangents) == 1 and not isinstance(cotangents[0], Tensor) else cotangents
        if len(given) != len(values):
            raise GraphError(f"vjp: expected {len(values)} cotangents, got {len(given)}")
        used = [(y, v) for y, v in zip(values, given, strict=True) if y.requires_grad]
        found = grad([y for y, _ in used], fresh, [v for _, v in used], True, state.grad, True) if used else [None] * len(fresh)
        return tuple(zeros_like(x) if g is None else g for x, g in zip(fresh, found, strict=True))

    return outputs, vjp_fn


def jvp(func: Callable[..., Any], primals: Sequence[Tensor], tangents: Sequence[Tensor]) -> tuple[Any, Any]:
    """(func(*primals), J tangents), by the double transposition trick: v ↦ vᵀJ is linear, and its transpose is J."""
    for x, t in zip(primals, tangents, strict=True):
        if x.shape != t.shape:
            raise ShapeError(f"jvp: expected tangents shaped as the primals, got {t.shape} for {x.shape}")
    outer = state.grad
    with enable_grad():
        outputs, vjp_fn = vjp(func, *primals)
        values = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        dummies = [zeros_like(y).requires_grad_() for y in values]
        products = vjp_fn(tuple(dummies))
        used = [(p, t) for p, t in zip(products, tangents, strict=True) if p.requires_grad]
    if not used:
        found: Sequence[Tensor | None] = [None] * len(values)
    else:
        found = grad([p for p, _ in used], dummies, [t for _, t in used], True, outer, True)
    tangent = tuple(zeros_like(y) if g is None else g for y, g in zip(values, found, strict=True))
    return outputs, tangent[0] if isinstance(outputs, Tensor) else tangent


def hvp(func: Callable[..., Tensor], inputs: Any, v: Any) -> tuple[Tensor, Any]:
    """(func(*inputs), H v) for a scalar function: the gradient of <gradient, v>."""
    xs, vs = ([a] if isinstance(a, Tensor) else list(a) for a in (inputs, v))
    outer = state.grad
    with enable_grad():
        fresh = [alias(x) for x in xs]
        y = func(*fresh)
        first = grad(y, fresh, create_graph=True, allow_unused=True)
        used = [(g, w) for g, w in zip(first, vs, strict=True) if g is not None and g.requires_grad]
    found = grad([g for g, _ in used], fresh, [w for _, w in used], True, outer, True) if used else [None] * len(fresh)
    products = tuple(zeros_like(x) if g is None else g for x, g in zip(fresh, found, strict=True))
    return y, products[0] if isinstance(inputs, Tensor) else products


def jacobian(func: Callable[..., Tensor], argnums: int = 0) -> Callable[..., Tensor]:
    """A function that gives the Jacobian of `func` with respect to input `argnums`, shaped (*output, *input), row by row."""

    def evaluate(*inputs: Tensor) -> Tensor:
        y, vjp_fn = vjp(lambda x: func(*inputs[:argnums], x, *inputs[argnums + 1 :]), inputs[argnums])
        rows = [vjp_fn(_unit(y, i))[0] for i in range(y.array.size)]
        return _stacked(rows, (*y.shape, *inputs[argnums].shape), y)

    return evaluate


def hessian(func: Callable[..., Tensor], argnums: int = 0) -> Callable[..., Tensor]:
    """A function that gives the Hessian of the scalar `func` with respect to input `argnums`, shaped (*input, *input)."""

    def gradient(*inputs: Tensor) -> Tensor:
        with enable_grad():
            fresh = alias(inputs[argnums])
            y = func(*inputs[:argnums], fresh, *inputs[argnums + 1 :])
            gradient: Any = grad(y, fresh, create_graph=True)[0]
            return gradient

    return jacobian(gradient, argnums)


def _unit(y: Tensor, i: int) -> Tensor:
    unit = zeros_like(y)
    unit.array.reshape(-1)[i] = 1
    return unit


def _stacked(rows: list[Tensor], shape: tuple[int, ...], y: Tensor) -> Tensor:
    return reshape(stack(rows), shape) if rows else Tensor(np.zeros(shape, y.dtype))
