"""The launches of recurrent.cu: recurrent layers on the GPU and on the emulator. A block has one sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cuda import launching
from ..machine import memory
from . import parts

Array = Any
THREADS = 256
CODES = {"tanh": 0, "relu": 1, "lstm": 2, "gru": 3}
"""The cells as recurrent.cu numbers them."""


def layer(p, w, b, h0, c0, lengths, cell, reverse):
    """`recurrent.layer`."""
    (T, N, GH), H = p.shape, w.shape[1]
    y, h = memory.empty((T, N, H), p.dtype, p), memory.empty((N, H), p.dtype, p)
    c = memory.empty((N, H), p.dtype, p) if parts.states(cell) == 2 else None
    before = memory.empty((parts.states(cell), T, N, H), p.dtype, p)
    gates, u = memory.empty((T, N, parts.KEPT[cell] * H), p.dtype, p), memory.empty((N, GH), p.dtype, p)
    _launch("layer", y, cell, reverse, p, w, b, h0, c0, lengths, y, h, c, before, gates, u)
    return y, h, c, before, gates


def layer_dx(gy, gh, gc, w, lengths, before, gates, cell, reverse, weights):
    """`recurrent.layer_dx`."""
    (states, T, N, H), GH = before.shape, w.shape[0]
    dp, dh0 = memory.empty((T, N, GH), w.dtype, w), memory.empty((N, H), w.dtype, w)
    du = memory.empty((T, N, GH), w.dtype, w) if cell == "gru" else None
    dc0 = memory.empty((N, H), w.dtype, w) if states == 2 else None
    adjoint, of_u = memory.empty_like(before), dp if du is None else du
    arrays = gy, gh, gc, w, lengths, before, gates, dp, of_u, dh0, dc0, adjoint
    _launch("layer_dx", before[0], cell, reverse, *arrays)
    dw, db = parts.of_weights(of_u, before) if weights else (None, None)
    return dp, dw, db, dh0, dc0, du, adjoint


def layer_dx_dx(
    v_p, v_w, v_b, v_h, v_c, gy, gh, gc, p, w, b, h0, c0, lengths, before, gates, du, adjoint,
    cell, reverse, weights,
):  # fmt: skip
    """`recurrent.layer_dx_dx`."""
    states, T, N, H = before.shape
    numbers = [memory.empty((N, H), p.dtype, p) for _ in range(2 * states)]
    ddgh, ddh0, ddgc, ddc0 = (*numbers, None, None)[:4]
    ddgy, dbefore = memory.empty((T, N, H), p.dtype, p), memory.empty_like(before)
    dgates, u = memory.empty_like(gates), memory.empty(p.shape[1:], p.dtype, p)
    push, pull = parts.of_moving_weights(v_w, v_b, du, before)
    along = v_p, push, w, v_h, v_c, lengths, before, gates, ddgy, ddgh, ddgc, dbefore, dgates, u
    _launch("layer_dot", ddgy, cell, reverse, *along)
    ddp = memory.empty_like(p)
    ddu = memory.empty_like(p) if cell == "gru" else ddp
    back = pull, w, lengths, before, dbefore, gates, dgates, adjoint, ddp, ddu, ddh0, ddc0
    _launch("layer_dx_dot", ddgy, cell, reverse, *back)
    ddw, ddb = parts.of_weights(ddu, before, du, dbefore) if weights else (None, None)
    return ddgy, ddgh, ddgc, ddp, ddw, ddb, ddh0, ddc0


def _launch(kernel: str, y: Array, cell: str, reverse: bool, *arrays: Any) -> None:
    """Launch a kernel whose blocks have a sequence each, of y (T, N, H)."""
    T, N, H = y.shape
    if N:
        threads = min(THREADS, launching.whole_warps(max(1, parts.GATES[cell] * H), 1))
        sizes = (*map(np.int32, (T, N, H, CODES[cell])), np.bool_(reverse))
        launching.module("recurrent", y.dtype).get_function(kernel)((N,), (threads,), (*arrays, *sizes))
