"""Batch normalization over axis 1 of x (N, C, *spatial), with its first and second derivative in closed form.

Per channel, with n = N·spatial values, s = (var + eps)^-1/2, x̂ = (x - mean) s, and means over the n values:

    batch_norm          y = γ x̂ + β                    P u = u - mean(u) - x̂ mean(u x̂)
    batch_norm_dx       dx = γ s P g                   dγ = Σ g x̂            dβ = Σ g
    batch_norm_dx_dx    the same once more, contracted with the cotangents v of dx, v_γ of dγ, v_β of dβ:
        ∂/∂g = γ s P v + v_γ x̂ + v_β                  a = mean(v x̂), b = mean(g x̂), q = Σ v (P g)
        ∂/∂x = -γ s² (x̂ q / n + P(b v + a g)) + v_γ s P g
        ∂/∂γ = s q

Both derivatives are total: they count the dependence of mean and var on x, so mean and var are constants to
them. Ioffe & Szegedy, arXiv 1502.03167; the second derivative is ours (P is self-adjoint and a projection).

Each is a pass for the sums, a few operations per channel, and a pass that writes: x is read twice, everything
else as often as it must be. A *plane* is the spatial part of one sample and channel: sums are taken per
plane, then over the samples in order, in float64. The variance is taken about the mean (of the plane, then of
the channel), so nothing cancels. Where the mean is large beside the deviation, its rounding to float32 would
be felt: the loops take x - float32(mean), and the *rest* of the mean, in float64, goes into what is added per
channel. Where it would not be felt the rest is 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..machine import memory
from ..machine.dispatch import operation
from ..machine.memory import line
from ..machine.validate import report
from . import launches, loops

Array = Any
GRAIN = 1 << 14


@operation
def batch_norm(x, gamma, beta, eps):
    """(y, mean, var), the statistics float64, the variance biased; gamma and beta (C,) or None."""
    axes = _all_but_channels(x)
    wide = x.astype(np.float64)
    mean, var = wide.mean(axes), wide.var(axes)
    y = (wide - _spread(mean, x)) * _spread((var + eps) ** -0.5, x)
    y = y if gamma is None else y * _spread(gamma, x)
    y = y if beta is None else y + _spread(beta, x)
    return y.astype(x.dtype), _as_kept(mean, var, x.dtype), var


@batch_norm.loops
def _(x, gamma, beta, eps):
    mean, var, factors = statistics(x, gamma, beta, eps)
    return normalized(x, factors), mean, var


batch_norm.cuda(launches.batch_norm)


@operation
def batch_norm_dx(g, x, gamma, mean, var, eps):
    """(dx, dgamma, dbeta) for the cotangent g of y; dgamma and dbeta are None where gamma is."""
    s, normal, g = _wide(g, x, mean, var, eps)
    dx = (s if gamma is None else s * _spread(gamma, x)) * _project(g, normal)
    if gamma is None:
        return dx.astype(x.dtype), None, None
    axes = _all_but_channels(x)
    return dx.astype(x.dtype), (g * normal).sum(axes).astype(x.dtype), g.sum(axes).astype(x.dtype)


@batch_norm_dx.loops
def _(g, x, gamma, mean, var, eps):
    dgamma, dbeta, factors = dx_statistics(g, x, gamma, mean, var, eps)
    dx = normalized_dx(g, x, factors)
    return (dx, None, None) if gamma is None else (dx, dgamma, dbeta)


batch_norm_dx.cuda(launches.batch_norm_dx)


@operation
def batch_norm_dx_dx(v, v_gamma, v_beta, g, x, gamma, mean, var, eps):
    """(ddg, ddx, ddgamma) for the cotangents v of dx, v_gamma of dgamma, v_beta of dbeta, each of which may
    be None.
    """
    axes = _all_but_channels(x)
    s, normal, g = _wide(g, x, mean, var, eps)
    v = g * 0 if v is None else v.astype(np.float64)
    scale = s if gamma is None else s * _spread(gamma, x)
    p_g = _project(g, normal)
    q = (v * p_g).sum(axes, keepdims=True)
    a, b = (v * normal).mean(axes, keepdims=True), (g * normal).mean(axes, keepdims=True)
    n = x.shape[0] * math.prod(x.shape[2:])
    ddg = scale * _project(v, normal)
    ddx = -scale * s * (normal * q / n + _project(b * v + a * g, normal))
    if v_gamma is not None:
        ddg, ddx = ddg + _spread(v_gamma, x) * normal, ddx + _spread(v_gamma, x) * s * p_g
    if v_beta is not None:
        ddg = ddg + _spread(v_beta, x)
    return (
        ddg.astype(x.dtype),
        ddx.astype(x.dtype),
        None if gamma is None else (s * q).astype(x.dtype).reshape(gamma.shape),
    )


@batch_norm_dx_dx.loops
def _(v, v_gamma, v_beta, g, x, gamma, mean, var, eps):
    samples, channels, size, grain = _planes(x)
    ddgamma, ddg, ddx = memory.empty((channels,), x.dtype, x), memory.empty_like(x), memory.empty_like(x)
    sums = memory.empty((5, samples * channels), np.float64, x)
    factors = memory.empty((8, channels), x.dtype, x)
    v = memory.zeros(x.shape, x.dtype, x) if v is None else v
    inputs, outputs = (line(v), line(g), line(x)), (line(ddg), line(ddx))
    v_gamma, v_beta, weight = _given(v_gamma, x, 0.0), _given(v_beta, x, 0.0), _given(gamma, x, 1.0)
    loops.five_sums(samples * channels, grain, inputs, mean, sums, size)
    statistics = sums, v_gamma, v_beta, mean, var, weight, eps, samples * size
    loops.dx_dx_factors(channels, _channels_grain(samples), *statistics, factors, ddgamma)
    # Of features LLVM could not keep so many arrays apart as both have.
    for write in (loops.dx_dx,) if size != 1 else (loops.ddg, loops.ddx):
        write(samples * channels, grain, inputs, factors, outputs, size)
    return ddg, ddx, None if gamma is None else ddgamma


batch_norm_dx_dx.cuda(launches.batch_norm_dx_dx)


@operation
def running_update(running_mean, running_var, mean, var, momentum, n):
    """Effect: running = (1 - momentum) running + momentum batch, with the unbiased variance var n / (n - 1),
    as PyTorch.
    """
    running_mean += (mean - running_mean) * momentum
    running_var += (var * (n / max(n - 1, 1)) - running_var) * momentum


@running_update.loops
def _(running_mean, running_var, mean, var, momentum, n):
    factor = n / max(n - 1, 1)
    loops.running_update(mean.size, 1 << 14, running_mean, running_var, mean, var, float(momentum), factor)


running_update.cuda(launches.running_update)


# ---- The two passes of a call, apart (not on CUDA): a recorded step makes the second one with what follows


@operation
def statistics(x, gamma, beta, eps):
    """(mean, var, factors): what `batch_norm` returns, and y = (x - factors[0]) factors[1] + factors[2]."""
    axes = _all_but_channels(x)
    wide = x.astype(np.float64)
    var = wide.var(axes)
    mean = _as_kept(wide.mean(axes), var, x.dtype)
    scale = (var + eps) ** -0.5 * (1.0 if gamma is None else gamma)
    shift = (0.0 if beta is None else beta) - (mean - mean.astype(x.dtype)) * scale
    return mean, var, np.stack([mean, scale, shift]).astype(x.dtype)


@statistics.loops
def _(x, gamma, beta, eps):
    samples, channels, size, grain = _planes(x)
    mean, var = memory.empty((channels,), np.float64, x), memory.empty((channels,), np.float64, x)
    means, squares = memory.empty((2, samples * channels), np.float64, x)
    factors = memory.empty((3, channels), x.dtype, x)
    gamma, beta = _given(gamma, x, 1.0), _given(beta, x, 0.0)
    loops.moments(samples * channels, grain, line(x), means, squares, size)
    of_planes = means, squares, samples, size
    loops.merge_moments(channels, _channels_grain(samples), *of_planes, gamma, beta, eps, mean, var, factors)
    return mean, var, factors


@operation
def normalized(x, factors, other=None, relu=False):
    """y by the factors of `statistics`; then `other` is added, then relu, if asked for."""
    mean, scale, shift = (_spread(c, x) for c in factors)
    y = (x - mean) * scale + shift
    y = y if other is None else y + other
    return np.maximum(y, 0) if relu else y


@normalized.loops
def _(x, factors, other=None, relu=False):
    samples, channels, size, grain = _planes(x)
    y, loop = memory.empty_like(x), loops.normalize[other is not None, relu]
    inputs = (line(x),) if other is None else (line(x), line(other))
    loop(samples * channels, grain, inputs, factors, (line(y),), size)
    return y


@operation
def dx_statistics(g, x, gamma, mean, var, eps):
    """(dgamma, dbeta, factors) with dx = factors[1] g + factors[2] (x - factors[0]) + factors[3]."""
    axes, n = _all_but_channels(x), x.size // max(x.shape[1], 1)
    s = (var + eps) ** -0.5
    rest, g = mean - mean.astype(x.dtype), g.astype(np.float64)
    sum_g, sum_gx = g.sum(axes), (g * (x - _spread(mean, x))).sum(axes)
    scale = s if gamma is None else gamma * s
    of_x = -scale * s * s * sum_gx / n
    factors = np.stack([mean, scale, of_x, -scale * sum_g / n - of_x * rest])
    return (sum_gx * s).astype(x.dtype), sum_g.astype(x.dtype), factors.astype(x.dtype)


@dx_statistics.loops
def _(g, x, gamma, mean, var, eps):
    samples, channels, size, grain = _planes(x)
    dgamma, dbeta = memory.empty((channels,), x.dtype, x), memory.empty((channels,), x.dtype, x)
    sums = memory.empty((2, samples * channels), np.float64, x)
    factors = memory.empty((4, channels), x.dtype, x)
    loops.sums(samples * channels, grain, (line(g), line(x)), mean, sums, size)
    of_planes = sums, mean, var, _given(gamma, x, 1.0), eps, samples * size
    loops.dx_factors(channels, _channels_grain(samples), *of_planes, factors, dgamma, dbeta)
    return dgamma, dbeta, factors


@operation
def normalized_dx(g, x, factors, other=None):
    """dx by the factors of `dx_statistics`, and `other` added to it."""
    mean, of_g, of_x, constant = (_spread(c, x) for c in factors)
    dx = of_g * g + of_x * (x - mean) + constant
    return dx if other is None else dx + other


@normalized_dx.loops
def _(g, x, factors, other=None):
    samples, channels, size, grain = _planes(x)
    dx = memory.empty_like(x)
    inputs = (line(g), line(x)) if other is None else (line(g), line(x), line(other))
    loops.dx[other is not None](samples * channels, grain, inputs, factors, (line(dx),), size)
    return dx


# ---- What the references share


def _all_but_channels(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _spread(c: Array, x: Array) -> Array:
    """(C,) -> (C, 1, ...), to broadcast against x."""
    return c.reshape(-1, *(1,) * (x.ndim - 2))


def _wide(g: Array, x: Array, mean: Array, var: Array, eps: float) -> tuple[Array, Array, Array]:
    """s (C, 1, ...), x̂ and g in float64."""
    s = _spread((var + eps) ** -0.5, x)
    return s, (x - _spread(mean, x)) * s, g.astype(np.float64)


def _as_kept(mean: Array, var: Array, dtype: np.dtype) -> Array:
    """The mean, without its rest where that is not felt."""
    rounded = mean.astype(dtype).astype(np.float64)
    rest = np.abs(mean - rounded)
    felt = (rest > loops.FELT * np.sqrt(var)) & (rest > loops.SURE * np.abs(mean))
    return np.where(felt, mean, rounded)


def _project(u: Array, normal: Array) -> Array:
    """P u = u - mean(u) - x̂ mean(u x̂), per channel."""
    axes = _all_but_channels(u)
    return u - u.mean(axes, keepdims=True) - normal * (u * normal).mean(axes, keepdims=True)


# ---- What the loops are given


def _planes(x: Array) -> tuple[int, int, int, int]:
    """samples, channels, plane size, and the planes that one piece of a loop takes."""
    size = math.prod(x.shape[2:])
    return x.shape[0], x.shape[1], size, 1 + GRAIN // (size + 1)


def _channels_grain(samples: int) -> int:
    return 16 + GRAIN // (samples + 1)


def _given(c: Array | None, x: Array, otherwise: float) -> Array:
    """c (C,), or `otherwise` for every channel of x."""
    return memory.constant(x.shape[1:2], x.dtype, otherwise) if c is None else c


def main() -> None:
    """Validate every operation against its reference, then time it on images and on features."""
    random = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for shape in ((64, 32, 16, 16), (128, 512)):
            v, g, x = random.standard_normal((3, *shape)).astype(dtype)
            v_gamma, v_beta, gamma, beta = random.standard_normal((4, shape[1])).astype(dtype)
            _, mean, var = batch_norm(x, gamma, beta, 1e-5)
            report(batch_norm, x, gamma, beta, 1e-5)
            report(batch_norm_dx, g, x, gamma, mean, var, 1e-5)
            report(batch_norm_dx_dx, v, v_gamma, v_beta, g, x, gamma, mean, var, 1e-5)
