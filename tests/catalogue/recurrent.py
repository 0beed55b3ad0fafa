"""The primitives of recurrent layers: sequences of unequal lengths in both directions, with every operand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinydl.engine.core import Tensor, no_grad
from tinydl.ops import recurrent

from . import references as ref
from .row import Row, Sample, exactly

T, N, H = 2, 2, 2
LENGTHS = exactly([2, 1])


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _elman(activation: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda i, h, state: (activation(i + h),)


def _lstm(i: Any, h: Any, state: Any) -> Any:
    enter, forget, new, out = np.split(i + h, 4, -1)
    c = _sigmoid(forget) * state[1] + _sigmoid(enter) * np.tanh(new)
    return _sigmoid(out) * np.tanh(c), c


def _gru(i: Any, h: Any, state: Any) -> Any:
    (r, z, n), (r_h, z_h, n_h) = np.split(i, 3, -1), np.split(h, 3, -1)
    z = _sigmoid(z + z_h)
    return ((1 - z) * np.tanh(n + _sigmoid(r + r_h) * n_h) + z * state[0],)


CELLS = {
    "tanh": (_elman(np.tanh), 1, 1),
    "relu": (_elman(lambda x: np.where(x.real > 0, x, 0)), 1, 1),
    "lstm": (_lstm, 4, 2),
    "gru": (_gru, 3, 1),
}
"""The next state, rows of weights per unit, parts of the state."""


def _reference(cell: str, reverse: bool) -> Callable[..., Any]:
    def run(lengths: Any, p: Any, w: Any, b: Any, *state: Any) -> Any:
        rows: list[Any] = [None] * len(p)
        for t in range(len(p))[:: -1 if reverse else 1]:
            new, inside = CELLS[cell][0](p[t], state[0] @ w.T + b, state), (t < lengths)[:, None]
            state = tuple(np.where(inside, a, old) for a, old in zip(new, state, strict=True))
            rows[t] = np.where(inside, new[0], 0)
        return (np.stack(rows), *state)

    return run


def _backwards(
    function: Callable[..., Any], lengths: Any, inputs: Sequence[Any], given: Sequence[Any]
) -> Any:
    """The gradients of Σ <function(lengths, *inputs), given> for all inputs."""
    return tuple(ref.pullback(lambda *x: function(lengths, *x), inputs, given, i) for i in range(len(inputs)))


def _reference_dx(cell: str, reverse: bool) -> Callable[..., Any]:
    outputs = 1 + CELLS[cell][2]

    def run(lengths: Any, *given: Any) -> Any:
        return _backwards(_reference(cell, reverse), lengths, given[outputs:], given[:outputs])

    return run


def _reference_dx_dx(cell: str, reverse: bool) -> Callable[..., Any]:
    """How fast the outputs and their gradients change along v, by differences of the sixth order: complex
    steps do not nest.
    """
    parts = CELLS[cell][2]
    outputs, inputs, step = 1 + parts, 3 + parts, 3e-3

    def run(lengths: Any, *given: Any) -> Any:
        v, g, x = given[:inputs], given[inputs : inputs + outputs], given[inputs + outputs :]

        def at(k: int) -> list[Any]:
            moved = [a + k * step * b for a, b in zip(x, v, strict=True)]
            first = _reference_dx(cell, reverse)(lengths, *g, *moved)
            return [*_reference(cell, reverse)(lengths, *moved), *first]

        sides = [(weight, at(k), at(-k)) for k, weight in ((1, 45), (2, -9), (3, 1))]
        return tuple(
            sum(weight * (plus[i] - minus[i]) for weight, plus, minus in sides) / (60 * step)
            for i in range(outputs + inputs)
        )

    return run


class Calls:
    """The three primitives of a cell on (lengths, operands ...), without what is None but for the lstm."""

    def __init__(self, cell: str, reverse: bool) -> None:
        self.cell, self.parts = cell, CELLS[cell][2]
        self.settings = {"cell": cell, "reverse": reverse}

    def _filled(self, given: Sequence[Any], at: int) -> list[Any]:
        """With None in the place of cells that there are not."""
        return [*given[:at], *[None] * (2 - self.parts), *given[at:]]

    def layer(self, lengths: Tensor, *given: Tensor) -> Any:
        found = recurrent._layer(*self._filled(given, 4), lengths, **self.settings)
        return tuple(y for y in found[:3] if y is not None)

    def layer_dx(self, lengths: Tensor, *given: Tensor) -> Any:
        given_all = self._filled(self._filled(given, 2), 7)
        with no_grad():
            *_, before, gates = recurrent._layer(*given_all[3:], lengths, **self.settings)
        found = recurrent._layer_dx(*given_all, lengths, before, gates, weights=True, **self.settings)
        return tuple(y for y in found[:5] if y is not None)

    def layer_dx_dx(self, lengths: Tensor, *given: Tensor) -> Any:
        given_all = self._filled(self._filled(self._filled(given, 4), 7), 12)
        with no_grad():
            *_, before, gates = recurrent._layer(*given_all[8:], lengths, **self.settings)
            kept = lengths, before, gates
            dp, *_, du, adjoint = recurrent._layer_dx(*given_all[5:], *kept, weights=True, **self.settings)
        kept = *kept, dp if du is None else du, adjoint
        found = recurrent._layer_dx_dx(*given_all, *kept, weights=True, **self.settings)
        return tuple(y for y in found if y is not None)


def _rows(cell: str, reverse: bool) -> list[Row]:
    calls, (_, gates, parts) = Calls(cell, reverse), CELLS[cell]
    state = [(N, H)] * parts
    inputs = [(T, N, gates * H), (gates * H, H), (gates * H,), *state]
    outputs = [(T, N, H), *state]
    samples: dict[str, Sample] = {
        "layer": inputs,
        "layer_dx": [*outputs, *inputs],
        "layer_dx_dx": [*inputs, *outputs, *inputs],
    }
    references = {"layer": _reference, "layer_dx": _reference_dx, "layer_dx_dx": _reference_dx_dx}
    return [
        Row(
            f"recurrent.{name} {cell}",
            getattr(calls, name),
            [[LENGTHS, *sample]],
            references[name](cell, reverse),
            f"recurrent.{name}",
            order=2,  # of the layer that is up to the fourth; nn.LSTM and its kin have rows to the third
            tolerance=1e-4,
        )
        for name, sample in samples.items()
        if parts == 2 or gates > 1 or name == "layer"  # of the simplest cells the first has them all
    ]


ROWS: list[Row] = [row for k, cell in enumerate(CELLS) for row in _rows(cell, k % 2 == 0)]
