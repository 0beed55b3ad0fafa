"""The launches of conv.cu and depthwise.cu: convolution on the GPU and on the emulator."""

from __future__ import annotations

from math import gcd, prod
from typing import Any

import numpy as np

from . import gemm, memory
from .window import Window

Array = Any


def forward(x: Array, w: Array, b: Array | None, window: Window) -> Array:
    """`conv.forward`."""
    y = memory.empty((x.shape[0], w.shape[0], *window.out), x.dtype, x)
    G, (O, C) = window.groups, w.shape[:2]
    cut = gemm.cut(O // G, x.shape[0] * prod(window.out), C * prod(window.kernel), G)
    return _run("correlate", cut, (x, w), b, y, window, C, O // G, np.bool_(False))


def grad_input(g: Array, w: Array, window: Window) -> Array:
    """`conv.grad_input`."""
    G, (O, C) = window.groups, w.shape[:2]
    dx = memory.empty((g.shape[0], C * G, *window.input), g.dtype, g)
    # The largest phase (conv.cuh): of the places and of the taps, every so many
    places = prod(-(-size // s) for size, s in zip(window.input, window.stride, strict=True))
    every = (s // gcd(s, d) for s, d in zip(window.stride, window.dilation, strict=True))
    taps = prod(-(-k // step) for k, step in zip(window.kernel, every, strict=True))
    cut = gemm.cut(C, g.shape[0] * places, O // G * taps, G * prod(window.stride))
    return _run("correlate", cut, (g, w), None, dx, window, C, O // G, np.bool_(True))


def grad_weight(x: Array, g: Array, window: Window) -> Array:
    """`conv.grad_weight`."""
    G, C, O = window.groups, x.shape[1] // window.groups, g.shape[1]
    dw = memory.empty((O, C, *window.kernel), x.dtype, x)
    cut = gemm.cut(O // G, C * prod(window.kernel), x.shape[0] * prod(window.out), G)
    return _run("grad_weight", cut, (x, g), None, dw, window, C, O // G)


def _run(
    kernel: str,
    cut: gemm.Cut,
    operands: tuple[Array, Array],
    b: Array | None,
    out: Array,
    window: Window,
    inputs: int,
    outputs: int,
    *settings: Any,
) -> Array:
    """Launch a kernel of conv.cu, and add its splits up."""
    gemm.require_offsets("conv", *operands, out)
    if not out.size:
        return out
    module = gemm.module("conv", out.dtype)
    sizes = map(np.int32, (operands[0].shape[0], window.groups, inputs, outputs))
    to = gemm.room(out, cut)
    bias = () if kernel == "grad_weight" else (b if to is out else None,)
    args = (*operands, *bias, to, window.struct, *sizes, *settings, np.int32(cut.depth))
    module.get_function(f"{kernel}_{cut.kernel}")((cut.blocks,), (cut.tile.threads,), args)
    gemm.add_splits(module, to, b, out)
    return out
