"""Products of matrices on the processor, batched.

    y[..., i, j] = Σ_k A[..., i, k] B[..., k, j] + bias[j]
            A = aᵀ if transpose_a else a (last two axes), B too

A product is cut by its shape alone, along i and along j, into tasks. A task takes its columns panel by panel:

               panel of B: K x width, packed    lanes run along j; `strip` (tiles.py) multiplies tiles of rows
                 +------+                          of A, which lie as they are, with a panel that stays in the
                 |//////|                                    caches while the rows go by
          K      +------+
        +-----+  +------+
        | A   |  |  y   |
        +-----+  +------+

A panel is as deep as B if there are many rows: to cut K as well costs more than it saves, as y is read and
written once for each cut. If there are few, y stays in the first-level cache, and so does what of a panel is
made of DEPTH rows of B. What has hardly any rows or columns is another thing (thin.py).
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ..machine import memory
from ..machine.memory import line
from . import jobs, simd
from .blas import single_threaded_blas
from .compiler import parallel, share
from .slots import tasks_of
from .thin import matrix_starts, thin_product
from .threads import get_num_threads
from .tiles import fill, pack_rows, rectify, strip, transpose

Array = Any
Sizes = tuple[int, ...]

VECTORS = 3
"""Registers that a panel is wide, at most."""
HEIGHT = 8
"""Rows of the tallest tile."""
TASKS, TALL = 16, 512
"""Tasks to aim at. Where there is more to do for many threads, more of them, of at least so many rows: each
packs the panels of its columns.
"""
FEW, DEPTH = 128, 160
"""Rows of A up to which panels are so many rows of B deep."""
DEEP, WIDE, BLOCK = 256, 192, 64
"""A is turned first if it is transposed and so deep that the lines of its tiles fill the first-level cache,
and B is as wide as makes up for it; in blocks of so many rows.
"""
LEAST = 64
"""Rows that a task has at least: to pack a panel takes as long as to multiply it with ten or twenty."""
GRAIN = 1 << 18
"""Flops below which it is not worth while to wake another thread: a multiply-add is two."""
RECTIFIED = 1 << 17
"""Numbers of a piece, where relu is a loop of its own."""


def product(
    a: Array,
    b: Array,
    y: Array,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: Array | None = None,
    relu: bool = False,
) -> None:
    """y (..., I, J) = A (..., I, K) times B (..., K, J), plus bias (J,), then relu if asked for.

    y is C-contiguous and has the batch axes to which those of a and b broadcast. Tiles take C-contiguous
    arrays of one dtype, float32 or float64; others are NumPy's.
    """
    tiled = a.dtype == b.dtype and a.dtype.char in "fd" and a.flags.c_contiguous and b.flags.c_contiguous
    lanes, threads = simd.lanes(a.itemsize), get_num_threads()
    if not tiled:
        _by_numpy(a, b, y, transpose_a, transpose_b, bias, relu)
        return
    plan = _plan(a.shape, b.shape, y.shape, transpose_a, lanes, threads)
    if plan is None:
        thin_product(a, b, y, transpose_a, transpose_b, bias, relu)
        return
    panel, grain, (I, J, K), cuts = plan
    packed, to = memory.scratch(panel, a.dtype, a), line(y)
    bias = to[:0] if bias is None else bias
    if transpose_a and K >= DEEP and J >= WIDE:
        turned = memory.scratch(a.shape, a.dtype, a)
        blocks = -(-I // BLOCK)
        _turn(a.size // (I * K) * blocks, 1 + (1 << 14) // (BLOCK * K), line(a), line(turned), I, K, blocks)
        a, transpose_a = turned, False
    _tiles(panel[0], grain, line(a), line(b), to, bias, packed, cuts, transpose_a, transpose_b, relu)


def _by_numpy(
    a: Array, b: Array, y: Array, transpose_a: bool, transpose_b: bool, bias: Array | None, relu: bool
) -> None:
    jobs.spoil()
    with single_threaded_blas():
        np.matmul(oriented(a, transpose_a), oriented(b, transpose_b), out=y)
    if bias is not None:
        np.add(y, bias, out=y)
    if relu:
        _rectify(y.size, RECTIFIED, line(y))


def oriented(a: Array, transpose: bool) -> Array:
    """aᵀ if transpose else a."""
    return a.swapaxes(-1, -2) if transpose else a


@parallel
def _rectify(start, stop, y):
    rectify(y, start, stop - start)


@lru_cache(maxsize=1024)
def _plan(a: Sizes, b: Sizes, y: Sizes, transpose_a: bool, lanes: int, threads: int) -> Any:
    """How a product of arrays of these shapes is cut, for panels of registers of so many lanes; None if it is
    thin. The sums do not depend on the threads.

    ((runs of tasks with scratch of their own, numbers in that), grain of the loop, (I, J, K), (I, J, K,
    cuts along i, cuts along j, panels, depth of a panel, lanes, where the matrices of a begin that the
    products of the batch take, those of b))

    The last is one array: each number of a tuple takes a while to pass to a compiled function.
    """
    *batch, I, J = y
    K = a[-2 if transpose_a else -1]
    if I < HEIGHT or J < 4:
        return None
    count, vectors, work = max(1, prod(batch)), -(-J // lanes), max(1, 2 * I * J * K * prod(batch))
    tasks = min(TASKS, -(-work // GRAIN))
    panels = -(-vectors // VECTORS)
    panels = min(vectors, panels + panels % 2) if tasks > 1 else panels  # two threads have as much to do each
    j = min(panels, -(-tasks // count))
    i = max(1, min(I // LEAST, tasks // (count * j)))
    many = tasks_of(work, TASKS, threads)
    if many > TASKS:
        j = min(panels, -(-many // count))
        i = max(i, min(I // TALL, -(-many // (count * j))))
    parts, depth = min(max(many, i * j), count * i * j), min(K, DEPTH) if I <= FEW else K
    starts = matrix_starts(a[:-2], batch, I * K), matrix_starts(b[:-2], batch, K * J)
    panel = parts, (depth + 1) * -(-vectors // panels) * lanes
    cuts = np.concatenate(([I, J, K, i, j, panels, max(1, depth), lanes], *starts))
    return panel, 1 + parts * GRAIN // work, (I, J, K), cuts


@parallel
def _turn(start, stop, a, to, I, K, blocks):
    """Matrices (K, I) to (I, K): so many blocks of rows each."""
    for number in range(start, stop):
        first, i = number // blocks * I * K, number % blocks * BLOCK
        transpose(to, first + i * K, K, a, first + i, I, K, min(BLOCK, I - i))


@parallel
def _tiles(start, stop, a, b, y, bias, packed, cuts, transpose_a, transpose_b, relu):
    I, J, K, i_cuts, j_cuts, panels, depth, lanes = (
        cuts[0], cuts[1], cuts[2], cuts[3], cuts[4], cuts[5], cuts[6], cuts[7],
    )  # fmt: skip
    items = (cuts.size - 8) // 2
    a_starts, b_starts = cuts[8 : 8 + items], cuts[8 + items :]
    i_step, k_step = (1, I) if transpose_a else (K, 1)
    for part in range(start, stop):
        panel, (begin, end) = packed[part], share(part, packed.shape[0], items * i_cuts * j_cuts)
        for task in range(begin, end):
            item = task // (i_cuts * j_cuts)
            i, last = share(task // j_cuts % i_cuts, i_cuts, -(-I // HEIGHT))
            i, rows = i * HEIGHT, min(I, last * HEIGHT) - i * HEIGHT
            left, right = share(task % j_cuts, j_cuts, panels)
            for number in range(left, right):
                j, end_j = share(number, panels, -(-J // lanes))
                j, width = j * lanes, (end_j - j) * lanes
                count, a0, b0, y0 = (
                    min(width, J - j),
                    a_starts[item] + i * i_step,
                    b_starts[item],
                    (item * I + i) * J + j,
                )
                pack_rows(panel, min(K, depth) * width, bias, j, 0, 1, count if bias.size else 0, width)
                first, first0, first_step = panel, min(K, depth) * width, 0
                for k in range(0, max(1, K), depth):
                    terms = min(depth, K - k)
                    if transpose_b:
                        fill(panel, 0, b.dtype.type(0), terms * width if count < width else 0)
                        transpose(panel, 0, width, b, b0 + j * K + k, K, count, terms)
                    else:
                        pack_rows(panel, 0, b, b0 + k * J + j, J, terms, count, width)
                    strip(
                        y, y0, J, first, first0, first_step, rows,
                        a, a0 + k * k_step, i_step, k_step, panel, 0, width, terms, count,
                    )  # fmt: skip
                    first, first0, first_step = y, y0, J
                if relu:
                    for row in range(rows):
                        rectify(y, y0 + row * J, count)
