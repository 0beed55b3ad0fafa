"""Max and average pooling over windows of the spatial axes.

    max_forward(x, window)               y[p] = max over the window's taps, and where: i[p], flat in x's plane
    adaptive_max_forward(x, out)          the same over `out` spans per axis, whose lengths may differ by one
    gather(x, i), scatter(g, i, plane, window)
            y[p] = x[i[p]]; transposed: dx[j] = Σ g[p] over p with i[p] = j
    avg_forward(x, window, include_pad, divisor)    y[p] = (1 / d[p]) Σ x over the window's taps
    avg_backward(g, window, include_pad, divisor)   its transpose;
            d[p] = divisor, or if None the taps counted

With the indices fixed, max pooling is the linear map `gather`; so each pair is differentiated by its partner.
Shapes, for any number of spatial axes: x (N, C, *input), y and g (N, C, *out) in float32 or float64, i int64,
plane = the input sizes. Each is bound by memory: it moves its inputs and outputs once.
"""

from __future__ import annotations

from functools import lru_cache, reduce
from math import prod
from typing import Any

import numpy as np

from ..machine import memory
from ..machine.dispatch import operation
from ..machine.errors import ShapeError
from ..machine.validate import report
from ..machine.window import Window, adaptive_spans, padded, seen_by, taps, unpadded
from . import argmax, launches, loops

Array = Any

GRAIN = 1 << 15
"""Values read by a piece of a loop over planes."""


# ---- NumPy reference: for each tap of the window, a strided slice of the padded input


@operation
def max_forward(x: Array, window: Window) -> tuple[Array, Array]:
    """(values, indices): the first largest tap in row-major order; a NaN wins (the last, if several), as in
    PyTorch.
    """
    planes = padded(x, window, 0)
    positions = padded(np.arange(prod(window.input)).reshape(window.input), window, -1)
    values = np.full(x.shape[:2] + window.out, -np.inf, x.dtype)
    indices = np.full(values.shape, -1)
    for tap in taps(window.kernel):
        value, position = planes[seen_by(tap, window)], positions[seen_by(tap, window)]
        wins = (position >= 0) & ((value > values) | np.isnan(value) | (indices < 0))
        np.copyto(values, value, where=wins)
        np.copyto(indices, position, where=wins)
    return values, indices


@operation
def adaptive_max_forward(x: Array, out: tuple[int, ...]) -> tuple[Array, Array]:
    """(values, indices) of the spans floor(i n / m) ... ceil((i + 1) n / m) of each axis; winners as in
    `max_forward`.
    """
    (N, C), plane = x.shape[:2], x.shape[2:]
    positions = np.arange(prod(plane)).reshape(plane)
    values, indices = np.empty((N, C, *out), x.dtype), np.empty((N, C, *out), np.int64)
    spans = [adaptive_spans(size, count) for size, count in zip(plane, out, strict=True)]
    for p in np.ndindex(out):
        box: Any = (..., *(slice(starts[i], stops[i]) for i, (starts, stops) in zip(p, spans, strict=True)))
        places = positions[box].reshape(-1)
        inside = x[box].reshape(N, C, places.size)
        missing = np.isnan(inside)
        last = places.size - 1 - missing[..., ::-1].argmax(-1)
        winner = np.where(missing.any(-1), last, inside.argmax(-1))
        indices[(..., *p)] = places[winner]
        values[(..., *p)] = np.take_along_axis(inside, winner[..., None], -1)[..., 0]
    return values, indices


@operation
def gather(x: Array, indices: Array) -> Array:
    """y (N, C, *out): the values of x (N, C, *plane) at `indices` of each plane."""
    N, C = indices.shape[:2]
    rows = x.reshape(N, C, prod(x.shape[2:]))
    return np.take_along_axis(rows, indices.reshape(N, C, prod(indices.shape[2:])), axis=2).reshape(
        indices.shape
    )


@operation
def scatter(g: Array, indices: Array, plane: tuple[int, ...], window: Window | None) -> Array:
    """dx (N, C, *plane): each g (N, C, *out) is added where its index points, in row-major order of g.

    Each index lies in its window, or for None in its span of the plane: it came from `max_forward` or
    `adaptive_max_forward`.
    """
    N, C = indices.shape[:2]
    dx = np.zeros((N * C, prod(plane)), g.dtype)
    np.add.at(
        dx,
        (np.arange(N * C)[:, None], indices.reshape(N * C, prod(g.shape[2:]))),
        g.reshape(N * C, prod(g.shape[2:])),
    )
    return dx.reshape(N, C, *plane)


@operation
def avg_forward(x: Array, window: Window, include_pad: bool, divisor: float | None = None) -> Array:
    """The mean over each window (N, C, *out): of its taps in the input, or with `include_pad` in the input
    and its pads.
    """
    planes = padded(x, window, 0)
    total = np.zeros(x.shape[:2] + window.out)
    for tap in taps(window.kernel):
        total += planes[seen_by(tap, window)]
    return (total / _divisors(window, include_pad, divisor)).astype(x.dtype)


@operation
def avg_backward(g: Array, window: Window, include_pad: bool, divisor: float | None = None) -> Array:
    """dx (N, C, *input): the transpose of `avg_forward`."""
    planes = np.zeros(g.shape[:2] + window.extent, g.dtype)
    share = (g / _divisors(window, include_pad, divisor)).astype(g.dtype)
    for tap in taps(window.kernel):
        planes[seen_by(tap, window)] += share
    return unpadded(planes, window)


@lru_cache(maxsize=256)
def _divisors(window: Window, include_pad: bool, divisor: float | None) -> np.ndarray:
    """(*out): by how much each window's sum is divided. Not to be written to: calls share it."""
    divisors = (
        reduce(np.multiply.outer, window.counts(include_pad)).astype(np.float64)
        if divisor is None
        else np.full(window.out, float(divisor))
    )
    divisors.flags.writeable = False
    return divisors


# ---- Numba. The loops see every array as planes (N · C, positions), so each task has planes of its own.


def _grain(size: int) -> int:
    """Planes in a piece, when each costs `size`."""
    return 1 + GRAIN // max(1, size)


def _planes(array: Array) -> Array:
    """(N, C, *sizes) -> (N · C, positions)"""
    return array.reshape(array.shape[0] * array.shape[1], prod(array.shape[2:]))


def _is_plane(window: Window) -> bool:
    """Is a plane one window, without pads?"""
    return window.kernel == window.span == window.input and not any(window.low + window.high)


@max_forward.loops
def _(x: Array, window: Window) -> tuple[Array, Array]:
    if prod(window.input) > argmax.LARGEST:
        raise ShapeError(f"pool: expected at most {argmax.LARGEST} elements per channel, got {window.input}")
    values = memory.empty(x.shape[:2] + window.out, x.dtype, x)
    indices = memory.empty(values.shape, np.int64, x)
    grain = _grain(prod(window.out + window.kernel))
    loops.max_forward(
        x.shape[0] * x.shape[1], grain, _planes(x), _planes(values), _planes(indices), window.geometry
    )
    return values, indices


@adaptive_max_forward.loops
def _(x: Array, out: tuple[int, ...]) -> tuple[Array, Array]:
    values = memory.empty((*x.shape[:2], *out), x.dtype, x)
    indices = memory.empty(values.shape, np.int64, x)
    sizes, spans = _spans(x.shape[2:], out)
    grain = _grain(prod(sizes))
    loops.adaptive_max(
        x.shape[0] * x.shape[1], grain, _planes(x), _planes(values), _planes(indices), sizes, spans
    )
    return values, indices


@lru_cache(maxsize=256)
def _spans(plane: tuple[int, ...], out: tuple[int, ...]) -> Any:
    """A plane's sizes on three axes, and for each the starts and the stops of its spans."""
    ones = (1,) * (3 - len(plane))
    return ones + plane, tuple(
        adaptive_spans(size, count) for size, count in zip(ones + plane, ones + out, strict=True)
    )


@gather.loops
def _(x: Array, indices: Array) -> Array:
    y = memory.empty(indices.shape, x.dtype, x)
    planes = _planes(y)
    loops.gather(planes.shape[0], _grain(planes.shape[1]), _planes(x), _planes(indices), planes)
    return y


@scatter.loops
def _(g: Array, indices: Array, plane: tuple[int, ...], window: Window | None) -> Array:
    dx = memory.empty((*g.shape[:2], *plane), g.dtype, g)
    planes = _planes(dx)
    loops.scatter(planes.shape[0], _grain(planes.shape[1]), _planes(g), _planes(indices), planes)
    return dx


@avg_forward.loops
def _(x: Array, window: Window, include_pad: bool, divisor: float | None = None) -> Array:
    y = memory.empty(x.shape[:2] + window.out, x.dtype, x)
    grain = _grain(prod(window.out + window.kernel))
    planes, divisors = _planes(y), _divisors(window, include_pad, divisor).reshape(-1)
    if _is_plane(window):
        loops.plane_means(planes.shape[0], grain, _planes(x), divisors, planes)
        return y
    totals = memory.empty((-(-planes.shape[0] // grain), planes.shape[1]), np.float64, x)
    loops.avg_forward(planes.shape[0], grain, _planes(x), divisors, planes, totals, grain, window.geometry)
    return y


@avg_backward.loops
def _(g: Array, window: Window, include_pad: bool, divisor: float | None = None) -> Array:
    dx = memory.empty(g.shape[:2] + window.input, g.dtype, g)
    grain = _grain(prod(window.out + window.kernel))
    planes, divisors = _planes(g), _divisors(window, include_pad, divisor).reshape(-1)
    if _is_plane(window):
        loops.plane_shares(planes.shape[0], grain, planes, divisors, _planes(dx))
        return dx
    shares = memory.empty((-(-planes.shape[0] // grain), planes.shape[1]), g.dtype, g)
    loops.avg_backward(planes.shape[0], grain, planes, divisors, _planes(dx), shares, grain, window.geometry)
    return dx


# ---- CUDA

max_forward.cuda(launches.max_forward)
adaptive_max_forward.cuda(launches.adaptive_max_forward)
gather.cuda(launches.gather)
scatter.cuda(launches.scatter)
avg_forward.cuda(launches.avg_forward)
avg_backward.cuda(launches.avg_backward)


def main() -> None:
    """Validate against the reference, then time LeNet's pooling, an overlapping one and a global one."""
    random = np.random.default_rng(0)
    for shape, kernel_size, stride, pad in (
        ((50, 6, 28, 28), 2, 2, 0),
        ((50, 20, 24, 24), 2, 2, 0),
        ((50, 16, 32, 32), 3, 2, 1),
        ((50, 64, 8, 8), 8, 8, 0),
    ):
        window = Window.pool("pool", shape, kernel_size, stride, pad)
        x = random.standard_normal(shape).astype(np.float32)
        g = random.standard_normal(shape[:2] + window.out).astype(np.float32)
        _, indices = max_forward(x, window)
        print(f"x {shape}, kernel {kernel_size}, stride {stride}, padding {pad}")
        report(max_forward, x, window)
        report(adaptive_max_forward, x, window.out)
        report(gather, x, indices)
        report(scatter, g, indices, window.input, window)
        report(avg_forward, x, window, True)
        report(avg_backward, g, window, True)
