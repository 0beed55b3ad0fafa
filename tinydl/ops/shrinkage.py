"""Activations that pull towards 0."""

from __future__ import annotations

from ..engine.core import Tensor
from ..engine.promotion import require_floating, require_numbers
from ..engine.public import public
from .elementwise import abs, clip, le, sub, tanh, where

__all__ = ["hardshrink", "softshrink", "tanhshrink"]


@public
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0."""
    require_floating("hardshrink", input)
    return where(le(abs(input), lambd), 0.0, input)


@public
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x - lambd where x > lambd, x + lambd where x < -lambd, else 0.

    Raises:
        ValueError: a lambd below 0.
    """
    require_floating("softshrink", input)
    if not lambd >= 0:
        raise ValueError(f"softshrink: expected lambd of at least 0, got {lambd}")
    return sub(input, clip(input, -lambd, lambd))


@public
def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    require_numbers("tanhshrink", input)
    return sub(input, tanh(input))
