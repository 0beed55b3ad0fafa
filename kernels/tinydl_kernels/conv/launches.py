"""The launches of conv.cu and depthwise.cu: convolution on the GPU and on the emulator."""

from __future__ import annotations

from math import gcd, prod
from typing import Any

import numpy as np

from ..cuda import cuts, launching
from ..machine import memory
from ..machine.window import Window

Array = Any

THREADS = 256
"""Threads of a block of depthwise.cu at most."""
MULTIPLIER = 4
"""Outputs of a depthwise channel up to which depthwise.cu is the better way."""


def forward(x: Array, w: Array, b: Array | None, window: Window) -> Array:
    """`conv.forward`."""
    y = memory.empty((x.shape[0], w.shape[0], *window.out), x.dtype, x)
    G, (O, C) = window.groups, w.shape[:2]
    if _is_depthwise(window, C, O // G):
        return _depthwise(x, w, b, y, window, O // G, prod(window.out), transposed=False)
    cut = cuts.cut(O // G, x.shape[0] * prod(window.out), C * prod(window.kernel), G)
    return _run("correlate", cut, (x, w), b, y, window, C, O // G, np.bool_(False))


def grad_input(g: Array, w: Array, window: Window) -> Array:
    """`conv.grad_input`."""
    G, (O, C) = window.groups, w.shape[:2]
    dx = memory.empty((g.shape[0], C * G, *window.input), g.dtype, g)
    # The largest phase (conv.cuh): of the places and of the taps, every so many
    places = prod(-(-size // s) for size, s in zip(window.input, window.stride, strict=True))
    if C == 1:  # a tile would have one row
        return _depthwise(g, w, None, dx, window, O // G, places, transposed=True)
    every = (s // gcd(s, d) for s, d in zip(window.stride, window.dilation, strict=True))
    taps = prod(-(-k // step) for k, step in zip(window.kernel, every, strict=True))
    cut = cuts.cut(C, g.shape[0] * places, O // G * taps, G * prod(window.stride))
    return _run("correlate", cut, (g, w), None, dx, window, C, O // G, np.bool_(True))


def grad_weight(x: Array, g: Array, window: Window) -> Array:
    """`conv.grad_weight`."""
    G, C, O = window.groups, x.shape[1] // window.groups, g.shape[1]
    dw = memory.empty((O, C, *window.kernel), x.dtype, x)
    if _is_depthwise(window, C, O // G):
        cuts.require_offsets("conv", x, g)
        sizes = map(np.int32, (x.shape[0], G, O // G))
        launching.module("depthwise", x.dtype).get_function("grad_weight")(
            (dw.size,), (THREADS,), (x, g, dw, window.struct, *sizes)
        )
        return dw
    cut = cuts.cut(O // G, C * prod(window.kernel), x.shape[0] * prod(window.out), G)
    return _run("grad_weight", cut, (x, g), None, dw, window, C, O // G)


def _run(
    kernel: str,
    cut: cuts.Cut,
    operands: tuple[Array, Array],
    b: Array | None,
    out: Array,
    window: Window,
    inputs: int,
    outputs: int,
    *settings: Any,
) -> Array:
    """Launch a kernel of conv.cu, and add its splits up."""
    cuts.require_offsets("conv", *operands, out)
    if not out.size:
        return out
    module = cuts.module("conv", out.dtype)
    sizes = map(np.int32, (operands[0].shape[0], window.groups, inputs, outputs))
    to = cuts.room(out, cut)
    bias = () if kernel == "grad_weight" else (b if to is out else None,)
    args = (*operands, *bias, to, window.struct, *sizes, *settings, np.int32(cut.depth))
    module.get_function(f"{kernel}_{cut.kernel}")((cut.blocks,), (cut.tile.threads,), args)
    cuts.add_splits(module, to, b, out)
    return out


def _is_depthwise(window: Window, inputs: int, outputs: int) -> bool:
    return window.groups > 1 and inputs == 1 and 1 <= outputs <= MULTIPLIER


def _depthwise(
    source: Array,
    w: Array,
    b: Array | None,
    target: Array,
    window: Window,
    outputs: int,
    positions: int,
    transposed: bool,
) -> Array:
    """`positions`: those of a plane of the target, or of its largest phase."""
    cuts.require_offsets("conv", source, target)
    if target.size:
        share = min(4, outputs) if transposed else 1
        threads = launching.whole_warps(min(positions, THREADS // 4 if share > 1 else THREADS), 1)
        chunks, phases = -(-positions // threads), prod(window.stride) if transposed else 1
        blocks = chunks * phases * target.shape[0] * target.shape[1]
        sizes = np.int32(window.groups), np.int32(outputs), np.int32(chunks), np.bool_(transposed)
        kernel = launching.module("depthwise", source.dtype).get_function("correlate")
        kernel((blocks,), (threads, max(1, share)), (source, w, b, target, window.struct, *sizes))
    return target
