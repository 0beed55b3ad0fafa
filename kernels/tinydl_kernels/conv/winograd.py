"""Convolution by 3 x 3 taps at stride 1 with a quarter of the multiplications (points.py): float32, one
group.

    y[t, o]  = Aᵀ [ Σ_c  U[o, c] ⊙ V[t, c] ] A        t a tile of an image, V = Bᵀ x B; U = G w Gᵀ of a filter
    dw[o, c] = Gᵀ [ Σ_t  Z[t, o] ⊙ V[t, c] ] G        Z = A g Aᵀ, over all tiles of all images

In each of the 36 points the sum is a product of matrices, made by the tile that the direct kernels use too
(`panel`). Lanes run along channels all the way, so a transform is sums of whole registers, and images are
turned once on the way in and once on the way out:

    x  --turn-->  a band framed by zeros  --Bᵀ x B-->  V[point, tile, c]
                                                           |  panel: times U[point, panel, c, o]
    y  <--turn--  a band of y             <--Aᵀ M A--  M[point, tile, o]

A band is a few rows of tiles of one image. Bands make a block, whose V and M stay in the second cache, and a
task makes its blocks one after the other. At the lower and right ends tiles overhang; what they compute there
is dropped.

The promise: errors at most 5 times those of the direct kernel as root of the mean square, the largest at most
10 times; measured, 1.5 to 4 times.

An overflow on the way, which the direct sum might not have, ends in a result that is not finite; so do NaN
and infinities. `spoilt` says for each task whether there was one; then the direct kernel runs in addition.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..cpu.compiler import kernel, parallel, share
from ..cpu.packing import Panels
from ..cpu.simd import ROWS
from ..cpu.slots import free, give_back, rows, take, tasks_of
from ..cpu.tiles import fill, panel, transpose
from ..machine import memory
from ..machine.memory import line
from ..machine.window import Window
from .points import (
    POINTS,
    SIDE,
    TAPS,
    output_of_points,
    points_of_input,
    points_of_output,
    points_of_taps,
    taps_of_points,
)

Array = Any

TASKS = 16
"""Tasks to aim at: a constant where cuts decide in which order filter gradients are added up."""
TILES = 48
"""Tiles of a block: enough to make up for loading U."""
BAND = 24
"""Tiles of a band of several rows, at most."""
FEW = 4 * TILES
"""Tiles below which the filter gradient is the direct sum of few terms, which is too exact to be matched."""
SHORT = 16
"""Tiles that are summed up before they are added to the filter gradient: a long sum is less exact."""
PARTIALS = 3 << 20
"""Numbers that the partial sums of the filter gradient may take."""
SQUARE, WEIGHTS = POINTS * POINTS, TAPS * TAPS


class Tiling(NamedTuple):
    """How images are cut into tiles, bands and blocks, and where what is made of them lies."""

    C: int
    O: int
    sizes: tuple[int, int]  # of an image of x
    low: tuple[int, int]  # pads before it
    out: tuple[int, int]  # of an image of y
    down: int  # rows of tiles of an image
    across: int  # tiles of a row
    rows: int  # of tiles in a band; the last of an image may have fewer
    bands: int  # of an image
    block: int  # bands
    tiles: int  # of a block
    parts: int  # tasks, along the batch
    channels: int  # C in whole registers
    lanes: int  # of a register
    panels: int  # of output channels
    width: int  # of a panel
    # From point to point. A line more than needed, as steps of 4 KB would all fall on one set of the cache:
    V: int
    M: int
    Z: int
    U: int
    D: int
    tile_places: np.ndarray  # (tiles + ROWS,) tiles in V[point]
    inputs: np.ndarray  # (channels + ROWS,) input channels, and the last one again


@lru_cache(maxsize=256)
def tiling_of(window: Window, N: int, C: int, O: int, panels: Panels, parts: int) -> Tiling:
    """The tiles of N images, in `parts` along the batch or in fewer."""
    (_, H, W), _, _, (_, top, left), _, (_, OH, OW) = window.geometry
    down, across = (-(-size // SIDE) for size in (OH, OW))
    bands = -(-down // min(down, max(1, BAND // across)))
    rows = -(-down // bands)
    bands = -(-down // rows)
    parts = max(1, min(parts, N * down * across // TILES))
    longest = -(-N * bands // parts)
    block = -(-longest // max(1, longest * rows * across // TILES))
    tiles, lanes, width = block * rows * across, panels.lanes, panels.width
    channels = -(-C // lanes) * lanes
    return Tiling(
        C=C,
        O=O,
        sizes=(H, W),
        low=(top, left),
        out=(OH, OW),
        down=down,
        across=across,
        rows=rows,
        bands=bands,
        block=block,
        tiles=tiles,
        parts=parts,
        channels=channels,
        lanes=lanes,
        panels=panels.panels,
        width=width,
        V=tiles * channels + lanes,
        M=(tiles + ROWS) * width + lanes,
        Z=tiles * width + lanes,
        U=panels.panels * C * width + lanes,
        D=panels.panels * (C + ROWS) * width + lanes,
        tile_places=np.minimum(np.arange(tiles + ROWS), tiles - 1) * channels,
        inputs=np.minimum(np.arange(channels + ROWS), max(0, C - 1)),
    )


# ---- Which convolutions

TRANSFORMS = 700
"""What the transforms of a tile of one channel cost, there or back, in multiply-adds."""
FILTERS = 600
"""What U costs: to make one filter's and to bring it to the multipliers."""


def is_better(window: Window, N: int, C: int, O: int, dtype: Any, to_weight: bool = False) -> bool:
    """Does it take less time than the direct kernel, by more than a guess may be wrong, and keep its promise?

    `to_weight`: as the filter gradient, which adds its sums up in memory.
    """
    _, *out = window.geometry[-1]
    if dtype != np.float32 or len(window.kernel) != 2 or window.groups != 1 or min(C, O, N) < 1:
        return False
    if window.kernel != (TAPS, TAPS) or max(window.stride + window.dilation) > 1:
        return False
    tiles = N * prod(-(-size // SIDE) for size in out)
    multiply_adds = tiles * (SQUARE * C * O + TRANSFORMS * (C + O)) + FILTERS * C * O
    if to_weight:
        multiply_adds += tiles * SQUARE * C * O // 4
    few = to_weight and tiles < FEW
    return not few and 1.15 * multiply_adds < N * prod(out) * WEIGHTS * C * O


# ---- Forward, and the input gradient as the convolution with turned filters


def forward(x: Array, packed: Array, y: Array, window: Window, panels: Panels, relu: bool) -> Array:
    """y = conv(x, w) + b of filters and biases as `loops.pack` lays them out; returns `spoilt`."""
    (N, C), O = x.shape[:2], y.shape[1]
    tiling = tiling_of(window, N, C, O, panels, tasks_of(window.flops(N, C, O), TASKS))
    parts, lanes = tiling.parts, tiling.lanes
    band = SIDE * tiling.rows, SIDE * tiling.across

    def scratch(*shape: int) -> Array:
        return memory.scratch(shape, x.dtype, x)

    U, many = scratch(SQUARE * tiling.U), rows(parts)
    V, M = scratch(many, SQUARE * tiling.V), scratch(many, SQUARE * tiling.M)
    framed = scratch(many, (band[0] + 2) * (band[1] + 2) * tiling.channels)
    results = scratch(many, prod(band) * tiling.width)
    pieces = -(-tiling.panels * C // 64)
    spoilt = memory.scratch((parts,), np.int64, x)
    slots = free(parts, V, M)
    zeros = memory.constant((tiling.width,), x.dtype, 0.0)
    _filters(pieces, 1 + 1024 // (64 * lanes), line(packed), U, scratch(pieces, SQUARE * lanes), tiling)
    _forward(
        parts, 1, line(x), U, line(packed), line(y), V, M, framed, results,
        scratch(many, SQUARE * lanes), slots, zeros, spoilt, N, tiling, relu,
    )  # fmt: skip
    return spoilt


@parallel
def _filters(start, stop, packed, U, half, tiling):
    """packed (panel, c, tap, o) to U (point, panel, c, o), 64 filters of a panel's width a piece."""
    C, width = tiling.C, tiling.width
    for piece in range(start, stop):
        for number in range(64 * piece, min(64 * piece + 64, tiling.panels * C)):
            taps = (number * WEIGHTS + number // C) * width  # a row of bias ends each panel
            points_of_taps(
                U, number * width, POINTS * tiling.U, tiling.U, packed, taps, TAPS * width, width,
                width, half[piece],
            )  # fmt: skip


@kernel
def _band(number, tiling):
    """(image, first row of tiles, number of rows) of a band."""
    first = number % tiling.bands * tiling.rows
    return number // tiling.bands, first, min(tiling.rows, tiling.down - first)


@kernel
def _channels(number, tiling):
    """How many output channels a panel has, and how many lanes they take."""
    count = min(tiling.width, tiling.O - number * tiling.width)
    return count, -(-count // tiling.lanes) * tiling.lanes


@kernel
def _input_points(V, framed, half, x, begin, end, tiling):
    """V of the bands from begin on and before end; returns the number of their tiles."""
    (H, W), (top, left), C, tile = tiling.sizes, tiling.low, tiling.channels, 0
    step = (SIDE * tiling.across + 2) * C
    for number in range(begin, end):
        image, first, rows = _band(number, tiling)
        for c in range(0, tiling.C, tiling.lanes):  # a register of channels at a time: so many streams
            for i in range(SIDE * rows + 2):
                h = SIDE * first + i - top
                if 0 <= h < H:
                    transpose(
                        framed, i * step + left * C + c, C, x, ((image * tiling.C + c) * H + h) * W, H * W,
                        min(tiling.lanes, tiling.C - c), W,
                    )  # fmt: skip
        for i in range(SIDE * rows + 2):
            if not 0 <= SIDE * first + i - top < H:
                fill(framed, i * step, x.dtype.type(0), step)
        for i in range(rows):
            for j in range(tiling.across):
                points_of_input(
                    V, tile * C, POINTS * tiling.V, tiling.V, framed, SIDE * (i * step + j * C), step,
                    C, C, half,
                )  # fmt: skip
                tile += 1
    return tile


@kernel
def _add_bias(y, bias, bias0, pixels, step, n, relu):
    """y[pixel, :n] += bias, then relu; 1 if a sum is not finite, else 0."""
    spoilt, zero, bias0 = np.int32(0), y.dtype.type(0), np.uint64(bias0)
    for pixel in range(pixels):
        at = np.uint64(pixel * step)
        for o in range(np.uint64(n)):
            value = y[at + o] + bias[bias0 + o]
            spoilt |= np.int32(value - value != zero)
            y[at + o] = zero if relu and value <= zero else value
    return spoilt


@kernel
def _outputs(y, M, results, half, begin, end, panel_number, packed, relu, tiling):
    """y of M, a panel of output channels of the bands from begin on and before end; 1 if it is spoilt."""
    (OH, OW), width, tile, spoilt = tiling.out, tiling.width, 0, 0
    step, o = SIDE * tiling.across, panel_number * width
    bias0 = (panel_number * (WEIGHTS * tiling.C + 1) + WEIGHTS * tiling.C) * width
    count, n = _channels(panel_number, tiling)
    for number in range(begin, end):
        image, first, rows = _band(number, tiling)
        for i in range(rows):
            for j in range(tiling.across):
                output_of_points(
                    results, SIDE * (i * step + j) * width, step * width, width,
                    M, tile * width, POINTS * tiling.M, tiling.M, n, half,
                )  # fmt: skip
                tile += 1
        spoilt |= _add_bias(results, packed, bias0, SIDE * rows * step, width, n, relu)
        lines, to = min(OH - SIDE * first, SIDE * rows), ((image * tiling.O + o) * OH + SIDE * first) * OW
        # rows that are whole lie one after the other in both
        run = lines if step == OW else 1
        for c in range(0, count, tiling.lanes):
            for i in range(0, lines, run):
                transpose(
                    y, to + c * OH * OW + i * OW, OH * OW, results, i * step * width + c, width, run * OW,
                    min(tiling.lanes, count - c),
                )  # fmt: skip
    return spoilt


@parallel
def _forward(
    start, stop, x, U, packed, y, V, M, framed, results, half, slots, zeros, spoilt, N, tiling, relu
):
    width = tiling.width
    for task in range(start, stop):
        begin, end = share(task, tiling.parts, N * tiling.bands)
        slot = take(slots, task)
        fill(framed[slot], 0, x.dtype.type(0), framed.shape[1])
        spoilt[task] = 0
        for first in range(begin, end, tiling.block):
            last = min(end, first + tiling.block)
            tiles = _input_points(V[slot], framed[slot], half[slot], x, first, last, tiling)
            for number in range(tiling.panels):
                vectors = _channels(number, tiling)[1] // tiling.lanes
                for point in range(SQUARE):
                    panel(
                        M[slot], point * tiling.M, width, zeros, 0, 0, tiles,
                        V[slot], point * tiling.V, tiling.tile_places, tiling.inputs[: tiling.C],
                        U, point * tiling.U + number * tiling.C * width, width, vectors,
                    )  # fmt: skip
                spoilt[task] |= _outputs(
                    y, M[slot], results[slot], half[slot], first, last, number, packed, relu, tiling
                )
        give_back(slots, slot)


# ---- The filter gradient


def grad_weight(x: Array, g: Array, partial: Array, window: Window, panels: Panels) -> Array:
    """∂T/∂w to partial (panel, c, tap, o), where a panel has ROWS more lines; returns `spoilt`."""
    (N, C), O = x.shape[:2], g.shape[1]
    size = SQUARE * (panels.panels * (C + ROWS) * panels.width + panels.lanes)
    tiling = tiling_of(window, N, C, O, panels, min(TASKS // 2, max(1, PARTIALS // size)))
    splits = max(1, min(tasks_of(window.flops(N, C, O), TASKS // 2) // tiling.parts, panels.panels))
    tasks, lanes = tiling.parts * splits, tiling.lanes
    many = rows(tasks)
    band = SIDE * tiling.rows, SIDE * tiling.across

    def scratch(*shape: int) -> Array:
        return memory.scratch(shape, x.dtype, x)

    V, Z = scratch(many, SQUARE * tiling.V), scratch(many, SQUARE * tiling.Z)
    D, terms = scratch(tiling.parts, SQUARE * tiling.D), scratch(many, (C + ROWS) * tiling.width)
    zeros = memory.constant((tiling.width,), x.dtype, 0.0)
    framed = scratch(many, (band[0] + 2) * (band[1] + 2) * tiling.channels)
    framed_g = scratch(many, prod(band) * tiling.width)
    pieces = -(-tiling.panels * C // 16)
    spoilt = memory.scratch((pieces,), np.int64, x)
    slots = free(tasks, V, Z)
    _filter_gradients(
        tasks, 1, line(x), line(g), D, terms, zeros, V, Z, framed, framed_g,
        scratch(many, SQUARE * lanes), slots, N, splits, tiling,
    )  # fmt: skip
    _taps(pieces, 1, D, line(partial), scratch(pieces, SQUARE * lanes), spoilt, tiling)
    return spoilt


@kernel
def _output_points(Z, framed, half, g, begin, end, panel_number, tiling):
    """Z of a panel of output channels, of the bands from begin on and before end."""
    (OH, OW), width, tile = tiling.out, tiling.width, 0
    step, o = SIDE * tiling.across * width, panel_number * width
    count, n = _channels(panel_number, tiling)
    for number in range(begin, end):
        image, first, rows = _band(number, tiling)
        for i in range(SIDE * rows):
            h = SIDE * first + i
            if h < OH:
                transpose(
                    framed, i * step, width, g, ((image * tiling.O + o) * OH + h) * OW, OH * OW, count, OW
                )
            else:
                fill(framed, i * step, g.dtype.type(0), step)
        for i in range(rows):
            for j in range(tiling.across):
                points_of_output(
                    Z, tile * width, POINTS * tiling.Z, tiling.Z,
                    framed, SIDE * (i * step + j * width), step, width, n, half,
                )  # fmt: skip
                tile += 1


@kernel
def _add(sums, at, terms, n):
    """sums[at + i] += terms[i]     for i < n"""
    at = np.uint64(at)
    for i in range(np.uint64(n)):
        sums[at + i] += terms[i]


@parallel
def _filter_gradients(
    start, stop, x, g, D, terms, zeros, V, Z, framed, framed_g, half, slots, N, splits, tiling
):
    C, width, zero = tiling.C, tiling.width, x.dtype.type(0)
    for task in range(start, stop):
        begin, end = share(task // splits, tiling.parts, N * tiling.bands)
        first_panel, last_panel = share(task % splits, splits, tiling.panels)
        sums, slot = D[task // splits], take(slots, task)
        fill(framed[slot], 0, zero, framed.shape[1])
        fill(framed_g[slot], 0, zero, framed_g.shape[1])
        for first in range(begin, end, tiling.block):
            last = min(end, first + tiling.block)
            tiles = _input_points(V[slot], framed[slot], half[slot], x, first, last, tiling)
            for number in range(first_panel, last_panel):
                _output_points(Z[slot], framed_g[slot], half[slot], g, first, last, number, tiling)
                vectors = _channels(number, tiling)[1] // tiling.lanes
                for point in range(SQUARE):
                    at = point * tiling.D + number * (C + ROWS) * width
                    for tile in range(0, tiles, SHORT):
                        is_first = first == begin and tile == 0
                        to, to0 = (sums, at) if is_first else (terms[slot], 0)
                        panel(
                            to, to0, width, zeros, 0, 0, C,
                            V[slot], point * tiling.V, tiling.inputs,
                            tiling.tile_places[tile : min(tiles, tile + SHORT)],
                            Z[slot], point * tiling.Z + tile * width, width, vectors,
                        )  # fmt: skip
                        if not is_first:
                            _add(sums, at, to, C * width)
        give_back(slots, slot)


@kernel
def _add_points(sums, at, step, parts, n):
    """sums[0, point] += Σ_part sums[part, point] for n numbers of each point."""
    for part in range(1, parts):
        for point in range(SQUARE):
            to = np.uint64(at + point * step)
            for o in range(np.uint64(n)):
                sums[0, to + o] += sums[part, to + o]


@kernel
def _taps_spoilt(partial, at, width, n):
    """1 if one of n numbers of a tap is not finite, else 0"""
    spoilt, zero = np.int32(0), partial.dtype.type(0)
    for tap in range(WEIGHTS):
        to = np.uint64(at + tap * width)
        for o in range(np.uint64(n)):
            value = partial[to + o]
            spoilt |= np.int32(value - value != zero)
    return spoilt


@parallel
def _taps(start, stop, D, partial, half, spoilt, tiling):
    """D (part, point, panel, c, o) to partial (panel, c, tap, o), 16 input channels of a panel a piece."""
    C, width, step = tiling.C, tiling.width, tiling.D
    for piece in range(start, stop):
        spoilt[piece] = 0
        for number in range(16 * piece, min(16 * piece + 16, tiling.panels * C)):
            block, c = number // C, number % C
            n = _channels(block, tiling)[1]
            at, to = (block * (C + ROWS) + c) * width, (block * (WEIGHTS * C + ROWS) + WEIGHTS * c) * width
            _add_points(D, at, step, tiling.parts, n)
            taps_of_points(partial, to, TAPS * width, width, D[0], at, POINTS * step, step, n, half[piece])
            spoilt[piece] |= _taps_spoilt(partial, to, width, n)
