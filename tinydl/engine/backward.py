"""The walk backward: `backward` adds up `.grad`, `grad` returns gradients. Both are one sweep of the tape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinydl_kernels.machine import dispatch, memory
from tinydl_kernels.machine.errors import GraphError

from .core import Tensor, add, contiguous
from .public import public
from .state import GradMode, state
from .tape import Key, Slot, ancestors, needed


def backward(
    output: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradient of a scalar output, or of <output, gradient>, to `.grad` of every leaf that it was
    computed from, or of the `inputs` alone.
    """
    accumulate([output], [gradient], retain_graph, create_graph, inputs)


def accumulate(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """`backward` of several outputs in one sweep, each with its gradient."""
    roots = [(x, _seed("backward", x, seed)) for x, seed in zip(outputs, gradients, strict=True)]
    found: list[tuple[Any, Tensor]]
    if inputs is None:
        slots = _sweep(roots, None, create_graph, retain_graph)
        found = [(slot.owner(), g) for slot, g in slots.items()]
    else:
        wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        _require_grad("backward", wanted)
        keys = _sweep(roots, {x.key for x in wanted}, create_graph, retain_graph)
        found = [(x, keys[x.key]) for x in {id(x): x for x in wanted}.values() if x.key in keys]
    held = {id(seed.array) for seed in gradients if seed is not None}
    with GradMode(create_graph):
        for leaf, g in found:
            if leaf is not None:
                before = leaf.grad
                leaf.grad = _unshared(g, held) if before is None else add(before, g)
                held.add(id(leaf._grad.array))


def _unshared(gradient: Tensor, held: set[int]) -> Tensor:
    """The gradient in memory of its own, so that each `.grad` may be written in place: a copy if it is a view
    or its array (by id in `held`) is the user's seed or another leaf's `.grad`.
    """
    shared = gradient.array.base is not None or id(gradient.array) in held
    return contiguous(gradient) if shared else gradient


Tensor.backward = backward  # type: ignore[assignment,method-assign]


@public
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool = False,
    *,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of sum <outputs, grad_outputs> with respect to `inputs`, as a
    tuple; `.grad` stays untouched.

    Like torch.autograd.grad. With `create_graph` the gradients can be differentiated again. An input that the
    outputs do not depend on is a GraphError, None with `allow_unused`, zeros with `materialize_grads`.
    `only_inputs=False` means nothing, as in PyTorch.
    """
    outputs, inputs = ([x] if isinstance(x, Tensor) else list(x) for x in (outputs, inputs))
    seeds = [grad_outputs] if grad_outputs is None or isinstance(grad_outputs, Tensor) else list(grad_outputs)
    seeds = seeds * len(outputs) if grad_outputs is None else seeds
    if len(seeds) != len(outputs):
        raise GraphError(f"grad: expected one grad_output per output ({len(outputs)}), got {len(seeds)}")
    _require_grad("grad", inputs)
    roots = [(x, _seed("grad", x, seed)) for x, seed in zip(outputs, seeds, strict=True)]
    found = _sweep(roots, {x.key for x in inputs}, create_graph, retain_graph)
    gradients = tuple(found.get(x.key) for x in inputs)
    if materialize_grads:
        zeros = (Tensor(memory.array_module(x.array).zeros_like(x.array)) for x in inputs)
        return tuple(zero if g is None else g for zero, g in zip(zeros, gradients, strict=True))
    for i, (x, g) in enumerate(zip(inputs, gradients, strict=True)):
        if g is None and not allow_unused:
            raise GraphError(
                f"grad: expected outputs that depend on input {i} {x.shape}, got none (allow_unused=True "
                "gives None)"
            )
    return gradients


def _require_grad(who: str, inputs: Sequence[Tensor]) -> None:
    for i, x in enumerate(inputs):
        if not x.requires_grad:
            raise GraphError(
                f"{who}: expected inputs that require grad, got input {i} of shape {x.shape} that does not"
            )


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

    retained = create_graph if retain_graph is None else retain_graph

    def deliver(key: Key, gradient: Tensor) -> None:
        before = found.get(key)
        found[key] = gradient if before is None else add(before, gradient)

    with GradMode(create_graph):
        for x, seed in roots:
            deliver(x.key, seed)
        for node in reversed(order):
            for k, slot in node.slots.items():
                if (node, k) in found:
                    watched[slot] = found[node, k] = slot.complete(found[node, k])
            cotangents, arrived = [], False
            for k in range(node.count):
                key = (node, k)
                g = found.get(key) if wanted and key in wanted else found.pop(key, None)
                arrived = arrived or g is not None
                cotangents.append(g)
            if not arrived or node not in needs:
                continue
            gradients_of = node.primitive.gradients if state.tracer is None else state.tracer.gradients
            if node.backend == here:
                gradients = gradients_of(node, needs[node], cotangents)
            else:
                with dispatch.use(node.backend):
                    gradients = gradients_of(node, needs[node], cotangents)
            for edge, g in zip(node.edges, gradients, strict=True):
                if g is not None:
                    deliver(edge.slot if edge.node is None else (edge.node, edge.index), g)
            if not retained:
                node.free()
        leaves = {key: key.complete(g) for key, g in found.items() if isinstance(key, Slot)}
    return {**leaves, **watched} if wanted is None else {**found, **leaves}
