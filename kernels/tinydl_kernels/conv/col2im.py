"""The input gradient of a convolution as a product of matrices whose results are added up where windows
overlap (col2im).

    columns[p, (t, c)] = Σ_o g[o, p] · w[o, c, t]             p a window, t a tap, c a channel
    dx[position[p] + tap[t], c] += columns[p, (t, c)]

No multiplication is in vain, whatever the stride, and lanes are full where a kernel has many weights per
output channel. The channels of dx are innermost meanwhile, so that taps side by side are one stretch of
dx as they are one of columns:

    columns[p]   | t0 c0 c1 c2 | t1 c0 c1 c2 | t2 c0 c1 c2 |
                 v             v             v             v
    dx     ...   | x0 c0 c1 c2 | x1 c0 c1 c2 | x2 c0 c1 c2 | x3 ...

Channels are taken in blocks of a group, so that the weights of a block and its columns stay in the caches.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..cpu.compiler import kernel, parallel, share
from ..cpu.packing import panels_of, plan_of
from ..cpu.simd import ROWS
from ..cpu.slots import free, give_back, rows, take
from ..cpu.tiles import add_rows, copy, fill, panel, transpose
from ..machine import memory
from ..machine.memory import line
from ..machine.window import Window

Array = Any

HEIGHT = 4 * ROWS
"""Windows whose columns are computed before they are added up."""
WIDTH = 768
"""Columns of a block of channels at most."""


class Blocks(NamedTuple):
    """How the channels of dx are taken."""

    blocks: int  # of all groups
    of_group: int
    channels: int  # of a block; the last of a group may have fewer
    run: int  # taps that lie side by side


def blocks_of(window: Window, C: int) -> Blocks:
    """The fewest blocks, as even as can be."""
    of_group = C // window.groups
    channels = -(-of_group // max(1, -(-of_group * prod(window.kernel) // WIDTH)))
    blocks = -(-of_group // max(1, channels))
    return Blocks(
        window.groups * blocks, blocks, channels, window.kernel[-1] if window.dilation[-1] == 1 else 1
    )


def grad_input(g: Array, w: Array, dx: Array, window: Window, cuts: tuple[int, int, int]) -> None:
    """dx (N, C, *input) of g (N, O, *out) and w (O, C / G, *kernel); `cuts`: parts of the batch, parts of the
    blocks, grain.
    """
    (N, C), O = dx.shape[:2], g.shape[1]
    plan, blocks = plan_of(window, C, O, False), blocks_of(window, C)
    panels = panels_of(blocks.channels * plan.T, g.itemsize)
    parts, splits, grain = cuts
    tasks, height = parts * splits, min(HEIGHT, -(-prod(plan.out) // ROWS) * ROWS)
    packed = memory.scratch(
        (blocks.blocks, panels.panels * (plan.group_outputs + 1) * panels.width), w.dtype, w
    )
    row = memory.scratch((blocks.blocks, panels.panels * panels.width), w.dtype, w)
    columns = memory.scratch((rows(tasks), height * panels.panels * panels.width), g.dtype, g)
    planes = memory.scratch((rows(tasks), plan.plane * blocks.channels), g.dtype, g)
    places = memory.scratch((rows(tasks), plan.group_outputs + HEIGHT + ROWS), np.int64, g)
    slots = free(tasks, columns, planes)
    _pack(
        blocks.blocks,
        1 + (1 << 16) * blocks.blocks // max(1, w.size),
        line(w),
        packed,
        row,
        plan,
        blocks,
        panels,
    )
    lines = line(g), line(packed), line(dx)
    _columns(tasks, grain, *lines, columns, planes, places, slots, N, parts, splits, plan, blocks, panels)


@kernel
def _block(number, plan, blocks):
    """(group, first channel in it, number of channels) of a block."""
    group, c = number // blocks.of_group, number % blocks.of_group * blocks.channels
    return group, c, min(blocks.channels, plan.group_inputs - c)


@parallel
def _pack(start, stop, w, packed, row, plan, blocks, panels):
    """Weights to panels of (o, (t, c)), with a row of zeros at the end of each."""
    T, O, width = plan.T, plan.group_outputs, panels.width
    for block in range(start, stop):
        group, c, count = _block(block, plan, blocks)
        fill(packed[block], 0, w.dtype.type(0), packed.shape[1])
        for o in range(O):
            transpose(row[block], 0, count, w, ((group * O + o) * plan.group_inputs + c) * T, T, count, T)
            for number in range(panels.panels):
                some = min(width, count * T - number * width)
                copy(
                    packed[block],
                    (number * (O + 1) + o) * width,
                    1,
                    row[block],
                    number * width,
                    1,
                    some,
                )


@parallel
def _columns(
    start, stop, g, packed, dx, columns, planes, places, slots, N, parts, splits, plan, blocks, panels
):
    C, O, T, P, width = (
        plan.C,
        plan.group_outputs,
        plan.T,
        plan.out[0] * plan.out[1] * plan.out[2],
        panels.width,
    )
    step, weights = panels.panels * width, panels.panels * (O + 1) * width
    for task in range(start, stop):
        slot = take(slots, task)
        sums, plane, terms, rows_of_g = columns[slot], planes[slot], places[slot, :O], places[slot, O:]
        for o in range(O):
            terms[o] = o * P
        first, last = share(task % splits, splits, blocks.blocks)
        begin, end = share(task // splits, parts, N)
        for block in range(first, last):
            group, c, count = _block(block, plan, blocks)
            for n in range(begin, end):
                fill(plane, 0, g.dtype.type(0), plan.plane * count)
                for p in range(0, P, HEIGHT):
                    rows = min(HEIGHT, P - p)
                    for i in range(rows + ROWS):
                        # tiles read a row too many, but none that is not there
                        rows_of_g[i] = min(i, rows - 1)
                    for number in range(-(-count * T // width)):
                        at = block * weights + number * (O + 1) * width
                        panel(
                            sums, number * width, step, packed, at + O * width, 0, rows,
                            g, (n * plan.O + group * O) * P + p, rows_of_g, terms,
                            packed, at, width, -(-min(width, count * T - number * width) // panels.lanes),
                        )  # fmt: skip
                    for t in range(0, T, blocks.run):
                        add_rows(
                            plane, plan.x_terms[t] * count, plan.positions, p, count,
                            sums, t * count, step, rows, blocks.run * count, blocks.run,
                        )  # fmt: skip
                _turn(dx, n * C + group * plan.group_inputs + c, plane, count, plan)
        give_back(slots, slot)


@kernel
def _turn(dx, channel, plane, count, plan):
    """A plane with `count` channels innermost to that many planes of dx, without the pads; zeros where no
    window reaches.
    """
    (D, H, W), (QD, QH, QW), low = plan.sizes, plan.grid, plan.low
    at, size = channel * D * H * W, D * H * W
    if not plan.packed:
        transpose(dx, at, size, plane, 0, count, size, count)
        return
    fill(dx, at, dx.dtype.type(0), count * size)
    for d in range(min(D, QD - low[0])):
        for h in range(min(H, QH - low[1])):
            source = ((d + low[0]) * QH + h + low[1]) * QW + low[2]
            transpose(
                dx, at + (d * H + h) * W, size, plane, source * count, count, min(W, QW - low[2]), count
            )
