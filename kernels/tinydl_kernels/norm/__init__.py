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
the channel), so nothing cancels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..cpu.compiler import kernel, parallel
from ..cuda import launching
from ..machine import memory
from ..machine.dispatch import operation
from ..machine.validate import report

Array = Any
GRAIN = 1 << 14
COLUMNS = 8
"""On a GPU, planes smaller than this are taken as columns, which neighbouring threads walk down together."""
BLOCKS = 512
"""On a GPU, blocks that sums are spread over, as far as each has PART values for each of its threads."""
PART = 32
THREADS = 256


# ---- Numba: statistics, and y = (x - mean) scale + shift


@kernel(fastmath={"reassoc"})
def _plane_moments(x):
    """Mean and Σ (x - mean)² of one plane."""
    total, squares = 0.0, 0.0
    for k in range(x.size):
        total += x[k]
    mean = total / x.size
    for k in range(x.size):
        centred = x[k] - mean
        squares += centred * centred
    return mean, squares


@parallel
def _moments(start, stop, x, means, squares, size):
    if size == 1:  # (N, C): each value is the mean of its plane
        for plane in range(start, stop):
            means[plane], squares[plane] = x[plane], 0.0
        return
    for plane in range(start, stop):
        means[plane], squares[plane] = _plane_moments(x[plane * size : (plane + 1) * size])


@parallel
def _merge_moments(start, stop, means, squares, samples, size, gamma, eps, mean, var, scale):
    """Moments of the planes (samples, C) -> mean, biased variance and scale = γ s (C,)."""
    channels = mean.size
    width = stop - start
    centre, spread = np.zeros(width), np.zeros(width)
    for sample in range(samples):
        row = means[sample * channels + start : sample * channels + stop]
        for k in range(width):
            centre[k] += row[k]
    for k in range(width):
        centre[k] /= samples
    for sample in range(samples):
        row = means[sample * channels + start : sample * channels + stop]
        inner = squares[sample * channels + start : sample * channels + stop]
        for k in range(width):
            centred = row[k] - centre[k]
            spread[k] += inner[k] + size * centred * centred
    for k in range(width):
        mean[start + k], var[start + k] = centre[k], spread[k] / (samples * size)
        scale[start + k] = gamma[start + k] / math.sqrt(var[start + k] + eps)


@kernel
def _run(start, stop, channels):
    """Of planes of one value: the first channel and the length of a run of neighbours in one sample."""
    return start % channels, min(stop - start, channels - start % channels)


@parallel
def _normalize(start, stop, x, mean, scale, beta, y, size):
    while start < stop and size == 1:
        c, count = _run(start, stop, mean.size)
        source, target = x[start:], y[start : start + count]
        centres, scales, shifts = mean[c:], scale[c:], beta[c:]
        for k in range(count):
            target[k] = (source[k] - centres[k]) * scales[k] + shifts[k]
        start += count
    for plane in range(start, stop):
        c, at, end = plane % mean.size, plane * size, (plane + 1) * size
        source, target, centre, factor, shift = x[at:end], y[at:end], mean[c], scale[c], beta[c]
        for k in range(size):
            target[k] = (source[k] - centre) * factor + shift


# ---- Numba: first derivative


@kernel(fastmath={"reassoc"})
def _plane_sums(g, x, mean):
    """Σ g, Σ g (x - mean)."""
    sum_g, sum_gx = 0.0, 0.0
    for k in range(x.size):
        sum_g += g[k]
        sum_gx += g[k] * (x[k] - mean)
    return sum_g, sum_gx


@parallel
def _sums(start, stop, g, x, mean, sums, size):
    while start < stop and size == 1:
        c, count = _run(start, stop, mean.size)
        centre, g_run, x_run = mean[c:], g[start : start + count], x[start:]
        sum_g, sum_gx = sums[0, start:], sums[1, start:]
        for k in range(count):
            sum_g[k], sum_gx[k] = g_run[k], np.float64(g_run[k]) * (np.float64(x_run[k]) - centre[k])
        start += count
    for plane in range(start, stop):
        at, end = plane * size, (plane + 1) * size
        sums[0, plane], sums[1, plane] = _plane_sums(
            g[at:end], x[at:end], np.float64(mean[plane % mean.size])
        )


@kernel
def _over_samples(sums, start, stop, channels):
    """Σ over the samples of the plane sums: sums (kinds, samples channels) -> (kinds, stop - start)."""
    totals = np.zeros((sums.shape[0], stop - start))
    for kind in range(sums.shape[0]):
        total = totals[kind]
        for first in range(start, sums.shape[1], channels):
            row = sums[kind, first:]
            for k in range(total.size):
                total[k] += row[k]
    return totals


@parallel
def _dx_factors(start, stop, sums, var, gamma, eps, n, factors, dgamma, dbeta):
    """Per channel: dx = factors[0] g + factors[1] (x - mean) + factors[2]."""
    totals = _over_samples(sums, start, stop, var.size)
    for c in range(start, stop):
        s = 1 / math.sqrt(var[c] + eps)
        sum_g, sum_gx = totals[0, c - start], totals[1, c - start]
        dgamma[c], dbeta[c] = sum_gx * s, sum_g
        scale = gamma[c] * s
        factors[0, c], factors[1, c], factors[2, c] = scale, -scale * s * s * sum_gx / n, -scale * sum_g / n


@parallel
def _dx(start, stop, g, x, mean, factors, dx, size):
    while start < stop and size == 1:
        c, count = _run(start, stop, mean.size)
        centres, g_run, x_run, target = mean[c:], g[start:], x[start:], dx[start : start + count]
        ofs_g, ofs_x, constants = factors[0, c:], factors[1, c:], factors[2, c:]
        for k in range(count):
            target[k] = ofs_g[k] * g_run[k] + ofs_x[k] * (x_run[k] - centres[k]) + constants[k]
        start += count
    for plane in range(start, stop):
        c, at, end = plane % mean.size, plane * size, (plane + 1) * size
        of_g, of_x, constant, centre = factors[0, c], factors[1, c], factors[2, c], mean[c]
        g_plane, x_plane, target = g[at:end], x[at:end], dx[at:end]
        for k in range(size):
            target[k] = of_g * g_plane[k] + of_x * (x_plane[k] - centre) + constant


# ---- Numba: second derivative


@kernel(fastmath={"reassoc"})
def _plane_five_sums(v, g, x, mean):
    """Σ v, Σ g, Σ v (x - mean), Σ g (x - mean), Σ v g."""
    sum_v, sum_g, sum_vx, sum_gx, sum_vg = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(x.size):
        centred, v_k, g_k = x[k] - mean, np.float64(v[k]), np.float64(g[k])
        sum_v += v_k
        sum_g += g_k
        sum_vx += v_k * centred
        sum_gx += g_k * centred
        sum_vg += v_k * g_k
    return sum_v, sum_g, sum_vx, sum_gx, sum_vg


@parallel
def _five_sums(start, stop, v, g, x, mean, sums, size):
    while start < stop and size == 1:
        c, count = _run(start, stop, mean.size)
        centre, v_run, g_run, x_run = mean[c:], v[start : start + count], g[start:], x[start:]
        sum_v, sum_g, sum_vx, sum_gx, sum_vg = (
            sums[0, start:],
            sums[1, start:],
            sums[2, start:],
            sums[3, start:],
            sums[4, start:],
        )
        for k in range(count):
            centred, v_k, g_k = np.float64(x_run[k]) - centre[k], np.float64(v_run[k]), np.float64(g_run[k])
            sum_v[k], sum_g[k], sum_vx[k], sum_gx[k], sum_vg[k] = (
                v_k,
                g_k,
                v_k * centred,
                g_k * centred,
                v_k * g_k,
            )
        start += count
    for plane in range(start, stop):
        at, end = plane * size, (plane + 1) * size
        five = _plane_five_sums(v[at:end], g[at:end], x[at:end], np.float64(mean[plane % mean.size]))
        sums[0, plane], sums[1, plane], sums[2, plane], sums[3, plane], sums[4, plane] = five


@parallel
def _dx_dx_factors(start, stop, sums, v_gamma, v_beta, var, gamma, eps, n, factors, ddgamma):
    """Per channel: ddg = [0] v + [1] (x - mean) + [2];  ddx = [3] v + [4] g + [5] (x - mean) + [6]."""
    totals = _over_samples(sums, start, stop, var.size)
    for c in range(start, stop):
        s = 1 / math.sqrt(var[c] + eps)
        five = totals[:, c - start]
        mean_v, mean_g, a, b = five[0] / n, five[1] / n, five[2] * s / n, five[3] * s / n
        q = five[4] - n * (mean_v * mean_g + a * b)
        scale, bend, turn = gamma[c] * s, gamma[c] * s * s, v_gamma[c] * s
        ddgamma[c] = s * q
        factors[0, c] = scale
        factors[1, c] = s * (v_gamma[c] - scale * a)
        factors[2, c] = v_beta[c] - scale * mean_v
        factors[3, c] = -bend * b
        factors[4, c] = turn - bend * a
        factors[5, c] = s * (bend * (2 * a * b - q / n) - turn * b)
        factors[6, c] = bend * (b * mean_v + a * mean_g) - turn * mean_g


@parallel
def _dx_dx(start, stop, v, g, x, mean, factors, ddg, ddx, size):
    while start < stop and size == 1:
        c, count = _run(start, stop, mean.size)
        centres, v_run, g_run, x_run = mean[c:], v[start:], g[start:], x[start:]
        ddg_run, ddx_run = ddg[start : start + count], ddx[start : start + count]
        f0, f1, f2, f3 = factors[0, c:], factors[1, c:], factors[2, c:], factors[3, c:]
        f4, f5, f6 = factors[4, c:], factors[5, c:], factors[6, c:]
        for k in range(count):
            ddg_run[k] = f0[k] * v_run[k] + f1[k] * (x_run[k] - centres[k]) + f2[k]
        for k in range(count):
            ddx_run[k] = f3[k] * v_run[k] + f4[k] * g_run[k] + f5[k] * (x_run[k] - centres[k]) + f6[k]
        start += count
    for plane in range(start, stop):
        c, at, end = plane % mean.size, plane * size, (plane + 1) * size
        g_of_v, g_of_x, g_constant = factors[0, c], factors[1, c], factors[2, c]
        x_of_v, x_of_g = factors[3, c], factors[4, c]
        x_of_x, x_constant, centre = factors[5, c], factors[6, c], mean[c]
        v_plane, g_plane, x_plane, ddg_plane, ddx_plane = (
            v[at:end],
            g[at:end],
            x[at:end],
            ddg[at:end],
            ddx[at:end],
        )
        for k in range(size):
            centred = x_plane[k] - centre
            ddg_plane[k] = g_of_v * v_plane[k] + g_of_x * centred + g_constant
            ddx_plane[k] = x_of_v * v_plane[k] + x_of_g * g_plane[k] + x_of_x * centred + x_constant


# ---- Operations


def _planes(x: Array) -> tuple[int, int, int, int]:
    """samples, channels, plane size, and the planes that one piece of a loop takes."""
    size = math.prod(x.shape[2:])
    return x.shape[0], x.shape[1], size, 1 + GRAIN // (size + 1)


def _channels_grain(samples: int) -> int:
    return 16 + GRAIN // (samples + 1)


def _given(c: Array | None, like: Array, otherwise: float) -> Array:
    """c (C,), or `otherwise` for every channel."""
    return memory.constant(like.shape, like.dtype, otherwise) if c is None else c


def _sum_on_cuda(
    kernel: str, merge: str, count: int, x: Array, inputs: tuple[Any, ...], outputs: tuple[Array, ...]
) -> None:
    """Launch the kernel that takes `count` sums per channel of x; `merge` finishes where
    several blocks share a channel.
    """
    samples, channels, size = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    columns = size < COLUMNS
    width, steps, walkers = (
        (channels * size, samples, THREADS // launching.WARP)
        if columns
        else (channels, samples * size, THREADS)
    )
    blocks = -(-width // launching.WARP) if columns else width
    if not blocks:
        return
    parts = max(1, min(BLOCKS // blocks, steps // (PART * walkers)))
    shared = parts > 1 or width > channels
    partials = memory.empty((count, parts, width), np.float64, x) if shared else None
    shape = np.int64(samples), np.int32(channels), np.int32(size), np.bool_(columns), np.int32(parts)
    arguments = (*inputs, partials, *outputs, *shape)
    kernels = launching.module("norm", x.dtype)
    kernels.get_function(kernel)((blocks, parts), (THREADS,), arguments)
    if shared:
        kernels.get_function(merge)((channels,), (launching.WARP,), arguments)


def _write_on_cuda(kernel: str, x: Array, *arguments: Any) -> None:
    """Launch the kernel that writes arrays of x's shape."""
    samples, channels, size = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    pack = 16 // x.itemsize
    items = x.size // pack if size % pack == 0 else x.size
    shape = np.int64(samples), np.int32(channels), np.int32(size)
    launching.launch("norm", kernel, items, *arguments, *shape, real=x.dtype)


@operation
def batch_norm(x, gamma, beta, eps):
    """(y, mean, var), the variance biased; gamma and beta (C,) or None."""
    axes = _all_but_channels(x)
    wide = x.astype(np.float64)
    mean, var = wide.mean(axes), wide.var(axes)
    y = (wide - _spread(mean, x)) * _spread((var + eps) ** -0.5, x)
    y = y if gamma is None else y * _spread(gamma, x)
    y = y if beta is None else y + _spread(beta, x)
    return y.astype(x.dtype), mean.astype(x.dtype), var.astype(x.dtype)


@batch_norm.loops
def _(x, gamma, beta, eps):
    samples, channels, size, grain = _planes(x)
    mean, var = memory.empty((channels,), x.dtype, x), memory.empty((channels,), x.dtype, x)
    means, squares = (
        memory.empty((samples * channels,), np.float64, x),
        memory.empty((samples * channels,), np.float64, x),
    )
    gamma, beta, y, scale = (
        _given(gamma, mean, 1.0),
        _given(beta, mean, 0.0),
        memory.empty_like(x),
        memory.empty_like(mean),
    )
    _moments(samples * channels, grain, x.reshape(-1), means, squares, size)
    _merge_moments(
        channels, _channels_grain(samples), means, squares, samples, size, gamma, eps, mean, var, scale
    )
    _normalize(samples * channels, grain, x.reshape(-1), mean, scale, beta, y.reshape(-1), size)
    return y, mean, var


@batch_norm.cuda
def _(x, gamma, beta, eps):
    mean, var = memory.empty((x.shape[1],), x.dtype, x), memory.empty((x.shape[1],), x.dtype, x)
    y = memory.empty_like(x)
    _sum_on_cuda("moments", "merge_moments", 2, x, (x if x.size else None,), (mean, var))
    _write_on_cuda("normalize", x, x, mean, var, gamma, beta, x.dtype.type(eps), y)
    return y, mean, var


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
    samples, channels, size, grain = _planes(x)
    dgamma, dbeta, dx = memory.empty_like(mean), memory.empty_like(mean), memory.empty_like(x)
    sums = memory.empty((2, samples * channels), np.float64, x)
    factors = memory.empty((3, channels), x.dtype, x)
    g, x, weight = g.reshape(-1), x.reshape(-1), _given(gamma, mean, 1.0)
    _sums(samples * channels, grain, g, x, mean, sums, size)
    _dx_factors(
        channels, _channels_grain(samples), sums, var, weight, eps, samples * size, factors, dgamma, dbeta
    )
    _dx(samples * channels, grain, g, x, mean, factors, dx.reshape(-1), size)
    return (dx, None, None) if gamma is None else (dx, dgamma, dbeta)


@batch_norm_dx.cuda
def _(g, x, gamma, mean, var, eps):
    dgamma, dbeta, dx = memory.empty_like(mean), memory.empty_like(mean), memory.empty_like(x)
    factors = memory.empty((3, x.shape[1]), x.dtype, x)
    _sum_on_cuda(
        "sums", "dx_factors", 2, x, (g, x, mean, var, gamma, np.float64(eps)), (factors, dgamma, dbeta)
    )
    _write_on_cuda("dx", x, g, x, mean, factors, dx)
    return (dx, None, None) if gamma is None else (dx, dgamma, dbeta)


@operation
def batch_norm_dx_dx(v, v_gamma, v_beta, g, x, gamma, mean, var, eps):
    """(ddg, ddx, ddgamma) for the cotangents v of dx, v_gamma of dgamma, v_beta of
    dbeta, each of which may be None.
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
    ddgamma, ddg, ddx = memory.empty_like(mean), memory.empty_like(x), memory.empty_like(x)
    sums = memory.empty((5, samples * channels), np.float64, x)
    factors = memory.empty((7, channels), x.dtype, x)
    v = memory.zeros(x.shape, x.dtype, x) if v is None else v
    v, g, x = v.reshape(-1), g.reshape(-1), x.reshape(-1)
    v_gamma, v_beta, weight = _given(v_gamma, mean, 0.0), _given(v_beta, mean, 0.0), _given(gamma, mean, 1.0)
    _five_sums(samples * channels, grain, v, g, x, mean, sums, size)
    _dx_dx_factors(
        channels,
        _channels_grain(samples),
        sums,
        v_gamma,
        v_beta,
        var,
        weight,
        eps,
        samples * size,
        factors,
        ddgamma,
    )
    _dx_dx(samples * channels, grain, v, g, x, mean, factors, ddg.reshape(-1), ddx.reshape(-1), size)
    return ddg, ddx, None if gamma is None else ddgamma


@batch_norm_dx_dx.cuda
def _(v, v_gamma, v_beta, g, x, gamma, mean, var, eps):
    ddgamma, ddg, ddx = memory.empty_like(mean), memory.empty_like(x), memory.empty_like(x)
    factors = memory.empty((7, x.shape[1]), x.dtype, x)
    inputs = v, v_gamma, v_beta, g, x, mean, var, gamma, np.float64(eps)
    _sum_on_cuda("five_sums", "dx_dx_factors", 5, x, inputs, (factors, ddgamma))
    _write_on_cuda("dx_dx", x, v, g, x, mean, factors, ddg, ddx)
    return ddg, ddx, None if gamma is None else ddgamma


@operation
def running_update(running_mean, running_var, mean, var, momentum, n):
    """Effect: running = (1 - momentum) running + momentum batch, with the unbiased variance
    var n / (n - 1), as PyTorch.
    """
    running_mean += (mean - running_mean) * momentum
    running_var += (var * (n / max(n - 1, 1)) - running_var) * momentum


@running_update.loops
def _(running_mean, running_var, mean, var, momentum, n):
    factor = n / max(n - 1, 1)
    _running_update(mean.size, 1 << 14, running_mean, running_var, mean, var, float(momentum), factor)


@parallel
def _running_update(start, stop, running_mean, running_var, mean, var, momentum, factor):
    number = mean.dtype.type
    for c in range(start, stop):
        running_mean[c] += (mean[c] - running_mean[c]) * number(momentum)
        running_var[c] += (var[c] * number(factor) - running_var[c]) * number(momentum)


@running_update.cuda
def _(running_mean, running_var, mean, var, momentum, n):
    number = running_mean.dtype.type
    settings = number(momentum), number(n / max(n - 1, 1)), np.int32(mean.size)
    launching.launch(
        "norm", "running_update", mean.size, running_mean, running_var, mean, var, *settings, real=mean.dtype
    )


def _all_but_channels(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _spread(c: Array, x: Array) -> Array:
    """(C,) -> (C, 1, ...), to broadcast against x."""
    return c.reshape(-1, *(1,) * (x.ndim - 2))


def _wide(g: Array, x: Array, mean: Array, var: Array, eps: float) -> tuple[Array, Array, Array]:
    """s (C, 1, ...), x̂ and g in float64."""
    s = _spread((var.astype(np.float64) + eps) ** -0.5, x)
    return s, (x - _spread(mean.astype(np.float64), x)) * s, g.astype(np.float64)


def _project(u: Array, normal: Array) -> Array:
    """P u = u - mean(u) - x̂ mean(u x̂), per channel."""
    axes = _all_but_channels(u)
    return u - u.mean(axes, keepdims=True) - normal * (u * normal).mean(axes, keepdims=True)


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
