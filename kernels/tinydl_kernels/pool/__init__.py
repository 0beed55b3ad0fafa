"""Max and average pooling over windows of the spatial axes.

    max_forward(x, window)               y[p] = max over the window's taps, and where: i[p], flat in x's plane
    adaptive_max_forward(x, out)          the same over `out` spans an axis, which may differ in length by one
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

from ..cpu import simd
from ..cpu.compiler import kernel, parallel
from ..cpu.tiles import fill
from ..cuda import launching
from ..machine import memory
from ..machine.dispatch import operation
from ..machine.validate import report
from ..machine.window import Window, adaptive_spans, adaptive_struct, padded, seen_by, taps, unpadded
from . import argmax

Array = Any

GRAIN = 1 << 15
"""Values read by a piece of a loop over planes."""


# ---- NumPy reference: for each tap of the window, a strided slice of the padded input


@operation
def max_forward(x: Array, window: Window) -> tuple[Array, Array]:
    """(values, indices): the first largest tap in row-major order; a NaN wins (the
    last, if several), as in PyTorch.
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
    """(values, indices) of the spans floor(i n / m) ... ceil((i + 1) n / m) of each axis;
    winners as in `max_forward`.
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

    Each index lies in its window, or for None in its span of the plane: it came from
    `max_forward` or `adaptive_max_forward`.
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
    """The mean over each window (N, C, *out): of its taps in the input, or with
    `include_pad` in the input and its pads.
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
    """(*out): by how much each window's sum is divided. A constant: callers must not write to it."""
    if divisor is not None:
        return np.full(window.out, float(divisor))
    return reduce(np.multiply.outer, window.counts(include_pad)).astype(np.float64)


# ---- Dispatch. The kernels see every array as planes (N · C, positions), so each task has planes of its own.


def _grain(size: int) -> int:
    """Planes in a piece, when each costs `size`."""
    return 1 + GRAIN // max(1, size)


def _planes(array: Array) -> Array:
    """(N, C, *sizes) -> (N · C, positions)"""
    return array.reshape(array.shape[0] * array.shape[1], prod(array.shape[2:]))


@max_forward.loops
def _(x: Array, window: Window) -> tuple[Array, Array]:
    values = memory.empty(x.shape[:2] + window.out, x.dtype, x)
    indices = memory.empty(values.shape, np.int64, x)
    grain = _grain(prod(window.out + window.kernel))
    _max_forward(
        x.shape[0] * x.shape[1], grain, _planes(x), _planes(values), _planes(indices), window.geometry
    )
    return values, indices


@adaptive_max_forward.loops
def _(x: Array, out: tuple[int, ...]) -> tuple[Array, Array]:
    values = memory.empty((*x.shape[:2], *out), x.dtype, x)
    indices = memory.empty(values.shape, np.int64, x)
    sizes, spans = _spans(x.shape[2:], out)
    grain = _grain(prod(sizes))
    _adaptive_max(x.shape[0] * x.shape[1], grain, _planes(x), _planes(values), _planes(indices), sizes, spans)
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
    _gather(planes.shape[0], _grain(planes.shape[1]), _planes(x), _planes(indices), planes)
    return y


@scatter.loops
def _(g: Array, indices: Array, plane: tuple[int, ...], window: Window | None) -> Array:
    dx = memory.empty((*g.shape[:2], *plane), g.dtype, g)
    planes = _planes(dx)
    _scatter(planes.shape[0], _grain(planes.shape[1]), _planes(g), _planes(indices), planes)
    return dx


@avg_forward.loops
def _(x: Array, window: Window, include_pad: bool, divisor: float | None = None) -> Array:
    y = memory.empty(x.shape[:2] + window.out, x.dtype, x)
    grain = _grain(prod(window.out + window.kernel))
    planes, divisors = _planes(y), _divisors(window, include_pad, divisor).reshape(-1)
    totals = memory.empty((-(-planes.shape[0] // grain), planes.shape[1]), np.float64, x)
    _avg_forward(planes.shape[0], grain, _planes(x), divisors, planes, totals, grain, window.geometry)
    return y


@avg_backward.loops
def _(g: Array, window: Window, include_pad: bool, divisor: float | None = None) -> Array:
    dx = memory.empty(g.shape[:2] + window.input, g.dtype, g)
    grain = _grain(prod(window.out + window.kernel))
    planes, divisors = _planes(g), _divisors(window, include_pad, divisor).reshape(-1)
    shares = memory.empty((-(-planes.shape[0] // grain), planes.shape[1]), g.dtype, g)
    _avg_backward(planes.shape[0], grain, planes, divisors, _planes(dx), shares, grain, window.geometry)
    return dx


# ---- Numba: for each tap of the window, the windows whose tap lies in the input, row by row


@kernel
def span(t, axis, geometry):
    """The windows [first, last) whose tap t lies in the input along an axis, and the input
    position of window `first`'s.
    """
    size, stride = geometry.input[axis], geometry.stride[axis]
    position = t * geometry.dilation[axis] - geometry.low[axis]
    first = max(0, -(position // stride))
    return first, min(geometry.out[axis], -((position - size) // stride)), position + first * stride


def _max_plane_plainly(x, values, indices, geometry):
    (D, H, W), (KD, KH, KW), (OD, OH, OW) = geometry.input, geometry.kernel, geometry.out
    (d_step, h_step, w_step), (d_low, h_low, w_low), (d_gap, h_gap, w_gap) = (
        geometry.stride,
        geometry.low,
        geometry.dilation,
    )
    for p in range(OD * OH * OW):
        d0, h0, w0 = p // (OH * OW) * d_step - d_low, p // OW % OH * h_step - h_low, p % OW * w_step - w_low
        largest, index = x.dtype.type(-np.inf), -1
        for td in range(KD):
            for th in range(KH):
                for tw in range(KW):
                    d, h, w = d0 + td * d_gap, h0 + th * h_gap, w0 + tw * w_gap
                    if 0 <= d < D and 0 <= h < H and 0 <= w < W:
                        at = (d * H + h) * W + w
                        if (x[at] > largest) | (x[at] != x[at]) | (index < 0):
                            largest, index = x[at], at
        values[p], indices[p] = largest, index


_max_plane_of_any_step = kernel(_max_plane_plainly)


def _max_plane_of_step(step):
    @kernel(no_cpython_wrapper=True)
    def plane(x, values, indices, geometry, offsets, taps):
        (D, H, W), (KD, KH, KW), (OD, OH, OW) = geometry.input, geometry.kernel, geometry.out
        (d_step, h_step, _), (d_low, h_low, w_low), (d_gap, h_gap, w_gap) = (
            geometry.stride,
            geometry.low,
            geometry.dilation,
        )
        for p in range(0, OW, simd.width(x)):
            to, count = p, min(OW - p, simd.width(x))
            for d0 in range(-d_low, OD * d_step - d_low, d_step):
                for h0 in range(-h_low, OH * h_step - h_low, h_step):
                    best, corner = argmax.none(x), (d0 * H + h0) * W + p * step
                    for t in range(taps):  # the masks are the same for all
                        best = argmax.larger(best, x, corner + offsets[t], step, 0, count)
                    for td in range(0 if taps else KD):
                        d = d0 + td * d_gap
                        for th in range(KH if 0 <= d < D else 0):
                            h = h0 + th * h_gap
                            for tw in range(KW if 0 <= h < H else 0):
                                w = p * step + tw * w_gap - w_low
                                first, last = max(0, -(w // step)), min(count, -((w - W) // step))
                                best = argmax.larger(best, x, (d * H + h) * W + w, step, first, last)
                    argmax.store(best, values, indices, to, step, count)
                    to += OW

    return plane


_max_plane_of_step_1, _max_plane_of_step_2 = map(_max_plane_of_step, (1, 2))


def _max_plane_without_taps(x, values, indices, geometry, _):
    _max_plane_plainly(x, values, indices, geometry)


@simd.vectorized(_max_plane_without_taps)
def _max_plane(x, values, indices, geometry, taps):
    """The winners of one plane's windows. Lanes run along a row of them, which must be one or two apart."""
    planes = simd.pointer(x, 0), simd.pointer(values, 0), simd.pointer(indices, 0)
    if geometry.stride[2] == 1:
        _max_plane_of_step_1(*planes, geometry, simd.pointer(taps, 0), taps.size)
    elif geometry.stride[2] == 2:
        _max_plane_of_step_2(*planes, geometry, simd.pointer(taps, 0), taps.size)
    else:
        _max_plane_of_any_step(x, values, indices, geometry)


@kernel
def _taps(geometry):
    """Where the taps lie, from a window's first on; none if some lie in the padding."""
    (_, H, W), (KD, KH, KW), (d_gap, h_gap, w_gap) = geometry.input, geometry.kernel, geometry.dilation
    taps = np.empty(KD * KH * KW, np.int64)
    for axis in range(3):
        last = (geometry.out[axis] - 1) * geometry.stride[axis] + (
            geometry.kernel[axis] - 1
        ) * geometry.dilation[axis]
        if geometry.low[axis] > 0 or last >= geometry.input[axis]:
            return taps[:0]
    for t in range(taps.size):
        taps[t] = (t // (KH * KW) * d_gap * H + t // KW % KH * h_gap) * W + t % KW * w_gap
    return taps


@parallel
def _max_forward(start, stop, x, values, indices, geometry):
    taps = _taps(geometry)
    for plane in range(start, stop):
        _max_plane(x[plane], values[plane], indices[plane], geometry, taps)


@parallel
def _adaptive_max(start, stop, x, values, indices, sizes, spans):
    (d_starts, d_stops), (h_starts, h_stops), (w_starts, w_stops) = spans
    for plane in range(start, stop):
        image, to = x[plane], 0
        for i in range(d_starts.size):
            for j in range(h_starts.size):
                for k in range(w_starts.size):
                    index = (d_starts[i] * sizes[1] + h_starts[j]) * sizes[2] + w_starts[k]
                    largest = image[index]
                    for d in range(d_starts[i], d_stops[i]):
                        for h in range(h_starts[j], h_stops[j]):
                            row = (d * sizes[1] + h) * sizes[2]
                            for at in range(row + w_starts[k], row + w_stops[k]):
                                value = image[at]
                                if (value > largest) | (value != value):
                                    largest, index = value, at
                    values[plane, to], indices[plane, to] = largest, index
                    to += 1


@parallel
def _gather(start, stop, x, indices, y):
    for plane in range(start, stop):
        image, where, to = x[plane], indices[plane], y[plane]
        for p in range(to.size):
            to[p] = image[np.uint64(where[p])]  # a place from the end would need a check


@parallel
def _scatter(start, stop, g, indices, dx):
    for plane in range(start, stop):
        image, where, source = dx[plane], indices[plane], g[plane]
        fill(image, 0, g.dtype.type(0), image.size)
        for p in range(source.size):
            image[np.uint64(where[p])] += source[p]


@kernel
def add(y, to, to_step, x, at, step, n):
    """y[to + i to_step] += x[at + i step]     for i < n"""
    to, at, to_step, step = np.uint64(to), np.uint64(at), np.uint64(to_step), np.uint64(step)
    for i in range(np.uint64(max(n, 0))):
        y[to + i * to_step] += x[at + i * step]


@kernel
def _add_taps(image, out, back, geometry):
    """Add to each window of `out` its taps in `image`, or with `back` each window's value to its taps."""
    (_, H, W), (_, OH, OW) = geometry.input, geometry.out
    (KD, KH, KW), (d_step, h_step, w_step) = geometry.kernel, geometry.stride
    for td in range(KD):
        od0, od1, d0 = span(td, 0, geometry)
        for th in range(KH):
            oh0, oh1, h0 = span(th, 1, geometry)
            for tw in range(KW):
                ow0, ow1, w0 = span(tw, 2, geometry)
                for od in range(od0, od1):
                    for oh in range(oh0, oh1):
                        to = (od * OH + oh) * OW + ow0
                        at = ((d0 + (od - od0) * d_step) * H + h0 + (oh - oh0) * h_step) * W + w0
                        if back:
                            add(image, at, w_step, out, to, 1, max(0, ow1 - ow0))
                        else:
                            add(out, to, 1, image, at, w_step, max(0, ow1 - ow0))


@parallel
def _avg_forward(start, stop, x, divisors, y, totals, grain, geometry):
    total = totals[start // grain]
    for plane in range(start, stop):
        fill(total, 0, 0.0, total.size)
        _add_taps(x[plane], total, False, geometry)
        for p in range(total.size):
            y[plane, p] = total[p] / divisors[p]


@parallel
def _avg_backward(start, stop, g, divisors, dx, shares, grain, geometry):
    share = shares[start // grain]
    for plane in range(start, stop):
        fill(dx[plane], 0, g.dtype.type(0), dx.shape[1])
        for p in range(share.size):
            share[p] = g[plane, p] / divisors[p]
        _add_taps(dx[plane], share, True, geometry)


# ---- CUDA


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


@max_forward.cuda
def _(x: Array, window: Window) -> tuple[Array, Array]:
    return _max_cuda(x, window.out, False, prod(window.kernel), window.struct)


@adaptive_max_forward.cuda
def _(x: Array, out: tuple[int, ...]) -> tuple[Array, Array]:
    plane = x.shape[2:]
    return _max_cuda(x, out, True, prod(plane) // max(1, prod(out)), adaptive_struct(plane, out))


@gather.cuda
def _(x: Array, indices: Array) -> Array:
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


@scatter.cuda
def _(g: Array, indices: Array, plane: tuple[int, ...], window: Window | None) -> Array:
    dx = memory.empty((*g.shape[:2], *plane), g.dtype, g)
    struct = adaptive_struct(plane, g.shape[2:]) if window is None else window.struct
    _launch("scatter", dx.size, g, indices, dx, _count(g), np.bool_(window is None), struct)
    return dx


@avg_forward.cuda
def _(x: Array, window: Window, include_pad: bool, divisor: float | None = None) -> Array:
    y = memory.empty(x.shape[:2] + window.out, x.dtype, x)
    lanes, share = _lanes(prod(window.kernel)), x.dtype.type(divisor or 0)
    threads = launching.whole_warps(y.size, lanes)
    _launch(
        "avg_forward", threads, x, y, _count(x), np.bool_(include_pad), share, np.int32(lanes), window.struct
    )
    return y


@avg_backward.cuda
def _(g: Array, window: Window, include_pad: bool, divisor: float | None = None) -> Array:
    dx = memory.empty(g.shape[:2] + window.input, g.dtype, g)
    share = g.dtype.type(divisor or 0)
    _launch("avg_backward", dx.size, g, dx, _count(g), np.bool_(include_pad), share, window.struct)
    return dx


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
