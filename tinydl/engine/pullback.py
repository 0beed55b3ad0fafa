"""A rule stated as a composition: the gradient of a function of tensors, taken where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinydl_kernels.machine import memory

from .backward import grad
from .core import Tensor, enable_grad, expand, state


def alias(x: Tensor) -> Tensor:
    """x under a new identity: gradients with respect to it do not see x's other uses."""
    return expand(x, shape=x.shape) if x.requires_grad else Tensor(x.array, x.version).requires_grad_()


def zeros_like(x: Tensor) -> Tensor:
    return Tensor(memory.array_module(x.array).zeros(x.shape, x.dtype))


def pullback(
    function: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    cotangents: Sequence[Tensor | None],
    needs: Sequence[bool] | None = None,
) -> list[Tensor | None]:
    """The gradient of <function(*inputs), cotangents> for each input that is needed: a
    rule stated as a composition.

    Differentiable again where the surrounding scope is. A cotangent or an input may be None.
    """
    outer = state.grad
    needs = [x is not None for x in inputs] if needs is None else needs
    with enable_grad():
        fresh = [alias(x) if x is not None and need else x for x, need in zip(inputs, needs, strict=True)]
        outputs = function(*fresh)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    used = [
        (y, v)
        for y, v in zip(outputs, cotangents, strict=True)
        if y is not None and v is not None and y.requires_grad
    ]
    asked = [x for x, need in zip(fresh, needs, strict=True) if x is not None and need]
    found = (
        grad([y for y, _ in used], asked, [v for _, v in used], create_graph=outer, allow_unused=True)
        if used
        else ()
    )
    gradients = iter(
        zeros_like(x) if g is None else g for x, g in zip(asked, found or [None] * len(asked), strict=True)
    )
    return [next(gradients) if x is not None and need else None for x, need in zip(fresh, needs, strict=True)]
