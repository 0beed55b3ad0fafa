"""RNN, LSTM and GRU: step by step, in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ....engine.core import Tensor
from . import operations as td
from .shapes import moved
from .table import Node, Value, operator, require, tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": td.relu,
    "tanh": td.tanh,
    "sigmoid": td.sigmoid,
    "softsign": td.softsign,
    "softplus": td.softplus,
}
STATES = {"RNN": 1, "GRU": 1, "LSTM": 2}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


@operator("RNN", "GRU", trained=(1, 2, 3), host=(4,))
def recurrent(
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Value = None,
    lengths: Any = None,
    h: Value = None,
) -> Any:
    return _run(node, x, w, r, b, lengths, [h])


@operator("LSTM", trained=(1, 2, 3), host=(4,))
def lstm(
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Value = None,
    lengths: Any = None,
    h: Value = None,
    c: Value = None,
    peepholes: Value = None,
) -> Any:
    require(node, peepholes is None, "peepholes")
    require(node, not node.get("input_forget", 0), "input_forget")
    return _run(node, x, w, r, b, lengths, [h, c])


def _run(
    node: Node, x: Tensor, w: Tensor, r: Tensor, b: Value, lengths: Any, first: list[Value]
) -> tuple[Tensor, ...]:
    """w (D, gates · H, I), r (D, gates · H, H), b (D, 2 · gates · H) for D directions; x (T, N, I), with
    layout 1 (N, T, I). Outputs (T, D, N, H) and the final states (D, N, H).
    """
    require(node, not node.get("clip", 0.0), "clip")
    batch_first = node.get("layout", 0)
    if batch_first:
        x = moved(x, (1, 0, 2))
        first = [None if s is None else moved(s, (1, 0, 2)) for s in first]
    steps, samples, size = x.shape[0], x.shape[1], node.get("hidden_size", r.shape[-1])
    direction = node.get("direction", "forward")
    names = node.get("activations", DEFAULTS[node.kind] * len(w))
    each = len(DEFAULTS[node.kind])
    zeros = tensor(np.zeros((samples, size), x.dtype), x)
    outputs, finals = [], []
    for d in range(w.shape[0]):
        functions = []
        for name in names[d * each : (d + 1) * each]:
            require(node, name.lower() in ACTIVATIONS, f"the activation {name}")
            functions.append(ACTIVATIONS[name.lower()])
        state = [zeros if s is None else s[d] for s in first]
        biases = None if b is None else (b[d, : b.shape[1] // 2], b[d, b.shape[1] // 2 :])
        cell = _cell(node, w[d], r[d], biases, size, functions)
        backward = direction == "reverse" or d == 1
        rows: list[Any] = [None] * steps
        for t in range(steps)[:: -1 if backward else 1]:
            new = cell(x[t], state)
            if lengths is None:
                state, rows[t] = new, new[0]
            else:  # what is beyond a sequence changes no state and gives zeros
                inside = tensor((t < lengths)[:, None], x)
                state = [td.where(inside, a, old) for a, old in zip(new, state, strict=True)]
                rows[t] = td.where(inside, new[0], 0.0)
        outputs.append(td.stack(rows))
        finals.append(state)
    y = td.stack(outputs, 1)
    ends = [td.stack([state[i] for state in finals]) for i in range(STATES[node.kind])]
    if batch_first:
        y, ends = moved(y, (2, 0, 1, 3)), [moved(s, (1, 0, 2)) for s in ends]
    return (y, *ends)[: len(node.outputs)]


Cell = Callable[[Tensor, list[Tensor]], list[Tensor]]


def _cell(node: Node, w: Tensor, r: Tensor, biases: Any, size: int, functions: list[Any]) -> Cell:
    def products(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a, b = biases or (None, None)
        return td.linear(x, w, a), td.linear(h, r, b)

    def gate(values: Tensor, i: int) -> Tensor:
        return values[:, i * size : (i + 1) * size]

    def rnn(x: Tensor, state: list[Tensor]) -> list[Tensor]:
        return [functions[0](td.add(*products(x, state[0])))]

    def lstm(x: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Gates i, o, f, c."""
        f, g, h = functions
        z = td.add(*products(x, state[0]))
        c = td.add(td.mul(f(gate(z, 2)), state[1]), td.mul(f(gate(z, 0)), g(gate(z, 3))))
        return [td.mul(f(gate(z, 1)), h(c)), c]

    def gru(x: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Gates z, r, h. With linear_before_reset, as PyTorch's, the reset gate acts on the product."""
        f, g = functions
        a, b = products(x, state[0])
        z = f(td.add(gate(a, 0), gate(b, 0)))
        reset = f(td.add(gate(a, 1), gate(b, 1)))
        if node.get("linear_before_reset", 0):
            inner = td.mul(reset, gate(b, 2))
        else:
            bias = None if biases is None else biases[1][2 * size :]
            inner = td.linear(td.mul(reset, state[0]), r[2 * size :], bias)
        new = g(td.add(gate(a, 2), inner))
        return [td.add(td.mul(td.sub(1.0, z), new), td.mul(z, state[0]))]

    return {"RNN": rnn, "LSTM": lstm, "GRU": gru}[node.kind]
