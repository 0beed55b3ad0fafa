"""What every backend needs of recurrent layers beside its walk over the steps: sizes, and what is one product
for all steps.
"""

from __future__ import annotations

from typing import Any

from .. import elementwise, reduce
from ..machine import memory
from ..matmul import matmul

Array = Any
GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}
"""Rows of weights per hidden unit, by the name of a cell."""
KEPT = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 4}
"""Numbers that a unit keeps of a step."""


def states(cell: str) -> int:
    """1, h, or 2, h and c."""
    return 2 if cell == "lstm" else 1


def of_weights(du: Array, before: Array, *more: Array) -> tuple[Array, Array]:
    """(dw, db) of the gradients of u and of the states before, with a second such pair for dw."""
    dw = matmul(_rows(du), _rows(before[0]), True, False)
    if more:
        dw = elementwise.add(dw, matmul(_rows(more[0]), _rows(more[1][0]), True, False))
    return dw, reduce.sum(_rows(du), (0,))


def of_moving_weights(v_w: Array | None, v_b: Array | None, du: Array, before: Array) -> tuple[Any, Any]:
    """Along v_w and v_b: what u changes by (T, N, G·H) if the state does not, what the state's gradient
    (T, N, H) does if that of u does not.
    """
    push, pull = None, None
    if v_w is not None:
        push = matmul(_rows(before[0]), v_w, False, True).reshape(du.shape)
        pull = matmul(_rows(du), v_w, False, False).reshape(before.shape[1:])
    if v_b is not None and push is None:
        push = elementwise.copy(memory.array_module(v_b).broadcast_to(v_b, du.shape))
    elif v_b is not None:
        push = elementwise.add(push, v_b)
    return push, pull


def _rows(x: Array) -> Array:
    """(T, N, K) -> (T·N, K)"""
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2])
