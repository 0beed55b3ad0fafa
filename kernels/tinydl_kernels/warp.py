"""Images resampled along a map of the plane, each sample along a map of its own.

    warp(x, matrices, field)    y[n, c, i, j] = x[n, c] at M_n (j + f_0, i + f_1, 1), f = field[n, :, i, j]

A map goes from the output's pixels to the input's, in units of pixels with whole numbers at their centres,
(column, row): every output pixel is gathered once, however many maps were composed. x is (N, C, H, W).
Between pixels the value is bilinear, or that of the nearest pixel, which makes no new labels. Outside is
`fill`, or the edge's pixel again ("edge"), or the image mirrored about its edge pixels ("reflect"); as in
numpy.pad. Places are computed in float64, with the same roundings in the reference and in Numba.

Cost: four pixels read and about 20 flops for each element. On the CPU only: what augments images runs there.
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
"""Elements of y that a piece of a loop makes; at least an image, or a plane."""
LINE = 1 << 9
"""Places that are found together: loops over the few pixels of a row would not fill the registers."""
FAR = 1e9
"""A place beyond it, or none at all, counts as this far out (NaN to the left): an index can be."""


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
        s, t = (np.clip(np.where(np.isnan(place), -FAR, place), -FAR, FAR) for place in places[:2])
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
    (N, C), pixels = x.shape[:2], size[0] * size[1]
    y = memory.empty((N, C, *size), x.dtype, x)
    if y.size == 0:
        return y
    bent = field is not None
    bend = np.empty((1, 2, 0), np.float32) if field is None else field.reshape(N, 2, pixels)
    arrays = x, matrices, bend, y.reshape(N, C, pixels)
    if x.dtype == bool:
        arrays = x.view(np.uint8), matrices, bend, arrays[3].view(np.uint8)
    grain = 1 + GRAIN // max(1, C * pixels)
    fill = arrays[0].dtype.type(fill)
    if not bilinear:
        _nearest(N, grain, *arrays, size, bent, border, fill)
        return y
    half = 0.5 if x.dtype.kind == "u" else 0.0  # what makes the cut to a whole number the nearest
    loop = _bilinear_mirrored if border == REFLECT else _bilinear
    loop(N, grain, *arrays, size, bent, border, float(fill), half)
    return y


@kernel(forceinline=True)
def _held(place, low, high):
    """Between both; NaN is low."""
    place = place if place > low else low
    return place if place < high else high


@kernel
def _grid(size):
    """Column and row, float64, of each pixel of as many whole lines as are worked on together."""
    lines = max(1, min(size[0], LINE // max(1, size[1])))
    grid = np.empty((2, lines * size[1]))
    for p in range(grid.shape[1]):
        grid[0, p], grid[1, p] = p % size[1], p // size[1]
    return grid


@kernel
def _locate(m, bend, first, bent, grid, row, limits, s, t):
    """Where as many pixels from `first` on as s and t have lie in the input, (s, t), within the limits
    (low, high) of each; what is nowhere, at their upper end. They are moved by `bend` first.
    """
    columns, rows, right, down = grid[0], grid[1], bend[0, first:], bend[1, first:]
    size = np.uint64(s.size)
    (s_low, s_high), (t_low, t_high) = limits
    a, b, c, d, e, f = m[0, 0], m[0, 1], m[0, 2], m[1, 0], m[1, 1], m[1, 2]
    g, h, k = m[2, 0], m[2, 1], m[2, 2]
    if g != 0 or h != 0 or k != 1:
        for j in range(size):
            u, v = columns[j], row + rows[j]
            if bent:
                u, v = u + right[j], v + down[j]
            x, y, w = a * u + b * v + c, d * u + e * v + f, g * u + h * v + k
            x, y = (x / w, y / w) if w != 0 else (FAR, FAR)
            s[j], t[j] = _held(x, s_low, s_high), _held(y, t_low, t_high)
    elif bent:
        for j in range(size):
            u, v = columns[j] + right[j], row + rows[j] + down[j]
            s[j] = _held(a * u + b * v + c, s_low, s_high)
            t[j] = _held(d * u + e * v + f, t_low, t_high)
    else:
        for j in range(size):
            u, v = columns[j], row + rows[j]
            s[j] = _held(a * u + b * v + c, s_low, s_high)
            t[j] = _held(d * u + e * v + f, t_low, t_high)


@kernel(forceinline=True)
def within(k, size, border):
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
def _nearest(start, stop, x, matrices, bend, y, size, bent, border, fill):
    C, H, W = x.shape[1:]
    grid, everywhere = _grid(size), ((-FAR, FAR), (-FAR, FAR))
    place, pixels = np.empty_like(grid), grid.shape[1]
    for n in range(start, stop):
        for first in range(0, size[0] * size[1], pixels):
            count, row = min(pixels, y.shape[2] - first), float(first // size[1])
            s, t = place[0, :count], place[1, :count]
            _locate(matrices[n], bend[n if bent else 0], first, bent, grid, row, everywhere, s, t)
            for c in range(C):
                plane, out = x[n, c], y[n, c, first : first + count]
                for j in range(np.uint64(count)):
                    a, b = int(np.floor(t[j] + 0.5)), int(np.floor(s[j] + 0.5))
                    out[j] = _picked(plane, within(a, H, border), within(b, W, border), fill)


@kernel(forceinline=True)
def _mixed(a, b, c, d, s, t):
    above, below = a + s * (b - a), c + s * (d - c)
    return above + t * (below - above)


@kernel
def _copied(x, y):
    C, H, W = x.shape
    for c in range(C):
        for i in range(H):
            for j in range(W):
                y[c, i * W + j] = x[c, i, j]


@parallel
def _bilinear_mirrored(start, stop, x, matrices, bend, y, size, bent, border, fill, half):
    C, H, W = x.shape[1:]
    grid, everywhere = _grid(size), ((-FAR, FAR), (-FAR, FAR))
    place, pixels = np.empty_like(grid), grid.shape[1]
    for n in range(start, stop):
        m = matrices[n]
        if not bent and size == (H, W) and _kept(m):
            _copied(x[n], y[n])
            continue
        for first in range(0, size[0] * size[1], pixels):
            count, row = min(pixels, y.shape[2] - first), float(first // size[1])
            s, t = place[0, :count], place[1, :count]
            _locate(m, bend[n if bent else 0], first, bent, grid, row, everywhere, s, t)
            for c in range(C):
                plane, out = x[n, c], y[n, c, first : first + count]
                for j in range(np.uint64(count)):
                    left, top = np.floor(s[j]), np.floor(t[j])
                    a, b = int(top), int(left)
                    k0, k1 = within(a, H, border), within(a + 1, H, border)
                    l0, l1 = within(b, W, border), within(b + 1, W, border)
                    out[j] = half + _mixed(
                        float(_picked(plane, k0, l0, fill)), float(_picked(plane, k0, l1, fill)),
                        float(_picked(plane, k1, l0, fill)), float(_picked(plane, k1, l1, fill)),
                        s[j] - left, t[j] - top,
                    )  # fmt: skip


FRAME = 2
"""Pixels around an image, so that a place far outside has four corners of its own, all outside."""


@kernel
def _framed(x, border, fill, y):
    """The planes of an image (C, H, W) with a frame, each a row of y."""
    C, H, W = x.shape
    wide = W + 2 * FRAME
    for c in range(C):
        for i in range(H + 2 * FRAME):
            row, k = y[c, i * wide : (i + 1) * wide], within(i - FRAME, H, border)
            if k < 0:
                row[:] = fill
                continue
            line = x[c, k]
            row[:FRAME] = fill if border == 0 else float(line[0])
            row[FRAME + W :] = fill if border == 0 else float(line[W - 1])
            inner = row[FRAME : FRAME + W]
            for j in range(W):
                inner[j] = float(line[j])


@kernel
def _corners(s, t, wide, first):
    """Places as the number of the upper left pixel of a framed image, and the ways on from there."""
    for j in range(np.uint64(s.size)):
        left, top = np.floor(s[j]), np.floor(t[j])
        s[j], t[j] = s[j] - left, t[j] - top
        first[j] = np.int32((top + FRAME) * wide + (left + FRAME))


@parallel
def _bilinear(start, stop, x, matrices, bend, y, size, bent, border, fill, half):
    C, H, W = x.shape[1:]
    wide = W + 2 * FRAME
    framed = np.empty((C, (H + 2 * FRAME) * wide))
    grid, limits = _grid(size), ((float(-FRAME), float(W)), (float(-FRAME), float(H)))
    place, pixels = np.empty_like(grid), grid.shape[1]
    corner = np.empty(pixels, np.int32)
    one, down = np.uint64(1), np.uint64(wide)
    for n in range(start, stop):
        m = matrices[n]
        if not bent and size == (H, W) and _kept(m):
            _copied(x[n], y[n])
            continue
        _framed(x[n], border, fill, framed)
        for first in range(0, size[0] * size[1], pixels):
            count, row = min(pixels, y.shape[2] - first), float(first // size[1])
            s, t = place[0, :count], place[1, :count]
            _locate(m, bend[n if bent else 0], first, bent, grid, row, limits, s, t)
            _corners(s, t, float(wide), corner)
            for c in range(C):
                plane, out = framed[c], y[n, c, first : first + count]
                for j in range(np.uint64(count)):
                    k = np.uint64(corner[j])
                    out[j] = half + _mixed(
                        plane[k], plane[k + one], plane[k + down], plane[k + down + one], s[j], t[j]
                    )


def main() -> None:
    """Validate against the reference, then time small turns of MNIST's and CIFAR's shapes."""
    generator = np.random.default_rng(0)
    turned = np.tile(np.array([[0.96, 0.28, -3.0], [-0.28, 0.96, 4.0], [0, 0, 1.0]]), (128, 1, 1))
    for shape in ((128, 1, 28, 28), (128, 3, 32, 32)):
        x = generator.integers(0, 256, shape, np.uint8)
        field = generator.uniform(-2, 2, (128, 2, *shape[2:])).astype(np.float32)
        for images in (x, x.astype(np.float32)):
            for bilinear in (False, True):
                validate.report(warp, images, turned, None, shape[2:], bilinear, CONSTANT, 0)
            validate.report(warp, images, turned, field, shape[2:], True, REFLECT, 0)


if __name__ == "__main__":
    main()
