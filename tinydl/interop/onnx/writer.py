"""A graph of ONNX as it grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...engine.core import Array
from .operators import DTYPES, UnsupportedError

NUMBERS = {np.dtype(dtype): number for number, dtype in DTYPES.items()}


class Call(NamedTuple):
    """What a primitive did."""

    name: str  # of the primitive
    inputs: list[Any]
    outputs: list[Any]
    settings: dict[str, Any]
    path: str  # of the module


class Writer:
    """A graph as it grows."""

    def __init__(self, opset: int, batch: int | None) -> None:
        self.opset, self.batch = opset, batch
        self.nodes: list[tuple[str, list[str], list[str], str, dict[str, Any]]] = []
        self.names: dict[int, str] = {}  # id of an array of the first run -> its name
        self.stored: dict[int, tuple[str, Array]] = {}  # weights
        self.used: dict[str, np.ndarray] = {}  # initializers
        self.alive: list[Any] = []  # so that ids stay theirs
        self.path, self.count, self.first_input = "", 0, ""

    def input(self, name: str, array: Array, twin: Array) -> None:
        self.names[id(array)] = name
        self.first_input = self.first_input or name

    def normalize(self, array: Array, mean: Any, std: Any) -> None:
        """The first input is (input - mean) / std of its channels from here on."""
        shape = (1, -1) + (1,) * (array.ndim - 2)
        mean, std = (np.asarray(v, array.dtype).reshape(shape) for v in (mean, std))
        centred = self.node("Sub", [self.names[id(array)], self.constant(mean)])
        self.names[id(array)] = self.node("Div", [centred, self.constant(std)])

    def fresh(self, what: str) -> str:
        self.count += 1
        return f"{what}_{self.count}"

    def node(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """The name of the output, or a list of several."""
        names = [self.fresh(kind.lower()) for _ in range(outputs)]
        self.nodes.append((kind, list(inputs), names, f"{self.path}/{kind}_{self.count}", attributes))
        return names[0] if outputs == 1 else names

    def constant(self, array: Any, dtype: Any = None) -> str:
        name = self.fresh("constant")
        self.used[name] = np.array(array, dtype)
        return name

    @staticmethod
    def tensor(array: np.ndarray) -> Any:
        """As an attribute."""
        from onnx import numpy_helper

        return numpy_helper.from_array(array)

    def like(self, number: float, array: Array) -> str:
        """A number of the dtype of an array."""
        return self.constant(np.asarray(number, array.dtype))

    def name(self, array: Array, twin: Array) -> str:
        """Of a value, a weight, or a constant that both runs agree on."""
        if id(array) in self.names:
            return self.names[id(array)]
        if id(array) in self.stored:
            name, values = self.stored[id(array)]
            self.used[name] = np.array(values)
            return name
        if array.shape != twin.shape or not np.array_equal(array, twin, equal_nan=array.dtype.kind == "f"):
            if self.filled(array, twin):
                return self.names[id(array)]
            raise UnsupportedError(
                f"onnx.export: {self.path or 'the model'}: expected numbers that are the same for every "
                "input, got some that depend on it and did not come from tinydl's operations"
            )
        self.alive.append(array)
        self.names[id(array)] = self.constant(array)
        return self.names[id(array)]

    def filled(self, array: Array, twin: Array) -> bool:
        """Name an array of one number whose size follows the batch, if it is one: the first state of a
        recurrent layer, say.
        """
        one = array.size and array.ndim == twin.ndim and (array == array.flat[0]).all()
        if not one or not (twin == array.flat[0]).all():
            return False
        fill = np.reshape(array.flat[0], 1)
        self.alive.append(array)
        sizes = self.sizes(array.shape, twin.shape)
        self.names[id(array)] = self.node("ConstantOfShape", [sizes], value=self.tensor(fill))
        return True

    def given(self, call: Call, twin: Call) -> list[str]:
        return [self.name(x, y) for x, y in zip(call.inputs, twin.inputs, strict=True) if x is not None]

    def call(self, call: Call, twin: Call, emission: Callable[[Writer, Call, Call], Any]) -> None:
        """Write what a primitive did."""
        self.path = call.path
        self.alive.append(call)
        made = emission(self, call, twin)
        for array, name in zip(call.outputs, [made] if isinstance(made, str) else made, strict=False):
            self.names[id(array)] = name

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
                raise UnsupportedError(
                    f"onnx.export: {self.path}: a size of {n} and {m} is no multiple of the batch"
                )
            whole = self.node("Shape", [self.first_input])
            size = self.node("Gather", [whole, self.constant([0], np.int64)], axis=0)
            times = n // self.batch
            parts.append(size if times == 1 else self.node("Mul", [size, self.constant([times], np.int64)]))
        return parts[0] if len(parts) == 1 else self.node("Concat", parts, axis=0)

    def graph(
        self, helper: Any, numpy_helper: Any, ins: Any, outs: Any, first: Any, second: Any, softmax: bool
    ) -> Any:
        self.path = ""
        for name, array, twin in zip(outs, first.outputs, second.outputs, strict=True):
            made = self.name(array, twin)
            if softmax:
                made = self.node("Softmax", [made], axis=1)
            self.nodes.append(("Identity", [made], [name], f"/{name}", {}))

        def described(name: str, array: Array, twin: Array) -> Any:
            shape = [n if n == m else "batch" for n, m in zip(array.shape, twin.shape, strict=True)]
            return helper.make_tensor_value_info(name, NUMBERS[array.dtype], shape)

        wanted, nodes = set(outs), []
        for kind, inputs, outputs, name, attributes in reversed(self.nodes):
            if wanted & set(outputs):
                wanted |= set(inputs)
                nodes.append(helper.make_node(kind, inputs, outputs, name, **attributes))
        nodes.reverse()
        stored = [
            numpy_helper.from_array(np.ascontiguousarray(x), name)
            for name, x in self.used.items()
            if name in wanted
        ]
        return helper.make_graph(
            nodes,
            "tinydl",
            [described(*x) for x in zip(ins, first.inputs, second.inputs, strict=True)],
            [described(*x) for x in zip(outs, first.outputs, second.outputs, strict=True)],
            stored,
        )
