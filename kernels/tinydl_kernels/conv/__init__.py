"""Convolution (cross-correlation) and its two gradients: the partial gradients of one trilinear form.

    T(x, w, g) = Σ  g[n, o, p] · w[o, c, t] · x[n, c, p·stride + t·dilation - low]
            over n, o, p, t, c of o's group

    forward(x, w, b, window)       ∂T/∂g, plus a bias
    grad_input(g, w, window)       ∂T/∂x: the transposed convolution
    grad_weight(x, g, window)      ∂T/∂w

so each is differentiated by the other two. Shapes, for any number of spatial axes: x (N, C,
*input), w (O, C / G, *kernel), b (O,), g and y (N, O, *out), all of one dtype, float32 or float64.
Each costs `window.flops(N, C, O)`.

The compiled kernels pack images so that a tap is nothing but an offset (packing.py), and then multiply
matrices (tiles.py). A task is a part of the batch times a part of the channels, and packs its images into
scratch of its own. Lanes run along

    the output channels        forward, and grad_input where it is a forward convolution of g with no more
                               work; grad_weight
    the pixels of y            the first two, where few channels would leave lanes empty (`_cost`)
    the taps and channels      grad_input otherwise (col2im.py), or where that is little work a window
    the pixels of g            one tap after the other adding to dx
    the pixels, summed over    grad_weight of few channels
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .. import elementwise
from ..cpu import simd
from ..cpu.blas import single_threaded_blas
from ..cpu.compiler import kernel, parallel, share
from ..cpu.packing import Panels, deal, lengthen, panels_of, plan_of
from ..cpu.product import product
from ..cpu.simd import ROWS
from ..cpu.tiles import copy, dots, fill, frame, multiply_add, panel, rectify, totals, transpose
from ..machine import memory
from ..machine.dispatch import operation
from ..machine.memory import line
from ..machine.validate import report
from ..machine.window import Window, padded, seen_by, taps, unpadded
from . import col2im, launches

Array = Any

TASKS = 16
"""Tasks to aim at. A constant: the cuts, and with them the bits, must not depend on the machine."""
GRAIN = 1 << 17
"""Flops below which it is not worth while to wake another thread."""
PARTIALS = 3 << 19
"""Elements that the partial sums of grad_weight may take."""


# ---- NumPy reference: for each tap of the kernel, a product of matrices over a
# strided slice of the padded input


@operation
def forward(x: Array, w: Array, b: Array | None, window: Window, relu: bool = False) -> Array:
    """y = conv(x, w) + b, (N, O, *out), then relu if asked for (not on CUDA); b may be None."""
    N, O, G = x.shape[0], w.shape[0], window.groups
    planes, y = padded(x, window, 0), np.zeros((N, G, O // G, prod(window.out)), x.dtype)
    with single_threaded_blas():
        for tap in taps(window.kernel):
            y += _grouped(w[(..., *tap)], G) @ _flat(planes[seen_by(tap, window)], G)
    y = y.reshape(N, O, *window.out)
    y = y if b is None else y + b.reshape(-1, *(1,) * len(window.out))
    return np.maximum(y, 0) if relu else y


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


@forward.loops
def _(x: Array, w: Array, b: Array | None, window: Window, relu: bool = False) -> Array:
    return _convolve(x, w, b, window, False, relu)


@grad_input.loops
def _(g: Array, w: Array, window: Window) -> Array:
    (N, O), C = g.shape[:2], w.shape[1] * window.groups
    if 4 * prod(window.input) <= 5 * prod(window.out) and (turned := window.turned()):
        return _convolve(g, w, None, turned, True, False)
    dx = memory.empty((N, C, *window.input), g.dtype, g)
    if _is_product(window):
        product(_matrix(g), _matrix(w), _matrix(dx))
        return dx
    flops = window.flops(N, C, O)
    blocks = col2im.blocks_of(window, C)
    # much to multiply for each sum that is added up
    if 32 * window.groups <= O and blocks.run * blocks.channels >= 24:
        col2im.grad_input(g, w, dx, window, _cuts(N, blocks.blocks, flops))
        return dx
    plan = plan_of(window, C, O, True)
    parts, splits, grain = _cuts(N, C // 8, flops)
    planes = memory.scratch((parts * splits if plan.packed else 0, C * plan.plane), g.dtype, g)
    rows = memory.scratch((parts * splits if plan.grid[2] > plan.out[2] else 0, O * plan.row), g.dtype, g)
    # (T, O, C / G)
    turned = elementwise.cast(w.reshape(*w.shape[:2], prod(window.kernel)).transpose(2, 0, 1), w.dtype)
    _grad_input(parts * splits, grain, line(g), line(turned), line(dx), planes, rows, N, parts, splits, plan)
    return dx


def _convolve(x: Array, w: Array, b: Array | None, window: Window, turned: bool, relu: bool) -> Array:
    """y = conv(x, w) + b, then relu if asked for.

    `turned`: w is that of the convolution whose transpose this is, (C, O / G, *kernel).
    """
    (N, C), O = x.shape[:2], w.shape[1] * window.groups if turned else w.shape[0]
    y = memory.empty((N, O, *window.out), x.dtype, x)
    if _is_product(window) and not turned:
        product(_matrix(x), _matrix(w), _matrix(y), False, True, b, relu)
        return y
    bias = memory.constant((O,), x.dtype, 0.0) if b is None else b
    plan, panels = plan_of(window, C, O, False), panels_of(O // window.groups, x.itemsize)
    flops = window.flops(N, C, O)
    # along pixels, tiles are cut by the ends of rows
    if _cost(panels, plan.K) < 1.05 * plan.grid[2] / plan.out[2]:
        parts, splits, grain = _cuts(-(-N // plan.images), plan.groups * panels.panels, flops)
        planes = memory.scratch(
            (parts * splits if plan.packed else 0, plan.images * C * plan.plane), x.dtype, x
        )
        packed = memory.scratch((plan.groups * panels.panels, (plan.K + 1) * panels.width), x.dtype, x)
        products = memory.scratch((parts * splits, panels.windows * panels.width), x.dtype, x)
        _pack(
            packed.shape[0],
            1 + (1 << 14) // packed.shape[1],
            line(w),
            bias,
            line(packed),
            turned,
            plan,
            panels,
        )
        _forward_outputs(
            parts * splits,
            grain,
            line(x),
            line(packed),
            line(y),
            planes,
            products,
            N,
            parts,
            splits,
            plan,
            panels,
            relu,
        )
        return y
    plan = plan_of(window, C, O, True)
    parts, splits, grain = _cuts(N, O // 8, flops)
    planes = memory.scratch((parts * splits if plan.packed else 0, C * plan.plane), x.dtype, x)
    w = _turned(w, window) if turned else w
    _forward_pixels(
        parts * splits, grain, line(x), line(w), bias, line(y), planes, N, parts, splits, plan, relu
    )
    return y


@grad_weight.loops
def _(x: Array, g: Array, window: Window) -> Array:
    (N, C), O = x.shape[:2], g.shape[1]
    dw = memory.empty((O, C // window.groups, *window.kernel), x.dtype, x)
    if _is_product(window):
        product(_matrix(g), _matrix(x), _matrix(dw), True)
        return dw
    plan, panels = plan_of(window, C, O, False), panels_of(O // window.groups, x.itemsize)
    flops = window.flops(N, C, O)
    width = simd.lanes(x.itemsize)
    # along pixels, rows are filled up
    if _cost(panels, plan.K) > 2.4 * width * -(-plan.out[2] // width) / plan.out[2]:
        plan = plan_of(window, C, O, True)
        parts, splits, grain = _cuts(N, O // 8, flops, PARTIALS // max(1, width * dw.size))
        planes = memory.scratch((parts * splits if plan.packed else 0, C * plan.plane), x.dtype, x)
        partial = memory.scratch((parts, dw.size * width), x.dtype, x)
        _grad_weight_pixels(
            parts * splits, grain, line(x), line(g), line(partial), planes, N, parts, splits, plan
        )
        _sum_lanes(dw.size, 1 << 8, partial.reshape(parts, dw.size, width), line(dw))
    else:
        blocks, block = plan.groups * panels.panels, (plan.K + ROWS) * panels.width
        parts, splits, grain = _cuts(
            -(-N // plan.images), blocks, flops, min(TASKS // 2, PARTIALS // max(1, blocks * block))
        )
        planes = memory.scratch(
            (parts * splits if plan.packed else 0, plan.images * C * plan.plane), x.dtype, x
        )
        turned = memory.scratch((parts * splits, plan.images * prod(plan.out) * panels.width), x.dtype, x)
        partial = memory.scratch((parts, blocks * block), x.dtype, x)
        _grad_weight_outputs(
            parts * splits,
            grain,
            line(x),
            line(g),
            line(partial),
            planes,
            turned,
            N,
            parts,
            splits,
            plan,
            panels,
        )
        _sum_and_turn(plan.K, 64, line(partial), line(dw), parts, plan, panels)
    return dw


forward.cuda(launches.forward)
grad_input.cuda(launches.grad_input)
grad_weight.cuda(launches.grad_weight)


def _cost(panels: Panels, K: int) -> float:
    """The time of a product with lanes along the output channels, that of one with full
    panels and many terms being 1.

    Empty lanes are in vain. A tile one register wide loads more than it multiplies. A panel is transposed
    for as much as 20 terms cost.
    """
    filled = panels.channels / (panels.panels * panels.width)
    return (1.25 if panels.width == panels.lanes else 1.0) / max(filled, 1e-9) * (1 + 20 / max(K, 1))


def _matrix(array: Array) -> Array:
    """(A, *rest) -> (A, product of the rest)"""
    return array.reshape(array.shape[0], prod(array.shape[1:]))


def _is_product(window: Window) -> bool:
    """Does the kernel cover the whole input, once? Then x (N, C · input) and w (O, C · input)
    meet in a product of matrices.
    """
    return window.kernel == window.input and window.groups == 1 and not any(window.low + window.high)


def _turned(w: Array, window: Window) -> Array:
    """(O, C / G, *kernel) -> (C, O / G, *kernel), taps in reverse: the weights of the
    transposed convolution of stride 1.
    """
    G, axes = window.groups, len(window.kernel)
    grouped = w.reshape(G, w.shape[0] // G, *w.shape[1:])[(..., *(slice(None, None, -1),) * axes)]
    return elementwise.cast(grouped.swapaxes(1, 2), w.dtype).reshape(
        w.shape[1] * G, w.shape[0] // G, *window.kernel
    )


def _cuts(N: int, blocks: int, flops: int, most: int = 2 * TASKS) -> tuple[int, int, int]:
    """(parts of the batch, parts of the blocks of channels, grain): of shapes alone."""
    parts = max(1, min(N, 2 * TASKS, most))
    splits = max(1, min(TASKS // 2 // parts, blocks))
    return parts, splits, 1 + parts * splits * GRAIN // max(flops, 1)


# ---- Outer loops: per task, its part of the batch and of the channels; per image, the
# groups that have some of these


@parallel
def _forward_pixels(start, stop, x, w, bias, y, scratch, N, parts, splits, plan, relu):
    C, O, K = plan.C, plan.O, plan.K
    (OD, OH, OW), (_, QH, QW) = plan.out, plan.grid
    gap, period = QW - OW, QW if QW > OW else plan.length
    for task in range(start, stop):
        first, last = share(task % splits, splits, O)
        begin, end = share(task // splits, parts, N)
        for n in range(begin, end):
            image, base = (scratch[task], 0) if plan.packed else (x, n * C * plan.plane)
            if plan.packed:
                deal(x, n * C, image, 0, C, False, plan)
            for group in range(first // plan.group_outputs, (last - 1) // plan.group_outputs + 1):
                o = max(first, group * plan.group_outputs)
                count = min(last, (group + 1) * plan.group_outputs) - o
                for od in range(OD):
                    y0 = ((n * O + o) * OD + od) * OH * OW
                    x0 = base + group * plan.group_inputs * plan.plane + od * QH * QW
                    multiply_add(
                        y, y0, OD * OH * OW, count, gap, period, w, o * K, K, plan.w_terms,
                        image, x0, plan.x_terms, bias, o, plan.length,
                    )  # fmt: skip
            if relu:
                rectify(y, (n * O + first) * OD * OH * OW, (last - first) * OD * OH * OW)


@parallel
def _grad_input(start, stop, g, w, dx, scratch, row_scratch, N, parts, splits, plan):
    C, O, T = plan.C, plan.O, plan.T
    (OD, OH, OW), (_, QH, QW) = plan.out, plan.grid
    none = w[:0]
    for task in range(start, stop):
        first, last = share(task % splits, splits, C)
        begin, end = share(task // splits, parts, N)
        for n in range(begin, end):
            image, base = (scratch[task], 0) if plan.packed else (dx, n * C * plan.plane)
            grid, g_base = (row_scratch[task], 0) if QW > OW else (g, n * O * plan.row)
            if QW > OW:
                lengthen(g, n * O * OD * OH * OW, grid, O * OD * OH, OW, QW)
            fill(image, base + first * plan.plane, w.dtype.type(0), (last - first) * plan.plane)
            for group in range(first // plan.group_inputs, (last - 1) // plan.group_inputs + 1):
                c = max(first, group * plan.group_inputs)
                count = min(last, (group + 1) * plan.group_inputs) - c
                for od in range(OD):
                    g0 = g_base + group * plan.group_outputs * plan.row + od * OH * QW
                    for t in range(T):
                        y0 = base + c * plan.plane + od * QH * QW + plan.x_terms[t]
                        w0 = (
                            (t * O + group * plan.group_outputs) * plan.group_inputs
                            + c
                            - group * plan.group_inputs
                        )
                        multiply_add(
                            image, y0, plan.plane, count, 0, plan.length, w, w0, 1, plan.turned_w_terms,
                            grid, g0, plan.g_terms, none, 0, plan.length,
                        )  # fmt: skip
            if plan.packed:
                deal(dx, n * C, image, first, last, True, plan)


@parallel
def _grad_weight_pixels(start, stop, x, g, partial, scratch, N, parts, splits, plan):
    C, O, K = plan.C, plan.O, plan.K
    (OD, OH, OW), (_, QH, QW) = plan.out, plan.grid
    width = partial.size // max(1, parts * O * K)
    for task in range(start, stop):
        first, last = share(task % splits, splits, O)
        begin, end = share(task // splits, parts, N)
        sums = partial[task // splits * O * K * width : (task // splits + 1) * O * K * width]
        fill(sums, first * K * width, x.dtype.type(0), (last - first) * K * width)
        for n in range(begin, end):
            image, base = (scratch[task], 0) if plan.packed else (x, n * C * plan.plane)
            if plan.packed:
                deal(x, n * C, image, 0, C, False, plan)
            for group in range(first // plan.group_outputs, (last - 1) // plan.group_outputs + 1):
                o = max(first, group * plan.group_outputs)
                count = min(last, (group + 1) * plan.group_outputs) - o
                for od in range(OD):
                    g0 = ((n * O + o) * OD + od) * OH * OW
                    x0 = base + group * plan.group_inputs * plan.plane + od * QH * QW
                    dots(
                        sums,
                        o * K * width,
                        K * width,
                        count,
                        g,
                        g0,
                        OD * OH * OW,
                        image,
                        x0,
                        QW,
                        plan.x_taps,
                        K,
                        OH,
                        OW,
                    )


@kernel
def _add_parts(sums, start, count, parts, step):
    """sums[start + i] = Σ_part sums[start + part step + i]     for i < count"""
    for part in range(1, parts):
        at, other = np.uint64(start), np.uint64(start + part * step)
        for i in range(np.uint64(max(count, 0))):
            sums[at + i] += sums[other + i]


@parallel
def _sum_lanes(start, stop, partial, dw):
    parts, size, lanes = partial.shape
    lines = partial.reshape(partial.size)
    _add_parts(lines, start * lanes, (stop - start) * lanes, parts, size * lanes)
    totals(dw, start, lines, start * lanes, stop - start, lanes)


@kernel
def _block(number, plan, panels):
    """(group, first output channel, number of output channels) of a block: one panel of one group."""
    group, panel = number // panels.panels, number % panels.panels
    first = panel * panels.width
    return group, group * panels.channels + first, min(panels.width, panels.channels - first)


@parallel
def _pack(start, stop, w, bias, packed, turned, plan, panels):
    """Weights to blocks of (k, output channel) and a row of bias."""
    K, T, width = plan.K, plan.T, panels.width
    for block in range(start, stop):
        group, o, count = _block(block, plan, panels)
        at = block * (K + 1) * width
        fill(packed, at, w.dtype.type(0), (K + 1) * width)
        if turned:
            for c in range(plan.group_inputs):
                row = ((group * plan.group_inputs + c) * plan.group_outputs + o - group * panels.channels) * T
                transpose(packed, at + (c * T + T - 1) * width, -width, w, row, T, count, T)
        else:
            transpose(packed, at, width, w, o * K, K, count, K)
        copy(packed, at + K * width, 1, bias, o, 1, count)


@kernel
def _framed(scratch, x, n, N, plan):
    """(many, lead, image, base): images n ... of x begin at `base` of `image`, framed in scratch,
    or in x where none is needed.

    There are `many` of them, after `lead` places that stay empty.
    """
    many, size = min(plan.images, N - n), plan.C * plan.sizes[0] * plan.sizes[1] * plan.sizes[2]
    lead = plan.images - many
    if not plan.packed:
        return many, lead, x, (n - lead) * plan.C * plan.plane
    frame(scratch, lead * plan.C * plan.plane, x, n * size, many * plan.C, plan.sizes, plan.low, plan.grid)
    return many, lead, scratch, 0


@parallel
def _forward_outputs(start, stop, x, packed, y, scratch, products, N, parts, splits, plan, panels, relu):
    O, K, P, width = plan.O, plan.K, plan.out[0] * plan.out[1] * plan.out[2], panels.width
    groups = -(-N // plan.images)
    for task in range(start, stop):
        first, last = share(task % splits, splits, plan.groups * panels.panels)
        begin, end = share(task // splits, parts, groups)
        product = products[task]
        for n in range(begin * plan.images, min(N, end * plan.images), plan.images):
            many, lead, image, base = _framed(scratch[task], x, n, N, plan)
            for block in range(first, last):
                group, o, count = _block(block, plan, panels)
                weights, x0 = block * (K + 1) * width, base + group * plan.group_inputs * plan.plane
                for q in range(0, many * P, panels.windows):
                    rows = min(panels.windows, many * P - q)
                    panel(
                        product, 0, width, packed, weights + K * width, 0, rows,
                        image, x0, plan.positions[lead * P + q :], plan.x_terms,
                        packed, weights, width, -(-count // panels.lanes),
                    )  # fmt: skip
                    if relu:
                        rectify(product, 0, rows * width)
                    for i in range(q // P, (q + rows - 1) // P + 1):
                        p, p_end = max(q, i * P), min(q + rows, (i + 1) * P)
                        to = ((n + i) * O + o) * P + p - i * P
                        transpose(y, to, P, product, (p - q) * width, width, p_end - p, count)


@parallel
def _grad_weight_outputs(start, stop, x, g, partial, scratch, turned_scratch, N, parts, splits, plan, panels):
    O, K, P, width = plan.O, plan.K, plan.out[0] * plan.out[1] * plan.out[2], panels.width
    groups = -(-N // plan.images)
    size, blocks = (K + ROWS) * width, plan.groups * panels.panels
    for task in range(start, stop):
        first, last = share(task % splits, splits, blocks)
        begin, end = share(task // splits, parts, groups)
        turned, sums = turned_scratch[task], task // splits * blocks * size
        fill(turned, 0, x.dtype.type(0), turned.size)
        fill(partial, sums + first * size, x.dtype.type(0), (last - first) * size)
        for n in range(begin * plan.images, min(N, end * plan.images), plan.images):
            many, lead, image, base = _framed(scratch[task], x, n, N, plan)
            for block in range(first, last):
                group, o, count = _block(block, plan, panels)
                for i in range(many):
                    transpose(turned, i * P * width, width, g, ((n + i) * O + o) * P, P, count, P)
                at, x0 = sums + block * size, base + group * plan.group_inputs * plan.plane
                panel(
                    partial, at, width, partial, at, width, K,
                    image, x0, plan.x_rows, plan.positions[lead * P : plan.images * P],
                    turned, 0, width, -(-count // panels.lanes),
                )  # fmt: skip


@parallel
def _sum_and_turn(start, stop, partial, dw, parts, plan, panels):
    """dw[o, k] = Σ_part partial[part, block of o, k, o]"""
    K, width = plan.K, panels.width
    size, blocks = (K + ROWS) * width, plan.groups * panels.panels
    for block in range(blocks):
        _, o, count = _block(block, plan, panels)
        at = block * size + start * width
        _add_parts(partial, at, (stop - start) * width, parts, blocks * size)
        transpose(dw, o * K + start, K, partial, at, width, stop - start, count)


def main() -> None:
    """Validate against the reference, then time layers of LeNet and of a residual
    network, and the odd ones.
    """
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
