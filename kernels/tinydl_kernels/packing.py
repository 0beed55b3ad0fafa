"""How a convolution packs its images. Every window becomes one of stride 1 without padding, in which a tap is an offset:

    planes    a channel of x is dealt out, pads included, to a plane per phase (position modulo stride). Along W, stride 2:

                  . x0 x1 x2 x3 x4 x5 .    ->    . x1 x3 x5 | x0 x2 x4 .
                                                  phase 0       phase 1

    rows      the outputs stand in rows as long as a plane's, so some columns are garbage:

                  y y y y *                      what tap t reads for output p, it finds at offset[t] + p
                  y y y y *

    T(x, w, g) = Σ  g[o, p] · w[o, k] · planes[offset[k] + p],  k = (c, t):     products of matrices, lanes along p

In y a garbage column is dropped, in g it is zero. As 0 · inf is NaN, an infinite x (or w) may so make NaN of entries of dw (or
dx) that do not depend on it.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from .compiler import kernel
from .tiles import copy, fill
from .window import Sizes, Window, taps

LANES = 512
"""Positions of a chunk of rows: four accumulators of it stay in the first cache."""


class Plan(NamedTuple):
    """How a window is packed. Sizes are per axis (D, H, W)."""

    sizes: Sizes  # of an image
    low: Sizes
    stride: Sizes
    phases: Sizes  # the positions modulo the stride that some tap reads
    grid: Sizes  # of one phase's plane
    out: Sizes
    groups: int
    group_inputs: int  # channels
    group_outputs: int
    plane: int  # elements that a channel's planes take
    row: int  # elements that an output channel takes in rows as long as the grid's
    chunk: int  # rows of outputs that are worked on together
    packed: bool  # is an image copied into planes? Else it is its own
    x_offsets: np.ndarray  # (K,): where weight k of a group finds its input, from the group's first plane on
    g_offsets: np.ndarray  # (group_outputs,): where the group's output channels begin

    @property
    def lanes(self) -> int:
        """The longest run of positions in a chunk."""
        return (self.chunk - 1) * self.grid[2] + self.out[2]


@lru_cache(maxsize=1024)
def plan_of(window: Window, C: int, O: int) -> Plan:
    """How images of C channels are packed for a convolution to O channels."""
    sizes, kernel, stride, low, dilation, out = window.geometry
    reach = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    phases = tuple(min(s, r + 1) for s, r in zip(stride, reach, strict=True))
    grid = tuple(r // s + o for r, s, o in zip(reach, stride, out, strict=True))
    plane, row = prod(phases) * prod(grid), out[0] * out[1] * grid[2]
    offsets = []
    for tap in taps(kernel):
        steps = [(t * d, s) for t, d, s in zip(tap, dilation, stride, strict=True)]
        place = [step % s for step, s in steps] + [step // s for step, s in steps]
        offsets.append(np.ravel_multi_index(place, phases + grid))
    group_inputs, group_outputs = C // window.groups, O // window.groups
    chunks = -(-out[1] * grid[2] // LANES)
    return Plan(
        sizes=sizes,
        low=low,
        stride=stride,
        phases=phases,
        grid=grid,
        out=out,
        groups=window.groups,
        group_inputs=group_inputs,
        group_outputs=group_outputs,
        plane=plane,
        row=row,
        chunk=-(-out[1] // chunks),
        packed=max(stride) > 1 or any(low) or grid != sizes,
        x_offsets=np.add.outer(np.arange(group_inputs) * plane, np.array(offsets, np.int64)).reshape(-1),
        g_offsets=np.arange(group_outputs) * row,
    )


@kernel
def deal(image, planes, back, first, last, plan):
    """Channels [first, last) of an image (C · D · H · W) to planes (C · phases · grid), pads as zeros; `back`: the reverse."""
    D, H, W = plan.sizes
    QD, QH, QW = plan.grid
    stride = plan.stride[2]
    zero = image.dtype.type(0)
    if back:
        fill(image, first * D * H * W, zero, (last - first) * D * H * W)  # what no window reaches stays so
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
                            begin_here, end_here = (begin, end) if 0 <= d < D and 0 <= h < H else (QW, QW)
                            source = ((c * D + d) * H + h) * W + begin_here * stride - shift
                            if back:
                                copy(image, source, stride, planes, at + begin_here, 1, end_here - begin_here)
                            else:
                                fill(planes, at, zero, begin_here)
                                copy(planes, at + begin_here, 1, image, source, stride, end_here - begin_here)
                                fill(planes, at + end_here, zero, QW - end_here)
                            at += QW


@kernel
def lengthen(g, rows, OW, QW):
    """Rows of OW to rows of QW, the garbage columns zero."""
    for r in range(g.size // OW):
        copy(rows, r * QW, 1, g, r * OW, 1, OW)
        fill(rows, r * QW + OW, g.dtype.type(0), QW - OW)
