"""Recurrent layers, one direction of one layer a primitive. Its derivative, backwards through time, is a
primitive too, with the *total* derivative in closed form, and so is the derivative of that (the kernels'
docstring has the formulas); what comes after is composed of elementary ones, step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tinydl_kernels import recurrent as kernels

from ..devices import constant
from ..engine.core import Array, Tensor, add, primitive
from ..engine.pullback import pullback
from .elementwise import lt, mul, relu, sigmoid, sub, tanh, where
from .matmul import linear
from .shape import chunk, stack, unsqueeze
from .subscript import getitem

__all__: list[str] = []

State = tuple[Any, ...]  # (h,), or (h, c) for an LSTM
KEPT = ("before", "gates", "du", "adjoint", "lengths")
"""What the derivatives read of a run, beside what they are derivatives with respect to."""


# ---- Cells: the next state from the gates' inputs i, of the input, and h, of the state


def _tanh(i: Tensor, h: Tensor, state: State) -> State:
    return (tanh(add(i, h)),)


def _relu(i: Tensor, h: Tensor, state: State) -> State:
    return (relu(add(i, h)),)


def _lstm(i: Tensor, h: Tensor, state: State) -> State:
    """c' = σ(f) c + σ(i) tanh(g), h' = σ(o) tanh(c'). Hochreiter & Schmidhuber, 1997."""
    enter, forget, new, out = chunk(add(i, h), 4, -1)
    c = add(mul(sigmoid(forget), state[1]), mul(sigmoid(enter), tanh(new)))
    return mul(sigmoid(out), tanh(c)), c


def _gru(i: Tensor, h: Tensor, state: State) -> State:
    """r, z = σ(...), n = tanh(n_i + r n_h), h' = (1 - z) n + z h. Cho et al., arXiv
    1406.1078, with PyTorch's reset gate.
    """
    (r_i, z_i, n_i), (r_h, z_h, n_h) = chunk(i, 3, -1), chunk(h, 3, -1)
    z = sigmoid(add(z_i, z_h))
    n = tanh(add(n_i, mul(sigmoid(add(r_i, r_h)), n_h)))
    return (add(mul(sub(1.0, z), n), mul(z, state[0])),)


CELLS: dict[str, Callable[[Tensor, Tensor, State], State]] = {
    "tanh": _tanh,
    "relu": _relu,
    "lstm": _lstm,
    "gru": _gru,
}


def unrolled(
    p: Tensor,
    w: Tensor,
    b: Tensor | None,
    state: State,
    lengths: Tensor | None,
    cell: str,
    reverse: bool,
    projection: Tensor | None = None,
) -> tuple[Tensor, State]:
    """(outputs (T, N, H), state at the end) in elementary primitives; `projection` (P, H) makes h, and so the
    outputs, W_hr h of that size.
    """
    outputs: list[Any] = [None] * p.shape[0]
    ends = None if lengths is None else unsqueeze(lengths, 1)
    for t in reversed(range(p.shape[0])) if reverse else range(p.shape[0]):
        new = CELLS[cell](getitem(p, t), linear(state[0], w, b), state)
        new = new if projection is None else (linear(new[0], projection), *new[1:])
        if ends is None:
            state, outputs[t] = new, new[0]
        else:
            alive = lt(t, ends)
            state = tuple(where(alive, a, old) for a, old in zip(new, state, strict=True))
            outputs[t] = where(alive, new[0], 0.0)
    return stack(outputs), state


# ---- The primitives


@primitive(floating=True, outputs=("y", "h", "c", "before", "gates"), constant=KEPT)
def _layer(
    p: Array, w: Array, b: Array, h0: Array, c0: Array, lengths: Array, *, cell: str, reverse: bool
) -> tuple[Array, ...]:
    """p (T, N, G·H), w (G·H, H), b (G·H), h0, c0 (N, H), lengths (N,) int64; all but p and w may be None."""
    return kernels.layer(p, w, b, h0, c0, lengths, cell, reverse)


@primitive(floating=True, outputs=("dp", "dw", "db", "dh0", "dc0", "du", "adjoint"), constant=KEPT)
def _layer_dx(
    gy: Array,
    gh: Array,
    gc: Array,
    p: Array,
    w: Array,
    b: Array,
    h0: Array,
    c0: Array,
    lengths: Array,
    before: Array,
    gates: Array,
    *,
    cell: str,
    reverse: bool,
    weights: bool,
) -> tuple[Array, ...]:
    return kernels.layer_dx(gy, gh, gc, w, lengths, before, gates, cell, reverse, weights)


@primitive(
    floating=True,
    outputs=("ddgy", "ddgh", "ddgc", "ddp", "ddw", "ddb", "ddh0", "ddc0"),
    constant=KEPT,
)
def _layer_dx_dx(
    v_p: Array,
    v_w: Array,
    v_b: Array,
    v_h: Array,
    v_c: Array,
    gy: Array,
    gh: Array,
    gc: Array,
    p: Array,
    w: Array,
    b: Array,
    h0: Array,
    c0: Array,
    lengths: Array,
    before: Array,
    gates: Array,
    du: Array,
    adjoint: Array,
    *,
    cell: str,
    reverse: bool,
    weights: bool,
) -> tuple[Array, ...]:
    moved, of_outputs, inputs = (v_p, v_w, v_b, v_h, v_c), (gy, gh, gc), (p, w, b, h0, c0)
    kept = lengths, before, gates, du, adjoint
    return kernels.layer_dx_dx(*moved, *of_outputs, *inputs, *kept, cell, reverse, weights)


@_layer.joint
def _(
    needs: tuple[bool, ...],
    gy: Any,
    gh: Any,
    gc: Any,
    p: Tensor,
    w: Tensor,
    b: Any,
    h0: Any,
    c0: Any,
    lengths: Any,
    before: Tensor,
    gates: Tensor,
    *,
    cell: str,
    reverse: bool,
) -> tuple[Any, ...]:
    settings = {"cell": cell, "reverse": reverse, "weights": needs[1] or needs[2]}
    return *_layer_dx(gy, gh, gc, p, w, b, h0, c0, lengths, before, gates, **settings)[:5], None


@_layer_dx.joint
def _(
    needs: tuple[bool, ...],
    v_p: Any,
    v_w: Any,
    v_b: Any,
    v_h: Any,
    v_c: Any,
    gy: Any,
    gh: Any,
    gc: Any,
    p: Tensor,
    w: Tensor,
    b: Any,
    h0: Any,
    c0: Any,
    lengths: Any,
    before: Tensor,
    gates: Tensor,
    dp: Tensor,
    du: Any,
    adjoint: Tensor,
    *,
    cell: str,
    reverse: bool,
) -> tuple[Any, ...]:
    given = v_p, v_w, v_b, v_h, v_c, gy, gh, gc, p, w, b, h0, c0, lengths, before, gates
    settings = {"cell": cell, "reverse": reverse, "weights": needs[4] or needs[5]}
    found = _layer_dx_dx(*given, dp.detach() if du is None else du, adjoint, **settings)
    return *found, None, None, None


@_layer_dx_dx.joint
def _(
    needs: tuple[bool, ...],
    u_gy: Any,
    u_gh: Any,
    u_gc: Any,
    u_p: Any,
    u_w: Any,
    u_b: Any,
    u_h: Any,
    u_c: Any,
    v_p: Any,
    v_w: Any,
    v_b: Any,
    v_h: Any,
    v_c: Any,
    gy: Any,
    gh: Any,
    gc: Any,
    p: Tensor,
    w: Tensor,
    b: Any,
    h0: Any,
    c0: Any,
    lengths: Any,
    *,
    cell: str,
    reverse: bool,
) -> tuple[Any, ...]:
    def run(p: Tensor, w: Tensor, b: Any, h0: Any, c0: Any) -> list[Any]:
        zeros = constant(p, np.zeros((p.shape[1], w.shape[1]), p.dtype))
        starts = (h0, c0)[: 1 + (cell == "lstm")]
        start = tuple(zeros if s is None else s for s in starts)
        y, end = unrolled(p, w, b, start, lengths, cell, reverse)
        return [y, *end, None][:3]

    def run_dx(gy: Any, gh: Any, gc: Any, *inputs: Any) -> list[Any]:
        return pullback(run, inputs, [gy, gh, gc])

    def run_dx_dx(*given: Any) -> list[Any]:
        return pullback(run_dx, given[5:], given[:5])

    given = [v_p, v_w, v_b, v_h, v_c, gy, gh, gc, p, w, b, h0, c0]
    found = pullback(run_dx_dx, given, [u_gy, u_gh, u_gc, u_p, u_w, u_b, u_h, u_c], needs[:13])
    return *found, *(None,) * 5


def layer(
    p: Tensor,
    w: Tensor,
    b: Tensor | None,
    state: State | None,
    lengths: Tensor | None,
    cell: str,
    reverse: bool,
) -> tuple[Tensor, State]:
    """(outputs (T, N, H), state at the end) of the gates' inputs p (T, N, G·H), from a state or zeros."""
    start = (*(state or ()), None, None)[:2]
    y, h, c, *_ = _layer(p, w, b, *start, lengths, cell=cell, reverse=reverse)
    return y, (h,) if c is None else (h, c)
