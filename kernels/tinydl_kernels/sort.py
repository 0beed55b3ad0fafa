"""Order along one axis.

    argsort   indices that sort x; equal elements keep their order, NaN counts as larger than everything
    unique    the different elements in order, where each of x is among them, and how often

NumPy's stable sort does the work, O(n log n) a line; on a GPU a radix sort of our own (sort.cu), without
synchronization: 3 launches for every 8 bits of the keys and of the number of lines.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .cuda import launching
from .machine import memory
from .machine.constants import OF_FILE
from .machine.dispatch import operation
from .machine.errors import ShapeError
from .machine.memory import array_module
from .machine.validate import report

Array = Any
DIGITS, TILE = (OF_FILE["sort"][name] for name in ("DIGITS", "TILE"))


@operation
def argsort(x, dim, descending):
    """int64 indices that sort x along `dim`. Descending order is stable too: the first of equals comes
    first.
    """
    if not descending:
        return x.argsort(dim, kind="stable")
    back = (slice(None),) * dim + (slice(None, None, -1),)
    return x.shape[dim] - 1 - x[back].argsort(dim, kind="stable")[back]


@argsort.cuda
def _(x, dim, descending):
    x = x if x.dtype == np.uint64 else launching.widened(x, "f")
    out = memory.empty(x.shape, np.int64, x)
    if out.size:
        size, inner, n = x.shape[dim], np.int64(math.prod(x.shape[dim + 1 :])), np.int64(x.size)
        keys = memory.empty(x.shape, np.uint64, x)
        flip = np.uint64(2**64 - 1 if descending else 0)
        launching.launch("sort", f"keys_{x.dtype}", x.size, x, keys, n, np.int64(size), inner, flip)
        order = radix_order(keys, 8 * x.itemsize, size)
        launching.launch("sort", "places", x.size, order, out, n, np.int64(size), inner)
    return out


def radix_order(keys: Array, bits: int, size: int) -> Array:
    """The numbers of the items (int64, flat), stably sorted within rows of `size` by their uint64
    keys, which are below 2^bits.

    On a GPU; bits >= 1. ShapeError for 2^32 items or more.
    """
    n = keys.size
    if n >= 2**32:
        raise ShapeError(f"sort: expected fewer than 2^32 elements, got {keys.shape}")
    tiles = -(-n // TILE)
    counts, totals = memory.empty((DIGITS, tiles), np.uint32, keys), memory.empty((DIGITS,), np.uint32, keys)
    buffers = [memory.empty((n,), np.int64, keys) for _ in range(2)]
    kernel, order = launching.module("sort").get_function, None
    for shift in (*range(0, bits, 8), *range(64, 64 + (n // size - 1).bit_length(), 8)):
        settings = np.int64(n), np.int32(shift), np.int64(size)
        kernel("count")((tiles,), (launching.THREADS,), (keys, order, counts, *settings))
        kernel("offset")(
            (DIGITS * launching.WARP // launching.THREADS,),
            (launching.THREADS,),
            (counts, totals, np.int32(tiles)),
        )
        kernel("move")((tiles,), (launching.THREADS,), (keys, order, counts, totals, buffers[0], *settings))
        order = buffers[0]
        buffers.reverse()
    return order


@operation(portable=True)
def unique(x, dim):
    """(values, inverse, counts): the different elements of x, or its different slices along `dim`, in
    ascending order.

    How many there are depends on the values. Every NaN is different from every other.
    """
    kept = {} if dim is None else {"axis": dim}
    values, inverse, counts = array_module(x).unique(
        x, return_inverse=True, return_counts=True, equal_nan=False, **kept
    )
    return values, inverse.reshape(x.shape if dim is None else -1).astype(np.int64), counts.astype(np.int64)


def main() -> None:
    """Time the references: there is no other implementation."""
    x = np.random.default_rng(0).standard_normal((1000, 1000)).astype(np.float32)
    for dim in (0, 1):
        report(argsort, x, dim, True)
    report(unique, np.round(x, 2), None)


if __name__ == "__main__":
    main()
