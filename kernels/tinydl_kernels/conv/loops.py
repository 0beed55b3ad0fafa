"""The outer loops of convolution on the processor.

Per task, its part of the batch and of the channels; per image, the groups that have some of these.
"""

from __future__ import annotations

import numpy as np

from ..cpu.compiler import kernel, parallel, share
from ..cpu.packing import deal, frame, lengthen
from ..cpu.simd import ROWS
from ..cpu.sliding import slide
from ..cpu.slots import give_back, take
from ..cpu.tiles import copy, dots, fill, multiply_add, panel, rectify, totals, transpose


@parallel
def forward_pixels(start, stop, x, w, bias, y, scratch, slots, N, parts, splits, plan, relu):
    C, O, K = plan.C, plan.O, plan.K
    (OD, OH, OW), (_, QH, QW) = plan.out, plan.grid
    gap, period = QW - OW, QW if QW > OW else plan.length
    for task in range(start, stop):
        slot = take(slots, task)
        first, last = share(task % splits, splits, O)
        begin, end = share(task // splits, parts, N)
        for n in range(begin, end):
            image, base = (scratch[slot], 0) if plan.packed else (x, n * C * plan.plane)
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
        give_back(slots, slot)


@parallel
def grad_input(start, stop, g, w, dx, scratch, row_scratch, slots, N, parts, splits, plan):
    C, O = plan.C, plan.O
    (OD, OH, OW), (_, QH, QW) = plan.out, plan.grid
    none, lead = w[:0], plan.lead
    for task in range(start, stop):
        slot = take(slots, task)
        first, last = share(task % splits, splits, C)
        begin, end = share(task // splits, parts, N)
        if QW > OW:
            fill(row_scratch[slot], 0, w.dtype.type(0), lead)
        for n in range(begin, end):
            image, base = (scratch[slot], 0) if plan.packed else (dx, n * C * plan.plane)
            rows, g_base = (row_scratch[slot], lead) if QW > OW else (g, n * O * plan.row)
            if QW > OW:
                lengthen(g, n * O * OD * OH * OW, rows, lead, O * OD * OH, OW, QW)
            fill(image, base + first * plan.plane, w.dtype.type(0), (last - first) * plan.plane)
            for group in range(first // plan.group_inputs, (last - 1) // plan.group_inputs + 1):
                c = max(first, group * plan.group_inputs)
                count = min(last, (group + 1) * plan.group_inputs) - c
                w0 = (group * plan.group_outputs - group) * plan.group_inputs + c
                for od in range(OD):
                    g0 = g_base + group * plan.group_outputs * plan.row + od * OH * QW
                    for line in range(plan.lines.size):
                        y0 = base + c * plan.plane + od * QH * QW + plan.lines[line]
                        a, b = plan.line_ends[line], plan.line_ends[line + 1]
                        multiply_add(
                            image, y0, plan.plane, count, 0, plan.length + lead, w, w0, 1, plan.line_w[a:b],
                            rows, g0, plan.line_g[a:b], none, 0, plan.length + lead,
                        )  # fmt: skip
            if plan.packed:
                deal(dx, n * C, image, first, last, True, plan)
        give_back(slots, slot)


@parallel
def grad_input_of_one(start, stop, g, w, dx, scratch, slots, N, parts, splits, plan, kernel_sizes, steps):
    """grad_input where a group has one input channel, taps are neighbours along W, and strides are 1."""
    C, O, T = plan.C, plan.O, plan.T
    (OD, OH, OW), (_, QH, QW) = plan.out, plan.grid
    KD, KH, KW = kernel_sizes
    for task in range(start, stop):
        slot = take(slots, task)
        first, last = share(task % splits, splits, C)
        begin, end = share(task // splits, parts, N)
        for n in range(begin, end):
            image, base = (scratch[slot], 0) if plan.packed else (dx, n * C * plan.plane)
            fill(image, base + first * plan.plane, w.dtype.type(0), (last - first) * plan.plane)
            for c in range(first, last):
                o = c * plan.group_outputs
                for row in range(OD * OH):
                    y0 = base + c * plan.plane + (row // OH * QH + row % OH) * QW
                    for kd in range(KD):
                        slide(
                            image, y0 + kd * steps[0] * QH * QW, steps[1] * QW, KH, OW + KW - 1,
                            w, o * T + kd * KH * KW, KW, T, 1, KW,
                            g, ((n * O + o) * OD * OH + row) * OW, OD * OH * OW, plan.group_outputs, OW,
                        )  # fmt: skip
            if plan.packed:
                deal(dx, n * C, image, first, last, True, plan)
        give_back(slots, slot)


@parallel
def grad_weight_pixels(start, stop, x, g, partial, scratch, slots, N, parts, splits, plan):
    C, O, K = plan.C, plan.O, plan.K
    (OD, OH, OW), (_, QH, QW) = plan.out, plan.grid
    width = partial.size // max(1, parts * O * K)
    for task in range(start, stop):
        slot = take(slots, task)
        first, last = share(task % splits, splits, O)
        begin, end = share(task // splits, parts, N)
        sums = partial[task // splits * O * K * width : (task // splits + 1) * O * K * width]
        fill(sums, first * K * width, x.dtype.type(0), (last - first) * K * width)
        for n in range(begin, end):
            image, base = (scratch[slot], 0) if plan.packed else (x, n * C * plan.plane)
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
        give_back(slots, slot)


@kernel
def _add_parts(sums, start, count, parts, step):
    """sums[start + i] = Σ_part sums[start + part step + i]     for i < count"""
    for part in range(1, parts):
        at, other = np.uint64(start), np.uint64(start + part * step)
        for i in range(np.uint64(max(count, 0))):
            sums[at + i] += sums[other + i]


@parallel
def sum_lanes(start, stop, partial, dw):
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
def pack(start, stop, w, bias, packed, turned, plan, panels):
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
    """(many, lead, image, base): images n ... of x begin at `base` of `image`, framed in scratch, or in x
    where none is needed.

    There are `many` of them, after `lead` places that stay empty.
    """
    many, size = min(plan.images, N - n), plan.C * plan.sizes[0] * plan.sizes[1] * plan.sizes[2]
    lead = plan.images - many
    if not plan.packed:
        return many, lead, x, (n - lead) * plan.C * plan.plane
    frame(scratch, lead * plan.C * plan.plane, x, n * size, many * plan.C, plan.sizes, plan.low, plan.grid)
    return many, lead, scratch, 0


@kernel
def _is_done(spoilt):
    """Has a quicker way (winograd.py) been tried, and are its results all right? Without a word of it: no."""
    done = spoilt.size > 0
    for i in range(spoilt.size):
        done = done and spoilt[i] == 0
    return done


@parallel
def forward_outputs(
    start, stop, x, packed, y, scratch, products, slots, N, parts, splits, bands, plan, panels, relu, spoilt
):
    if _is_done(spoilt):
        return
    O, K, P, width = plan.O, plan.K, plan.out[0] * plan.out[1] * plan.out[2], panels.width
    groups = -(-N // plan.images)
    for task in range(start, stop):
        slot = take(slots, task)
        first, last = share(task % splits, splits, plan.groups * panels.panels * bands)
        begin, end = share(task // splits, parts, groups)
        product = products[slot]
        for n in range(begin * plan.images, min(N, end * plan.images), plan.images):
            many, lead, image, base = _framed(scratch[slot], x, n, N, plan)
            for number in range(first, last):
                block = number // bands
                at, end_at = share(number % bands, bands, -(-many * P // panels.windows))
                group, o, count = _block(block, plan, panels)
                weights, x0 = block * (K + 1) * width, base + group * plan.group_inputs * plan.plane
                for q in range(at * panels.windows, min(many * P, end_at * panels.windows), panels.windows):
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
        give_back(slots, slot)


@kernel
def _rows(band, bands, K):
    """(the first, the number) of those of K rows that fall to a band: whole tiles, as a panel spoils the rest
    of its last one.
    """
    first, end = share(band, bands, -(-K // ROWS))
    return first * ROWS, min(K, end * ROWS) - first * ROWS


@parallel
def grad_weight_outputs(
    start, stop, x, g, partial, scratch, turned_scratch, slots, N, parts, splits, bands, plan, panels, spoilt
):
    if _is_done(spoilt):
        return
    O, K, P, width = plan.O, plan.K, plan.out[0] * plan.out[1] * plan.out[2], panels.width
    groups = -(-N // plan.images)
    size, blocks = (K + ROWS) * width, plan.groups * panels.panels
    for task in range(start, stop):
        slot = take(slots, task)
        first, last = share(task % splits, splits, blocks * bands)
        begin, end = share(task // splits, parts, groups)
        turned, sums = turned_scratch[slot], task // splits * blocks * size
        fill(turned, 0, x.dtype.type(0), turned.size)
        for number in range(first, last):
            k, rows = _rows(number % bands, bands, K)
            fill(partial, sums + number // bands * size + k * width, x.dtype.type(0), rows * width)
        for n in range(begin * plan.images, min(N, end * plan.images), plan.images):
            many, lead, image, base = _framed(scratch[slot], x, n, N, plan)
            for number in range(first, last):
                block, (k, rows) = number // bands, _rows(number % bands, bands, K)
                group, o, count = _block(block, plan, panels)
                for i in range(many):
                    transpose(turned, i * P * width, width, g, ((n + i) * O + o) * P, P, count, P)
                at, x0 = sums + block * size + k * width, base + group * plan.group_inputs * plan.plane
                panel(
                    partial, at, width, partial, at, width, rows,
                    image, x0, plan.x_rows[k:], plan.positions[lead * P : plan.images * P],
                    turned, 0, width, -(-count // panels.lanes),
                )  # fmt: skip
        give_back(slots, slot)


@parallel
def sum_and_turn(start, stop, partial, dw, parts, plan, panels, spoilt):
    """dw[o, k] = Σ_part partial[part, block of o, k, o]; of one part, if the quicker way is done"""
    parts = 1 if _is_done(spoilt) else parts
    K, width = plan.K, panels.width
    size, blocks = (K + ROWS) * width, plan.groups * panels.panels
    for block in range(blocks):
        _, o, count = _block(block, plan, panels)
        at = block * size + start * width
        _add_parts(partial, at, (stop - start) * width, parts, blocks * size)
        transpose(dw, o * K + start, K, partial, at, width, stop - start, count)
