"""Batch normalization. Forward and backward are one primitive each, with the *total* derivative in closed form (the kernels'
docstring has the formulas); the derivative of the backward is a third; what comes after that is composed of elementary ones."""

from __future__ import annotations

from typing import Any

from tinydl_kernels import norm as kernels
from tinydl_kernels.errors import ShapeError

from ..core import Array, Tensor, add, no_grad, primitive
from ..effect import effect
from ..pullback import pullback
from .elementwise import div, mul, neg, sqrt, square, sub
from .reduce import mean, sum
from .shape import reshape


@primitive(outputs=("y", "mean", "var"), constant=("mean", "var"))
def _batch_norm(x: Array, gamma: Array, beta: Array, *, eps: float) -> tuple[Array, Array, Array]:
    return kernels.batch_norm(x, gamma, beta, eps)


@primitive(outputs=("dx", "dgamma", "dbeta"), constant=("mean", "var"))
def _batch_norm_dx(g: Array, x: Array, gamma: Array, mean: Array, var: Array, *, eps: float) -> tuple[Array, ...]:
    return kernels.batch_norm_dx(g, x, gamma, mean, var, eps)


@primitive(outputs=("dg", "dx", "dgamma"), constant=("mean", "var"))
def _batch_norm_dx_dx(
    v: Array, v_gamma: Array, v_beta: Array, g: Array, x: Array, gamma: Array, mean: Array, var: Array, *, eps: float
) -> tuple[Array, ...]:
    return kernels.batch_norm_dx_dx(v, v_gamma, v_beta, g, x, gamma, mean, var, eps)


@effect(writes=("running_mean", "running_var"))
def _running_update(running_mean: Array, running_var: Array, mean: Array, var: Array, *, momentum: float, n: int) -> None:
    kernels.running_update(running_mean, running_var, mean, var, momentum, n)


@_batch_norm.joint
def _(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, var: Tensor, *, eps: float
) -> tuple[Any, ...]:
    return _batch_norm_dx(g, x, gamma, mean, var, eps=eps)


@_batch_norm_dx.joint
def _(
    needs: tuple[bool, ...],
    v: Tensor,
    v_gamma: Tensor,
    v_beta: Tensor,
    g: Tensor,
    x: Tensor,
    gamma: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    eps: float,
) -> tuple[Any, ...]:
    return (*_batch_norm_dx_dx(v, v_gamma, v_beta, g, x, gamma, mean, var, eps=eps), None, None)


@_batch_norm_dx_dx.joint
def _(
    needs: tuple[bool, ...],
    u_g: Tensor,
    u_x: Tensor,
    u_gamma: Tensor,
    v: Tensor,
    v_gamma: Tensor,
    v_beta: Tensor,
    g: Tensor,
    x: Tensor,
    gamma: Tensor,
    *,
    eps: float,
) -> list[Any]:
    def composed(v: Any, v_gamma: Any, v_beta: Any, g: Tensor, x: Tensor, gamma: Any) -> list[Any]:
        return _second_order(v, v_gamma, v_beta, g, x, gamma, eps)

    return [*pullback(composed, [v, v_gamma, v_beta, g, x, gamma], [u_g, u_x, u_gamma], needs[:6]), None, None]


def _second_order(v: Any, v_gamma: Any, v_beta: Any, g: Tensor, x: Tensor, gamma: Any, eps: float) -> list[Any]:
    """`batch_norm_dx_dx` in elementary primitives, with the statistics recomputed from x."""
    dims = (0, *range(2, x.ndim))
    n = x.array.size // max(x.shape[1], 1)

    def average(u: Tensor) -> Tensor:
        return mean(u, dims, keepdim=True)

    def spread(c: Tensor) -> Tensor:
        return reshape(c, (1, -1, *(1,) * (x.ndim - 2)))

    centred = sub(x, average(x))
    s = div(1.0, sqrt(add(average(square(centred)), eps)))
    normal = mul(centred, s)

    def project(u: Tensor) -> Tensor:
        return sub(sub(u, average(u)), mul(normal, average(mul(u, normal))))

    v = mul(g, 0.0) if v is None else v
    scale = s if gamma is None else mul(spread(gamma), s)
    p_g = project(g)
    q = sum(mul(v, p_g), dims, keepdim=True)
    bent = add(mul(normal, div(q, float(n))), project(add(mul(average(mul(g, normal)), v), mul(average(mul(v, normal)), g))))
    ddg, ddx = mul(scale, project(v)), neg(mul(mul(scale, s), bent))
    if v_gamma is not None:
        ddg, ddx = add(ddg, mul(spread(v_gamma), normal)), add(ddx, mul(mul(spread(v_gamma), s), p_g))
    if v_beta is not None:
        ddg = add(ddg, spread(v_beta))
    return [ddg, ddx, None if gamma is None else reshape(mul(s, q), gamma.shape)]


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel (axis 1) of input (N, C, *); weight, bias, running_mean, running_var are (C,) or None.

    In training by the batch's mean and biased variance, and the running statistics move by `momentum` (the variance unbiased);
    else by the running statistics. Ioffe & Szegedy, arXiv 1502.03167; as torch.nn.functional.batch_norm.
    """
    channels = input.shape[1] if input.ndim > 1 else None
    for name, c in (("weight", weight), ("bias", bias), ("running_mean", running_mean), ("running_var", running_var)):
        if channels is None or (c is not None and c.shape != (channels,)):
            got = f"input {input.shape}" + (f", {name} {c.shape}" if c is not None else "")
            raise ShapeError(f"batch_norm: expected input (N, C, *) and {name} (C,), got {got}")
    if training:
        n = input.array.size // max(channels or 1, 1)
        if n <= 1:
            raise ShapeError(f"batch_norm: expected more than one value a channel in training, got input {input.shape}")
        y, batch_mean, batch_var = _batch_norm(input, weight, bias, eps=eps)
        if running_mean is not None and momentum is not None:
            with no_grad():
                _running_update(running_mean, running_var, batch_mean, batch_var, momentum=momentum, n=n)
        return y
    if running_mean is None or running_var is None:
        raise ShapeError("batch_norm: expected running statistics outside training, got None")
    spread = (1, -1, *(1,) * (input.ndim - 2))
    scale = div(1.0 if weight is None else weight, sqrt(add(running_var, eps)))
    y = mul(sub(input, reshape(running_mean, spread)), reshape(scale, spread))
    return y if bias is None else add(y, reshape(bias, spread))
