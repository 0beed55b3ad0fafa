"""Convolution (cross-correlation) and its two gradients: the partial gradients of one trilinear form.

    T(x, w, g) = Σ  g[n, o, p] · w[o, c, t] · x[n, c, p·stride + t·dilation - low]         over n, o, p, t and c of o's group

    forward(x, w, b, window)       ∂T/∂g, plus a bias
    grad_input(g, w, window)       ∂T/∂x: the transposed convolution
    grad_weight(x, g, window)      ∂T/∂w

so each is differentiated by the other two. Shapes, for any number of spatial axes: x (N, C, *input), w (O, C / G, *kernel),
b (O,), g and y (N, O, *out), all of one dtype, float32 or float64. Each costs `window.flops(N, C, O)`.

The compiled kernels pack images so that a tap is nothing but an offset (packing.py), and then multiply matrices (tiles.py). A
task is a part of the batch times a part of the channels, and packs one image at a time into scratch of its own.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from . import memory
from .compiler import kernel, parallel
from .dispatch import operation
from .packing import deal, lengthen, plan_of
from .threads import single_threaded_blas
from .tiles import copy, dots, fill, multiply_add
from .validate import report
from .window import Window, padded, seen_by, taps, unpadded

Array = Any

TASKS = 16
"""Tasks to aim at. A constant: the cuts, and with them the bits, must not depend on the machine."""
GRAIN = 1 << 17
"""Flops below which it is not worth while to wake another thread."""
PARTIALS = 1 << 22
"""Elements that the partial sums of grad_weight may take."""


# ---- NumPy reference: for each tap of the kernel, a product of matrices over a strided slice of the padded input


@operation
def forward(x: Array, w: Array, b: Array | None, window: Window) -> Array:
    """y = conv(x, w) + b, (N, O, *out); b may be None."""
    N, O, G = x.shape[0], w.shape[0], window.groups
    planes, y = padded(x, window, 0), np.zeros((N, G, O // G, prod(window.out)), x.dtype)
    with single_threaded_blas():
        for tap in taps(window.kernel):
            y += _grouped(w[(..., *tap)], G) @ _flat(planes[seen_by(tap, window)], G)
    y = y.reshape(N, O, *window.out)
    return y if b is None else y + b.reshape(-1, *(1,) * len(window.out))


@operation
def grad_input(g: Array, w: Array, window: Window) -> Array:
    """dx = ∂T/∂x, (N, C, *input), of a cotangent g of y."""
    N, C, G = g.shape[0], w.shape[1] * window.groups, window.groups
    planes, rows = np.zeros((N, C, *window.extent), g.dtype), _flat(g, G)
    with single_threaded_blas():
        for tap in taps(window.kernel):
            product = _grouped(w[(..., *tap)], G).swapaxes(1, 2) @ rows
            planes[seen_by(tap, window)] += product.reshape(N, C, *window.out)
    return unpadded(planes, window)


@operation
def grad_weight(x: Array, g: Array, window: Window) -> Array:
    """dw = ∂T/∂w, (O, C / G, *kernel), of a cotangent g of y."""
    C, O, G = x.shape[1], g.shape[1], window.groups
    planes, rows = padded(x, window, 0), _flat(g, G)
    dw: Any = np.empty((O, C // G, *window.kernel), x.dtype)
    with single_threaded_blas():
        for tap in taps(window.kernel):
            product = rows @ _flat(planes[seen_by(tap, window)], G).swapaxes(2, 3)
            dw[(..., *tap)] = product.sum(axis=0).reshape(O, C // G)
    return dw


def _flat(planes: Array, G: int) -> Array:
    """(N, C, *sizes) -> (N, G, C / G, positions)"""
    N, C, *sizes = planes.shape
    return planes.reshape(N, G, C // G, prod(sizes))


def _grouped(w: Array, G: int) -> Array:
    """(O, C / G) -> (G, O / G, C / G)"""
    return w.reshape(G, w.shape[0] // G, w.shape[1])


# ---- Dispatch: outputs and scratch, the cuts into tasks


@forward.cpu
def _(x: Array, w: Array, b: Array | None, window: Window) -> Array:
    (N, C), O = x.shape[:2], w.shape[0]
    y = memory.empty((N, O, *window.out), x.dtype, x)
    if _is_product(window):
        with single_threaded_blas():
            np.matmul(_matrix(x), _matrix(w).T, out=_matrix(y))
        if b is not None:
            np.add(_matrix(y), b, out=_matrix(y))
        return y
    plan = plan_of(window, C, O)
    parts, splits, grain = _cuts(N, window.groups, plan.group_outputs, window.flops(N, C, O))
    planes = memory.empty((parts * splits if plan.packed else 0, C * plan.plane), x.dtype, x)
    sums = memory.empty((parts * splits, 4 * plan.lanes), x.dtype, x)
    bias = w.reshape(w.size)[:0] if b is None else b
    _forward(parts * splits, grain, _matrix(x), w.reshape(w.size), bias, _matrix(y), planes, sums, parts, splits, plan)
    return y


@grad_input.cpu
def _(g: Array, w: Array, window: Window) -> Array:
    (N, O), C = g.shape[:2], w.shape[1] * window.groups
    dx = memory.empty((N, C, *window.input), g.dtype, g)
    if _is_product(window):
        with single_threaded_blas():
            np.matmul(_matrix(g), _matrix(w), out=_matrix(dx))
        return dx
    plan = plan_of(window, C, O)
    parts, splits, grain = _cuts(N, window.groups, plan.group_inputs, window.flops(N, C, O))
    planes = memory.empty((parts * splits if plan.packed else 0, C * plan.plane), g.dtype, g)
    rows = memory.empty((parts * splits, O * plan.row), g.dtype, g)
    _grad_input(parts * splits, grain, _matrix(g), w.reshape(w.size), _matrix(dx), planes, rows, parts, splits, plan)
    return dx


@grad_weight.cpu
def _(x: Array, g: Array, window: Window) -> Array:
    (N, C), O = x.shape[:2], g.shape[1]
    dw = memory.empty((O, C // window.groups, *window.kernel), x.dtype, x)
    if _is_product(window):
        with single_threaded_blas():
            np.matmul(_matrix(g).T, _matrix(x), out=_matrix(dw))
        return dw
    plan = plan_of(window, C, O)
    most = max(1, min(TASKS // 2, PARTIALS // max(1, dw.size)))
    parts, splits, grain = _cuts(N, window.groups, plan.group_outputs, window.flops(N, C, O), most)
    planes = memory.empty((parts * splits if plan.packed else 0, C * plan.plane), x.dtype, x)
    rows = memory.empty((parts * splits, O * plan.row), x.dtype, x)
    partial = memory.empty((parts, *_matrix(dw).shape), x.dtype, x)
    _grad_weight(parts * splits, grain, _matrix(x), _matrix(g), partial, planes, rows, parts, splits, plan)
    _sum_parts(dw.size, 1 << 14, partial.reshape(parts, dw.size), dw.reshape(dw.size))
    return dw


def _matrix(array: Array) -> Array:
    """(A, *rest) -> (A, product of the rest)"""
    return array.reshape(array.shape[0], prod(array.shape[1:]))


def _is_product(window: Window) -> bool:
    """Does the kernel cover the whole input, once? Then x (N, C · input) and w (O, C · input) meet in a product of matrices."""
    return window.kernel == window.input and window.groups == 1 and not any(window.low + window.high)


def _cuts(N: int, G: int, group_channels: int, flops: int, most: int = 2 * TASKS) -> tuple[int, int, int]:
    """(parts of the batch, parts of the channels' blocks of four, grain): of shapes alone."""
    parts = max(1, min(N, most))
    splits = max(1, min(-(-TASKS // parts), G * -(-group_channels // 4)))
    return parts, splits, 1 + parts * splits * GRAIN // max(flops, 1)


# ---- Outer loops: per task, its images; per image, chunks of rows; per chunk, blocks of at most four channels of one group


@kernel
def _block(block, group_channels):
    """(group, first channel of the block in the group, how many)"""
    per_group = (group_channels + 3) // 4
    group, channel = block // per_group, block % per_group * 4
    return group, channel, min(4, group_channels - channel)


@kernel
def _share(split, splits, groups, group_channels):
    """The blocks [first, last) of one split."""
    blocks = groups * ((group_channels + 3) // 4)
    return split * blocks // splits, (split + 1) * blocks // splits


@parallel
def _forward(start, stop, x, w, bias, y, scratch, sums, parts, splits, plan):
    N, K = x.shape[0], plan.x_offsets.size
    (OD, OH, OW), (_, QH, QW) = plan.out, plan.grid
    for task in range(start, stop):
        part, split, total = task // splits, task % splits, sums[task]
        first, last = _share(split, splits, plan.groups, plan.group_outputs)
        for n in range(part * N // parts, (part + 1) * N // parts):
            result, image = y[n], scratch[task] if plan.packed else x[n]
            if plan.packed:
                deal(x[n], image, False, 0, plan.groups * plan.group_inputs, plan)
            for od in range(OD):
                for oh in range(0, OH, plan.chunk):
                    count = min(plan.chunk, OH - oh)
                    length = (count - 1) * QW + OW
                    for block in range(first, last):
                        group, channel, rows = _block(block, plan.group_outputs)
                        o = group * plan.group_outputs + channel
                        for i in range(rows):
                            fill(total, i * length, bias[o + i] if bias.size else w.dtype.type(0), length)
                        x0 = group * plan.group_inputs * plan.plane + (od * QH + oh) * QW
                        multiply_add(total, 0, length, rows, image, x0, plan.x_offsets, w, o * K, K, 1, length)
                        for i in range(rows):
                            for r in range(count):
                                to = (((o + i) * OD + od) * OH + oh + r) * OW
                                copy(result, to, 1, total, i * length + r * QW, 1, OW)


@parallel
def _grad_input(start, stop, g, w, dx, scratch, row_scratch, parts, splits, plan):
    N, K, T, plane = g.shape[0], plan.x_offsets.size, plan.x_offsets.size // max(1, plan.group_inputs), plan.plane
    (OD, OH, OW), (_, QH, QW) = plan.out, plan.grid
    for task in range(start, stop):
        part, split = task // splits, task % splits
        first, last = _share(split, splits, plan.groups, plan.group_inputs)
        group, channel, _ = _block(first, plan.group_inputs)
        c_first = group * plan.group_inputs + channel
        group, channel, rows = _block(last - 1, plan.group_inputs)
        c_last = group * plan.group_inputs + channel + rows
        for n in range(part * N // parts, (part + 1) * N // parts):
            grid = g[n] if QW == OW else row_scratch[task]
            if QW != OW:
                lengthen(g[n], grid, OW, QW)
            image = scratch[task] if plan.packed else dx[n]
            fill(image, c_first * plane, w.dtype.type(0), (c_last - c_first) * plane)
            for od in range(OD):
                for oh in range(0, OH, plan.chunk):
                    length = (min(plan.chunk, OH - oh) - 1) * QW + OW
                    for block in range(first, last):
                        group, channel, rows = _block(block, plan.group_inputs)
                        x0 = (group * plan.group_inputs + channel) * plane + (od * QH + oh) * QW
                        g0 = group * plan.group_outputs * plan.row + (od * OH + oh) * QW
                        w0 = group * plan.group_outputs * K + channel * T
                        for t in range(T):
                            to = x0 + plan.x_offsets[t]
                            multiply_add(image, to, plane, rows, grid, g0, plan.g_offsets, w, w0 + t, T, K, length)
            if plan.packed:
                deal(dx[n], image, True, c_first, c_last, plan)


@parallel
def _grad_weight(start, stop, x, g, partial, scratch, row_scratch, parts, splits, plan):
    N = x.shape[0]
    (OD, OH, OW), (_, QH, QW) = plan.out, plan.grid
    for task in range(start, stop):
        part, split = task // splits, task % splits
        first, last = _share(split, splits, plan.groups, plan.group_outputs)
        dw = partial[part]
        for block in range(first, last):
            group, channel, rows = _block(block, plan.group_outputs)
            o = group * plan.group_outputs + channel
            dw[o : o + rows] = 0
        for n in range(part * N // parts, (part + 1) * N // parts):
            grid = g[n] if QW == OW else row_scratch[task]
            if QW != OW:
                lengthen(g[n], grid, OW, QW)
            image = scratch[task] if plan.packed else x[n]
            if plan.packed:
                deal(x[n], image, False, 0, plan.groups * plan.group_inputs, plan)
            for od in range(OD):
                for oh in range(0, OH, plan.chunk):
                    length = (min(plan.chunk, OH - oh) - 1) * QW + OW
                    for block in range(first, last):
                        group, channel, rows = _block(block, plan.group_outputs)
                        o = group * plan.group_outputs + channel
                        g0 = o * plan.row + (od * OH + oh) * QW
                        x0 = group * plan.group_inputs * plan.plane + (od * QH + oh) * QW
                        dots(dw, o, rows, grid, g0, plan.row, image, x0, plan.x_offsets, length)


@parallel
def _sum_parts(start, stop, partial, dw):
    for i in range(start, stop):
        total = partial[0, i]
        for part in range(1, partial.shape[0]):
            total += partial[part, i]
        dw[i] = total


def main() -> None:
    """Validate against the reference, then time layers of LeNet and of a residual network, and the odd ones."""
    random = np.random.default_rng(0)
    for N, C, O, size, k, stride, pad, dilation, G in (
        (50, 1, 20, 28, 5, 1, 0, 1, 1),
        (50, 20, 50, 12, 5, 1, 0, 1, 1),
        (50, 16, 120, 5, 5, 1, 0, 1, 1),
        (50, 16, 16, 32, 3, 1, 1, 1, 1),
        (50, 64, 64, 32, 3, 1, 1, 1, 1),
        (50, 64, 128, 16, 1, 2, 0, 1, 1),
        (50, 32, 32, 32, 3, 2, 2, 2, 1),
        (50, 64, 64, 32, 3, 1, 1, 1, 64),
        (1, 64, 64, 56, 3, 1, 1, 1, 1),
    ):
        window = Window.conv("conv", (N, C, size, size), (O, C // G, k, k), stride, pad, dilation, G)
        x, w, b, g = (
            random.standard_normal(shape).astype(np.float32)
            for shape in ((N, C, size, size), (O, C // G, k, k), (O,), (N, O, *window.out))
        )
        print(f"x {x.shape}, w {w.shape}, stride {stride}, padding {pad}, dilation {dilation}, groups {G}")
        flops = window.flops(N, C, O)
        report(forward, x, w, b, window, flops=flops, tolerance=1e-3)
        report(grad_input, g, w, window, flops=flops, tolerance=1e-3)
        report(grad_weight, x, g, window, flops=flops, tolerance=1e-2)


if __name__ == "__main__":
    main()
