"""Running sums and products along one axis, and the linear recurrence that differentiates them.

    cumsum       y[k] = x[0] + ... + x[k]                    reverse: y[k] = x[k] + ... + x[size - 1]
    cumprod      y[k] = x[0] · ... · x[k]
    recurrence   y[k] = a[k] · y[k - 1] + b[k], y[-1] = 0    reverse: y[k] = a[k] · y[k + 1] + b[k]

x is seen as (outer, size, inner). A walk along the axis takes a tile of columns together, in float64 (int64
for integers); tiles are independent. Cost: one read of the operands, one write of the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .cpu.compiler import kernel, parallel
from .cuda import launching
from .machine import memory
from .machine.dispatch import operation
from .machine.validate import report

Array = Any
GRAIN = 1 << 14
TILE = 1 << 7
"""Columns that are walked down together: their state stays in the first cache."""


def _dtype(x: Array) -> tuple[Any, Any]:
    """The dtype of the result, and the one to accumulate in."""
    return (x.dtype, np.float64) if x.dtype.kind == "f" else (np.int64, np.int64)


@operation
def cumsum(x, dim, reverse):
    """Sums of x up to (from, if reverse) each place along `dim`."""
    dtype, wide = _dtype(x)
    y = x[_turned(dim, reverse)].cumsum(dim, dtype=wide)[_turned(dim, reverse)]
    return y.astype(dtype)


@cumsum.loops
def _(x, dim, reverse):
    dtype, wide = _dtype(x)
    return _walk(_cumsum_loop, (x,), dtype, dim, reverse, wide(0).item())


@cumsum.cuda
def _(x, dim, reverse):
    return _scan_on_cuda("cumsum", (launching.widened(x, "f"),), dim, reverse)


@operation
def cumprod(x, dim):
    """Products of x up to each place along `dim`."""
    dtype, wide = _dtype(x)
    with np.errstate(all="ignore"):
        return x.cumprod(dim, dtype=wide).astype(dtype)


@cumprod.loops
def _(x, dim):
    dtype, wide = _dtype(x)
    return _walk(_cumprod_loop, (x,), dtype, dim, False, wide(1).item())


@cumprod.cuda
def _(x, dim):
    return _scan_on_cuda("cumprod", (launching.widened(x, "f"),), dim, False)


@operation
def recurrence(a, b, dim, reverse):
    """y[k] = a[k] y[k - 1] + b[k] along `dim`, from the end if reverse. a at the first place is not used."""
    dtype = b.dtype
    a, b = (x[_turned(dim, reverse)].astype(np.float64) for x in (a, b))
    y = np.empty_like(b)
    here: Any = (slice(None),) * dim
    with np.errstate(all="ignore"):
        for k in range(b.shape[dim]):
            y[(*here, k)] = b[(*here, k)] if k == 0 else a[(*here, k)] * y[(*here, k - 1)] + b[(*here, k)]
    return y[_turned(dim, reverse)].astype(dtype)


@recurrence.loops
def _(a, b, dim, reverse):
    return _walk(_recurrence_loop, (a, b), b.dtype, dim, reverse)


@recurrence.cuda
def _(a, b, dim, reverse):
    return _scan_on_cuda("recurrence", (a, b), dim, reverse)


def _turned(dim: int, reverse: bool) -> Any:
    return (slice(None),) * dim + (slice(None, None, -1 if reverse else None),)


# ---- Numba


def _walk(loop: Any, arrays: tuple[Array, ...], dtype: Any, dim: int, *settings: Any) -> Array:
    x = arrays[0]
    out = memory.empty(x.shape, dtype, x)
    if out.size:
        size, inner = x.shape[dim], math.prod(x.shape[dim + 1 :])
        items, work = math.prod(x.shape[:dim]) * -(-inner // TILE), size * min(inner, TILE)
        loop(
            items,
            1 + GRAIN // work,
            *[a.reshape(-1) for a in arrays],
            out.reshape(-1),
            size,
            inner,
            *settings,
        )
    return out


def _running_loop(name: str, combine: Callable[..., Any]) -> Any:
    """The loop of cumsum or cumprod: x (outer, size, inner) -> y of that shape, by tiles of columns."""

    def loop(start, stop, x, y, size, inner, reverse, first):
        tiles = (inner + TILE - 1) // TILE
        state = np.full(TILE, first)
        for item in range(start, stop):
            outer, column = item // tiles, item % tiles * TILE
            width = min(TILE, inner - column)
            state[:width] = first
            for k in range(size):
                base = (outer * size + (size - 1 - k if reverse else k)) * inner + column
                for c in range(width):
                    state[c] = combine(state[c], x[base + c])
                    y[base + c] = state[c]

    loop.__name__ = loop.__qualname__ = f"{name}_loop"
    return parallel(loop)


@kernel
def _plus(total, x):
    return total + x


@kernel
def _times(total, x):
    return total * x


_cumsum_loop, _cumprod_loop = _running_loop("cumsum", _plus), _running_loop("cumprod", _times)


@parallel
def _recurrence_loop(start, stop, a, b, y, size, inner, reverse):
    tiles = (inner + TILE - 1) // TILE
    state = np.empty(TILE)
    for item in range(start, stop):
        outer, column = item // tiles, item % tiles * TILE
        width = min(TILE, inner - column)
        for k in range(size):
            base = (outer * size + (size - 1 - k if reverse else k)) * inner + column
            for c in range(width):
                state[c] = b[base + c] if k == 0 else a[base + c] * state[c] + b[base + c]
                y[base + c] = state[c]


# ---- CUDA


def _scan_on_cuda(kernel: str, arrays: tuple[Array, ...], dim: int, reverse: bool) -> Array:
    """Launch a kernel on the lines of the arrays along `dim`; int64 by a kernel of its own."""
    x, real = arrays[0], arrays[0].dtype
    if real.kind != "f":
        kernel, real = f"{kernel}_int64", np.dtype(np.float32)
    out = memory.empty(x.shape, x.dtype, x)
    if out.size:
        size, inner = x.shape[dim], math.prod(x.shape[dim % x.ndim + 1 :])
        settings = np.int64(x.size // size), np.int64(size), np.int64(inner), np.bool_(reverse)
        launching.launch_teams(
            "scan", kernel, x.size // size, size, inner, *arrays, out, *settings, real=real
        )
    return out


def main() -> None:
    """Validate against the reference, then time along the last axis and along the first."""
    random = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        x, a = random.uniform(0.9, 1.1, (2, 1000, 1000)).astype(dtype)
        for dim in (0, 1):
            report(cumsum, x, dim, False)
            report(cumsum, x, dim, True)
            report(cumprod, x, dim)
            report(recurrence, a, x, dim, True)


if __name__ == "__main__":
    main()
