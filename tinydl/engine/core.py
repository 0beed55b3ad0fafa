"""Primitives: the one door to the kernels.

A *primitive* is a function of arrays with rules of differentiation beside it, one per input. A call unwraps
the tensors, runs the function, and leaves a node on the tape. Rules are written with primitives on tensors,
so the gradient of a gradient is one more walk over the tape that the first walk left.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tinydl_kernels import elementwise, reduce
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import DeviceError, GraphError

from . import promotion
from .rule import Rule, parameters
from .state import enable_grad as enable_grad
from .state import inference_mode as inference_mode
from .state import is_grad_enabled as is_grad_enabled
from .state import no_grad as no_grad
from .state import set_grad_enabled as set_grad_enabled
from .state import state
from .tape import Edge, Node
from .tensor import Array, Tensor

primitives: dict[str, Primitive] = {}
"""Every primitive by its key, "module.name"."""


class Primitive:
    """A function of arrays (positional) and settings (keyword-only), differentiable by the rules beside it.

    elementwise   NumPy broadcasting and dtype promotion; the engine sums a gradient back to the shape of its
                  input
    floating      in floating point only: integers are promoted to float32 if elementwise, else refused
    numeric       not on booleans alone
    view          the result shares the memory of the first input
    strided       inputs may have any strides; otherwise they arrive C-contiguous
    constant      names of inputs and outputs that carry no gradient and keep their own dtype (indices, masks,
                  statistics)
    outputs       names of the results where there are several; ("*parts",) for any number: its rule takes a
                  list of cotangents
    collective    other processes make the same call and wait for this one: a recording drops none
    """

    mixed = False  # may inputs have different dtypes?
    writes: Callable[[int, dict[str, Any]], Sequence[int]] = staticmethod(lambda inputs, settings: ())
    """The positions of the inputs that a call with so many inputs and these settings writes into; only an
    Effect does.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        elementwise: bool = False,
        floating: bool = False,
        numeric: bool = False,
        view: bool = False,
        strided: bool = False,
        constant: Sequence[str] = (),
        outputs: Sequence[str] = ("out",),
        collective: bool = False,
    ) -> None:
        self.function = self.__wrapped__ = function  # whose signature `inspect` shows
        self.name, self.__doc__ = function.__name__.strip("_"), function.__doc__
        self.elementwise, self.floating, self.view = elementwise, floating, view
        self.refused_kinds = "biu" if floating else "b" if numeric else ""  # of dtypes
        self.strided = strided or view or elementwise
        self.collective = collective
        self.inputs, self.variadic, settings = parameters(function)
        defaults = function.__kwdefaults__ or {}
        self.settings = {name: defaults.get(name) for name in settings}
        self.outputs, self.constant = tuple(name.lstrip("*") for name in outputs), frozenset(constant)
        self.several = any(name.startswith("*") for name in outputs)
        self.constant_positions = frozenset(i for i, name in enumerate(self.inputs) if name in constant)
        self.differentiable = tuple(k for k, name in enumerate(self.outputs) if name not in self.constant)
        self.rules: dict[str, Rule] = {}
        self.joint_rule: Rule | None = None
        self._saved: dict[tuple[bool, ...], tuple[list[bool], list[int]]] = {}
        self.key = f"{function.__module__.rpartition('.')[2]}.{self.name}"
        primitives[self.key] = self

    def rule(self, **rules: Callable[..., Tensor]) -> None:
        """One rule per input: `x=lambda g, w, *, stride: ...` takes the cotangents, then whatever it names
        (see rule.py).
        """
        for name, function in rules.items():
            if name not in self.inputs or name in self.constant:
                raise TypeError(f"{self.name}: expected a differentiable input, got {name!r}")
            self.rules[name] = Rule(self, function)

    def joint(self, function: Callable[..., Sequence[Tensor | None]]) -> None:
        """One rule for all inputs: `function(needs, g, ...)` returns one gradient per input, None where
        `needs` is False.
        """
        self.joint_rule = Rule(self, function, joint=True)

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        if len(inputs) < len(self.inputs):
            inputs, settings = self._bound(inputs, settings)
        tensors, arrays = prepared(self, inputs)
        if state.recorder is None and state.tracer is None:
            results = self.function(*arrays, **settings)
        else:
            results = self.run(tensors, arrays, settings)
        several = type(results) is tuple
        version = tensors[0].version if self.view else None
        node: Any = None
        saved_outputs: Sequence[int] = ()
        if state.grad and self.differentiable:
            needs = []
            for x in tensors:
                needs.append(x is not None and (x.node is not None or x.slot is not None))
            if self.constant_positions:
                needs = [need and i not in self.constant_positions for i, need in enumerate(needs)]
            if True in needs:
                saved_inputs, saved_outputs = self.saved(tuple(needs))
                edges = []
                for x, saved, need in zip(tensors, saved_inputs, needs):
                    edges.append(None if x is None else Edge(x, saved, need))
                count = len(results) if several else 1
                node = Node(self, edges, settings, count, state.tracer and state.tracer.site())
        if several:
            followed = range(len(results)) if self.several else self.differentiable
            outputs = tuple(
                [
                    None if array is None else Tensor(array, version, node if k in followed else None, k)
                    for k, array in enumerate(results)
                ]
            )
            if version is not None:
                version.share(tensors[0], outputs[0])
            if saved_outputs:
                node.results = {
                    k: Edge(outputs[k], True, False) for k in saved_outputs if outputs[k] is not None
                }
            return outputs
        out = Tensor(results, version, node)
        if version is not None:
            version.share(tensors[0], out)
        if saved_outputs:
            node.results = {0: Edge(out, True, False)}
        return out

    def __get__(self, instance: Tensor | None, owner: type) -> Any:
        """On a class a primitive is a method, like any function."""
        return self if instance is None else types.MethodType(self, instance)

    def run(self, tensors: Sequence[Any], arrays: list[Any], settings: dict[str, Any]) -> Any:
        """Call the function on the arrays, under the eyes of a recorder or a tracer if there is one."""
        if state.recorder is not None:
            return state.recorder.run(self, tensors, arrays, settings)
        if state.tracer is not None:
            return state.tracer.run(self, arrays, settings)
        return self.function(*arrays, **settings)

    def saved_tensor(self, edge: Edge) -> Tensor:
        """A new tensor of the array that an edge has saved, so that rules extend the tape without touching
        the user's tensors.
        """
        array = edge.array if edge.version.count == edge.count else edge.read(self)
        return Tensor(array, edge.version, edge.node, edge.index, edge.slot)

    def input_name(self, position: int) -> str:
        """What the input at a position is called; all of a variadic input have one name."""
        return self.inputs[position] if position < len(self.inputs) else str(self.variadic)

    def _bound(
        self, inputs: tuple[Any, ...], settings: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Inputs that were given by name in their places."""
        try:
            given = inspect.signature(self.function).bind(*inputs, **settings)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        return given.args, given.kwargs

    def saved(self, needs: tuple[bool, ...]) -> tuple[list[bool], list[int]]:
        """(is it saved? for each input; the outputs that are saved): what the rules of the needed gradients
        read.
        """
        if needs not in self._saved:
            rules = [self.rules.get(self.input_name(i)) for i, need in enumerate(needs) if need]
            read: set[Any] = set().union(
                *(rule.reads(len(needs)) for rule in (*rules, self.joint_rule) if rule)
            )
            inputs = [("input", i) in read for i in range(len(needs))]
            self._saved[needs] = inputs, sorted(key for kind, key in read if kind == "output")
        return self._saved[needs]

    def gradients(
        self, node: Node, needs: list[bool], cotangents: list[Tensor | None]
    ) -> list[Tensor | None]:
        """Apply the rules: the gradient of each needed input, in the shape and dtype of that input."""
        given: list[Any] = cotangents
        if self.several:
            given = [cotangents]
        elif len(self.differentiable) < len(cotangents):
            given = [cotangents[k] for k in self.differentiable]
        joint = None if self.joint_rule is None else self.joint_rule(node, given, tuple(needs))
        found: list[Tensor | None] = []
        for i, need in enumerate(needs):
            if not need:
                found.append(None)
                continue
            edge = node.edges[i]
            if joint is not None:
                gradient = joint[i]
            else:
                rule = self.rules.get(self.inputs[i] if i < len(self.inputs) else self.variadic)  # type: ignore[arg-type]
                if rule is None:
                    raise NotImplementedError(
                        f"{self.name}: no derivative with respect to {self.input_name(i)!r}"
                    )
                gradient = rule(node, given)
            g = gradient.array if isinstance(gradient, Tensor) else None
            if g is None or g.shape != edge.shape or g.dtype is not edge.dtype:
                gradient = self._fitted(gradient, i, edge)
            found.append(gradient)
        return found

    def _fitted(self, gradient: Any, position: int, edge: Edge) -> Tensor:
        """What a rule gave, in the shape of the input; anything else is an error of the rule."""
        if isinstance(gradient, Tensor):
            if self.elementwise and gradient.shape != edge.shape:
                gradient = sum_to(gradient, shape=edge.shape)
            if (gradient.shape, gradient.dtype) == (edge.shape, edge.dtype):
                return gradient
        tensor = isinstance(gradient, Tensor)
        raise GraphError(
            f"{self.name}: expected its rule to give {edge.shape} {edge.dtype} for "
            f"{self.input_name(position)!r}, got "
            + (f"{gradient.shape} {gradient.dtype}" if tensor else type(gradient).__name__)
        )


def primitive(function: Callable[..., Any] | None = None, **properties: Any) -> Any:
    """Make the decorated function of arrays a `Primitive`."""
    return Primitive(function, **properties) if function is not None else lambda f: Primitive(f, **properties)


def prepared(primitive: Primitive, inputs: Sequence[Any]) -> tuple[Sequence[Any], list[Any]]:
    """The inputs as the kernels want them, made tensors, promoted or refused, laid out; and their arrays."""
    constant, strided = primitive.constant_positions, primitive.strided
    arrays: list[Any] = []
    kind: Any = None
    common: Any = None
    for i, x in enumerate(inputs):  # nearly always all is well: no more than that is asked first
        if isinstance(x, Tensor):
            array = x.array
            arrays.append(array)
            if kind is None:
                kind = type(array)
            if type(array) is kind and (strided or array.flags.c_contiguous):
                dtype = array.dtype
                if dtype is common or i in constant:
                    continue
                if common is None or primitive.mixed:  # (a dtype of float64 equals None in NumPy)
                    common = dtype
                    continue
        elif x is None and not primitive.elementwise:
            arrays.append(None)
            continue
        break
    else:
        if not primitive.refused_kinds or common.kind not in primitive.refused_kinds:
            return inputs, arrays
    if primitive.elementwise and any(x is None for x in inputs):
        raise promotion.foreign(primitive, None)
    moving = [i for i, x in enumerate(inputs) if x is not None and i not in constant]
    target = None if primitive.mixed else promotion.target(primitive, [inputs[i] for i in moving])
    like = next((x.array for x in inputs if isinstance(x, Tensor) and type(x.array) is not np.ndarray), None)
    tensors: list[Any] = [
        x if x is None or isinstance(x, Tensor) else Tensor(promotion.as_array(primitive, x, target, like))
        for x in inputs
    ]
    for i in moving if target is not None else ():
        tensors[i] = tensors[i] if tensors[i].dtype == target else cast(tensors[i], dtype=target)
    first = None
    for i, x in enumerate(tensors):
        if x is None:
            continue
        first = x.array if first is None else first
        if type(x.array) is not type(first):
            places = ", ".join(
                f"{primitive.input_name(k)} on {y.device}" for k, y in enumerate(tensors) if y is not None
            )
            raise DeviceError(f"{primitive.name}: expected all inputs on one device, got {places}")
        if not strided and not x.array.flags.c_contiguous:
            tensors[i] = contiguous(x)
    return tensors, [None if x is None else x.array for x in tensors]


# The primitives that the engine itself needs
# ------------------------------------------------------------------------------


@primitive(elementwise=True)
def add(input: Array, other: Array) -> Array:
    """input + other."""
    return elementwise.add(input, other)


@primitive
def sum_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which `shape` would be broadcast to the shape of x."""
    return reduce.sum_to(x, shape)


@primitive(view=True)
def expand(x: Array, *, shape: tuple[int, ...]) -> Array:
    """x, broadcast to `shape` (a view)."""
    return memory.array_module(x).broadcast_to(x, shape)


@primitive(strided=True)
def cast(x: Array, *, dtype: np.dtype) -> Array:
    """x in another dtype."""
    return elementwise.cast(x, dtype)


@primitive(strided=True)
def contiguous(x: Array) -> Array:
    """A C-contiguous copy."""
    return elementwise.copy(x)


add.rule(input=lambda g: g, other=lambda g: g)
sum_to.rule(x=lambda g, x_shape: expand(g, shape=x_shape))
expand.rule(x=lambda g, x_shape: sum_to(g, shape=x_shape))
cast.rule(x=lambda g, x_dtype: cast(g, dtype=x_dtype))
contiguous.rule(x=lambda g: g)
