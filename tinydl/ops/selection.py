"""Which of two values, and where."""

from __future__ import annotations

from typing import Any

from ..engine.public import public
from . import elementwise
from .indexing import nonzero

__all__ = [
    "where",
]


@public
def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """input where the condition holds, else other. The side that is not taken has gradient 0, whatever it
    holds. Without both: `nonzero(condition, as_tuple=True)`.

    What stands before it makes NaN of that 0 where its derivative is infinite or NaN: where(x > 0, sqrt(x),
    x) has gradient NaN at x <= 0, as in PyTorch. Choose first: sqrt(where(x > 0, x, 1)).
    """
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    if input is None or other is None:
        raise TypeError("where: expected input and other, or neither, got one")
    return elementwise.where(condition, input, other)
