"""A rule of differentiation, and what it reads: its parameters say so by their names.

    _conv2d.rule(x=lambda g, w, *, window: ...)        reads the cotangent, the input w and the setting window

First (`needs`, if the rule is joint, then) one cotangent for each differentiable output, None for an unused
one. Then, in any order: an input or an output by name, a setting, `<input>_shape`, `<input>_dtype`. A
variadic input reads as a tuple. The tape saves the arrays that the needed rules name, and nothing else.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core import Node, Primitive, Tensor

Reader = tuple[str, Any]


def parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...], str | None, tuple[str, ...]]:
    """The names of a function's parameters: (positional, the variadic one or None, keyword-only).

    Read from the code object: `inspect.signature` for all primitives and rules would be a third of the time
    that importing the house takes.
    """
    code = function.__code__
    positional, all_named = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames
    variadic = names[all_named] if code.co_flags & inspect.CO_VARARGS else None
    return names[:positional], variadic, names[positional:all_named]


class Rule:
    """`function` with its parameters resolved against the primitive that it belongs to."""

    def __init__(self, primitive: Primitive, function: Callable[..., Any], joint: bool = False) -> None:
        self.primitive, self.function = primitive, function
        names, _, settings = parameters(function)
        positional = [self._reader(name) for name in names[joint + len(primitive.differentiable) :]]
        keyword = {name: self._reader(name) for name in settings}
        self._readers: set[Reader] = {*positional, *keyword.values()}
        self._positional = [self._getter(*reader) for reader in positional]
        self._keyword = {name: self._getter(*reader) for name, reader in keyword.items()}

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
            f"{primitive.name}: expected a rule to name inputs, outputs, settings, <input>_shape or "
            f"<input>_dtype, got {name!r}"
        )

    def reads(self, inputs: int) -> set[Reader]:
        """The ("input", position) and ("output", position) whose arrays it reads of a call with so many
        inputs.
        """
        read = {reader for reader in self._readers if reader[0] in ("input", "output")}
        if ("variadic", None) in self._readers:
            read |= {("input", i) for i in range(len(self.primitive.inputs), inputs)}
        return read

    def __call__(self, node: Node, cotangents: list[Tensor | None], *needs: tuple[bool, ...]) -> Any:
        given: list[Any] = [*needs, *cotangents]
        for get in self._positional:
            given.append(get(node))
        if not self._keyword:
            return self.function(*given)
        keyword = {}
        for name, get in self._keyword.items():
            keyword[name] = get(node)
        return self.function(*given, **keyword)

    def _output(self, node: Node, k: int) -> Tensor | None:
        if k not in node.results:  # this call had no such output
            return None
        out = self.primitive.saved_tensor(node.results[k])
        out.node, out.index = (node, k) if k in self.primitive.differentiable else (None, 0)
        return out

    def _getter(self, kind: str, key: Any) -> Callable[[Node], Any]:
        """The function that reads it of a node."""
        primitive, first = self.primitive, len(self.primitive.inputs)
        if kind == "setting":
            default = primitive.settings[key]
            return lambda node: node.settings.get(key, default)
        if kind == "input":
            saved_tensor = primitive.saved_tensor

            def saved(node: Node) -> Tensor | None:
                edge = node.edges[key]
                return None if edge is None else saved_tensor(edge)

            return saved
        if kind == "variadic":
            return lambda node: tuple(map(primitive.saved_tensor, node.edges[first:]))
        if kind == "output":
            return lambda node: self._output(node, key)
        read = operator.attrgetter(kind)
        return lambda node: tuple(map(read, node.edges[first:])) if key is None else read(node.edges[key])
