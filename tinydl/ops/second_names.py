"""Functions that PyTorch has under two names."""

from __future__ import annotations

from .arithmetic import div, sub
from .elementwise import abs, ge, gt, le, lt, mul, ne, neg
from .shape import cat, movedim

__all__ = [
    "absolute",
    "concat",
    "divide",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "moveaxis",
    "multiply",
    "negative",
    "not_equal",
    "subtract",
]

absolute, negative = abs, neg
subtract, multiply, divide = sub, mul, div
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne
concat, moveaxis = cat, movedim
