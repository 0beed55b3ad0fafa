"""PyTorch's `torch.func`, by its names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .functional import grad_and_value, hessian, jacfwd, jacrev, jvp, vjp, vmap
from .nn.module import functional_call

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "vjp",
    "vmap",
]


def grad(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """The function whose value is the gradient of `func`, a scalar of tensors, with respect to the arguments
    at `argnums`: a tensor for an integer, else a tuple.
    """
    both = grad_and_value(func, argnums)

    def gradient(*inputs: Any) -> Any:
        return both(*inputs)[0]

    return gradient
