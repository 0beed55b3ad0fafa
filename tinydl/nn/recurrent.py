"""Recurrent cells and layers. Gates, parameter names and layouts are PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Tensor, add
from ..ops.elementwise import lt, mul, relu, sigmoid, sub, tanh, where
from ..ops.matmul import linear
from ..ops.random import Generator, dropout, require_probability
from ..ops.shape import cat, chunk, squeeze, stack, transpose, unsqueeze
from ..ops.subscript import getitem
from . import init
from .checks import layer_dtype, require_sizes
from .module import Module
from .parameter import Parameter

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
]

State = tuple[Tensor, ...]  # (h,), or (h, c) for an LSTM


def _states(hx: Any) -> State:
    return (hx,) if isinstance(hx, Tensor) else tuple(hx)


def _rnn(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, State], State]:
    return lambda i, h, state: (activation(add(i, h)),)


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


class _Recurrent(Module):
    """What cells and layers share: `gates` rows of weights per hidden unit, `update` from
    gate inputs to the next state.
    """

    gates = 1
    states = 1
    update: Callable[[Tensor, Tensor, State], State]

    def __init__(self, input_size: int, hidden_size: int, bias: bool, dtype: Any) -> None:
        super().__init__()
        require_sizes(self, 0, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.has_bias = input_size, hidden_size, bias
        self.proj_size = 0  # of an LSTM whose output is projected
        self.dtype = layer_dtype(self, dtype)  # of the parameters that are drawn

    def _draw(self, suffix: str, inputs: int) -> None:
        """weight_ih (gates · H, inputs), weight_hh (gates · H, P) and their biases, U(±1/√H), with P = H,
        or the size of a projection weight_hr (P, H).
        """
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0.0
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, inputs),
            "weight_hh": (rows, self.proj_size or self.hidden_size),
        }
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if self.has_bias else {}
        shapes |= {"weight_hr": (self.proj_size, self.hidden_size)} if self.proj_size else {}
        for name, shape in shapes.items():
            setattr(self, name + suffix, init.uniform_(Parameter(np.empty(shape, self.dtype)), -bound, bound))

    def _weights(self, suffix: str) -> tuple[Any, ...]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return tuple(getattr(self, name + suffix, None) for name in names)

    def _start(self, hx: Any, *shape: int, like: Tensor) -> State:
        """The given state, or zeros: h (*shape, proj_size or hidden_size), c (*shape, hidden_size)."""
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)[: self.states]
        shapes = [(*shape, size) for size in sizes]
        if hx is None:
            return tuple(constant(like, np.zeros(s, like.dtype)) for s in shapes)
        state = _states(hx)
        if [s.shape for s in state] != shapes:
            got = ", ".join(str(s.shape) for s in state)
            wanted = " and ".join(map(str, dict.fromkeys(shapes)))
            raise ShapeError(f"{type(self).__name__}: expected {self.states} state(s) {wanted}, got {got}")
        return state

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class _Cell(_Recurrent):
    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, dtype)
        self._draw("", input_size)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """The next state from input (N, input_size) and state (N, hidden_size), or both without N;
        zeros are the default state.
        """
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: expected input (N, {self.input_size}), got {input.shape}"
            )
        state = self._start(hx, *input.shape[:-1], like=input)
        w_ih, w_hh, b_ih, b_hh = self._weights("")
        new = self.update(linear(input, w_ih, b_ih), linear(state[0], w_hh, b_hh), state)
        return new if self.states > 1 else new[0]


class RNNCell(_Cell):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu. Elman, 1990."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype)
        self.update = _rnn(_nonlinearity("RNNCell", nonlinearity))


class LSTMCell(_Cell):
    """(h', c') of a long short-term memory. Hochreiter & Schmidhuber, 1997."""

    gates, states = 4, 2
    update = staticmethod(_lstm)


class GRUCell(_Cell):
    """h' of a gated recurrent unit. Cho et al., arXiv 1406.1078."""

    gates = 3
    update = staticmethod(_gru)


def _nonlinearity(who: str, name: str) -> Callable[[Tensor], Tensor]:
    if name not in ("tanh", "relu"):
        raise ValueError(f"{who}: expected nonlinearity 'tanh' or 'relu', got {name!r}")
    return tanh if name == "tanh" else relu


class _Layers(_Recurrent):
    """Cells run over time, in `num_layers` layers and one or two directions, with dropout between layers.

    Input (T, N, input_size), or (N, T, input_size) with `batch_first`. Returns (output (T, N, directions ·
    hidden_size), final state); states are (layers · directions, N, hidden_size). One sample has no N in any
    of these. With `lengths` (N,) sample n ends after lengths[n] steps: its output is 0 from there on, its
    final state is the one at its end, and the backward direction starts there. `proj_size` (LSTM alone; Sak
    et al., arXiv 1402.1128) makes h, and so the output, W_hr h of that size.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        generator: Generator | None = None,
        dtype: Any = None,
    ) -> None:
        settings = num_layers, bias, batch_first, dropout, bidirectional, generator, dtype
        self._build(input_size, hidden_size, *settings)

    def _build(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        generator: Generator | None,
        dtype: Any,
        proj_size: int = 0,
    ) -> None:
        """What `__init__` does, for that of an LSTM too, which has one setting more."""
        _Recurrent.__init__(self, input_size, hidden_size, bias, dtype)
        require_sizes(self, num_layers=num_layers)
        require_sizes(self, 0, proj_size=proj_size)
        if proj_size >= max(hidden_size, 1):
            name = type(self).__name__
            raise ValueError(f"{name}: expected proj_size below hidden_size={hidden_size}, got {proj_size}")
        self.proj_size = proj_size
        require_probability(type(self).__name__, dropout)
        self.num_layers, self.batch_first, self.dropout = num_layers, batch_first, dropout
        self.bidirectional, self.generator = bidirectional, generator
        self.suffixes = [
            [f"_l{k}{end}" for end in ("", "_reverse")[: 1 + bidirectional]] for k in range(num_layers)
        ]
        for k, suffixes in enumerate(self.suffixes):
            for suffix in suffixes:
                self._draw(suffix, input_size if k == 0 else (proj_size or hidden_size) * len(suffixes))

    def flatten_parameters(self) -> None:
        """Nothing: PyTorch lays weights out for cuDNN here."""

    def forward(self, input: Tensor, hx: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            got = f"expected input of 2 or 3 dims, the last {self.input_size}, got {input.shape}"
            raise ShapeError(f"{type(self).__name__}: {got}")
        if input.ndim == 2:
            return self._one(input, hx, lengths)
        input = transpose(input, 0, 1) if self.batch_first else input
        steps, batch = input.shape[:2]
        if not steps:
            raise ShapeError(f"{type(self).__name__}: expected at least one step, got input {input.shape}")
        directions = 1 + self.bidirectional
        count = self.num_layers * directions
        start = self._start(hx, count, batch, like=input)
        alive = None if lengths is None else self._alive(lengths, steps, batch)
        if alive:  # what stands in the padding, be it NaN, reaches no gradient
            input = where(stack(alive), input, 0.0)
        final: list[State] = []
        for k, suffixes in enumerate(self.suffixes):
            if k:
                input = dropout(input, self.dropout, self.training, generator=self.generator)
            outputs = []
            for d, suffix in enumerate(suffixes):
                begin = tuple(getitem(s, k * directions + d) for s in start)
                output, end = self._run(input, begin, suffix, alive, backward=d == 1)
                outputs.append(output)
                final.append(end)
            input = outputs[0] if len(outputs) == 1 else cat(outputs, -1)
        ends = tuple(stack([state[i] for state in final]) for i in range(self.states))
        return transpose(input, 0, 1) if self.batch_first else input, ends if self.states > 1 else ends[0]

    def _one(self, input: Tensor, hx: Any, lengths: Any) -> tuple[Tensor, Any]:
        """One sample, without the dim of the batch."""
        batch = 0 if self.batch_first else 1
        start = None if hx is None else tuple(unsqueeze(s, 1) for s in _states(hx))
        output, end = self.forward(unsqueeze(input, batch), start, lengths)
        return squeeze(output, batch), squeeze(end, 1) if isinstance(end, Tensor) else tuple(
            squeeze(s, 1) for s in end
        )

    def _run(self, x: Tensor, state: State, suffix: str, alive: Any, backward: bool) -> tuple[Tensor, State]:
        """One direction of one layer over all steps."""
        w_ih, w_hh, b_ih, b_hh = self._weights(suffix)
        w_hr = getattr(self, f"weight_hr{suffix}", None)
        projected = linear(x, w_ih, b_ih)  # for all steps at once
        outputs: list[Any] = [None] * x.shape[0]
        for t in reversed(range(x.shape[0])) if backward else range(x.shape[0]):
            new = self.update(getitem(projected, t), linear(state[0], w_hh, b_hh), state)
            new = new if w_hr is None else (linear(new[0], w_hr), *new[1:])
            if alive is None:
                state = new
                outputs[t] = new[0]
            else:
                state = tuple(where(alive[t], a, b) for a, b in zip(new, state, strict=True))
                outputs[t] = where(alive[t], new[0], 0.0)
        return stack(outputs), state

    def _alive(self, lengths: Any, steps: int, batch: int) -> list[Tensor]:
        """For each step which samples (N, 1) have not ended."""
        lengths = lengths if isinstance(lengths, Tensor) else constant(next(self.parameters()), lengths)
        if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
            raise ShapeError(
                f"{type(self).__name__}: expected integer lengths ({batch},), got {lengths.shape} "
                f"{lengths.dtype}"
            )
        if lengths.device == "cpu":
            wrong = lengths.array[(lengths.array < 1) | (lengths.array > steps)]
            if wrong.size:
                got = f"{wrong.min()} .. {wrong.max()}"
                raise ShapeError(f"{type(self).__name__}: expected lengths in [1, {steps}], got {got}")
        ends = unsqueeze(lengths, 1)
        return [lt(t, ends) for t in range(steps)]

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, "
            f"bidirectional={self.bidirectional}"
        )


class RNN(_Layers):
    __doc__ = f"Elman network: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu. {_Layers.__doc__}"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        generator: Generator | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, generator, dtype
        )
        self.update = _rnn(_nonlinearity("RNN", nonlinearity))


class LSTM(_Layers):
    __doc__ = (
        f"Long short-term memory; the state is (h, c). Hochreiter & Schmidhuber, 1997. {_Layers.__doc__}"
    )
    gates, states = 4, 2
    update = staticmethod(_lstm)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        generator: Generator | None = None,
        dtype: Any = None,
    ) -> None:
        settings = num_layers, bias, batch_first, dropout, bidirectional, generator, dtype
        self._build(input_size, hidden_size, *settings, proj_size)


class GRU(_Layers):
    __doc__ = f"Gated recurrent units. Cho et al., arXiv 1406.1078. {_Layers.__doc__}"
    gates = 3
    update = staticmethod(_gru)
