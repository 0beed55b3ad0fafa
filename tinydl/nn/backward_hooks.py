"""Hooks that see the gradients of a module's inputs and outputs.

Inputs and outputs go through a gate, the identity, whose rule gets the gradients of all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinydl_kernels.machine.errors import GraphError

from ..engine.core import Array, Tensor, primitive, state
from ..ops.creation import zeros
from ..ops.indexing import refuse_recording

Gradients = Sequence[Tensor | None]


@primitive(outputs=("*outputs",))
def _gate(*inputs: Array, seen: Callable[[Gradients], Gradients]) -> tuple[Array, ...]:
    """Copies; backward their gradients are what `seen` makes of those of the copies."""
    return tuple(x.copy() for x in inputs)


@_gate.joint
def _(
    needs: tuple[bool, ...],
    g: Gradients,
    *,
    seen: Callable[[Gradients], Gradients],
    inputs_shape: tuple[Any, ...],
    inputs_dtype: tuple[Any, ...],
) -> Gradients:
    device = next(x.device for x in g if x is not None)
    return [
        (zeros(*shape, dtype=dtype, device=device) if x is None else x) if need else None
        for x, need, shape, dtype in zip(seen(g), needs, inputs_shape, inputs_dtype, strict=True)
    ]


def gate(*inputs: Tensor, seen: Callable[[Gradients], Gradients]) -> tuple[Tensor, ...]:
    """The primitive, outside of recorded steps."""
    refuse_recording("register_full_backward_hook", "a replay calls no hooks")
    return _gate(*inputs, seen=seen)


def call_watched(
    module: Any, hooks: Sequence[Callable[..., Any]], inputs: tuple[Any, ...], settings: Any
) -> Any:
    """module.forward(*inputs, **settings); backward, hook(module, grad_input, grad_output) for each hook."""
    if not state.grad:
        return module.forward(*inputs, **settings)
    refuse_recording("register_full_backward_hook", "a replay calls no hooks")
    received: list[tuple[Tensor | None, ...]] = []
    places = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]

    def all_hooks(grad_input: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        for hook in hooks:
            changed = hook(module, grad_input, received[-1] if received else ())
            if changed is not None:
                changed = changed if isinstance(changed, tuple) else (changed,)
                if len(changed) != len(grad_input):
                    raise GraphError(
                        f"register_full_backward_hook: expected {len(grad_input)} gradients of "
                        f"{type(module).__name__}'s inputs, or None, got {len(changed)}"
                    )
                grad_input = changed
        return grad_input

    def entering(g: Gradients) -> Gradients:
        whole: list[Tensor | None] = [None] * len(inputs)
        for i, x in zip(places, g, strict=True):
            whole[i] = x
        changed = all_hooks(tuple(whole))
        return [changed[i] for i in places]

    given = list(inputs)
    if places:
        for i, x in zip(places, gate(*(inputs[i] for i in places), seen=entering), strict=True):
            given[i] = x
    output = module.forward(*given, **settings)
    several = isinstance(output, (tuple, list))
    outputs = list(output) if several else [output]
    if not all(isinstance(y, Tensor) for y in outputs):
        raise GraphError(
            f"register_full_backward_hook: expected a tensor or a tuple of them from {type(module).__name__}"
        )
    moving = [k for k, y in enumerate(outputs) if y.requires_grad]

    def leaving(g: Gradients) -> Gradients:
        whole: list[Tensor | None] = [None] * len(outputs)
        for k, x in zip(moving, g, strict=True):
            whole[k] = x
        received.append(tuple(whole))
        if not places:
            all_hooks((None,) * len(inputs))
        return g

    if moving:
        for k, y in zip(moving, gate(*(outputs[k] for k in moving), seen=leaving), strict=True):
            outputs[k] = y
    return type(output)(outputs) if several else outputs[0]
