"""Activation checkpointing: a part of a network whose activations are not kept but
computed again in the backward pass.

    y = nn.checkpoint(block, x)

The forward runs `block` with the tape on, notes which tensors from outside took part, and drops the tape. The
backward runs it again and differentiates it there and then. Under `create_graph` that backward is itself such
a part, so a penalty on the gradient too keeps no activations, and every order of derivative exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import GraphError

from ..engine.backward import grad
from ..engine.core import Tensor, enable_grad, state
from ..engine.public import public
from ..engine.pullback import zeros_like
from ..engine.tape import Edge, Key, Node, numbers
from ..ops.random import Draw, remember, repeat
from .extra_forward import extra_forward

__all__ = [
    "checkpoint",
]


@public
def checkpoint(function: Callable[..., Any], *inputs: Any) -> Any:
    """function(*inputs), whose intermediate results are computed again in the
    backward pass instead of being kept.

    function: a Module, or anything that gives a tensor or a tuple of tensors, the same at each call but for
    random numbers. Tensors among the inputs, and those from outside that it uses, such as parameters, get
    their gradients, of every order. The second run draws the random numbers of the first, and running
    statistics do not move. It does not see a change of the model's mode: `train` and `eval` must not come
    between. Chen et al., arXiv 1604.06174; torch.utils.checkpoint.
    """
    if not callable(function):
        raise TypeError(f"checkpoint: expected a function or a Module, got {type(function).__name__}")
    if not state.grad:
        return function(*inputs)
    at = [i for i, x in enumerate(inputs) if isinstance(x, Tensor)]

    def of_tensors(*tensors: Tensor) -> Any:
        given = list(inputs)
        for i, x in zip(at, tensors, strict=True):
            given[i] = x
        return function(*given)

    return _checkpointed(of_tensors if len(at) < len(inputs) else function, [inputs[i] for i in at])


def _checkpointed(function: Callable[..., Any], tensors: list[Tensor]) -> Any:
    leaves, first = [_leaf(x) for x in tensors], next(numbers)
    with remember() as draws:
        result = function(*leaves)
    outputs = _several(result)
    if any(y.requires_grad for y in outputs):
        sources = _sources(outputs, first, {x.key for x in leaves})
        segment = _Segment(function, draws, len(tensors), list(sources))
        edges = [Edge(x, True, x.requires_grad) for x in tensors] + [
            Edge(x, False, True) for x in sources.values()
        ]
        node = Node(segment, edges, {}, len(outputs), state.tracer and state.tracer.site())  # type: ignore[arg-type]
        outputs = [
            Tensor(y.array, y.version, node if y.requires_grad else None, k) for k, y in enumerate(outputs)
        ]
    return tuple(outputs) if isinstance(result, tuple) else outputs[0]


class _Segment:
    """What stands in a node of the tape for its primitive: a function that the backward runs again.

    inputs     how many of the node's edges are inputs of the function
    sources    what it used from outside, by key; one edge each behind those of the inputs
    """

    name = "checkpoint"

    def __init__(
        self, function: Callable[..., Any], draws: list[Draw], inputs: int, sources: list[Key]
    ) -> None:
        self.function, self.draws, self.inputs, self.sources = function, draws, inputs, sources
        self.keys = [Edge(key, True, False) for key, _ in draws]

    def named(self, position: int) -> str:
        return f"input {position}" if position < self.inputs else "a tensor from outside"

    def gradients(
        self, node: Node, needs: list[bool], cotangents: list[Tensor | None]
    ) -> list[Tensor | None]:
        given = [_of_edge(edge, edge.read(self)) for edge in node.edges]
        seeds = {k: g for k, g in enumerate(cotangents) if g is not None}

        def pull(*tensors: Tensor) -> tuple[Tensor, ...]:
            xs, outputs = tensors[: len(given)], self.again(tensors[: len(given)])
            pairs = [
                (outputs[k], g)
                for k, g in zip(seeds, tensors[len(given) :], strict=True)
                if outputs[k].requires_grad
            ]
            wanted = [x for x, need in zip(xs, needs, strict=True) if need]
            found = grad(
                [y for y, _ in pairs],
                wanted,
                [g for _, g in pairs],
                create_graph=state.grad,
                allow_unused=True,
            )
            return tuple(zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True))

        tensors = [*given, *seeds.values()]
        gradients = iter(_checkpointed(pull, tensors) if state.grad else pull(*map(_leaf, tensors)))
        return [next(gradients) if need else None for need in needs]

    def again(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The outputs once more, of these inputs, and with these tensors in the
        places of those from outside.
        """
        for key in self.keys:
            key.read(self)  # type: ignore[arg-type]
        first = next(numbers)
        with enable_grad(), repeat(self.draws), extra_forward():
            outputs = _several(self.function(*tensors[: self.inputs]))
        new = dict(zip(self.sources, tensors[self.inputs :], strict=True))
        unknown = _sources(outputs, first, {x.key for x in tensors}).keys() - new.keys()
        if unknown:
            raise GraphError(
                f"checkpoint: expected a function that uses the same tensors again, got {len(unknown)} others"
            )
        for node in _made(outputs, first):
            for edge in node.edges:
                if edge is not None and edge.key in new:
                    x = new[edge.key]
                    edge.node, edge.index, edge.slot = x.node, x.index, x.slot
        return [_renamed(y, new.get(y.key, y)) for y in outputs]


def _sources(outputs: list[Tensor], first: int, own: set[Key]) -> dict[Key, Tensor]:
    """What the outputs were computed from that is neither `own` nor made since `first`: stand-ins by key."""
    found: dict[Key, Tensor] = {}
    ends = [Edge(y, False, True) for y in outputs]
    for edge in (*ends, *(edge for node in _made(outputs, first) for edge in node.edges if edge is not None)):
        outside = edge.node is None or edge.node.number < first
        if edge.key is not None and outside and edge.key not in own:
            found[edge.key] = _of_edge(edge, None)
    return found


def _made(outputs: list[Tensor], first: int) -> list[Node]:
    """The nodes since `first` that the outputs come from, oldest first."""
    seen: set[Node] = set()
    stack = [y.node for y in outputs]
    while stack:
        node = stack.pop()
        if node is not None and node.number > first and node not in seen:
            seen.add(node)
            stack.extend(edge.node for edge in node.edges if edge is not None)
    return sorted(seen, key=lambda node: node.number)


def _of_edge(edge: Edge, array: Any) -> Tensor:
    """A tensor for what an edge stands for; without its array only key, shape and dtype are right."""
    array = np.broadcast_to(np.zeros((), edge.dtype), edge.shape) if array is None else array
    return _renamed(Tensor(array, edge.version), edge)


def _renamed(x: Tensor, like: Tensor | Edge) -> Tensor:
    """The array of x in the place that `like` has on the tape."""
    return Tensor(x.array, x.version, like.node, like.index, like.slot)


def _leaf(x: Tensor) -> Tensor:
    """x as the start of a tape of its own."""
    return x.detach().requires_grad_(x.requires_grad)


def _several(result: Any) -> list[Tensor]:
    outputs = list(result) if isinstance(result, tuple) else [result]
    for y in outputs:
        if not isinstance(y, Tensor):
            raise TypeError(
                "checkpoint: expected a function that gives a tensor or a tuple of them, got "
                f"{type(y).__name__}"
            )
    return outputs
