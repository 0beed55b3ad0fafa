"""The loops of pooling on the processor: tap by tap, the windows whose tap lies in the input, row by row."""

from __future__ import annotations

import numpy as np

from ..cpu import simd
from ..cpu.compiler import kernel, parallel
from ..cpu.tiles import add_strided, fill, transpose
from . import argmax

SIDE, RUN = 128, 64
"""Planes that are summed up together, and how many positions of them lie side by side in scratch."""


@kernel
def span(t, axis, geometry):
    """The windows [first, last) whose tap t lies in the input along an axis, and the input position of window
    `first`'s.
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
def max_forward(start, stop, x, values, indices, geometry):
    taps = _taps(geometry)
    for plane in range(start, stop):
        _max_plane(x[plane], values[plane], indices[plane], geometry, taps)


@parallel
def adaptive_max(start, stop, x, values, indices, sizes, spans):
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
def gather(start, stop, x, indices, y):
    for plane in range(start, stop):
        image, where, to = x[plane], indices[plane], y[plane]
        for p in range(to.size):
            to[p] = image[np.uint64(where[p])]  # a place from the end would need a check


@parallel
def scatter(start, stop, g, indices, dx):
    for plane in range(start, stop):
        image, where, source = dx[plane], indices[plane], g[plane]
        fill(image, 0, g.dtype.type(0), image.size)
        for p in range(source.size):
            image[np.uint64(where[p])] += source[p]


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
                            add_strided(image, at, w_step, out, to, 1, ow1 - ow0)
                        else:
                            add_strided(out, to, 1, image, at, w_step, ow1 - ow0)


@parallel
def plane_means(start, stop, x, divisors, y):
    """`avg_forward` where a window is the whole plane: a lane is a plane, summed up in order."""
    (planes, size), zero = x.shape, np.float64(0)
    line, block, totals = x.reshape(planes * size), np.empty(SIDE * RUN, x.dtype), np.empty(SIDE)
    fill(block, 0, x.dtype.type(0), block.size)
    for first in range(start, stop, SIDE):
        many = min(SIDE, stop - first)
        fill(totals, 0, zero, SIDE)
        for at in range(0, size, RUN):
            count = min(RUN, size - at)
            transpose(block, 0, SIDE, line, first * size + at, size, many, count)
            for p in range(count):
                row = block[p * SIDE : (p + 1) * SIDE]
                for i in range(SIDE):
                    totals[i] += row[i]
        for i in range(many):
            y[first + i, 0] = totals[i] / divisors[0]


@parallel
def plane_shares(start, stop, g, divisors, dx):
    """`avg_backward` where a window is the whole plane."""
    zero = g.dtype.type(0)
    for plane in range(start, stop):
        share = g.dtype.type(g[plane, 0] / divisors[0])
        fill(dx[plane], 0, zero + share, dx.shape[1])


@parallel
def avg_forward(start, stop, x, divisors, y, totals, grain, geometry):
    total = totals[start // grain]
    for plane in range(start, stop):
        fill(total, 0, 0.0, total.size)
        _add_taps(x[plane], total, False, geometry)
        for p in range(total.size):
            y[plane, p] = total[p] / divisors[p]


@parallel
def avg_backward(start, stop, g, divisors, dx, shares, grain, geometry):
    share = shares[start // grain]
    for plane in range(start, stop):
        fill(dx[plane], 0, g.dtype.type(0), dx.shape[1])
        for p in range(share.size):
            share[p] = g[plane, p] / divisors[p]
        _add_taps(dx[plane], share, True, geometry)
