"""Planes smoothed by taps of each sample's own, and smooth random displacements.

    smooth(x, weights)          y[n, c] = the correlation of x[n, c] with weights[n] along H, then along W
    displacements(index, key)   y[n, k] = the same of uniform noise in [-amount, amount), zeros outside

Both sums of a plane are made at once, while it is in the first cache, on tiles of four rows: the numbers of
a row are spread over the lanes of a register, and each is multiplied with the taps of four sums.

Cost: 4 · taps flops for each element. On the CPU only: what augments images runs there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import per_sample
from .cpu import simd
from .cpu.compiler import kernel, parallel
from .machine import memory, validate
from .machine.dispatch import operation
from .warp import CONSTANT, EDGE, GRAIN, REFLECT, within

Array = Any

TILE = 4
"""Rows that are smoothed together."""


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
    room = _room(H, W, taps)
    _smooth(N * C, _grain(H, W), memory.line(x), memory.line(y), weights, border, C, H, W, room)
    return y


def _grain(H: int, W: int) -> int:
    """Planes of a piece."""
    return 1 + GRAIN // max(1, H * W)


def _room(H: int, W: int, taps: int) -> int:
    """Numbers that the sums of a plane need: it, and the taps twice with zeros around them."""
    return H * W + 2 * taps + 2 * (TILE - 1) + 4 * simd.lanes(4)


@parallel
def _smooth(start, stop, x, y, weights, border, C, H, W, room):
    middle = np.empty(room, np.float32)
    for plane in range(start, stop):
        _smooth_plane(x, y, plane * H * W, weights[plane // C], border, middle, H, W)


def _smooth_plane_plainly(x, y, at, weights, border, room, H, W):
    reach = weights.size // 2
    for i in range(H):
        for j in range(W):
            total = np.float32(0)
            for t in range(weights.size):
                k = within(i + t - reach, H, border)
                if k >= 0:
                    total += weights[t] * x[at + k * W + j]
            room[i * W + j] = total
    for i in range(H):
        for j in range(W):
            total = np.float32(0)
            for t in range(weights.size):
                k = within(j + t - reach, W, border)
                if k >= 0:
                    total += weights[t] * room[i * W + k]
            y[at + i * W + j] = total


def _strips(rows):
    """Both sums for strips of so many rows, from row i on; the next i."""

    @kernel(no_cpython_wrapper=True)
    def down(x, w, y, H, W, taps, border, i):
        reach, columns = taps // 2, 2 * simd.width(y)
        while i + rows <= H:
            first = max(0, reach - i) if border == 0 else 0
            last = min(rows + taps - 1, H + reach - i) if border == 0 else rows + taps - 1
            for p in range(0, W, columns):
                sums = simd.load(rows, 2, y, 0, 0, None, 0)
                for r in range(first, last):  # row r of those that reach into the strip
                    k = within(i + r - reach, H, border)
                    sums = simd.multiply_add(sums, w, r + TILE - 1, -1, x, k * W + p, W - p)
                simd.store(sums, y, i * W + p, W, None, W - p)
            i += rows
        return i

    @kernel(no_cpython_wrapper=True)
    def along(x, w, y, H, W, taps, border, i):
        reach, columns = taps // 2, 2 * simd.width(y)
        while i + rows <= H:
            for p in range(0, W, columns):
                first = max(0, reach - p) if border == 0 else 0
                last = min(columns + taps - 1, W - p + (reach if border == 0 else 2 * reach))
                sums = simd.load(rows, 2, y, 0, 0, None, 0)
                for c in range(first, last):
                    k = within(p + c - reach, W, border)
                    sums = simd.multiply_add(sums, x, i * W + k, W, w, columns + taps - 2 - c, None)
                simd.store(sums, y, i * W + p, W, None, W - p)
            i += rows
        return i

    return down, along


_down, _along = _strips(TILE)
_down_by_row, _along_by_row = _strips(1)


@simd.vectorized(_smooth_plane_plainly)
def _smooth_plane(x, y, at, weights, border, room, H, W):
    """One plane, which begins at `at`: down its columns into the room, from there along its rows. y may be x.

    Down, each row of x is added to the rows of a strip, times the tap that each has for it; along, each
    column of numbers is multiplied with the taps in a row, turned round. Taps that are not there are zeros.
    """
    taps, columns = weights.size, 2 * simd.width(x)
    middle = room[: H * W]
    falling = room[H * W : H * W + taps + 2 * (TILE - 1)]
    rising = room[H * W + falling.size : H * W + falling.size + 2 * columns + taps - 2]
    falling[:] = 0
    rising[:] = 0
    for t in range(taps):
        falling[TILE - 1 + t] = weights[t]
        rising[columns + taps - 2 - t] = weights[t]
    start, end = simd.pointer(x, at), simd.pointer(y, at)
    middle, falling, rising = simd.pointer(middle, 0), simd.pointer(falling, 0), simd.pointer(rising, 0)
    i = _down(start, falling, middle, H, W, taps, border, 0)
    _down_by_row(start, falling, middle, H, W, taps, border, i)
    i = _along(middle, rising, end, H, W, taps, border, 0)
    _along_by_row(middle, rising, end, H, W, taps, border, i)


# ---- displacements


@operation
def displacements(index: Array, key: Array, amount: float, weights: Array, size: tuple[int, int]) -> Array:
    """float32 (N, 2, *size): row n depends on the key and on index[n] alone (per_sample.py).

    The noise is 2 · H · W numbers of `per_sample.uniform`, times 2 amount, minus amount; weights are
    float32 (taps,), taps odd.
    """
    noise = per_sample.uniform(index, key, 2 * size[0] * size[1], np.float32).reshape(-1, 2, *size)
    noise = noise * np.float32(2 * amount) - np.float32(amount)
    return smooth(noise, np.repeat(weights[None], len(index), 0), CONSTANT)


@displacements.loops
def _(index: Array, key: Array, amount: float, weights: Array, size: tuple[int, int]) -> Array:
    per_sample.check(index, key)
    H, W = size
    y = memory.empty((index.size, 2, H, W), np.float32, index)
    lines = y.reshape(index.size, 2 * H * W)
    _displace(
        index.size,
        _grain(2 * H, W),
        lines,
        index,
        key,
        np.float32(amount),
        weights,
        H,
        W,
        _room(H, W, weights.size),
    )
    return y


@parallel
def _displace(start, stop, y, index, key, amount, weights, H, W, room):
    middle, most = np.empty(room, np.float32), amount + amount
    for n in range(start, stop):
        field = y[n]
        per_sample.uniform_row(key[0], index[n], key[1], field)
        for k in range(field.size):
            field[k] = field[k] * most - amount
        for plane in range(2):
            _smooth_plane(field, field, plane * H * W, weights, CONSTANT, middle, H, W)


def main() -> None:
    """Validate against the reference, then time what blurs and bends images of MNIST's and CIFAR's shapes."""
    generator = np.random.default_rng(0)
    index, key, taps = (
        np.arange(128, dtype=np.uint64),
        np.array([2026, 1], np.uint64),
        np.full(25, 0.04, np.float32),
    )
    for shape in ((128, 1, 28, 28), (128, 3, 32, 32)):
        x = generator.uniform(0, 256, shape).astype(np.float32)
        validate.report(smooth, x, np.repeat(taps[None], 128, 0), CONSTANT)
        validate.report(displacements, index, key, 34.0, taps, shape[2:])


if __name__ == "__main__":
    main()
