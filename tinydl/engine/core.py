"""The engine: tensors, primitives, gradients of every order. Read this file first,
tensor.py and tape.py beside it.

A *primitive* is a function of arrays with a rule of differentiation beside it. Calling it is the one door to
the kernels: it unwraps the tensors, runs the function, and leaves a node on the tape. Rules are written with
primitives on tensors, so the gradient of a gradient is one more walk over the tape that the first walk left.
"""

from __future__ import annotations

import contextlib
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tinydl_kernels import elementwise, reduce
from tinydl_kernels.machine import dispatch, memory
from tinydl_kernels.machine.errors import DeviceError, GraphError

from . import promotion
from .rule import Rule
from .state import enable_grad as enable_grad
from .state import grad_mode, state
from .state import no_grad as no_grad
from .tape import Edge, Key, Node, Slot, ancestors, needed
from .tensor import Array, Tensor

primitives: dict[str, Primitive] = {}  # by "module.name"
# what users, as PyTorch's, call the inputs of a public primitive
PUBLIC = {"x": "input", "a": "input", "b": "other"}


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
    """

    mixed = False  # may inputs have different dtypes?

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
    ) -> None:
        signature = inspect.signature(function)
        parameters = signature.parameters.values()
        self.__signature__ = signature.replace(
            parameters=[p.replace(name=PUBLIC.get(p.name, p.name)) for p in parameters]
        )
        self.function, self.name, self.__doc__ = function, function.__name__.strip("_"), function.__doc__
        self.elementwise, self.floating, self.view = elementwise, floating, view
        self.refused = "biu" if floating else "b" if numeric else ""  # kinds of dtypes
        self.strided = strided or view or self.elementwise
        self.inputs = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        self.variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self.settings = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        self.outputs, self.constant = tuple(name.lstrip("*") for name in outputs), frozenset(constant)
        self.several = any(name.startswith("*") for name in outputs)
        self.fixed = frozenset(i for i, name in enumerate(self.inputs) if name in self.constant)
        self.differentiable = tuple(k for k, name in enumerate(self.outputs) if name not in self.constant)
        self.rules: dict[str, Rule] = {}
        self.joint_rule: Rule | None = None
        self.relu: Callable[..., Any] | None = None  # the same and then relu, bit for bit, on NumPy arrays
        self._kept: dict[tuple[bool, ...], tuple[list[bool], list[int]]] = {}
        primitives[f"{function.__module__.rpartition('.')[2]}.{self.name}"] = self

    def rule(self, **rules: Callable[..., Tensor]) -> None:
        """One rule an input: `x=lambda g, w, *, stride: ...` takes the cotangents, then
        whatever it names (see rule.py).
        """
        for name, function in rules.items():
            if name not in self.inputs or name in self.constant:
                raise TypeError(f"{self.name}: expected a differentiable input, got {name!r}")
            self.rules[name] = Rule(self, function)

    def joint(self, function: Callable[..., Sequence[Tensor | None]]) -> None:
        """One rule for all inputs: `function(needs, g, ...)` returns a gradient an input,
        None where `needs` is False.
        """
        self.joint_rule = Rule(self, function, joint=True)

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        if len(inputs) < len(self.inputs):
            inputs, settings = self._bound(inputs, settings)
        tensors = settle(self, inputs)
        results = self.run(tensors, settings)
        several = isinstance(results, tuple)
        version = tensors[0].version if self.view else None
        node: Any = None
        kept: Sequence[int] = ()
        if state.grad and self.differentiable:
            needs = tuple([x is not None and (x.node is not None or x.slot is not None) for x in tensors])
            if self.fixed:
                needs = tuple([need and i not in self.fixed for i, need in enumerate(needs)])
            if True in needs:
                read, kept = self._keeps(needs)
                edges = [
                    None if x is None else Edge(x, keep, need) for x, keep, need in zip(tensors, read, needs)
                ]
                node = Node(
                    self,
                    edges,
                    settings,
                    len(results) if several else 1,
                    state.tracer and state.tracer.site(),
                )
        outputs = [
            None
            if array is None
            else Tensor(array, version, node if self.several or k in self.differentiable else None, k)
            for k, array in enumerate(results if several else (results,))
        ]
        if kept:
            node.results = {k: Edge(outputs[k], True, False) for k in kept}
        return tuple(outputs) if several else outputs[0]

    def __get__(self, instance: Tensor | None, owner: type) -> Any:
        """On a class a primitive is a method, like any function."""
        return self if instance is None else types.MethodType(self, instance)

    def run(self, tensors: Sequence[Any], settings: dict[str, Any]) -> Any:
        """Call the function on the arrays, under the eyes of a recorder or a tracer if there is one."""
        arrays = [None if x is None else x.array for x in tensors]
        if state.recorder is not None:
            return state.recorder.run(self, tensors, arrays, settings)
        if state.tracer is not None:
            return state.tracer.run(self, arrays, settings)
        return self.function(*arrays, **settings)

    def handle(self, edge: Edge) -> Tensor:
        """A fresh tensor for what an edge recorded, so that rules extend the tape without
        touching the user's tensors.
        """
        return Tensor(edge.read(self), edge.version, edge.node, edge.index, edge.slot)

    def named(self, position: int) -> str:
        return self.inputs[position] if position < len(self.inputs) else str(self.variadic)

    def _bound(
        self, inputs: tuple[Any, ...], settings: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Inputs that were given by name in their places."""
        try:
            given = self.__signature__.bind(*inputs, **settings)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        return given.args, given.kwargs

    def _keeps(self, needs: tuple[bool, ...]) -> tuple[list[bool], list[int]]:
        """(is it read? for each input; the outputs that are read) by the rules of the needed gradients."""
        if needs not in self._kept:
            rules = [self.rules.get(self.named(i)) for i, need in enumerate(needs) if need]
            kept: set[Any] = set().union(
                *(rule.keeps(len(needs)) for rule in (*rules, self.joint_rule) if rule)
            )
            inputs = [("input", i) in kept for i in range(len(needs))]
            self._kept[needs] = inputs, sorted(key for kind, key in kept if kind == "output")
        return self._kept[needs]

    def gradients(
        self, node: Node, needs: list[bool], cotangents: list[Tensor | None]
    ) -> list[Tensor | None]:
        """Apply the rules: the gradient of each input that is needed, of its input's shape and dtype."""
        given: list[Any] = [cotangents] if self.several else [cotangents[k] for k in self.differentiable]
        found: list[Any] = (
            [None] * len(needs)
            if self.joint_rule is None
            else list(self.joint_rule(node, given, tuple(needs)))
        )
        for i, edge in enumerate(node.edges):
            if not needs[i]:
                found[i] = None
                continue
            if self.joint_rule is None:
                if self.named(i) not in self.rules:
                    raise NotImplementedError(f"{self.name}: no derivative with respect to {self.named(i)!r}")
                found[i] = self.rules[self.named(i)](node, given)
            g = found[i].array if isinstance(found[i], Tensor) else None
            if self.elementwise and g is not None and g.shape != edge.shape:
                found[i] = sum_to(found[i], shape=edge.shape)
                g = found[i].array
            if g is None or g.shape != edge.shape or g.dtype != edge.dtype:
                got = (type(found[i]).__name__, "") if g is None else (g.shape, g.dtype)
                wanted = f"{edge.shape} {edge.dtype} for {self.named(i)!r}"
                raise GraphError(f"{self.name}: expected its rule to give {wanted}, got {got[0]} {got[1]}")
        return found


def primitive(function: Callable[..., Any] | None = None, **properties: Any) -> Any:
    """Make the decorated function of arrays a `Primitive`."""
    return Primitive(function, **properties) if function is not None else lambda f: Primitive(f, **properties)


def settle(primitive: Primitive, inputs: Sequence[Any]) -> list[Any]:
    """What happens to every input at the door: made a tensor, promoted or checked,
    laid out as the kernels want it.
    """
    tensors: list[Any] = list(inputs)
    common: Any = None
    agreed, laid_out = True, True
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            agreed = agreed and x is None
            continue
        array = x.array
        if i not in primitive.fixed:
            # a dtype of float64 equals None in NumPy
            agreed = agreed and (common is None or common == array.dtype)
            common = array.dtype
        laid_out = laid_out and type(array) is np.ndarray and (primitive.strided or array.flags.c_contiguous)
    agreed = agreed and not (primitive.refused and common.kind in primitive.refused)
    if agreed and laid_out:
        return tensors
    if not agreed:
        moving = [i for i, x in enumerate(inputs) if x is not None and i not in primitive.fixed]
        target = None if primitive.mixed else promotion.target(primitive, [inputs[i] for i in moving])
        like = next(
            (x.array for x in inputs if isinstance(x, Tensor) and type(x.array) is not np.ndarray), None
        )
        tensors = [
            x
            if x is None or isinstance(x, Tensor)
            else Tensor(promotion.as_array(primitive, x, target, like))
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
                f"{primitive.named(k)} on {y.device}" for k, y in enumerate(tensors) if y is not None
            )
            raise DeviceError(f"{primitive.name}: expected all inputs on one device, got {places}")
        if not primitive.strided and not x.array.flags.c_contiguous:
            tensors[i] = contiguous(x)
    return tensors


# Gradients
# ------------------------------------------------------------------------------------------------------------


def backward(
    output: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Add the gradient of a scalar output, or of <output, gradient>, to `.grad` of every
    leaf that it was computed from.
    """
    leaves = _sweep([(output, _seed("backward", output, gradient))], None, create_graph, retain_graph)
    taken = {id(gradient.array)} if gradient is not None else set()
    with grad_mode(create_graph):
        for slot, g in leaves.items():
            owner = slot.owner()
            if owner is not None:  # each .grad has memory of its own
                before, own = owner.grad, id(g.array) not in taken and g.array.base is None
                owner.grad = add(before, g) if before is not None else g if own else contiguous(g)
                taken.add(id(owner._grad.array))


Tensor.backward = backward


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of sum <outputs, grad_outputs> with respect to `inputs`, as a
    tuple; `.grad` stays untouched.

    Like torch.autograd.grad. With `create_graph` the gradients can be differentiated again. An input that the
    outputs do not depend on is a GraphError, or None with `allow_unused`.
    """
    outputs, inputs = ([x] if isinstance(x, Tensor) else list(x) for x in (outputs, inputs))
    seeds = [grad_outputs] if grad_outputs is None or isinstance(grad_outputs, Tensor) else list(grad_outputs)
    seeds = seeds * len(outputs) if grad_outputs is None else seeds
    if len(seeds) != len(outputs):
        raise GraphError(f"grad: expected one of grad_outputs an output ({len(outputs)}), got {len(seeds)}")
    for i, x in enumerate(inputs):
        if not x.requires_grad:
            raise GraphError(
                f"grad: expected inputs that require grad, got input {i} of shape {x.shape} that does not"
            )
    roots = [(x, _seed("grad", x, seed)) for x, seed in zip(outputs, seeds, strict=True)]
    found = _sweep(roots, {x.key for x in inputs}, create_graph, retain_graph)
    gradients = tuple(found.get(x.key) for x in inputs)
    for i, (x, g) in enumerate(zip(inputs, gradients, strict=True)):
        if g is None and not allow_unused:
            raise GraphError(
                f"grad: expected outputs that depend on input {i} {x.shape}, got none (allow_unused=True "
                "gives None)"
            )
    return gradients


def _seed(who: str, output: Tensor, seed: Tensor | None) -> Tensor:
    if not output.requires_grad:
        raise GraphError(
            f"{who}: expected an output that requires grad, got {output.shape} {output.dtype} without a graph"
        )
    if seed is None:
        if output.array.size != 1:
            raise GraphError(
                f"{who}: expected a scalar output or a seed gradient, got shape {output.shape} and no seed"
            )
        return Tensor(memory.array_module(output.array).ones_like(output.array))
    if (seed.shape, seed.dtype) != (output.shape, output.dtype):
        raise GraphError(
            f"{who}: expected a seed of {output.shape} {output.dtype}, got {seed.shape} {seed.dtype}"
        )
    return seed


_HERE = contextlib.nullcontext()


def _sweep(
    roots: list[tuple[Tensor, Tensor]], wanted: set[Key] | None, create_graph: bool, retain_graph: bool | None
) -> dict[Any, Tensor]:
    """Walk from the roots with their seeds, newest node first: the gradients of the wanted
    keys, or (None) of all slots.
    """
    order = ancestors((x.node for x, _ in roots if x.node is not None), wanted)
    needs = needed(order, wanted)
    found: dict[Key, Tensor] = {}
    watched: dict[Slot, Tensor] = {}
    here = dispatch.override()

    def deliver(key: Key, gradient: Tensor) -> None:
        found[key] = add(found[key], gradient) if key in found else gradient

    with grad_mode(create_graph):
        for x, seed in roots:
            deliver(x.key, seed)
        for node in reversed(order):
            for k, slot in node.slots.items():
                if (node, k) in found:
                    watched[slot] = found[node, k] = slot.complete(found[node, k])
            keys = [(node, k) for k in range(node.count)]
            cotangents = [
                found.get(key) if wanted and key in wanted else found.pop(key, None) for key in keys
            ]
            if node in needs and any(g is not None for g in cotangents):
                gradients_of = node.primitive.gradients if state.tracer is None else state.tracer.gradients
                with _HERE if node.backend == here else dispatch.use(node.backend):
                    gradients = gradients_of(node, needs[node], cotangents)
                for edge, g in zip(node.edges, gradients, strict=True):
                    if g is not None:
                        deliver(edge.key, g)
                if not (create_graph if retain_graph is None else retain_graph):
                    node.free()
        leaves = {key: key.complete(g) for key, g in found.items() if isinstance(key, Slot)}
    return {**leaves, **watched} if wanted is None else {**found, **leaves}


# The primitives that the engine itself needs
# ------------------------------------------------------------------------------


@primitive(elementwise=True)
def add(a: Array, b: Array) -> Array:
    """a + b, broadcast."""
    return elementwise.add(a, b)


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


add.rule(a=lambda g: g, b=lambda g: g)
sum_to.rule(x=lambda g, x_shape: expand(g, shape=x_shape))
expand.rule(x=lambda g, x_shape: sum_to(g, shape=x_shape))
cast.rule(x=lambda g, x_dtype: cast(g, dtype=x_dtype))
contiguous.rule(x=lambda g: g)
