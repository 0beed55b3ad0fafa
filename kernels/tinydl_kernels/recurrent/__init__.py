"""One direction of one recurrent layer over all steps, its derivative, and the derivative of that.

A layer takes p = W_ih x + b_ih (T, N, G·H) of its input, one product for all steps. With u = W h + b,

    tanh, relu    G = 1    h' = f(p + u)
    lstm          G = 4    i, f, o = σ(p + u), g = tanh(p + u);  c' = f c + i g, h' = o tanh(c')
    gru           G = 3    r, z = σ(p + u), n = tanh(p + r u);  h' = n + z (h - n)

h and c are (N, H), w is (G·H, H), b (G·H). Elman, 1990; Hochreiter & Schmidhuber, 1997; Cho et al., arXiv
1406.1078, with PyTorch's reset gate. A sequence of length l has l steps: beyond them its state stays as it
is, the outputs are 0, and what p holds there is not looked at. In reverse it begins at step l - 1.

    layer         (y, h, c, before, gates): the outputs (T, N, H) and the state at the end; the states before
                  each step (states, T, N, H) and the gates (T, N, ·) are for the derivatives
    layer_dx      Jᵀ g = (dp, dw, db, dh0, dc0), backwards through time, where dw = Σ du hᵀ is one product for
                  all steps; then du, which is dp but for the gru, and adjoint, the gradients of the states
                  behind each step
    layer_dx_dx   the gradient of <v, Jᵀ g> with respect to g and to p, w, b, h0, c0

The last needs no new formulas, only those of the first two differentiated along a direction: <v, Jᵀ g> is how
fast <g, outputs> changes along v. So its gradient with respect to g is how fast the outputs change along v,
and that with respect to the inputs how fast Jᵀ g does. The reference has both from numbers p + iεv, ε tiny
(Squire & Trapp, SIAM Review 40(1), 1998); the loops and CUDA have the derivative of each line.

Cost: 2·T·N·G·H·H flops in layer, twice as many in layer_dx (dw included), and four times in layer_dx_dx. The
products of the steps are the longest part; those of a block of sequences have its rows together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..cpu import simd
from ..machine import memory
from ..machine.dispatch import operation
from ..machine.memory import line
from ..machine.validate import report
from . import launches, loops
from .parts import GATES, KEPT, of_moving_weights, of_weights
from .parts import states as states_of

Array = Any
BLOCKS = 16
"""Blocks that a batch is cut into, at most."""
GRAIN, CELL = 1 << 18, 32
"""Flops below which it is not worth while to wake another thread; a gate costs as much as so many terms."""
STEP = 1e-100
"""ε"""


@operation
def layer(p, w, b, h0, c0, lengths, cell, reverse):
    """(y, h, c, before, gates). b, h0, c0 and lengths (N,) int64 may be None; c is None but for the lstm."""
    found = _run([_wide(x) for x in (p, w, b, h0, c0)], lengths, cell, reverse)
    return tuple(None if x is None else x.astype(p.dtype) for x in found)


@layer.loops
def _(p, w, b, h0, c0, lengths, cell, reverse):
    (T, N, _), H, states = p.shape, w.shape[1], states_of(cell)
    y, h = memory.empty((T, N, H), p.dtype, p), memory.empty((N, H), p.dtype, p)
    c = memory.empty((N, H), p.dtype, p) if states == 2 else None
    before = memory.empty((states, T, N, H), p.dtype, p)
    gates = memory.empty((T, N, KEPT[cell] * H), p.dtype, p)
    plan, tiling = _plan(before, w, cell), _tiling(w, True)
    none = line(y)[:0]
    loops.OF_CELL[cell].layer(
        *plan.cuts, line(p), tiling, _given(b, none), _given(h0, none), _given(c0, none),
        _ends(lengths, T, N), line(y), line(h), _given(c, none), line(before), line(gates),
        plan.scratch(p, H, _width(tiling)), plan.sizes, reverse,
    )  # fmt: skip
    return y, h, c, before, gates


layer.cuda(launches.layer)


@operation
def layer_dx(gy, gh, gc, w, lengths, before, gates, cell, reverse, weights):
    """(dp, dw, db, dh0, dc0, du, adjoint) for cotangents of y, h, c, each of which may be None.

    dw and db are None unless `weights`, dc0 but for the lstm, du but for the gru.
    """
    cotangents, kept = [_wide(g) for g in (gy, gh, gc)], (_wide(before), _wide(gates))
    found = _back(cotangents, _wide(w), lengths, *kept, cell, reverse, weights)
    return tuple(None if x is None else x.astype(w.dtype) for x in found)


@layer_dx.loops
def _(gy, gh, gc, w, lengths, before, gates, cell, reverse, weights):
    (states, T, N, H), GH = before.shape, w.shape[0]
    dp, dh0 = memory.empty((T, N, GH), w.dtype, w), memory.empty((N, H), w.dtype, w)
    du = memory.empty((T, N, GH), w.dtype, w) if cell == "gru" else None
    dc0 = memory.empty((N, H), w.dtype, w) if states == 2 else None
    adjoint = memory.empty_like(before)
    plan, tiling = _plan(before, w, cell), _tiling(w, False)
    none, of_u = line(dh0)[:0], dp if du is None else du
    loops.OF_CELL[cell].back(
        *plan.cuts, _given(gy, none), _given(gh, none), _given(gc, none), tiling, _ends(lengths, T, N),
        line(before), line(gates), line(dp), line(of_u), line(dh0), _given(dc0, none), line(adjoint),
        plan.scratch(w, GH, _width(tiling)), plan.sizes, reverse,
    )  # fmt: skip
    dw, db = of_weights(of_u, before) if weights else (None, None)
    return dp, dw, db, dh0, dc0, du, adjoint


layer_dx.cuda(launches.layer_dx)


@operation
def layer_dx_dx(
    v_p, v_w, v_b, v_h, v_c, gy, gh, gc, p, w, b, h0, c0, lengths, before, gates, du, adjoint,
    cell, reverse, weights,
):  # fmt: skip
    """(ddgy, ddgh, ddgc, ddp, ddw, ddb, ddh0, ddc0) for cotangents v of dp, dw, db, dh0, dc0, each of which
    may be None. du, dp but for the gru, and adjoint are those of `layer_dx`.
    """
    moved = [_moved(x, v) for x, v in ((p, v_p), (w, v_w), (b, v_b), (h0, v_h), (c0, v_c))]
    y, h, c, before, gates = _run(moved, lengths, cell, reverse)
    cotangents = [_wide(g) for g in (gy, gh, gc)]
    back = _back(cotangents, moved[1], lengths, before, gates, cell, reverse, weights)
    return tuple(None if x is None else (x.imag / STEP).astype(p.dtype) for x in (y, h, c, *back[:5]))


@layer_dx_dx.loops
def _(
    v_p, v_w, v_b, v_h, v_c, gy, gh, gc, p, w, b, h0, c0, lengths, before, gates, du, adjoint,
    cell, reverse, weights,
):  # fmt: skip
    (states, T, N, H), GH = before.shape, w.shape[0]
    numbers = [memory.empty((N, H), p.dtype, p) for _ in range(2 * states)]
    ddgh, ddh0, ddgc, ddc0 = (*numbers, None, None)[:4]
    ddgy, dbefore = memory.empty((T, N, H), p.dtype, p), memory.empty_like(before)
    dgates, ddp = memory.empty_like(gates), memory.empty_like(p)
    ddu = memory.empty_like(p) if cell == "gru" else ddp
    plan, tiling = _plan(before, w, cell), _tiling(w, True)
    none, ends = line(ddgh)[:0], _ends(lengths, T, N)
    push, pull = of_moving_weights(v_w, v_b, du, before)
    zeros = memory.scratch((plan.cuts[0] * GH,), p.dtype, p)
    loops.OF_CELL[cell].layer_dot(
        *plan.cuts, _given(v_p, none), _given(push, none), tiling, _given(v_h, none), _given(v_c, none), ends,
        line(before), line(gates), line(ddgy), line(ddgh), _given(ddgc, none), line(dbefore), line(dgates),
        (*plan.scratch(p, H, _width(tiling)), zeros), plan.sizes, reverse,
    )  # fmt: skip
    tiling = _tiling(w, False)
    loops.OF_CELL[cell].back_dot(
        *plan.cuts, _given(pull, none), tiling, ends, line(before), line(dbefore), line(gates), line(dgates),
        line(adjoint), line(ddp), line(ddu), line(ddh0), _given(ddc0, none),
        plan.scratch(p, GH, _width(tiling)), plan.sizes, reverse,
    )  # fmt: skip
    ddw, ddb = of_weights(ddu, before, du, dbefore) if weights else (None, None)
    return ddgy, ddgh, ddgc, ddp, ddw, ddb, ddh0, ddc0


layer_dx_dx.cuda(launches.layer_dx_dx)


# ---- The references: in float64, or in complex numbers


def _wide(x: Array | None) -> Array | None:
    return None if x is None else x.astype(np.float64)


def _moved(x: Array | None, v: Array | None) -> Array | None:
    """x + ε v i"""
    x = None if x is None else x.astype(np.complex128)
    return x if x is None or v is None else x + STEP * 1j * v.astype(np.float64)


def _sigmoid(x: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(0.5 * x)  # which nothing overflows in


def _relu(x: Array) -> Array:
    return np.where(x.real <= 0, 0, x)


def _step(cell: str, p: Array, u: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
    """The gates (N, ·) and the next state."""
    if cell in ("tanh", "relu"):
        h = (np.tanh if cell == "tanh" else _relu)(p + u)
        return h, h, c
    if cell == "lstm":
        i, f, g, o = np.split(p + u, 4, 1)
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        c = f * c + i * g
        return np.concatenate([i, f, g, o], 1), o * np.tanh(c), c
    (p_r, p_z, p_n), (u_r, u_z, q) = np.split(p, 3, 1), np.split(u, 3, 1)
    r, z = _sigmoid(p_r + u_r), _sigmoid(p_z + u_z)
    n = np.tanh(p_n + r * q)
    return np.concatenate([r, z, n, q], 1), n + z * (h - n), c


def _step_back(cell: str, gates: Array, h: Array, c: Array, gh: Array, gc: Array) -> tuple[Array, ...]:
    """The gradients of p and of u (N, G·H), and of the state before."""
    if cell in ("tanh", "relu"):
        gp = gh * (1 - gates**2) if cell == "tanh" else np.where(gates.real > 0, gh, 0)
        return gp, gp, 0 * gh, gc
    if cell == "lstm":
        i, f, g, o = np.split(gates, 4, 1)
        m = np.tanh(f * c + i * g)
        gc = gc + gh * o * (1 - m**2)
        parts = gc * g * i * (1 - i), gc * c * f * (1 - f), gc * i * (1 - g**2), gh * m * o * (1 - o)
        gp = np.concatenate(parts, 1)
        return gp, gp, 0 * gh, gc * f
    r, z, n, q = np.split(gates, 4, 1)
    gn = gh * (1 - z) * (1 - n**2)
    gr, gz = gn * q * r * (1 - r), gh * (h - n) * z * (1 - z)
    return np.concatenate([gr, gz, gn], 1), np.concatenate([gr, gz, gn * r], 1), gh * z, gc


def _times(T: int, lengths: Array | None, reverse: bool) -> list[tuple[int, Array]]:
    """The steps in order, each with which samples (N, 1) have it."""
    steps = range(T)[::-1] if reverse else range(T)
    return [(t, np.ones((1, 1), bool) if lengths is None else (t < lengths)[:, None]) for t in steps]


def _run(inputs: list[Any], lengths: Array | None, cell: str, reverse: bool) -> tuple[Any, ...]:
    """`layer`"""
    p, w, b, h0, c0 = inputs
    (T, N, _), H, states = p.shape, w.shape[1], states_of(cell)
    h, c = (np.zeros((N, H), p.dtype) if s is None else s for s in (h0, c0))
    y, before = np.zeros((T, N, H), p.dtype), np.zeros((states, T, N, H), p.dtype)
    gates = np.zeros((T, N, KEPT[cell] * H), p.dtype)
    for t, alive in _times(T, lengths, reverse):
        before[:, t] = (h, c)[:states]
        u = h @ w.T if b is None else h @ w.T + b
        kept, new_h, new_c = _step(cell, np.where(alive, p[t], 0), u, h, c)
        h, c = np.where(alive, new_h, h), np.where(alive, new_c, c)
        y[t], gates[t] = np.where(alive, h, 0), np.where(alive, kept, 0)
    return y, h, c if states == 2 else None, before, gates


def _back(
    cotangents: list[Any],
    w: Array,
    lengths: Array | None,
    before: Array,
    gates: Array,
    cell: str,
    reverse: bool,
    weights: bool,
) -> tuple[Any, ...]:
    """`layer_dx`"""
    gy, gh, gc = cotangents
    states, T, N, H = before.shape
    gh, gc = (np.zeros((N, H), w.dtype) if s is None else s for s in (gh, gc))
    adjoint = np.zeros(before.shape, w.dtype)
    gp, gu = np.zeros((2, T, N, w.shape[0]), w.dtype)
    for t, alive in _times(T, lengths, not reverse):
        gh = gh if gy is None else gh + np.where(alive, gy[t], 0)
        adjoint[:, t] = np.where(alive, (gh, gc)[:states], 0)
        of_p, of_u, direct, cell_gradient = _step_back(cell, gates[t], before[0, t], before[-1, t], gh, gc)
        gp[t], gu[t] = np.where(alive, of_p, 0), np.where(alive, of_u, 0)
        gh, gc = np.where(alive, direct + gu[t] @ w, gh), np.where(alive, cell_gradient, gc)
    dw = np.einsum("tnj,tnk->jk", gu, before[0]) if weights else None
    db = gu.sum((0, 1)) if weights else None
    return gp, dw, db, gh, gc if states == 2 else None, gu if cell == "gru" else None, adjoint


# ---- What the loops are given


def _given(x: Array | None, none: Array) -> Array:
    return none if x is None else line(x)


def _ends(lengths: Array | None, T: int, N: int) -> Array:
    return memory.constant((N,), np.int64, T) if lengths is None else lengths


class _Plan(NamedTuple):
    cuts: tuple[int, int]  # blocks, and how many of them are a piece
    sizes: tuple[int, ...]  # as loops.py has them

    def scratch(self, like: Array, *widths: int) -> tuple[Array, ...]:
        """Lines for rows of these widths, those of all blocks."""
        rows = self.cuts[0] * self.sizes[-1]
        return tuple(memory.scratch((rows * width,), like.dtype, like) for width in widths)


def _plan(before: Array, w: Array, cell: str) -> _Plan:
    (_, T, N, H), GH = before.shape, w.shape[0]
    rows = loops.TALL * max(1, -(-N // (loops.TALL * BLOCKS)))
    work = 1 + 2 * T * rows * GH * (H + CELL)
    return _Plan((-(-N // rows), 1 + GRAIN // work), (T, N, H, GH, KEPT[cell] * H, rows))


def _tiling(w: Array, turned: bool) -> tuple[Array, int, int, int]:
    """For products with wᵀ or w: its panels, their width, depth and number."""
    (K, J), width = w.shape[::-1] if turned else w.shape, simd.lanes(w.itemsize)
    number = -(-J // width)
    panels = memory.scratch((number * K * width,), w.dtype, w)
    loops.pack(number, 1 + GRAIN // (1 + K * width), line(w), panels, K, J, width, turned)
    return panels, width, K, number


def _width(tiling: tuple[Array, int, int, int]) -> int:
    """Numbers of a row of the product."""
    return tiling[1] * tiling[3]


def main() -> None:
    """Validate every operation against its reference, then time it."""
    random = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for T, N, H in ((35, 8, 16), (28, 100, 128)):
            for cell, G in GATES.items():
                p = random.standard_normal((T, N, G * H)).astype(dtype)
                w = (random.standard_normal((G * H, H)) / H**0.5).astype(dtype)
                flops = 2 * T * N * G * H * H
                y, h, _, before, gates = layer(p, w, None, None, None, None, cell, False)
                report(layer, p, w, None, None, None, None, cell, False, flops=flops, tolerance=1e-4)
                back = y, h, None, w, None, before, gates, cell, False, True
                report(layer_dx, *back, flops=2 * flops, tolerance=1e-3)
                dp, _, _, _, _, du, adjoint = layer_dx(*back)
                report(
                    layer_dx_dx, p, None, None, None, None, y, h, None, p, w, None, None, None, None, before,
                    gates, dp if du is None else du, adjoint, cell, False, True,
                    flops=4 * flops, tolerance=1e-3,
                )  # fmt: skip
