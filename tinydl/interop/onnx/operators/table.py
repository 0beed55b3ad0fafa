"""The table of operators, and how values of a graph are held.

A value is a Tensor where it has numbers of float32 or float64, which carry gradients, and an array of NumPy
where it has others: shapes, indices, masks, half precision. What an operator makes of tensors is a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import TinydlError

from ....engine.core import Tensor
from . import operations as td

Value = Any
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
HALF = np.dtype(np.float16)


@dataclass(frozen=True)
class Node:
    """A call of an operator in a graph."""

    kind: str
    name: str
    inputs: tuple[str, ...]  # "" where one is left out
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 1
    domain: str = ""

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute: a number, text, a list, an array or a graph."""
        return self.attributes.get(name, default)

    def __str__(self) -> str:
        return f"{self.kind} {self.name or '-> ' + ', '.join(self.outputs)}"


class UnsupportedError(TinydlError, NotImplementedError):
    """A form of an operator that is not supported."""


@dataclass(frozen=True)
class Operator:
    """`function(node, *inputs)` gives an output or a tuple of them; an input that is left out is None."""

    function: Callable[..., Any]
    trained: tuple[int, ...] = ()  # positions of inputs that are parameters where they are stored in the file
    host: tuple[int, ...] = ()  # positions of inputs whose values are read: shapes, axes
    arrays: bool = False  # takes arrays of any dtype; others compute half precision in single

    def __call__(self, node: Node, inputs: Sequence[Value]) -> tuple[Value, ...]:
        for x in inputs:
            require(
                node, x is None or x.dtype.name in DTYPES, f"dtype {x.dtype.name if x is not None else x}"
            )
        given = [on_host(x) if i in self.host and x is not None else x for i, x in enumerate(inputs)]
        half = not self.arrays and any(isinstance(x, np.ndarray) and x.dtype == HALF for x in given)
        if half:
            given = [
                value(x.astype(np.float32)) if isinstance(x, np.ndarray) and x.dtype == HALF else x
                for x in given
            ]
        with np.errstate(all="ignore"):  # inf and NaN are values, as in tensors
            results = self.function(node, *given)
        results = results if isinstance(results, tuple) else (results,)
        return tuple(on_host(x).astype(HALF) if half and is_floating(x) else x for x in results)


TABLE: dict[str, Operator] = {}

DTYPES = {"bool", "float16", "float32", "float64"} | {
    f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)
}

REFUSED = {
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), "control flow"),
    **dict.fromkeys(("Bernoulli", "Multinomial", "RandomNormal", "RandomUniform"), "random numbers"),
    **dict.fromkeys(("RandomNormalLike", "RandomUniformLike"), "random numbers"),
}
"""Operators that stay out, and why."""


def operator(*names: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function in the table; settings as those of Operator."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            TABLE[name] = Operator(function, **settings)
        return function

    return enter


def missing(nodes: Sequence[Node]) -> str:
    """The operators that are not there, with counts, a reason and the first node where there is one; empty if
    all are.
    """
    absent: dict[str, list[Node]] = {}
    for node in nodes:
        if node.domain not in ("", "ai.onnx") or node.kind not in TABLE:
            absent.setdefault(node.kind, []).append(node)
    return ", ".join(
        f"{kind} ({len(those)}{f', {REFUSED[kind]}: {those[0]}' if kind in REFUSED else ''})"
        for kind, those in sorted(absent.items())
    )


def value(array: Any) -> Value:
    """A number or an array as a value."""
    array = array if isinstance(array, (Tensor, np.ndarray)) else np.asarray(array)
    return td.as_tensor(array) if isinstance(array, np.ndarray) and array.dtype in FLOATS else array


def on_host(x: Value) -> np.ndarray:
    """The numbers of a value, in NumPy."""
    if not isinstance(x, Tensor):
        return np.asarray(x)
    x = x.detach()
    return np.asarray((x if x.device == "cpu" else x.to("cpu")).numpy())


def is_floating(x: Value) -> bool:
    return isinstance(x, Tensor) and x.dtype in FLOATS


def tensor(x: Value, like: Tensor | None = None) -> Tensor:
    """A value as a tensor, on the device of another."""
    if isinstance(x, Tensor):
        return x
    made = td.as_tensor(np.ascontiguousarray(x))
    return made if like is None or like.device == made.device else made.to(like.device)


def require(node: Node, fine: Any, what: str) -> None:
    """UnsupportedError, with the node and what it has, unless it is fine."""
    if not fine:
        raise UnsupportedError(f"{node}: {what} is not supported")
