"""The launches of reduce.cu: reductions on the GPU and on the emulator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..cuda import launching
from ..machine import memory
from .passes import passes

Array = Any


def fold(kernel: str, x: Array, dims: tuple[int, ...], out: Array, zero: float) -> Array:
    """Fold the axes `dims` of x into `out` by the kernels {kernel}_{from}_{to}, with double between passes
    over floats.
    """
    x = a = launching.widened(x)
    real = x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)
    for outer, size, inner, part, final in passes(x, dims, out, zero, launching.team_part):
        parts = -(-size // part)
        y = out if final else memory.empty((outer, parts, inner), np.result_type(type(zero)), x)
        name = f"{kernel}_{_type(a, a is x)}_{_type(y, final and y.dtype == x.dtype)}"
        shape = np.int64(outer), np.int64(size), np.int64(inner), np.int64(parts)
        launching.launch_teams("reduce", name, outer * parts * inner, part, inner, a, y, *shape, real=real)
        a = y
    return out


def _type(array: Array, end: bool) -> str:
    return array.dtype.name if array.dtype.kind != "f" else "real" if end else "double"


def extreme(name: str, x: Array, dims: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """By the kernels {name}_{from}_{to}."""
    wide = launching.widened(x)
    out = memory.empty(shape, wide.dtype, x)
    fold(name, wide, dims, out, {"f": 0.0, "b": False}.get(wide.dtype.kind, 0))
    if wide is x:
        return out
    values = memory.empty(shape, x.dtype, x)
    values[...] = out
    return values


def winners(name: str, x: Array, dim: int) -> tuple[Array, Array]:
    wide = launching.widened(x)
    if wide is not x:
        wide_values, indices = winners(name, wide, dim)
        values = memory.empty(wide_values.shape, x.dtype, x)
        values[...] = wide_values
        return values, indices
    shape = x.shape[: dim % x.ndim] + x.shape[dim % x.ndim + 1 :]
    values, indices = memory.empty(shape, x.dtype, x), memory.empty(shape, np.int64, x)
    size, inner = x.shape[dim], math.prod(x.shape[dim % x.ndim + 1 :])
    kernel, real = (
        (f"{name}_real", x.dtype) if x.dtype.kind == "f" else (f"{name}_{x.dtype}", np.dtype(np.float32))
    )
    outer, candidates, places = values.size // inner if inner else 0, x, None
    while values.size:
        parts = -(-size // launching.team_part(outer, size, inner))
        some = (
            (values, indices)
            if parts == 1
            else [memory.empty((outer, parts, inner), d, x) for d in (x.dtype, np.int64)]
        )
        sizes = np.int64(outer), np.int64(size), np.int64(inner), np.int64(parts)
        arguments = (candidates, places, *some, *sizes)
        launching.launch_teams(
            "reduce", kernel, outer * parts * inner, -(-size // parts), inner, *arguments, real=real
        )
        if parts == 1:
            break
        (candidates, places), size = some, parts
    return values, indices
