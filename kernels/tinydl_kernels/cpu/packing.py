"""How a convolution packs its images. Every window becomes one of stride 1 without padding, in which a tap is
an offset:

    planes    a channel of x is dealt out, pads included, to a plane per phase (position modulo stride). Along
              W, stride 2:

                  . x0 x1 x2 x3 x4 x5 .    ->    . x1 x3 x5 | x0 x2 x4 .
                                                  phase 0       phase 1

    rows      the outputs stand in rows as long as a plane's, so some columns are garbage:

                  y y y y *                      what tap t reads for output p, it finds at offset[t] + p
                  y y y y *

    T(x, w, g) = Σ  g[o, p] · w[o, k] · planes[offset[k] + p],  k = (c, t):
            products of matrices, lanes along p

With lanes along o instead, nothing asks for p in a row: a plane is the image with its pads, and
window p begins at position[p].

    lines     what taps that read neighbours along W add to dx is one sum, where channels are few: tap number
              s of a line takes g from s places before. The zeros at the ends of lengthened rows, and
              before the first, are as many as the lead of the last tap. Else each tap is a line.

In y and in sums over g a garbage column is dropped. In g, where dx is made of it, it is zero, as pads are in
x and in g: so an infinite w may make NaN of entries of dx that do not depend on it, as 0 · inf is NaN.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from ..machine.window import Sizes, Window, taps
from . import simd
from .compiler import kernel
from .simd import ROWS, lanes, many_registers, most_vectors
from .tiles import BLOCK, copy, fill, pad

WINDOWS = 256
"""Windows of small images that lie in planes together."""
FEW = 8
"""Input channels of a group up to which taps are added up in lines: a tile of multiply_add."""


class Plan(NamedTuple):
    """How a window is packed. Sizes are per axis (D, H, W)."""

    sizes: Sizes  # of an image
    low: Sizes
    stride: Sizes
    phases: Sizes  # the positions modulo the stride that some tap reads
    grid: Sizes  # of one phase's plane
    out: Sizes
    groups: int
    C: int
    O: int
    K: int  # weights of an output channel
    T: int  # taps
    group_inputs: int  # channels
    group_outputs: int
    plane: int  # elements that a channel's planes take
    length: int  # positions from the first output of a plane to its last, in rows as long as the grid's
    row: int  # elements that an output channel takes in rows as long as the grid's
    images: int  # that lie in planes together
    packed: bool  # are images copied into planes? Else an image is its own
    # Where things begin:
    x_terms: np.ndarray  # (K,) the input of weight k, from its group's first plane on
    x_taps: np.ndarray  # the same and a few zeros
    w_terms: np.ndarray  # (K,) weight k of an output channel
    lead: int  # places from the first tap of a line to its last
    lines: np.ndarray  # the first place of a plane that a line of taps reaches
    line_ends: np.ndarray  # (lines + 1,) the first of its terms, and after the last line
    line_w: np.ndarray  # (T · group_outputs,) a term of a line in weights (T, O, group_inputs)
    line_g: np.ndarray  # (T · group_outputs,) and in lengthened rows
    x_rows: np.ndarray  # x_terms and then zeros, for the last tile of rows
    positions: np.ndarray  # (images · windows,) a window in the planes of several images, and then the last


@lru_cache(maxsize=1024)
def plan_of(window: Window, C: int, O: int, phased: bool) -> Plan:
    """How images of C channels are packed for a convolution to O channels.

    Not phased, the stride is one of the windows: a plane is an image with its pads, and several may lie
    together.
    """
    sizes, kernel, stride, low, dilation, out = window.geometry
    hop, stride = ((1, 1, 1), stride) if phased else (stride, (1, 1, 1))  # from window to window in a plane
    reach = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    phases = tuple(min(s, r + 1) for s, r in zip(stride, reach, strict=True))
    grid = tuple(r // s + (o - 1) * h + 1 for r, s, o, h in zip(reach, stride, out, hop, strict=True))
    if not phased and not any(low) and all(q <= s for q, s in zip(grid, sizes, strict=True)):
        grid = sizes  # an image is its own plane, even where it is larger than windows need
    plane, row = prod(phases) * prod(grid), out[0] * out[1] * grid[2]
    group_inputs, group_outputs, T = C // window.groups, O // window.groups, prod(kernel)
    offsets, lines = [], dict[int, list[tuple[int, int]]]()
    for t, tap in enumerate(taps(kernel)):
        steps = [(i * d, s) for i, d, s in zip(tap, dilation, stride, strict=True)]
        place = [step % s for step, s in steps] + [step // s for step, s in steps]
        offsets.append(np.ravel_multi_index(place, phases + grid))
        shift = place[-1] if group_inputs <= FEW else 0
        lines.setdefault(int(offsets[-1]) - shift, []).append((t, shift))
    number, shifts = np.array([tap for line in lines.values() for tap in line], np.int64).reshape(-1, 2).T
    outputs = np.arange(group_outputs)
    images = 1 if phased else max(1, WINDOWS // prod(out))
    steps_of_grid = np.array([grid[1] * grid[2], grid[2], 1])
    positions = np.indices(out).reshape(3, -1).T @ (steps_of_grid * hop)
    x_terms = np.add.outer(np.arange(group_inputs) * plane, np.array(offsets, np.int64)).reshape(-1)
    return Plan(
        sizes=sizes,
        low=low,
        stride=stride,
        phases=phases,
        grid=grid,
        out=out,
        groups=window.groups,
        C=C,
        O=O,
        K=group_inputs * T,
        T=T,
        group_inputs=group_inputs,
        group_outputs=group_outputs,
        plane=plane,
        length=(out[1] - 1) * grid[2] + out[2],
        row=row,
        images=images,
        packed=max(stride) > 1 or any(low) or grid != sizes,
        x_terms=x_terms,
        x_taps=np.append(x_terms, np.zeros(8, np.int64)),
        w_terms=np.arange(group_inputs * T),
        lead=max(shifts, default=0),
        lines=np.array([*lines], np.int64),
        line_ends=np.cumsum([0, *map(len, lines.values())]) * group_outputs,
        line_w=np.add.outer(number * O, outputs).reshape(-1) * group_inputs,
        line_g=np.add.outer(-shifts, outputs * row).reshape(-1),
        x_rows=np.append(x_terms, np.zeros(ROWS, np.int64)),
        positions=np.pad(
            np.add.outer(np.arange(images) * (C * plane), positions).reshape(-1), (0, ROWS), "edge"
        ),
    )


class Panels(NamedTuple):
    """How the output channels of a group lie in the lanes of panels of equal width."""

    channels: int  # of a group
    lanes: int  # of a register
    panels: int  # of a group
    width: int  # of a panel in lanes; of the last panel some registers may be left out
    windows: int  # that forward works on before it transposes: as many as panel has at a time, in whole tiles


@lru_cache(maxsize=256)
def panels_of(channels: int, itemsize: int, fewest: bool = False) -> Panels:
    """The fewest panels, as narrow as can be; unless they must be the fewest, a register less wide if few
    lanes more are empty then: that tile is faster.
    """
    width = lanes(itemsize)
    needed = max(1, -(-channels // width))
    wide, narrow = (-(-needed // -(-needed // most)) for most in (most_vectors(), most_vectors() - 1))
    vectors = (
        narrow
        if many_registers()
        and not fewest
        and 27 * narrow * -(-needed // narrow) < 29 * wide * -(-needed // wide)
        else wide
    )
    count = -(-needed // vectors)
    return Panels(channels, width, count, vectors * width, -(-BLOCK // vectors // ROWS) * ROWS)


def _frame_plainly(to, to0, source, source0, planes, sizes, low, grid):
    D, H, W = sizes
    for c in range(planes):
        for d in range(grid[0]):
            for h in range(grid[1]):
                for w in range(grid[2]):
                    i, j, k = d - low[0], h - low[1], w - low[2]
                    inside = 0 <= i < D and 0 <= j < H and 0 <= k < W
                    at = to0 + ((c * grid[0] + d) * grid[1] + h) * grid[2] + w
                    to[at] = source[source0 + ((c * D + i) * H + j) * W + k] if inside else to.dtype.type(0)


@kernel
def _copy_rows(to, to0, to_step, source, source0, source_step, rows, n):
    """to[to0 + i to_step + p] = source[source0 + i source_step + p]     for i < rows, p < n, and zeros for
    n <= p < to_step; from pointer to pointer.
    """
    lanes = simd.width(to)
    whole, gap, zeros = n - n % lanes, to_step - n, simd.load(1, 1, to, to0, 0, None, 0)
    for i in range(rows):
        at, row = to0 + i * to_step, source0 + i * source_step
        for p in range(0, whole, lanes):
            simd.store(simd.load(1, 1, source, row + p, 0, None, None), to, at + p, 0, None, None)
        if whole < n:
            rest = simd.load(1, 1, source, row + whole, 0, None, n - whole)
            simd.store(rest, to, at + whole, 0, None, n - whole)
        for p in range(0, gap, lanes):
            simd.store(zeros, to, at + n + p, 0, None, gap - p)


@simd.vectorized(_frame_plainly)
def frame(to, to0, source, source0, planes, sizes, low, grid):
    """Planes of `sizes` (D, H, W) to planes of `grid`, `low` positions further in, with zeros around; what is
    beyond is cut.
    """
    (D, H, W), (QD, QH, QW), zero = sizes, grid, to.dtype.type(0)
    top, left = max(0, low[1]), max(0, low[2])
    rows, n = min(QH, low[1] + H) - top, min(QW, low[2] + W) - left
    if rows <= 0 or n <= 0:
        fill(to, to0, zero, planes * QD * QH * QW)
        return
    before = top * QW + left  # the zeros before the first row; the last row has `left` zeros too many
    for c in range(planes):
        for d in range(QD):
            i, at = d - low[0], to0 + (c * QD + d) * QH * QW
            if not 0 <= i < D:
                fill(to, at, zero, QH * QW)
                continue
            first = source0 + ((c * D + i) * H + top - low[1]) * W + left - low[2]
            fill(to, at, zero, before)
            _copy_rows(simd.pointer(to, at + before), 0, QW, simd.pointer(source, first), 0, W, rows - 1, n)
            _copy_rows(
                simd.pointer(to, at + before + (rows - 1) * QW), 0, QW - left,
                simd.pointer(source, first + (rows - 1) * W), 0, W, 1, n,
            )  # fmt: skip
            fill(to, at + (top + rows) * QW, zero, (QH - top - rows) * QW)


@kernel
def deal(images, at_channel, planes, first, last, back, plan):
    """Copy channels of images (channel · D · H · W) to planes (channel · phases · grid), with zeros for pads.

    With `back` the other way round: planes to images, without the pads. Plane c, for first <= c < last, is
    that of channel at_channel + c.
    """
    D, H, W = plan.sizes
    QD, QH, QW = plan.grid
    if plan.phases == (1, 1, 1) and plan.stride == (1, 1, 1) and not back:
        frame(
            planes,
            first * plan.plane,
            images,
            (at_channel + first) * D * H * W,
            last - first,
            plan.sizes,
            plan.low,
            plan.grid,
        )
        return
    stride, zero = plan.stride[2], images.dtype.type(0)
    if back:
        # what no window reaches stays so
        fill(images, (at_channel + first) * D * H * W, zero, (last - first) * D * H * W)
    at = first * plan.plane
    for c in range(first, last):
        for fd in range(plan.phases[0]):
            for fh in range(plan.phases[1]):
                for fw in range(plan.phases[2]):
                    shift = plan.low[2] - fw  # w = q stride - shift lies in the image for q from begin to end
                    begin = min(QW, max(0, -(-shift // stride)))
                    end = max(begin, min(QW, -(-(W + shift) // stride)))
                    for qd in range(QD):
                        d = qd * plan.stride[0] + fd - plan.low[0]
                        for qh in range(QH):
                            h = qh * plan.stride[1] + fh - plan.low[1]
                            count = end - begin if 0 <= d < D and 0 <= h < H else 0
                            row = (
                                (((at_channel + c) * D + d) * H + h) * W + begin * stride - shift
                                if count
                                else 0
                            )
                            if back and stride == 1:
                                pad(images, row, count, planes, at + begin, 0, count)
                            elif back:
                                copy(images, row, stride, planes, at + begin, 1, count)
                            else:
                                fill(planes, at, zero, QW)
                                copy(planes, at + begin, 1, images, row, stride, count)
                            at += QW


@kernel
def lengthen(g, g0, rows, rows0, count, OW, QW):
    """`count` rows of OW to rows of QW, zeros at their ends."""
    for r in range(count):
        pad(rows, rows0 + r * QW, QW, g, g0 + r * OW, 0, OW)
