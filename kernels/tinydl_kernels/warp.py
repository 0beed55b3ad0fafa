"""Images resampled along a map of the plane, each sample along a map of its own; and smoothed planes.

    warp(x, matrices, field)    y[n, c, i, j] = x[n, c] at M_n (j + f_0, i + f_1, 1), f = field[n, :, i, j]
    smooth(x, weights)          y[n, c] = the correlation of x[n, c] with weights[n] along H, then along W

A map goes from the output's pixels to the input's, in units of pixels with whole numbers at their centres,
(column, row): every output pixel is gathered once, however many maps were composed. x is (N, C, H, W).
Between pixels the value is bilinear, or that of the nearest pixel, which makes no new labels. Outside is
`fill`, or the edge's pixel again ("edge"), or the image mirrored about its edge pixels ("reflect"); as in
numpy.pad. Places are computed in float64, with the same roundings in the reference and in Numba.

Cost: warp reads four pixels and makes about 20 flops for each element; smooth 4 · taps flops. On the CPU
only: what augments images runs there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .cpu.compiler import kernel, parallel
from .machine import memory, validate
from .machine.dispatch import operation

Array = Any

CONSTANT, EDGE, REFLECT = 0, 1, 2
"""What is outside of an image."""
GRAIN = 1 << 12
"""Elements of y that a piece of a loop makes."""
BLOCK = 1 << 11
"""Elements of a sum that stay in the first cache while all taps are added to it."""
FAR = 1e9
"""A place beyond it, or none at all, counts as this far out: an index of 64 bits can be."""


# ---- warp


@operation
def warp(
    x: Array,
    matrices: Array,
    field: Array | None,
    size: tuple[int, int],
    bilinear: bool,
    border: int,
    fill: Any,
) -> Array:
    """x (N, C, H, W) along `matrices`, float64 (N, 3, 3), and `field`, float32 (N, 2, *size) or None.

    x has any dtype of numbers, or bool if not bilinear; bilinear uint8 is rounded to the nearest. The
    result has C channels of `size`. A row of the matrices whose map is the identity copies its sample.
    """
    (N, C), (OH, OW) = x.shape[:2], size
    column, row = np.arange(OW, dtype=np.float64)[None], np.arange(OH, dtype=np.float64)[:, None]
    y = np.empty((N, C, OH, OW), x.dtype)
    for n in range(N if y.size else 0):
        u, v = (column, row) if field is None else (column + field[n, 0], row + field[n, 1])
        m = matrices[n]
        places = [m[k, 0] * u + m[k, 1] * v + m[k, 2] for k in range(3)]
        if np.any(m[2] != (0, 0, 1)):
            apart = places[2] != 0
            places = [np.divide(k, places[2], out=np.full(size, FAR), where=apart) for k in places[:2]]
        s, t = (np.clip(place, -FAR, FAR) for place in places[:2])
        if not bilinear:
            y[n] = _taken(x[n], np.floor(t + 0.5), np.floor(s + 0.5), border, fill)
            continue
        j, i = np.floor(s), np.floor(t)
        s, t = s - j, t - i
        corners = [
            _taken(x[n], i + a, j + b, border, fill).astype(np.float64) for a in (0, 1) for b in (0, 1)
        ]
        above = corners[0] + s * (corners[1] - corners[0])
        below = corners[2] + s * (corners[3] - corners[2])
        value = above + t * (below - above)
        y[n] = np.floor(value + 0.5) if x.dtype.kind == "u" else value
    return y


def _taken(x: Array, i: Array, j: Array, border: int, fill: Any) -> Array:
    """x[:, i, j] of an image (C, H, W), outside by the border."""
    (H, W), (i, j) = x.shape[1:], np.broadcast_arrays(i.astype(np.int64), j.astype(np.int64))
    inside = (i >= 0) & (i < H) & (j >= 0) & (j < W)
    if border == REFLECT:
        i, j = ((z - 1) - abs(k % max(2 * (z - 1), 1) - (z - 1)) for k, z in ((i, H), (j, W)))
    values = x[:, np.clip(i, 0, H - 1), np.clip(j, 0, W - 1)]
    return np.where(inside, values, np.asarray(fill, x.dtype)) if border == CONSTANT else values


@warp.cpu
def _(
    x: Array,
    matrices: Array,
    field: Array | None,
    size: tuple[int, int],
    bilinear: bool,
    border: int,
    fill: Any,
) -> Array:
    N, C = x.shape[:2]
    y = memory.empty((N, C, *size), x.dtype, x)
    bent = field is not None
    arrays = x, matrices, field if bent else np.empty((1, 2, 0, 0), np.float32), y
    if x.dtype == bool:
        arrays = x.view(np.uint8), *arrays[1:3], y.view(np.uint8)
    lines, grain = N * size[0], 1 + GRAIN // max(1, C * size[1])
    pieces = -(-lines // grain)
    places = memory.scratch((max(pieces, 1), 2, size[1]), np.float64, x)
    fill = arrays[0].dtype.type(fill)
    if bilinear:
        half = 0.5 if x.dtype.kind == "u" else 0.0  # what makes the cut to a whole number the nearest
        _bilinear(lines, grain, *arrays, bent, border, float(fill), half, places, grain)
    else:
        _nearest(lines, grain, *arrays, bent, border, fill, places, grain)
    return y


@kernel
def _locate(m, field, i, bent, places):
    """Where the pixels of row i lie in the input; far outside what is nowhere."""
    s, t = places[0], places[1]
    size = np.uint64(s.size)
    row = float(i)
    if bent:
        right, down = field[0, i], field[1, i]
        for j in range(size):
            u, v = float(np.int64(j)) + right[j], row + down[j]
            s[j] = m[0, 0] * u + m[0, 1] * v + m[0, 2]
            t[j] = m[1, 0] * u + m[1, 1] * v + m[1, 2]
    else:
        for j in range(size):
            u = float(np.int64(j))
            s[j] = m[0, 0] * u + m[0, 1] * row + m[0, 2]
            t[j] = m[1, 0] * u + m[1, 1] * row + m[1, 2]
    if m[2, 0] != 0 or m[2, 1] != 0 or m[2, 2] != 1:
        for j in range(size):
            u, v = float(np.int64(j)), row
            if bent:
                u, v = u + field[0, i, j], v + field[1, i, j]
            w = m[2, 0] * u + m[2, 1] * v + m[2, 2]
            s[j], t[j] = (s[j] / w, t[j] / w) if w != 0 else (FAR, FAR)
    for j in range(size):
        s[j] = min(max(s[j], -FAR), FAR)
        t[j] = min(max(t[j], -FAR), FAR)


@kernel(forceinline=True)
def _within(k, size, border):
    """The pixel of [0, size) that stands for pixel k; -1 for the fill."""
    if 0 <= k < size:
        return k
    if border == 0:
        return -1
    if border == 2 and size > 1:
        k %= 2 * (size - 1)
        return (size - 1) - abs(k - (size - 1))
    return min(max(k, 0), size - 1)


@kernel(forceinline=True)
def _picked(plane, i, j, fill):
    return plane[np.uint64(i), np.uint64(j)] if i >= 0 and j >= 0 else fill


@kernel(forceinline=True)
def _kept(m):
    """Is it the identity?"""
    same = m[0, 0] == 1 and m[0, 1] == 0 and m[0, 2] == 0 and m[1, 0] == 0 and m[1, 1] == 1 and m[1, 2] == 0
    return same and m[2, 0] == 0 and m[2, 1] == 0 and m[2, 2] == 1


@parallel
def _nearest(start, stop, x, matrices, field, y, bent, border, fill, places, grain):
    C, H, W = x.shape[1:]
    OH, OW = y.shape[2:]
    place = places[start // grain]
    for line in range(start, stop):
        n, i = line // OH, line % OH
        _locate(matrices[n], field[n if bent else 0], i, bent, place)
        for c in range(C):
            plane, out = x[n, c], y[n, c, i]
            for j in range(np.uint64(OW)):
                a, b = int(np.floor(place[1, j] + 0.5)), int(np.floor(place[0, j] + 0.5))
                out[j] = _picked(plane, _within(a, H, border), _within(b, W, border), fill)


@kernel(forceinline=True)
def _mixed(a, b, c, d, s, t):
    above, below = a + s * (b - a), c + s * (d - c)
    return above + t * (below - above)


@parallel
def _bilinear(start, stop, x, matrices, field, y, bent, border, fill, half, places, grain):
    C, H, W = x.shape[1:]
    OH, OW = y.shape[2:]
    place = places[start // grain]
    one = np.uint64(1)
    for line in range(start, stop):
        n, i = line // OH, line % OH
        m = matrices[n]
        if not bent and H == OH and W == OW and _kept(m):
            for c in range(C):
                out, given = y[n, c, i], x[n, c, i]
                for j in range(OW):
                    out[j] = given[j]
            continue
        _locate(m, field[n if bent else 0], i, bent, place)
        for c in range(C):
            plane, out = x[n, c], y[n, c, i]
            for j in range(np.uint64(OW)):
                s, t = place[0, j], place[1, j]
                left, top = np.floor(s), np.floor(t)
                s, t = s - left, t - top
                a, b = int(top), int(left)
                if 0 <= a < H - 1 and 0 <= b < W - 1:
                    k, l = np.uint64(a), np.uint64(b)
                    value = _mixed(
                        float(plane[k, l]), float(plane[k, l + one]),
                        float(plane[k + one, l]), float(plane[k + one, l + one]),
                        s, t,
                    )  # fmt: skip
                else:
                    k0, k1 = _within(a, H, border), _within(a + 1, H, border)
                    l0, l1 = _within(b, W, border), _within(b + 1, W, border)
                    value = _mixed(
                        float(_picked(plane, k0, l0, fill)), float(_picked(plane, k0, l1, fill)),
                        float(_picked(plane, k1, l0, fill)), float(_picked(plane, k1, l1, fill)),
                        s, t,
                    )  # fmt: skip
                out[j] = value + half


# ---- smooth


@operation
def smooth(x: Array, weights: Array, border: int) -> Array:
    """x float32 (N, C, H, W) correlated along H and along W with weights, float32 (N, taps), taps odd; the
    border is CONSTANT (of zeros), EDGE or REFLECT.
    """
    reach = weights.shape[1] // 2
    mode = {CONSTANT: "constant", EDGE: "edge", REFLECT: "reflect"}[border]
    y = x.astype(np.float64)
    for axis in (2, 3):
        padded = np.pad(y, [(reach, reach) if k == axis else (0, 0) for k in range(4)], mode)  # type: ignore[call-overload]
        windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[1], axis)
        y = np.einsum("nchwt,nt->nchw", windows, weights.astype(np.float64))
    return y.astype(np.float32)


@smooth.loops
def _(x: Array, weights: Array, border: int) -> Array:
    (N, C, H, W), taps = x.shape, weights.shape[1]
    y = memory.empty_like(x)
    reach = taps // 2
    grain = 1 + GRAIN // max(1, H * W)
    pieces = -(-N * C // grain)
    length = max((H + 2 * reach) * W, H * (W + 2 * reach))
    rooms = memory.scratch((pieces, 2, length), np.float32, x)
    planes = x.reshape(N * C, H, W), y.reshape(N * C, H, W)
    _smooth(N * C, grain, *planes, weights, border, rooms, C, grain)
    return y


@kernel
def _correlate(x, weights, step, y, count):
    """y[k] = Σ_t weights[t] x[k + t step] for k below count."""
    taps = weights.size
    for first in range(0, count, BLOCK):
        last = min(count, first + BLOCK)
        total = y[np.uint64(first) : np.uint64(last)]
        size = np.uint64(total.size)
        for k in range(size):
            total[k] = np.float32(0)
        for t in range(0, taps - 3, 4):
            w0, w1, w2, w3 = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
            p = first + t * step
            x0, x1 = x[p : p + total.size], x[p + step : p + step + total.size]
            x2, x3 = x[p + 2 * step : p + 2 * step + total.size], x[p + 3 * step : p + 3 * step + total.size]
            for k in range(size):
                total[k] += (w0 * x0[k] + w1 * x1[k]) + (w2 * x2[k] + w3 * x3[k])
        for t in range(taps - taps % 4, taps):
            w0 = weights[t]
            x0 = x[first + t * step : first + t * step + total.size]
            for k in range(size):
                total[k] += w0 * x0[k]


@parallel
def _smooth(start, stop, x, y, weights, border, rooms, C, grain):
    H, W = x.shape[1:]
    reach = weights.shape[1] // 2
    padded, sums = rooms[start // grain, 0], rooms[start // grain, 1]
    zero = np.float32(0)
    for plane in range(start, stop):
        taps = weights[plane // C]
        for i in range(H + 2 * reach):
            k = _within(i - reach, H, border)
            row = padded[i * W : (i + 1) * W]
            for j in range(W):
                row[j] = x[plane, k, j] if k >= 0 else zero
        _correlate(padded, taps, W, sums, H * W)
        wide = W + 2 * reach
        for i in range(H):
            row, line = padded[i * wide : (i + 1) * wide], sums[i * W : (i + 1) * W]
            for j in range(reach):
                k, last = _within(j - reach, W, border), _within(W + j, W, border)
                row[j] = line[k] if k >= 0 else zero
                row[reach + W + j] = line[last] if last >= 0 else zero
            for j in range(W):
                row[reach + j] = line[j]
        _correlate(padded, taps, 1, sums, H * wide - 2 * reach)
        for i in range(H):
            line = sums[i * wide : i * wide + W]
            for j in range(W):
                y[plane, i, j] = line[j]


def main() -> None:
    """Validate against the reference, then time small turns of MNIST's and CIFAR's shapes, and a blur."""
    generator = np.random.default_rng(0)
    turned = np.tile(np.array([[0.96, 0.28, -3.0], [-0.28, 0.96, 4.0], [0, 0, 1.0]]), (128, 1, 1))
    for shape in ((128, 1, 28, 28), (128, 3, 32, 32)):
        x = generator.integers(0, 256, shape, np.uint8)
        field = generator.uniform(-2, 2, (128, 2, *shape[2:])).astype(np.float32)
        for images in (x, x.astype(np.float32)):
            for bilinear in (False, True):
                validate.report(warp, images, turned, None, shape[2:], bilinear, CONSTANT, 0)
            validate.report(warp, images, turned, field, shape[2:], True, REFLECT, 0)
        taps = np.full((128, 25), 1 / 25, np.float32)
        validate.report(smooth, x.astype(np.float32), taps, CONSTANT)


if __name__ == "__main__":
    main()
