"""The loops of recurrent layers on the processor. A block of neighbouring sequences goes through all steps by
itself. What it has of a step lies in scratch of its own, in rows that fill the tiles of the product with the
packed weights; beyond the sequences they are zeros. The cells are taken row by row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..cpu import simd
from ..cpu.compiler import kernel, parallel
from ..cpu.tiles import copy, fill, pack_rows, transpose
from . import cells

_inner = kernel(no_cpython_wrapper=True)
TALL = 8
"""Rows of a tile; it is one register wide."""


@parallel
def pack(start, stop, w, to, K, J, width, turned):
    """Panels of B (K, J), `width` columns each: B = w, or wᵀ if turned."""
    for number in range(start, stop):
        panel, j = number * K * width, number * width
        count = min(width, J - j)
        if turned:
            fill(to, panel, w.dtype.type(0), K * width if count < width else 0)
            transpose(to, panel, width, w, j * K, K, count, K)
        else:
            pack_rows(to, panel, w, j, J, K, count, width)


def _product_plainly(y, y0, panels, width, K, number, a, a0, rows):
    for i in range(rows):
        for j in range(number * width):
            total = y.dtype.type(0)
            for k in range(K):
                total += a[a0 + i * K + k] * panels[(j // width * K + k) * width + j % width]
            y[y0 + i * number * width + j] = total


@simd.vectorized(_product_plainly, no_cpython_wrapper=True)
def _product(y, y0, panels, width, K, number, a, a0, rows):
    """y (rows, number · width) = a (rows, K) times B in so many panels, from y[y0] and a[a0] on; the rows are
    a multiple of TALL.
    """
    y, panel, a = simd.pointer(y, y0), simd.pointer(panels, 0), simd.pointer(a, a0)
    for j in range(0, number * width, width):
        for i in range(0, rows, TALL):
            sums = simd.load(TALL, 1, y, 0, 0, None, 0)  # zeros
            row, last = simd.shifted(a, i * K), K - 1
            for k in range(0, last, 2):  # two terms at a time: counting takes the place of multiply-adds
                sums = simd.multiply_add(sums, row, k, K, panel, k * width, None)
                sums = simd.multiply_add(sums, row, k + 1, K, panel, (k + 1) * width, None)
            if K % 2:
                sums = simd.multiply_add(sums, row, last, K, panel, last * width, None)
            simd.store(sums, y, i * number * width + j, number * width, None, None)
        panel = simd.shifted(panel, K * width)


@_inner
def _begin(to, at, rows, source, source_at, n):
    """n numbers that are given, or zeros, and zeros behind them: `rows` in all."""
    fill(to, at, to.dtype.type(0), rows)
    if source.size:
        copy(to, at, 1, source, source_at, 1, n)


@_inner
def _part(x, at, n):
    return x[at : at + n]


@_inner
def _add(y, x):
    for k in range(y.size):
        y[k] += x[k]


class Loops(NamedTuple):
    """The loops of one kind of cell. Sizes are (T, N, H, G·H, numbers kept a row, rows of a block); tiling is
    (panels of the weights, their width, depth and number). Arrays that are absent are empty.

    Of `scratch` a block has rows of the state (H), of u or of its gradient (G·H), and of the product.
    """

    layer: Any
    layer_dot: Any
    back: Any
    back_dot: Any


def _loops(step: Any, step_dot: Any, back: Any, back_dot: Any) -> Loops:
    @parallel
    def layer(start, stop, p, tiling, bias, h0, c0, lengths, y, h, c, before, gates, scratch, sizes, reverse):
        (T, N, H, GH, kept, rows), (panels, width, K, number) = sizes, tiling
        (states, products), wide = scratch, number * width
        for block in range(start, stop):
            first, count = block * rows, min(rows, N - block * rows)
            base = first * H
            _begin(states, base, rows * H, h0, base, count * H)
            if c.size:
                _begin(c, base, count * H, c0, base, count * H)
            for s in range(T):
                t = T - 1 - s if reverse else s
                copy(before, t * N * H + base, 1, states, base, 1, count * H)
                if c.size:
                    copy(before, (T + t) * N * H + base, 1, c, base, 1, count * H)
                _product(products, first * wide, panels, width, K, number, states, base, rows)
                for n in range(first, first + count):
                    at = t * N + n
                    if t < lengths[n]:
                        u, state = _part(products, n * wide, GH), _part(states, n * H, H)
                        if bias.size:
                            _add(u, bias)
                        step(
                            _part(p, at * GH, GH), u, _part(gates, at * kept, kept), state, _part(c, n * H, H)
                        )
                        copy(y, at * H, 1, state, 0, 1, H)
                    else:
                        fill(gates, at * kept, y.dtype.type(0), kept)
                        fill(y, at * H, y.dtype.type(0), H)
            copy(h, base, 1, states, base, 1, count * H)

    @parallel
    def layer_dot(
        start, stop, v, push, tiling, v_h, v_c, lengths, before, gates,
        ddgy, dh, dc, dbefore, dgates, scratch, sizes, reverse,
    ):  # fmt: skip
        """The derivative of `layer` along v of p, push of u, v_h and v_c of the first state."""
        (T, N, H, GH, kept, rows), (panels, width, K, number) = sizes, tiling
        (states, products, zeros), wide = scratch, number * width
        for block in range(start, stop):
            first, count = block * rows, min(rows, N - block * rows)
            base = first * H
            _begin(states, base, rows * H, v_h, base, count * H)
            if dc.size:
                _begin(dc, base, count * H, v_c, base, count * H)
            if not v.size:
                fill(zeros, block * GH, states.dtype.type(0), GH)
            for s in range(T):
                t = T - 1 - s if reverse else s
                copy(dbefore, t * N * H + base, 1, states, base, 1, count * H)
                if dc.size:
                    copy(dbefore, (T + t) * N * H + base, 1, dc, base, 1, count * H)
                _product(products, first * wide, panels, width, K, number, states, base, rows)
                for n in range(first, first + count):
                    at = t * N + n
                    if t < lengths[n]:
                        u, state = _part(products, n * wide, GH), _part(states, n * H, H)
                        if push.size:
                            _add(u, _part(push, at * GH, GH))
                        along = _part(v, at * GH, GH) if v.size else _part(zeros, block * GH, GH)
                        step_dot(
                            along, u, _part(gates, at * kept, kept), _part(before, at * H, H),
                            _part(before, (T * N + at) * H, H), _part(dgates, at * kept, kept), state,
                            _part(dc, n * H, H),
                        )  # fmt: skip
                        copy(ddgy, at * H, 1, state, 0, 1, H)
                    else:
                        fill(dgates, at * kept, dh.dtype.type(0), kept)
                        fill(ddgy, at * H, dh.dtype.type(0), H)
            copy(dh, base, 1, states, base, 1, count * H)

    @parallel
    def layer_back(
        start, stop, gy, gh_end, gc_end, tiling, lengths, before, gates,
        gp, gu, gh, gc, adjoint, scratch, sizes, reverse,
    ):  # fmt: skip
        (T, N, H, GH, kept, rows), (panels, width, K, number) = sizes, tiling
        (of_u, products), wide = scratch, number * width
        for block in range(start, stop):
            first, count = block * rows, min(rows, N - block * rows)
            base = first * H
            _begin(gh, base, count * H, gh_end, base, count * H)
            if gc.size:
                _begin(gc, base, count * H, gc_end, base, count * H)
            fill(of_u, first * GH, gh.dtype.type(0), rows * GH)
            for s in range(T):
                t = s if reverse else T - 1 - s
                for n in range(first, first + count):
                    at = t * N + n
                    second = (T * N + at) * H
                    state, cell = _part(gh, n * H, H), _part(gc, n * H, H)
                    if t < lengths[n]:
                        if gy.size:
                            _add(state, _part(gy, at * H, H))
                        copy(adjoint, at * H, 1, state, 0, 1, H)
                        copy(adjoint, second, 1, cell, 0, 1, cell.size)
                        back(
                            _part(gates, at * kept, kept), _part(before, at * H, H), _part(before, second, H),
                            state, cell, _part(gp, at * GH, GH), _part(gu, at * GH, GH),
                        )  # fmt: skip
                    else:
                        fill(adjoint, at * H, gh.dtype.type(0), H)
                        fill(adjoint, second, gh.dtype.type(0), cell.size)
                        fill(gp, at * GH, gh.dtype.type(0), GH)
                        fill(gu, at * GH, gh.dtype.type(0), GH)
                copy(of_u, first * GH, 1, gu, (t * N + first) * GH, 1, count * GH)
                _product(products, first * wide, panels, width, K, number, of_u, first * GH, rows)
                for n in range(first, first + count):
                    _add(_part(gh, n * H, H), _part(products, n * wide, H))

    @parallel
    def layer_back_dot(
        start, stop, pull, tiling, lengths, before, dbefore, gates, dgates, adjoint,
        dgp, dgu, dgh, dgc, scratch, sizes, reverse,
    ):  # fmt: skip
        """The derivative of `layer_back` along the direction; `pull` is what a moving w adds to the state."""
        (T, N, H, GH, kept, rows), (panels, width, K, number) = sizes, tiling
        (of_u, products), wide = scratch, number * width
        for block in range(start, stop):
            first, count = block * rows, min(rows, N - block * rows)
            base = first * H
            fill(dgh, base, dgh.dtype.type(0), count * H)
            if dgc.size:
                fill(dgc, base, dgh.dtype.type(0), count * H)
            fill(of_u, first * GH, dgh.dtype.type(0), rows * GH)
            for s in range(T):
                t = s if reverse else T - 1 - s
                for n in range(first, first + count):
                    at = t * N + n
                    if t < lengths[n]:
                        second = (T * N + at) * H
                        back_dot(
                            _part(gates, at * kept, kept), _part(dgates, at * kept, kept),
                            _part(before, at * H, H), _part(dbefore, at * H, H),
                            _part(before, second, H), _part(dbefore, second, H),
                            _part(adjoint, at * H, H), _part(adjoint, second, H),
                            _part(dgh, n * H, H), _part(dgc, n * H, H),
                            _part(dgp, at * GH, GH), _part(dgu, at * GH, GH),
                        )  # fmt: skip
                    else:
                        fill(dgp, at * GH, dgh.dtype.type(0), GH)
                        fill(dgu, at * GH, dgh.dtype.type(0), GH)
                copy(of_u, first * GH, 1, dgu, (t * N + first) * GH, 1, count * GH)
                _product(products, first * wide, panels, width, K, number, of_u, first * GH, rows)
                for n in range(first, first + count):
                    _add(_part(dgh, n * H, H), _part(products, n * wide, H))
                if pull.size:
                    _add(_part(dgh, base, count * H), _part(pull, t * N * H + base, count * H))

    return Loops(layer, layer_dot, layer_back, layer_back_dot)


OF_CELL = {
    "tanh": _loops(cells.tanh_step, cells.tanh_step_dot, cells.tanh_back, cells.tanh_back_dot),
    "relu": _loops(cells.relu_step, cells.relu_step_dot, cells.relu_back, cells.relu_back_dot),
    "lstm": _loops(cells.lstm_step, cells.lstm_step_dot, cells.lstm_back, cells.lstm_back_dot),
    "gru": _loops(cells.gru_step, cells.gru_step_dot, cells.gru_back, cells.gru_back_dot),
}
