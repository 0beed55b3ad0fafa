"""Random numbers of samples: row n is a function of a key and of its sample's number, whatever the batch.

Philox4x32-10, as in random.py, with a counter that says which sample is meant:

    key      uint64 (2,)   a seed, and a stream: the upper two words of the counter
    index    uint64 (N,)   numbers of samples, below 2^32: the second word of the counter
                           (the lowest one counts the blocks of a row)

A block has four numbers of float32 or two of float64. There is no state, so that a sample draws the same
numbers alone and in any batch, in any order, by any thread or process. On the CPU only: what augments images
runs there.

Cost: 20 multiplications of 32 bits a block; each array is written once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .cpu.compiler import kernel, parallel
from .machine import memory, validate
from .machine.dispatch import operation
from .machine.errors import DtypeError, ShapeError
from .random import HALF, _box_muller, _normal32, _rounds, _uniform32, _uniform64, _unit, rounds

Array = Any

GRAIN = 1 << 13
"""Blocks that a piece of a loop makes."""
LARGEST = 1 << 32


def check(index: Array, key: Array) -> None:
    for name, array, shape in (("index", index, (index.size,)), ("key", key, (2,))):
        if array.dtype != np.uint64:
            raise DtypeError(f"per_sample: expected {name} of dtype uint64, got {array.dtype}")
        if array.shape != shape:
            raise ShapeError(f"per_sample: expected {name} of shape {shape}, got {array.shape}")


def _words(index: Array, key: Array, blocks: int) -> Array:
    """For the reference: uint64 below 2^32, (N, blocks, 4)."""
    check(index, key)
    counters = index[:, None] << HALF | np.arange(blocks, dtype=np.uint64)
    return np.stack(_rounds(key[0], counters, key[1]), axis=-1)


def _row(blocks: Array, size: int) -> Array:
    """The first `size` numbers of each sample's blocks."""
    return blocks.reshape(len(blocks), math.prod(blocks.shape[1:]))[:, :size]


def _row_of(values: Any, width: int) -> Any:
    """The loop that fills a sample's row; `values(words)` makes the `width` numbers of a block."""

    @kernel
    def row(seed, number, stream, part):
        counter, whole = number << HALF, part.size // width
        for b in range(whole):
            block = values(rounds(seed, counter | np.uint64(b), stream))
            i = width * b
            part[i], part[i + 1] = block[0], block[1]
            # the same again if a block has two
            part[i + width - 2], part[i + width - 1] = block[-2], block[-1]
        if whole * width < part.size:
            block = values(rounds(seed, counter | np.uint64(whole), stream))
            for i in range(width * whole, part.size):
                part[i] = block[i - width * whole]

    return row


def _filler(row: Any) -> Any:
    """The loop over samples."""

    @parallel
    def fill(start, stop, index, key, out):
        for n in range(start, stop):
            row(key[0], index[n], key[1], out[n])

    return fill


def _fill(fill: Any, index: Array, key: Array, size: int, dtype: Any) -> Array:
    check(index, key)
    out = memory.empty((index.size, size), dtype, index)
    fill(index.size, 1 + 4 * GRAIN // max(size, 1), index, key, out)
    return out


# ---- uniform


@operation
def uniform(index: Array, key: Array, size: int, dtype: Any) -> Array:
    """(N, size) in [0, 1): multiples of 2^-24 in float32, of 2^-53 in float64."""
    if np.dtype(dtype) == np.float64:
        words = _words(index, key, -(-size // 2))
        pairs = words[..., 0::2] | words[..., 1::2] << HALF
        return _row(_unit(pairs), size)
    words = _words(index, key, -(-size // 4)) >> np.uint64(8)
    return _row(words.astype(np.float32) * np.float32(2.0**-24), size)


uniform_row = _row_of(_uniform32, 4)
"""uniform_row(seed, number of the sample, stream, part) for the kernels that use the numbers at once."""
_uniform_fill = {
    np.dtype(np.float32): _filler(uniform_row),
    np.dtype(np.float64): _filler(_row_of(_uniform64, 2)),
}


@uniform.loops
def _(index: Array, key: Array, size: int, dtype: Any) -> Array:
    return _fill(_uniform_fill[np.dtype(dtype)], index, key, size, dtype)


# ---- normal


@operation
def normal(index: Array, key: Array, size: int) -> Array:
    """(N, size) float32 of mean 0 and variance 1, by Box and Muller as random.normal."""
    words = _words(index, key, -(-size // 4))
    u, turn = (words[..., 0::2] + np.uint64(1)) * 2.0**-32, words[..., 1::2] << HALF
    pairs = np.stack(_box_muller(u, turn), axis=-1)
    return _row(pairs, size).astype(np.float32)


_normal_fill = _filler(_row_of(_normal32, 4))


@normal.loops
def _(index: Array, key: Array, size: int) -> Array:
    return _fill(_normal_fill, index, key, size, np.float32)


def main() -> None:
    """Validate against the reference, bit for bit, then time."""
    index, key = np.arange(128, dtype=np.uint64), np.array([2026, 1], np.uint64)
    for dtype in (np.float32, np.float64):
        validate.report(uniform, index, key, 2 * 28 * 28, dtype, tolerance=0)
    validate.report(normal, index, key, 28 * 28, tolerance=0)


if __name__ == "__main__":
    main()
