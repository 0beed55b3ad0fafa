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

Large convolutions of float32 by 3 x 3 taps at stride 1 multiply a quarter as often (winograd.py).
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .. import elementwise
from ..cpu import simd
from ..cpu.blas import single_threaded_blas
from ..cpu.packing import Panels, panels_of, plan_of
from ..cpu.product import product
from ..cpu.simd import ROWS
from ..cpu.slots import MOST, free, rows, tasks_of
from ..machine import memory
from ..machine.dispatch import operation
from ..machine.memory import line
from ..machine.validate import report
from ..machine.window import Window, padded, seen_by, taps, unpadded
from . import col2im, launches, loops, winograd

Array = Any

TASKS = 16
"""Tasks to aim at. A constant: cuts that decide about the order of sums, and with it about the bits, must not
depend on the machine. Others give more tasks to more threads (`tasks_of`).
"""
GRAIN = 1 << 17
"""Flops below which it is not worth while to wake another thread: a multiply-add is two."""
PARTIALS = 3 << 19
"""Elements that the partial sums of grad_weight may take."""
ALWAYS = np.empty(0, np.int64)
"""Nothing that says whether a direct kernel is needed: it is."""


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
    flops, of_one = window.flops(N, C, O), _is_of_one(window, w)
    if not of_one and 4 * prod(window.input) <= 5 * prod(window.out) and (turned := window.turned):
        return _convolve(g, w, None, turned, True, False)
    dx = memory.empty((N, C, *window.input), g.dtype, g)
    if _is_product(window):
        product(_matrix(g), _matrix(w), _matrix(dx))
        return dx
    blocks = col2im.blocks_of(window, C)
    # much to multiply for each sum that is added up
    if 32 * window.groups <= O and blocks.run * blocks.channels >= 24:
        col2im.grad_input(g, w, dx, window, _cuts(N, blocks.blocks, flops))
        return dx
    plan = plan_of(window, C, O, True)
    parts, splits, grain = _cuts(N, C // 8, flops)
    planes = memory.scratch((rows(parts * splits) if plan.packed else 0, C * plan.plane), g.dtype, g)
    if of_one:
        _, kernel, *_, dilation, _ = window.geometry
        loops.grad_input_of_one(
            parts * splits,
            grain,
            line(g),
            line(w),
            line(dx),
            planes,
            free(parts * splits, planes),
            N,
            parts,
            splits,
            plan,
            kernel,
            dilation,
        )
        return dx
    longer = plan.grid[2] > plan.out[2]
    lines = memory.scratch((rows(parts * splits) if longer else 0, plan.lead + O * plan.row), g.dtype, g)
    # (T, O, C / G)
    turned = elementwise.cast(w.reshape(*w.shape[:2], prod(window.kernel)).transpose(2, 0, 1), w.dtype)
    slots = free(parts * splits, planes, lines)
    loops.grad_input(
        parts * splits, grain, line(g), line(turned), line(dx), planes, lines, slots, N, parts, splits, plan
    )
    return dx


def _is_of_one(window: Window, w: Array) -> bool:
    """Has a group one input channel, whose taps slide along a row in registers? Enough of them, for what is
    added up goes through memory once for each row.
    """
    _, kernel, stride, _, dilation, _ = window.geometry
    near = max(stride) == dilation[2] == 1 and kernel[2] <= simd.lanes(w.itemsize) + 1
    return w.shape[1] == 1 and near and kernel[2] * (w.shape[0] // window.groups) > 4


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
    fewer = winograd.is_better(window, N, C, O, x.dtype)
    plan, panels = plan_of(window, C, O, False), panels_of(O // window.groups, x.itemsize, fewer)
    flops = window.flops(N, C, O)
    # along pixels, tiles are cut by the ends of rows
    if fewer or _cost(panels, plan.K) < 1.05 * plan.grid[2] / plan.out[2]:
        blocks, groups = plan.groups * panels.panels, -(-N // plan.images)
        # of the places of a panel
        bands = _bands(groups * blocks, flops, -(-plan.images * prod(plan.out) // panels.windows))
        parts, splits, grain = _cuts(groups, blocks * bands, flops)
        planes = memory.scratch(
            (rows(parts * splits) if plan.packed else 0, plan.images * C * plan.plane), x.dtype, x
        )
        packed = memory.scratch((plan.groups * panels.panels, (plan.K + 1) * panels.width), x.dtype, x)
        products = memory.scratch((rows(parts * splits), panels.windows * panels.width), x.dtype, x)
        loops.pack(
            packed.shape[0],
            1 + (1 << 14) // packed.shape[1],
            line(w),
            bias,
            line(packed),
            turned,
            plan,
            panels,
        )
        spoilt = winograd.forward(x, packed, y, window, panels, relu) if fewer else ALWAYS
        loops.forward_outputs(
            parts * splits,
            grain,
            line(x),
            line(packed),
            line(y),
            planes,
            products,
            free(parts * splits, planes, products),
            N,
            parts,
            splits,
            bands,
            plan,
            panels,
            relu,
            spoilt,
        )
        return y
    plan = plan_of(window, C, O, True)
    parts, splits, grain = _cuts(N, O // 8, flops)
    planes = memory.scratch((rows(parts * splits) if plan.packed else 0, C * plan.plane), x.dtype, x)
    w = _turned(w, window) if turned else w
    slots = free(parts * splits, planes)
    loops.forward_pixels(
        parts * splits, grain, line(x), line(w), bias, line(y), planes, slots, N, parts, splits, plan, relu
    )
    return y


@grad_weight.loops
def _(x: Array, g: Array, window: Window) -> Array:
    (N, C), O = x.shape[:2], g.shape[1]
    dw = memory.empty((O, C // window.groups, *window.kernel), x.dtype, x)
    if _is_product(window):
        product(_matrix(g), _matrix(x), _matrix(dw), True)
        return dw
    fewer = winograd.is_better(window, N, C, O, x.dtype, True)
    plan, panels = plan_of(window, C, O, False), panels_of(O // window.groups, x.itemsize, fewer)
    flops, width = window.flops(N, C, O), simd.lanes(x.itemsize)
    # along pixels, rows are filled up
    if not fewer and _cost(panels, plan.K) > 2.4 * width * -(-plan.out[2] // width) / plan.out[2]:
        plan = plan_of(window, C, O, True)
        parts, splits, grain = _cuts(N, O // 8, flops, min(2 * TASKS, PARTIALS // max(1, width * dw.size)))
        planes = memory.scratch((rows(parts * splits) if plan.packed else 0, C * plan.plane), x.dtype, x)
        partial = memory.scratch((parts, dw.size * width), x.dtype, x)
        slots = free(parts * splits, planes)
        loops.grad_weight_pixels(
            parts * splits, grain, line(x), line(g), line(partial), planes, slots, N, parts, splits, plan
        )
        loops.sum_lanes(dw.size, 1 << 8, partial.reshape(parts, dw.size, width), line(dw))
    else:
        blocks, block = plan.groups * panels.panels, (plan.K + ROWS) * panels.width
        most = min(TASKS // 2, -(-N // plan.images), PARTIALS // max(1, blocks * block))
        bands = _bands(most * blocks, flops, -(-plan.K // ROWS))  # of the rows of a filter
        parts, splits, grain = _cuts(-(-N // plan.images), blocks * bands, flops, most)
        planes = memory.scratch(
            (rows(parts * splits) if plan.packed else 0, plan.images * C * plan.plane), x.dtype, x
        )
        turned = memory.scratch(
            (rows(parts * splits), plan.images * prod(plan.out) * panels.width), x.dtype, x
        )
        partial = memory.scratch((parts, blocks * block), x.dtype, x)
        spoilt = winograd.grad_weight(x, g, partial, window, panels) if fewer else ALWAYS
        loops.grad_weight_outputs(
            parts * splits,
            grain,
            line(x),
            line(g),
            line(partial),
            planes,
            turned,
            free(parts * splits, planes, turned),
            N,
            parts,
            splits,
            bands,
            plan,
            panels,
            spoilt,
        )
        loops.sum_and_turn(plan.K, 64, line(partial), line(dw), parts, plan, panels, spoilt)
    return dw


forward.cuda(launches.forward)
grad_input.cuda(launches.grad_input)
grad_weight.cuda(launches.grad_weight)


def _cost(panels: Panels, K: int) -> float:
    """The time of a product with lanes along the output channels, that of one with full panels and many terms
    being 1.

    Empty lanes are in vain. A tile one register wide loads more than it multiplies. A panel is transposed
    for as much as 20 terms cost.
    """
    filled = panels.channels / (panels.panels * panels.width)
    return (1.25 if panels.width == panels.lanes else 1.0) / max(filled, 1e-9) * (1 + 20 / max(K, 1))


def _matrix(array: Array) -> Array:
    """(A, *rest) -> (A, product of the rest)"""
    return array.reshape(array.shape[0], prod(array.shape[1:]))


def _is_product(window: Window) -> bool:
    """Does the kernel cover the whole input, once? Then x (N, C · input) and w (O, C · input) meet in a
    product of matrices.
    """
    return window.kernel == window.input and window.groups == 1 and not any(window.low + window.high)


def _turned(w: Array, window: Window) -> Array:
    """(O, C / G, *kernel) -> (C, O / G, *kernel), taps in reverse: the weights of the transposed convolution
    of stride 1.
    """
    G, axes = window.groups, len(window.kernel)
    grouped = w.reshape(G, w.shape[0] // G, *w.shape[1:])[(..., *(slice(None, None, -1),) * axes)]
    return elementwise.cast(grouped.swapaxes(1, 2), w.dtype).reshape(
        w.shape[1] * G, w.shape[0] // G, *window.kernel
    )


def _cuts(N: int, blocks: int, flops: int, most: int = MOST) -> tuple[int, int, int]:
    """(parts of the batch, at most so many; parts of the blocks of channels; grain). The sums of a filter
    gradient are those of its parts of the batch: `most` is what its shape says.
    """
    parts = max(1, min(N, tasks_of(flops, 2 * TASKS), most))
    splits = max(1, min(tasks_of(flops, TASKS // 2) // parts, blocks))
    return parts, splits, 1 + parts * splits * GRAIN // max(flops, 1)


def _bands(blocks: int, flops: int, most: int) -> int:
    """Into how many the work on each block of channels is cut, where blocks are too few for many threads."""
    tasks = tasks_of(flops, TASKS // 2)
    return max(1, min(most, -(-tasks // max(1, blocks)))) if tasks > TASKS // 2 else 1


def main() -> None:
    """Validate against the reference, then time layers of LeNet and of a residual network, and the odd
    ones.
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
