"""A rule of differentiation and what it reads, told by its parameter names.

    _conv2d.rule(x=lambda g, w, *, window: ...)        reads the cotangent, the input w and the setting window

First (`needs`, if the rule is joint, then) one cotangent for each differentiable output, None for an unused one. Then, in any
order: an input or an output by name, a setting, `<input>_shape`, `<input>_dtype`. A variadic input reads as a tuple.
The tape keeps the arrays that the needed rules name, and nothing else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core import Node, Primitive, Tensor

Reader = tuple[str, Any]


class Rule:
    """`function` with its parameters resolved against the primitive that it belongs to."""

    def __init__(self, primitive: Primitive, function: Callable[..., Any], joint: bool = False) -> None:
        self.primitive, self.function = primitive, function
        names = list(inspect.signature(function).parameters.values())[joint + len(primitive.differentiable) :]
        self.positional = [self._reader(p.name) for p in names if p.kind is not p.KEYWORD_ONLY]
        self.keyword = {p.name: self._reader(p.name) for p in names if p.kind is p.KEYWORD_ONLY}

    def _reader(self, name: str) -> Reader:
        primitive = self.primitive
        base, _, attribute = name.rpartition("_")
        if name in primitive.inputs:
            return "input", primitive.inputs.index(name)
        if name in primitive.outputs:
            return "output", primitive.outputs.index(name)
        if name == primitive.variadic:
            return "variadic", None
        if name in primitive.settings:
            return "setting", name
        if attribute in ("shape", "dtype") and base in (*primitive.inputs, primitive.variadic):
            return attribute, None if base == primitive.variadic else primitive.inputs.index(base)
        raise TypeError(
            f"{primitive.name}: expected a rule to name inputs, outputs, settings, <input>_shape or <input>_dtype, got {name!r}"
        )

    def keeps(self, inputs: int) -> set[Reader]:
        """The ("input", position) and ("output", position) that must stay on the tape of a call with so many inputs."""
        readers = {*self.positional, *self.keyword.values()}
        kept = {reader for reader in readers if reader[0] in ("input", "output")}
        if ("variadic", None) in readers:
            kept |= {("input", i) for i in range(len(self.primitive.inputs), inputs)}
        return kept

    def __call__(self, node: Node, cotangents: list[Tensor | None], *needs: tuple[bool, ...]) -> Any:
        keyword = {name: self._read(node, *reader) for name, reader in self.keyword.items()}
        return self.function(*needs, *cotangents, *[self._read(node, *reader) for reader in self.positional], **keyword)

    def _read(self, node: Node, kind: str, key: Any) -> Any:
        primitive, edges = self.primitive, node.edges
        first = len(primitive.inputs)
        if kind == "setting":
            return node.settings.get(key, primitive.settings[key])
        if kind == "input":
            return None if edges[key] is None else primitive.handle(edges[key])
        if kind == "variadic":
            return tuple(map(primitive.handle, edges[first:]))
        if kind == "output":
            out = primitive.handle(node.results[key])
            out.node, out.index = (node, key) if key in primitive.differentiable else (None, 0)
            return out
        if key is None:
            return tuple(getattr(edge, kind) for edge in edges[first:])
        return getattr(edges[key], kind)
