"""The launches of matmul.cu: matrix products on the GPU and on the emulator."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..cuda import cuts, launching
from ..machine import memory
from ..machine.errors import DtypeError

Array = Any


def matmul(a: Array, b: Array, transpose_a: bool, transpose_b: bool, shape: tuple[int, ...]) -> Array:
    """`matmul.matmul`, of the given shape."""
    cuts.require_offsets("matmul", a, b)
    if a.dtype != b.dtype or a.dtype not in launching.NUMBER:
        raise DtypeError(
            f"matmul: expected two float32, float64 or int64 arrays on a GPU, got {a.dtype} and {b.dtype}"
        )
    y = memory.empty(shape, a.dtype, a)
    cuts.require_offsets("matmul", y)
    if not y.size:
        return y
    (*batch, I, J), K = shape, a.shape[-2 if transpose_a else -1]
    a_i, a_k = (1, I) if transpose_a else (K, 1)
    b_j, b_k = (K, 1) if transpose_b else (1, J)
    axes = _axes(tuple(batch), a.shape[:-2], b.shape[:-2], I * K, K * J)
    matrices = prod(batch)
    table = (
        np.int32(matrices),
        np.int32(len(axes)),
        launching.table([number for axis in axes for number in axis]),
    )
    y_i, y_j = J, 1
    if J < I:  # tiles are broad
        a, b, I, J, a_i, a_k, b_j, b_k, y_i, y_j = b, a, J, I, b_j, b_k, a_i, a_k, 1, J
        table = (
            *table[:2],
            launching.table([number for size, a_step, b_step in axes for number in (size, b_step, a_step)]),
        )
    cut = cuts.cut(I, J, K, matrices)
    module = cuts.module("matmul", y.dtype)
    to = cuts.room(y, cut)
    sizes = map(np.int32, (I, J, K, a_i, a_k, b_j, b_k, y_i, y_j))
    args = (a, b, to, *sizes, *table, np.int32(cut.depth))
    module.get_function(f"product_{cut.kernel}")((cut.blocks,), (cut.tile.threads,), args)
    cuts.add_splits(module, to, None, y)
    return y


def _axes(
    batch: tuple[int, ...], a_shape: tuple[int, ...], b_shape: tuple[int, ...], a_size: int, b_size: int
) -> list[tuple[int, int, int]]:
    """Per axis of the batch its size and how far apart its matrices lie in a and in b: 0 along an axis that
    is broadcast.

    Axes that can be walked as one are one.
    """
    axes: list[tuple[int, int, int]] = []
    a_step, b_step = a_size, b_size
    for n, size in enumerate(reversed(batch), 1):
        a_own, b_own = (shape[-n] if n <= len(shape) else 1 for shape in (a_shape, b_shape))
        axis = size, a_step * (a_own > 1), b_step * (b_own > 1)
        a_step, b_step = a_step * a_own, b_step * b_own
        if size == 1:
            continue
        if axes and axis[1] == axes[-1][0] * axes[-1][1] and axis[2] == axes[-1][0] * axes[-1][2]:
            axes[-1] = size * axes[-1][0], *axes[-1][1:]
        else:
            axes.append(axis)
    return axes[::-1]
