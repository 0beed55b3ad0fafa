"""How operands of any strides broadcast, as one table of numbers for a loop over rows.

    shape, table = layout(shapes, strides, itemsizes)
    table[0]          sizes of the axes, merged as far as the strides of all operands allow, and 0
    table[i]          strides of operand i along them in elements, and the place of its first element in its
                      `storage`

The place is not 0 where a stride is negative. `packed` is the same as a struct for elementwise.cuh, whose
threads take N neighbours of a row. A thread finds its row by divisions, which are multiplications by numbers
made here (Granlund & Montgomery, "Division by invariant integers using multiplication", PLDI 1994). For 0 <=
n < 2^63, 2^s >= d > 2^(s - 1) and m = floor(2^64 (2^s - d) / d) + 1

    floor(n / d) = (high word of m n + n) / 2^s
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..cpu import jobs
from .errors import ShapeError

Array = Any
Shape = tuple[int, ...]


@functools.lru_cache(maxsize=4096)
def layout(
    shapes: tuple[Shape, ...], strides: tuple[Shape, ...], itemsizes: tuple[int, ...]
) -> tuple[Shape, Array]:
    """(shape, table): the broadcast shape and int64 (1 + operands, axes + 1). ValueError for shapes that do
    not broadcast.
    """
    shape = np.broadcast_shapes(*shapes)
    columns: list[list[int]] = []  # per merged axis: size, stride of each operand
    table = [
        [0] * (len(shape) - len(own))
        + [0 if size == 1 else stride // itemsize for size, stride in zip(own, steps)]
        for itemsize, own, steps in zip(itemsizes, shapes, strides, strict=True)
    ]
    for size, *steps in zip(shape, *table, strict=True):
        if size == 1:
            continue
        if columns and columns[-1][1:] == [size * step for step in steps]:
            columns[-1] = [columns[-1][0] * size, *steps]
        else:
            columns.append([size, *steps])
    columns = columns or [[1] * (1 + len(shapes))]
    first = [
        0,
        *(
            sum((size - 1) * max(-step, 0) for size, step in zip(shape, steps, strict=True))
            for steps in table
        ),
    ]
    return shape, np.array([*columns, first], np.int64).T.copy()


FLAT = [np.array([[1 << 62, 0]] + [[1, 0]] * arity, np.int64) for arity in range(5)]
"""The tables of contiguous operands of one shape, whatever its size."""


OPERANDS, AXES = 4, 8
STRUCT = np.dtype(
    [
        ("axes", np.int64),
        ("width", np.int64),
        ("size", np.int64, AXES),
        ("magic", np.uint64, AXES),
        ("shift", np.int64, AXES),
        ("step", np.int64, (OPERANDS, AXES)),
        ("first", np.int64, OPERANDS),
    ]
)
"""`Layout` of elementwise.cuh: the last axis is number 0, and its size is given in packs."""


@functools.lru_cache(maxsize=4096)
def packed(
    shapes: tuple[Shape, ...], strides: tuple[Shape, ...], itemsizes: tuple[int, ...], n: int
) -> tuple[Shape, int, Any]:
    """(shape, items, struct): the broadcast shape, how many packs of n elements it has, and the layout of
    `STRUCT`.

    ValueError for shapes that do not broadcast; ShapeError if more than `AXES` axes are left.
    """
    shape, table = layout(shapes, strides, itemsizes)
    sizes, steps, first = np.maximum(table[0, -2::-1], 1).tolist(), table[1:, -2::-1], table[1:, -1]
    if len(sizes) > AXES:
        raise ShapeError(
            f"elementwise: expected operands whose strides leave at most {AXES} axes on a GPU, got {shapes}"
        )
    width, sizes[0] = sizes[0], -(-sizes[0] // n)
    shifts = [(d - 1).bit_length() for d in sizes]
    made = np.zeros(1, STRUCT)
    made["axes"], made["width"], made["first"][0, : len(first)] = len(sizes), width, first
    made["size"][0, : len(sizes)], made["shift"][0, : len(sizes)] = sizes, shifts
    made["magic"][0, : len(sizes)] = [
        (2**64 * (2**s - d)) // d + 1 for d, s in zip(sizes, shifts, strict=True)
    ]
    made["step"][0, : len(first), : len(sizes)] = steps
    return shape, math.prod(sizes), made[0]


class _Memory:
    """Elements of a strided array's memory, for np.asarray."""

    def __init__(self, x: np.ndarray, low: int, count: int) -> None:
        interface = x.__array_interface__
        self.owner = x
        self.__array_interface__ = {
            "version": 3,
            "typestr": interface["typestr"],
            "shape": (count,),
            "data": (interface["data"][0] + low, False),  # operands are only read: one type for Numba
        }


def storage(x: Array) -> Array:
    """A contiguous 1-d view of the memory that x lies in, from its first to its last element."""
    if x.flags.c_contiguous and (not isinstance(x, np.ndarray) or x.flags.carray):
        return x.reshape(-1)
    reach = [(size - 1) * stride for size, stride in zip(x.shape, x.strides, strict=True)]
    low = sum(r for r in reach if r < 0)
    count = (sum(r for r in reach if r > 0) - low) // x.itemsize + 1
    return (
        np.asarray(_Memory(x, low, count))
        if isinstance(x, np.ndarray)
        else type(x)((count,), x.dtype, x.data + low)
    )


def regular(x: np.ndarray) -> np.ndarray:
    """x, or a copy where it is not aligned to its elements."""
    if x.flags.aligned and not any(stride % x.itemsize for stride in x.strides):
        return x
    jobs.spoil()
    return x.copy()
