"""Recurrent cells and layers. Gates, parameter names and layouts are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Tensor
from ..ops.elementwise import lt, to_dtype, where
from ..ops.matmul import linear
from ..ops.random import Generator, dropout, require_probability
from ..ops.recurrent import CELLS, State, layer, unrolled
from ..ops.shape import cat, squeeze, stack, transpose, unsqueeze
from ..ops.subscript import getitem
from . import init
from .checks import layer_dtype, require_sizes
from .module import Module
from .parameter import Parameter
from .utils.rnn import PackedSequence, packed_like, pad_packed_sequence

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
]


def _states(hx: Any) -> State:
    return (hx,) if isinstance(hx, Tensor) else tuple(hx)


class _Recurrent(Module):
    """What cells and layers share: `gates` rows of weights per hidden unit, and the name of the cell."""

    gates = 1
    states = 1
    cell = "tanh"

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
        new = CELLS[self.cell](linear(input, w_ih, b_ih), linear(state[0], w_hh, b_hh), state)
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
        self.cell = _nonlinearity("RNNCell", nonlinearity)


class LSTMCell(_Cell):
    """(h', c') of a long short-term memory. Hochreiter & Schmidhuber, 1997."""

    gates, states, cell = 4, 2, "lstm"


class GRUCell(_Cell):
    """h' of a gated recurrent unit. Cho et al., arXiv 1406.1078."""

    gates, cell = 3, "gru"


def _nonlinearity(who: str, name: str) -> str:
    if name not in ("tanh", "relu"):
        raise ValueError(f"{who}: expected nonlinearity 'tanh' or 'relu', got {name!r}")
    return name


class _Layers(_Recurrent):
    """Cells run over time, in `num_layers` layers and one or two directions, with dropout between layers.

    Input (T, N, input_size), or (N, T, input_size) with `batch_first`. Returns (output (T, N, directions ·
    hidden_size), final state); states are (layers · directions, N, hidden_size). One sample has no N in any
    of these. With `lengths` (N,) sample n ends after lengths[n] steps: its output is 0 from there on, its
    final state is the one at its end, and the backward direction starts there; a `PackedSequence`
    (`nn.utils.rnn`) gives one. `proj_size` (LSTM alone; Sak
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

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Any, Any]:
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
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
        start = None if hx is None else self._start(hx, count, batch, like=input)
        lengths = None if lengths is None else self._checked_lengths(lengths, steps, batch)
        if lengths is not None:  # what stands in the padding, be it NaN, reaches no gradient
            times = constant(input, np.arange(steps).reshape(steps, 1, 1))
            input = where(lt(times, unsqueeze(lengths, 1)), input, 0.0)
        final: list[State] = []
        for k, suffixes in enumerate(self.suffixes):
            if k:
                input = dropout(input, self.dropout, self.training, generator=self.generator)
            outputs = []
            for d, suffix in enumerate(suffixes):
                begin = start and tuple(getitem(s, k * directions + d) for s in start)
                output, end = self._run(input, begin, suffix, lengths, backward=d == 1)
                outputs.append(output)
                final.append(end)
            input = outputs[0] if len(outputs) == 1 else cat(outputs, -1)
        ends = tuple(stack([state[i] for state in final]) for i in range(self.states))
        return transpose(input, 0, 1) if self.batch_first else input, ends if self.states > 1 else ends[0]

    def _packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        padded, lengths = pad_packed_sequence(input, self.batch_first)
        output, end = self.forward(padded, hx, lengths)
        return packed_like(transpose(output, 0, 1) if self.batch_first else output, input), end

    def _one(self, input: Tensor, hx: Any, lengths: Any) -> tuple[Tensor, Any]:
        """One sample, without the dim of the batch."""
        batch = 0 if self.batch_first else 1
        states = () if hx is None else _states(hx)
        if any(s.ndim != 2 for s in states):
            got = ", ".join(str(s.shape) for s in states)
            raise ShapeError(f"{type(self).__name__}: expected states of 2 dims with one sample, got {got}")
        start = None if hx is None else tuple(unsqueeze(s, 1) for s in states)
        output, end = self.forward(unsqueeze(input, batch), start, lengths)
        return squeeze(output, batch), squeeze(end, 1) if isinstance(end, Tensor) else tuple(
            squeeze(s, 1) for s in end
        )

    def _run(
        self, x: Tensor, state: State | None, suffix: str, lengths: Tensor | None, backward: bool
    ) -> tuple[Tensor, State]:
        """One direction of one layer over all steps."""
        w_ih, w_hh, b_ih, b_hh = self._weights(suffix)
        gates = linear(x, w_ih, b_ih)  # of all steps at once
        if not self.proj_size:
            return layer(gates, w_hh, b_hh, state, lengths, self.cell, backward)
        state = self._start(None, x.shape[1], like=x) if state is None else state
        projection = getattr(self, f"weight_hr{suffix}")
        return unrolled(gates, w_hh, b_hh, state, lengths, self.cell, backward, projection)

    def _checked_lengths(self, lengths: Any, steps: int, batch: int) -> Tensor:
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
        return to_dtype(lengths, np.int64)

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
        self.cell = _nonlinearity("RNN", nonlinearity)


class LSTM(_Layers):
    __doc__ = (
        f"Long short-term memory; the state is (h, c). Hochreiter & Schmidhuber, 1997. {_Layers.__doc__}"
    )
    gates, states, cell = 4, 2, "lstm"

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
    gates, cell = 3, "gru"
