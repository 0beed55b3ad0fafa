"""The launches of pool.cu: pooling on the GPU and on the emulator."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..cuda import launching
from ..machine import memory
from ..machine.window import Window, adaptive_struct

Array = Any


def _launch(kernel: str, items: int, x: Array, *args: Any) -> None:
    launching.launch("pool", kernel, items, x, *args, real=x.dtype)


def _lanes(taps: int) -> int:
    """Threads that share a window: each has eight taps or more."""
    return min(launching.WARP, 1 << max(0, taps.bit_length() - 4))


def _count(x: Array) -> np.int64:
    return np.int64(x.shape[0] * x.shape[1])


def _max_cuda(x: Array, out: tuple[int, ...], spans: bool, taps: int, window: np.void) -> tuple[Array, Array]:
    values = memory.empty((*x.shape[:2], *out), x.dtype, x)
    indices = memory.empty(values.shape, np.int64, x)
    lanes = _lanes(taps)
    threads = launching.whole_warps(values.size, lanes)
    _launch("max_forward", threads, x, values, indices, _count(x), np.bool_(spans), np.int32(lanes), window)
    return values, indices


def max_forward(x: Array, window: Window) -> tuple[Array, Array]:
    """`pool.max_forward`."""
    return _max_cuda(x, window.out, False, prod(window.kernel), window.struct)


def adaptive_max_forward(x: Array, out: tuple[int, ...]) -> tuple[Array, Array]:
    """`pool.adaptive_max_forward`."""
    plane = x.shape[2:]
    return _max_cuda(x, out, True, prod(plane) // max(1, prod(out)), adaptive_struct(plane, out))


def gather(x: Array, indices: Array) -> Array:
    """`pool.gather`."""
    y = memory.empty(indices.shape, x.dtype, x)
    _launch(
        "gather",
        y.size,
        x,
        indices,
        y,
        _count(x),
        np.int32(prod(x.shape[2:])),
        np.int32(prod(indices.shape[2:])),
    )
    return y


def scatter(g: Array, indices: Array, plane: tuple[int, ...], window: Window | None) -> Array:
    """`pool.scatter`."""
    dx = memory.empty((*g.shape[:2], *plane), g.dtype, g)
    struct = adaptive_struct(plane, g.shape[2:]) if window is None else window.struct
    _launch("scatter", dx.size, g, indices, dx, _count(g), np.bool_(window is None), struct)
    return dx


def avg_forward(x: Array, window: Window, include_pad: bool, divisor: float | None = None) -> Array:
    """`pool.avg_forward`."""
    y = memory.empty(x.shape[:2] + window.out, x.dtype, x)
    lanes, share = _lanes(prod(window.kernel)), x.dtype.type(divisor or 0)
    threads = launching.whole_warps(y.size, lanes)
    _launch(
        "avg_forward", threads, x, y, _count(x), np.bool_(include_pad), share, np.int32(lanes), window.struct
    )
    return y


def avg_backward(g: Array, window: Window, include_pad: bool, divisor: float | None = None) -> Array:
    """`pool.avg_backward`."""
    dx = memory.empty(g.shape[:2] + window.input, g.dtype, g)
    share = g.dtype.type(divisor or 0)
    _launch("avg_backward", dx.size, g, dx, _count(g), np.bool_(include_pad), share, window.struct)
    return dx
