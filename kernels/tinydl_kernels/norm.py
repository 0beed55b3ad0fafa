"""Batch normalization over axis 1 of x (N, C, *spatial), with its first and second derivative in closed form.

Per channel, with n = N·spatial values, s = (var + eps)^-1/2, x̂ = (x - mean) s, and means over the n values:

    batch_norm          y = γ x̂ + β                    P u = u - mean(u) - x̂ mean(u x̂)
    batch_norm_dx       dx = γ s P g                   dγ = Σ g x̂            dβ = Σ g
    batch_norm_dx_dx    the same once more, contracted with the cotangents v of dx, v_γ of dγ, v_β of dβ:
        ∂/∂g = γ s P v + v_γ x̂ + v_β                  a = mean(v x̂), b = mean(g x̂), q = Σ v (P g)
        ∂/∂x = -γ s² (x̂ q / n + P(b v + a g)) + v_γ s P g
        ∂/∂γ = s q

Both derivatives are total: they count the dependence of mean and var on x, so mean and var are constants to them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .dispatch import operation

Array = Any


@operation(portable=True)
def batch_norm(x, gamma, beta, eps):
    """(y, mean, var) with the biased variance; gamma and beta (C,) or None."""
    axes = _all_but_channels(x)
    wide = x.astype(np.float64)
    mean = wide.mean(axes)
    var = wide.var(axes)
    normal = (wide - _spread(mean, x)) * _spread((var + eps) ** -0.5, x)
    y = normal * _spread(_or_one(gamma), x) + (0.0 if beta is None else _spread(beta, x))
    return y.astype(x.dtype), mean.astype(x.dtype), var.astype(x.dtype)


@operation(portable=True)
def batch_norm_dx(g, x, gamma, mean, var, eps):
    """(dx, dgamma, dbeta) for the cotangent g of y; dgamma and dbeta are None where gamma is."""
    axes = _all_but_channels(x)
    s = (var.astype(np.float64) + eps) ** -0.5
    normal = (x - _spread(mean.astype(np.float64), x)) * _spread(s, x)
    g = g.astype(np.float64)
    dx = _spread(_or_one(gamma) * s, x) * _project(g, normal)
    if gamma is None:
        return dx.astype(x.dtype), None, None
    return dx.astype(x.dtype), (g * normal).sum(axes).astype(x.dtype), g.sum(axes).astype(x.dtype)


@operation(portable=True)
def batch_norm_dx_dx(v, v_gamma, v_beta, g, x, gamma, mean, var, eps):
    """(ddg, ddx, ddgamma) for the cotangents v of dx, v_gamma of dgamma, v_beta of dbeta, each of which may be None."""
    axes = _all_but_channels(x)
    s = (var.astype(np.float64) + eps) ** -0.5
    normal = (x - _spread(mean.astype(np.float64), x)) * _spread(s, x)
    g = g.astype(np.float64)
    v = np.zeros_like(g) if v is None else v.astype(np.float64)
    scale = _or_one(gamma) * s
    p_g = _project(g, normal)
    q = (v * p_g).sum(axes)
    a, b = (v * normal).mean(axes), (g * normal).mean(axes)
    n = x.size // x.shape[1]
    bent = normal * _spread(q / n, x) + _project(_spread(b, x) * v + _spread(a, x) * g, normal)
    ddg = _spread(scale, x) * _project(v, normal)
    ddx = -_spread(scale * s, x) * bent
    if v_gamma is not None:
        ddg = ddg + _spread(v_gamma, x) * normal
        ddx = ddx + _spread(v_gamma * s, x) * p_g
    if v_beta is not None:
        ddg = ddg + _spread(v_beta, x)
    return ddg.astype(x.dtype), ddx.astype(x.dtype), None if gamma is None else (s * q).astype(x.dtype)


@operation(portable=True)
def running_update(running_mean, running_var, mean, var, momentum, n):
    """Effect: running = (1 - momentum) running + momentum batch, with the unbiased variance var n / (n - 1), as PyTorch."""
    running_mean += (mean - running_mean) * momentum
    running_var += (var * (n / max(n - 1, 1)) - running_var) * momentum


def _all_but_channels(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _spread(c: Array, x: Array) -> Array:
    """(C,) -> (C, 1, ...), to broadcast against x."""
    return c.reshape(-1, *(1,) * (x.ndim - 2))


def _or_one(gamma: Array) -> Array:
    return np.ones(1) if gamma is None else gamma


def _project(u: Array, normal: Array) -> Array:
    """P u = u - mean(u) - x̂ mean(u x̂), per channel."""
    axes = _all_but_channels(u)
    return u - u.mean(axes, keepdims=True) - normal * (u * normal).mean(axes, keepdims=True)
