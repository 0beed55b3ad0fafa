"""How gemm.cuh cuts a product: which tile, and into how many parts along the sum.

    y[i, j] = Σ_k a[i, k] b[k, j]        batch of them, I x J x K each

A choice depends on the sizes alone, so that the bits do not depend on the GPU.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..machine import memory, precision
from ..machine.errors import ShapeError
from . import launching

Array = Any

MULTIPROCESSORS = 128
"""About as many as a large GPU has."""
STEP = 16
"""Splits are multiples of it: the longest step of gemm.cuh along k."""
LARGEST = 1 << 30
"""Elements that an array must stay below, so that the sum of two offsets is an int."""


class Tile(NamedTuple):
    """A tile of gemm.cuh. Its speeds are rough, as parts of what a multiprocessor can do."""

    rows: int
    columns: int
    threads: int
    alone: float  # speed of one block
    full: float  # of as many blocks as there is room for


TILES = (
    Tile(128, 128, 256, 0.55, 0.9),
    Tile(64, 64, 64, 0.2, 0.8),
    Tile(32, 128, 64, 0.2, 0.7),
    Tile(16, 128, 64, 0.15, 0.5),
    Tile(32, 32, 64, 0.12, 0.4),
)


class Cut(NamedTuple):
    """A tile, the number of blocks of a product and its batch, and the splits of k, each `depth` long."""

    tile: Tile
    blocks: int
    splits: int
    depth: int

    @property
    def kernel(self) -> str:
        """The ending of the kernels for that tile."""
        return f"{self.tile.rows}x{self.tile.columns}"


@lru_cache(maxsize=4096)
def cut(I: int, J: int, K: int, batch: int) -> Cut:
    """The tile and the number of splits that promise the least time."""
    most = max(1, min(K // (4 * STEP), 256))
    counts = sorted({most, *(1 << n for n in range(most.bit_length()))})
    choices = (_cut(tile, splits, I, J, K, batch) for tile in TILES for splits in counts)
    return min(choices, key=lambda choice: _time(choice, I, J, batch))


def _cut(tile: Tile, splits: int, I: int, J: int, K: int, batch: int) -> Cut:
    depth = max(1, -(-K // (splits * STEP))) * STEP
    splits = max(1, -(-K // depth))
    return Cut(tile, -(-I // tile.rows) * -(-J // tile.columns) * batch * splits, splits, depth)


def _time(choice: Cut, I: int, J: int, batch: int) -> float:
    """In multiply-adds of one multiprocessor: the work of the busiest one, the first step and the last
    sum.
    """
    tile, blocks, splits, depth = choice
    share = max(1, -(-blocks // MULTIPROCESSORS))
    work = share * tile.rows * tile.columns * (depth + STEP) / min(share * tile.alone, tile.full)
    return work if splits == 1 else work + 500_000 + 0.3 * I * J * batch * (2 * splits + 1)


def module(family: str, dtype: np.dtype) -> launching.Module:
    """The kernels for arrays of that dtype: with tensor cores where the precision that the user asks for
    allows it.
    """
    return launching.module(
        family, dtype, dtype == np.float32 and precision.get_float32_matmul_precision() == "high"
    )


def require_offsets(who: str, *arrays: Array) -> None:
    """ShapeError for an array with more elements than the kernels can count."""
    for array in arrays:
        if array.size >= LARGEST:
            raise ShapeError(f"{who}: expected arrays of less than 2^30 elements on a GPU, got {array.shape}")


def room(out: Array, cut: Cut) -> Array:
    """Where the kernel writes: `out`, or scratch for the splits of it."""
    return out if cut.splits == 1 else memory.empty((cut.splits, *out.shape), out.dtype, out)


def add_splits(module: launching.Module, partial: Array, bias: Array | None, out: Array) -> None:
    """Sum up the splits, if there are several, and add the bias of axis 1."""
    if partial is out:
        return
    blocks = min(-(-out.size // launching.THREADS), launching.MAX_BLOCKS)
    sizes = (
        np.int64(out.size),
        np.int32(partial.shape[0]),
        np.int32(prod(out.shape[2:])),
        np.int32(out.shape[1]),
    )
    module.get_function("add_splits")((blocks,), (launching.THREADS,), (partial, bias, out, *sizes))
