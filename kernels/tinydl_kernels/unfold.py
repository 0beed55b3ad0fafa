"""Every window of an image as a column, and back.

    unfold(x, window)       y[n, (c, t), p] = x[n, c, p·stride + t·dilation - low]         zero in the padding
    fold(y, window)         its transpose: each column is added where its window stood

Shapes, for any number of spatial axes: x (N, C, *input), y (N, C · K, L) with the K taps and the L windows in
row-major order. Bound by memory: each writes or reads K·L values per plane. Known as im2col and col2im.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .cpu.compiler import kernel, parallel
from .cpu.tiles import add_strided, copy, fill
from .cuda import launching
from .machine import memory
from .machine.dispatch import operation
from .machine.validate import report
from .machine.window import Window, padded, seen_by, taps, unpadded
from .pool.loops import span

Array = Any

GRAIN = 1 << 15
"""Values moved by a piece of a loop over planes."""


@operation
def unfold(x: Array, window: Window) -> Array:
    """(N, C · K, L)"""
    planes = padded(x, window, 0)
    columns = np.stack([planes[seen_by(tap, window)] for tap in taps(window.kernel)], axis=2)
    return columns.reshape(_columns(x, window))


@operation
def fold(y: Array, window: Window) -> Array:
    """(N, C, *input): the sum of what the columns put at each position."""
    N, C, K = len(y), y.shape[1] // prod(window.kernel), prod(window.kernel)
    planes, columns = np.zeros((N, C, *window.extent), y.dtype), y.reshape(N, C, K, *window.out)
    for k, tap in enumerate(taps(window.kernel)):
        planes[seen_by(tap, window)] += columns[:, :, k]
    return unpadded(planes, window)


def _columns(x: Array, window: Window) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1] * prod(window.kernel), prod(window.out)


# ---- Numba: the kernels see planes (N · C, positions) and columns (N · C, K, L), so each
# task has planes of its own


@unfold.loops
def _(x: Array, window: Window) -> Array:
    y = memory.empty(_columns(x, window), x.dtype, x)
    planes = x.shape[0] * x.shape[1]
    _walk(
        planes,
        _grain(window),
        x.reshape(planes, prod(window.input)),
        _by_plane(y, planes, window),
        False,
        window.geometry,
    )
    return y


@fold.loops
def _(y: Array, window: Window) -> Array:
    x = memory.empty((y.shape[0], y.shape[1] // prod(window.kernel), *window.input), y.dtype, y)
    planes = x.shape[0] * x.shape[1]
    _walk(
        planes,
        _grain(window),
        x.reshape(planes, prod(window.input)),
        _by_plane(y, planes, window),
        True,
        window.geometry,
    )
    return x


def _by_plane(y: Array, planes: int, window: Window) -> Array:
    return y.reshape(planes, prod(window.kernel), prod(window.out))


def _grain(window: Window) -> int:
    return 1 + GRAIN // prod(window.kernel + window.out)


@parallel
def _walk(start, stop, images, columns, back, geometry):
    """Copy each tap of every window out of its image, or with `back` add it there."""
    for plane in range(start, stop):
        image = images[plane]
        if back:
            fill(image, 0, image.dtype.type(0), image.size)
        _walk_plane(image, columns[plane], back, geometry)


@kernel
def _walk_plane(image, columns, back, geometry):
    (_, H, W), (OD, OH, OW) = geometry.input, geometry.out
    (KD, KH, KW), (d_step, h_step, w_step) = geometry.kernel, geometry.stride
    for t in range(KD * KH * KW):
        row = columns[t]
        od0, od1, d0 = span(t // (KH * KW), 0, geometry)
        oh0, oh1, h0 = span(t // KW % KH, 1, geometry)
        ow0, ow1, w0 = span(t % KW, 2, geometry)
        inside = max(0, ow1 - ow0)
        if not back and (od1 - od0 < OD or oh1 - oh0 < OH or inside < OW):
            fill(row, 0, row.dtype.type(0), row.size)
        for od in range(od0, od1):
            for oh in range(oh0, oh1):
                to = (od * OH + oh) * OW + ow0
                at = ((d0 + (od - od0) * d_step) * H + h0 + (oh - oh0) * h_step) * W + w0
                if back:
                    add_strided(image, at, w_step, row, to, 1, inside)
                else:
                    copy(row, to, 1, image, at, w_step, inside)


# ---- CUDA


@unfold.cuda
def _(x: Array, window: Window) -> Array:
    y = memory.empty(_columns(x, window), x.dtype, x)
    launching.launch(
        "unfold", "unfold", y.size, x, y, np.int64(x.shape[0] * x.shape[1]), window.struct, real=x.dtype
    )
    return y


@fold.cuda
def _(y: Array, window: Window) -> Array:
    x = memory.empty((y.shape[0], y.shape[1] // prod(window.kernel), *window.input), y.dtype, y)
    launching.launch(
        "unfold", "fold", x.size, y, x, np.int64(x.shape[0] * x.shape[1]), window.struct, real=y.dtype
    )
    return x


def main() -> None:
    """Validate against the reference, then time windows that overlap, that pad and that leave gaps."""
    random = np.random.default_rng(0)
    for shape, kernel_size, stride, pad, dilation in (
        ((50, 16, 32, 32), 3, 1, 1, 1),
        ((50, 3, 32, 32), 5, 2, 2, 1),
        ((50, 3, 32, 32), 3, 1, 2, 2),
    ):
        window = Window.conv("unfold", shape, (1, shape[1], kernel_size, kernel_size), stride, pad, dilation)
        x = random.standard_normal(shape).astype(np.float32)
        print(f"x {shape}, kernel {kernel_size}, stride {stride}, padding {pad}, dilation {dilation}")
        report(unfold, x, window)
        report(fold, random.standard_normal(_columns(x, window)).astype(np.float32), window)


if __name__ == "__main__":
    main()
