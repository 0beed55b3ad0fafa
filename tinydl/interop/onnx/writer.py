"""A graph of ONNX as it grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...devices import move
from ...engine.core import Array
from .operators import DTYPES, UnsupportedError

NUMBERS = {np.dtype(dtype): number for number, dtype in DTYPES.items()}
SMALL = 1024
"""Bytes of a constant; of equal ones up to this size one is stored, and none of them lies beside the file."""

OPTIONAL = ("MaxPool",)
"""Operators whose last outputs may be left out."""


class Call(NamedTuple):
    """What a primitive did, or a layer."""

    key: str  # of the primitive, or "nn." and the class of the layer
    inputs: list[Any]
    outputs: list[Any]
    settings: dict[str, Any]
    path: str  # of the module

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]


class Writer:
    """A graph as it grows."""

    def __init__(self, opset: int, batch: int | None) -> None:
        self.opset, self.batch = opset, batch
        self.nodes: list[tuple[str, list[str], list[str], str, dict[str, Any]]] = []
        self.names: dict[int, str] = {}  # id of an array of the first run -> its name
        self.stored: dict[str, np.ndarray] = {}  # weights and constants
        self.constants: dict[Any, str] = {}  # dtype, shape and bytes of small ones -> name
        self.alive: list[Any] = []  # so that ids stay theirs
        self.path, self.count, self.first_input = "", 0, ""

    def input(self, name: str, array: Array) -> None:
        self.names[id(array)] = name
        self.first_input = self.first_input or name

    def weight(self, name: str, array: Array) -> None:
        self.names[id(array)] = name
        self.stored[name] = move(array, "cpu")

    def normalize(self, array: Array, mean: Any, std: Any) -> None:
        """The first input is (input - mean) / std of its channels from here on."""
        shape = (1, -1) + (1,) * (array.ndim - 2)
        mean, std = (np.asarray(v, array.dtype).reshape(shape) for v in (mean, std))
        centred = self.node("Sub", [self.names[id(array)], self.constant(mean)])
        self.names[id(array)] = self.node("Div", [centred, self.constant(std)])

    def refused(self, why: str) -> UnsupportedError:
        return UnsupportedError(f"onnx.export: {self.path or 'the model'}: {why}")

    def fresh(self, what: str) -> str:
        self.count += 1
        return f"{what}_{self.count}"

    # ---- Nodes

    def node(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """The name of the output, or a list of several."""
        names = [self.fresh(kind.lower()) for _ in range(outputs)]
        self.nodes.append((kind, list(inputs), names, f"{self.path}/{kind}_{self.count}", attributes))
        return names[0] if outputs == 1 else names

    def cast(self, x: str, dtype: Any) -> str:
        return self.node("Cast", [x], to=NUMBERS[np.dtype(dtype)])

    def reduced(self, kind: str, x: str, dims: Sequence[int], keep: bool = False) -> str:
        """The axes are an input from opset 18 on (13 for sums); without any nothing is reduced."""
        if not len(dims):
            return self.node("Identity", [x])
        if self.opset >= 18 or kind == "ReduceSum":
            return self.node(kind, [x, self.constant(dims, np.int64)], keepdims=int(keep))
        return self.node(kind, [x], axes=list(dims), keepdims=int(keep))

    def call(self, call: Call, twin: Call, emission: Callable[[Writer, Call, Call], Any]) -> bool:
        """Write what a primitive or a layer did; False: the emission has no form for it."""
        self.alive.append(call)
        made = emission(self, call, twin)
        for array, name in zip(call.outputs, [made] if isinstance(made, str) else made or (), strict=False):
            self.names[id(array)] = name
        return made is not None

    # ---- Names of values

    def constant(self, array: Any, dtype: Any = None) -> str:
        array = np.asarray(array, dtype)
        key = (array.dtype, array.shape, array.tobytes()) if array.nbytes <= SMALL else self.count
        if key not in self.constants:
            self.constants[key] = self.fresh("constant")
            self.stored[self.constants[key]] = array
        return self.constants[key]

    @staticmethod
    def tensor(array: np.ndarray) -> Any:
        """As an attribute."""
        from onnx import numpy_helper

        return numpy_helper.from_array(array)

    def like(self, number: float, array: Array) -> str:
        """A number of the dtype of an array."""
        return self.constant(np.asarray(number, array.dtype))

    def given(self, call: Call, twin: Call) -> list[str]:
        return [self.name(x, y) for x, y in zip(call.inputs, twin.inputs, strict=True) if x is not None]

    def name(self, array: Array, twin: Array) -> str:
        """Of a value, a weight, or a constant that both runs agree on."""
        if id(array) not in self.names:
            self.alive.append(array)
            self.names[id(array)] = self.agreed(move(array, "cpu"), move(twin, "cpu"))
        return self.names[id(array)]

    def agreed(self, array: np.ndarray, twin: np.ndarray) -> str:
        """The name of a constant, or of one number as often as the batch says: the first state of a recurrent
        layer, say.
        """
        if array.shape == twin.shape and np.array_equal(array, twin, equal_nan=array.dtype.kind == "f"):
            return self.constant(array)
        fill = array.ravel()[:1]
        if fill.size and array.ndim == twin.ndim and (array == fill).all() and (twin == fill).all():
            sizes = self.sizes(array.shape, twin.shape)
            return self.node("ConstantOfShape", [sizes], value=self.tensor(fill))
        raise self.refused(
            "expected numbers that are the same for every input, got some that depend on it and did not come "
            "from tinydl's operations"
        )

    # ---- Sizes

    def require_size(self, n: int, m: int) -> None:
        if n != m:
            raise self.refused(f"expected a size that every batch has, got {n} and {m}")

    def sizes(self, shape: Sequence[int], twin: Sequence[int]) -> str:
        """A shape as a value: what differs between the runs is the batch, read from the first input."""
        if tuple(shape) == tuple(twin):
            return self.constant(shape, np.int64)
        parts = []
        for n, m in zip(shape, twin, strict=True):
            if n == m:
                parts.append(self.constant([n], np.int64))
                continue
            if self.batch is None or n % self.batch or n // self.batch * (self.batch + 1) != m:
                raise self.refused(f"expected sizes that are multiples of the batch, got {n} and {m}")
            whole = self.node("Shape", [self.first_input])
            size = self.node("Gather", [whole, self.constant([0], np.int64)], axis=0)
            times = n // self.batch
            parts.append(size if times == 1 else self.node("Mul", [size, self.constant([times], np.int64)]))
        return parts[0] if len(parts) == 1 else self.node("Concat", parts, axis=0)

    # ---- The end

    def end(self, name: str, array: Array, twin: Array, softmax: bool) -> None:
        """An output of the graph, as probabilities over dim 1 where `softmax`."""
        self.path = ""
        made = self.name(array, twin)
        made = self.node("Softmax", [made], axis=1) if softmax else made
        self.nodes.append(("Identity", [made], [name], f"/{name}", {}))

    def needed(self, outputs: Sequence[str]) -> tuple[list[Any], dict[str, np.ndarray]]:
        """The nodes that outputs come from, as protos, and what is stored for them."""
        from onnx import helper

        wanted, nodes = set(outputs), []
        for kind, inputs, made, name, attributes in reversed(self.nodes):
            if not wanted & set(made):
                continue
            while kind in OPTIONAL and made[-1] not in wanted:
                made = made[:-1]
            wanted |= set(inputs)
            nodes.append(helper.make_node(kind, inputs, made, name, **attributes))
        return nodes[::-1], {name: x for name, x in self.stored.items() if name in wanted}
