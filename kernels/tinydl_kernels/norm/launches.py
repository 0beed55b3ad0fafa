"""The launches of norm.cu: batch normalization on the GPU and on the emulator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..cuda import launching
from ..machine import memory

Array = Any

COLUMNS = 8
"""Planes smaller than this are taken as columns, which neighbouring threads walk down together."""
BLOCKS = 512
"""Blocks that sums are spread over, as far as each has PART values for each of its threads."""
PART = 32
THREADS = 256


def batch_norm(x, gamma, beta, eps):
    """`norm.batch_norm`."""
    mean, var = memory.empty((x.shape[1],), np.float64, x), memory.empty((x.shape[1],), np.float64, x)
    y = memory.empty_like(x)
    _sum("moments", "merge_moments", 2, x, (x if x.size else None,), (mean, var))
    _write("normalize", x, x, mean, var, gamma, beta, x.dtype.type(eps), y)
    return y, mean, var


def batch_norm_dx(g, x, gamma, mean, var, eps):
    """`norm.batch_norm_dx`."""
    dgamma, dbeta = memory.empty((x.shape[1],), x.dtype, x), memory.empty((x.shape[1],), x.dtype, x)
    dx = memory.empty_like(x)
    factors = memory.empty((3, x.shape[1]), x.dtype, x)
    _sum("sums", "dx_factors", 2, x, (g, x, mean, var, gamma, np.float64(eps)), (factors, dgamma, dbeta))
    _write("dx", x, g, x, mean, factors, dx)
    return (dx, None, None) if gamma is None else (dx, dgamma, dbeta)


def batch_norm_dx_dx(v, v_gamma, v_beta, g, x, gamma, mean, var, eps):
    """`norm.batch_norm_dx_dx`."""
    ddgamma, ddg, ddx = memory.empty((x.shape[1],), x.dtype, x), memory.empty_like(x), memory.empty_like(x)
    factors = memory.empty((7, x.shape[1]), x.dtype, x)
    inputs = v, v_gamma, v_beta, g, x, mean, var, gamma, np.float64(eps)
    _sum("five_sums", "dx_dx_factors", 5, x, inputs, (factors, ddgamma))
    _write("dx_dx", x, v, g, x, mean, factors, ddg, ddx)
    return ddg, ddx, None if gamma is None else ddgamma


def running_update(running_mean, running_var, mean, var, momentum, n):
    """`norm.running_update`."""
    number = running_mean.dtype.type
    settings = number(momentum), number(n / max(n - 1, 1)), np.int32(mean.size)
    arrays = running_mean, running_var, mean, var
    launching.launch("norm", "running_update", mean.size, *arrays, *settings, real=running_mean.dtype)


def _sum(
    kernel: str, merge: str, count: int, x: Array, inputs: tuple[Any, ...], outputs: tuple[Array, ...]
) -> None:
    """Launch the kernel that takes `count` sums per channel of x; `merge` finishes where several blocks
    share a channel.
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


def _write(kernel: str, x: Array, *arguments: Any) -> None:
    """Launch the kernel that writes arrays of x's shape."""
    samples, channels, size = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    pack = 16 // x.itemsize
    items = x.size // pack if size % pack == 0 else x.size
    shape = np.int64(samples), np.int32(channels), np.int32(size)
    launching.launch("norm", kernel, items, *arguments, *shape, real=x.dtype)
