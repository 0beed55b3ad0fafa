"""Products of matrices on the processor, batched.

    y[..., i, j] = Σ_k A[..., i, k] B[..., k, j] + bias[j]        A = aᵀ if transpose_a else a (last two axes), B likewise

A product is cut by its shape alone, along i and along j, into tasks. A task takes its columns panel by panel:

               panel of B: K x width, packed                 lanes run along j; `panel` (tiles.py) multiplies a tile of
                 +------+                                    rows of A, which lie as they are, with a panel that stays in
                 |//////|                                    the caches while the rows go by
          K      +------+     y: HEIGHT rows at a time,
        +-----+  +------+     copied out when they are full
        | A   |  | sums |
        +-----+  +------+

Products too small to share (SMALL) are OpenBLAS's, and those too large to stay in the caches (LARGE), for which it packs A as
well. Its bits depend on its number of threads: here it has one, and blocks of y are shared among the threads of our own pool.
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import prod
from typing import Any

import numpy as np

from . import memory
from .compiler import kernel, parallel, share
from .lazy import Module, intrinsic, jit_disabled, nb, symbols
from .memory import line
from .packing import panels_of
from .simd import ROWS
from .threads import blas_function, single_threaded_blas
from .tiles import fill, pad, panel, rectify, transpose

Array = Any
ir = Module("llvmlite.ir")

HEIGHT = 10 * ROWS
"""Rows of y whose sums are kept while B is multiplied with them."""
TASKS = 8
"""Tasks to aim at. A constant: the cuts must not depend on the machine."""
SHARE = 1 << 19
"""Bytes of A that a task should have at most: they are read again for each panel."""
GRAIN = 1 << 16
"""Multiply-adds below which it is not worth while to wake another thread."""
SMALL = 1 << 18
"""Multiply-adds up to which OpenBLAS takes a product: it is called in less time."""
LARGE = 1 << 28
"""Multiply-adds from which on OpenBLAS takes a product."""
BLOCKS = 8
"""Blocks of such a product at most. OpenBLAS packs operands anew for each: four cost a tenth of the time, eight a seventh."""


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

    C-contiguous arrays of one dtype, float32 or float64. y has the batch axes to which those of a and b broadcast.
    """
    *batch, I, J = y.shape
    K, count = a.shape[-2 if transpose_a else -1], prod(batch)
    work = I * J * K
    if work * count <= SMALL:
        with single_threaded_blas():
            np.matmul(a.swapaxes(-1, -2) if transpose_a else a, b.swapaxes(-1, -2) if transpose_b else b, out=y)
    else:
        starts = _starts(a.shape[:-2], tuple(batch), I * K), _starts(b.shape[:-2], tuple(batch), K * J)
        lines, sizes, transposed = (line(a), line(b), line(y)), (I, J, K), (transpose_a, transpose_b)
        if work < LARGE or not _integer():
            _in_tiles(lines, starts, sizes, transposed, bias, relu)
            return
        cuts = _blocks_of(I, J)
        with single_threaded_blas():
            _blas_blocks(count * prod(cuts), 1, *lines, *starts, sizes, cuts, *transposed)
    if bias is not None:
        np.add(y, bias, out=y)
    if relu:
        _rectify(y.size, GRAIN, line(y))


def _in_tiles(lines: Any, starts: Any, sizes: Any, transposed: Any, bias: Array | None, relu: bool) -> None:
    """Scratch and cuts for `_tiles`; `lines`: a, b and y."""
    a, count, (I, J, K) = lines[0], starts[0].size, sizes
    panels = panels_of(J, a.itemsize)
    i_cuts = min(-(-I // HEIGHT), -(-I * K * a.itemsize // SHARE))
    cuts = i_cuts, max(1, min(panels.panels, TASKS // i_cuts))
    tasks = count * prod(cuts)
    parts = min(tasks, max(TASKS, prod(cuts)))  # with scratch of their own
    packed = memory.scratch((parts, (K + 1) * panels.width), a.dtype, a)
    sums = memory.scratch((parts, min(HEIGHT, -(-I // ROWS) * ROWS) * panels.width), a.dtype, a)
    places = memory.scratch((parts, min(HEIGHT, I) + ROWS + K), np.int64, a)
    grain = 1 + parts * GRAIN // (I * J * K * count)
    bias = lines[2][:0] if bias is None else bias
    _tiles(parts, grain, *lines, bias, packed, sums, places, *starts, sizes, cuts, panels, *transposed, relu)


@lru_cache(maxsize=256)
def _starts(axes: tuple[int, ...], batch: tuple[int, ...], size: int) -> np.ndarray:
    """Where the matrices of an operand begin that the products of the batch take."""
    return np.broadcast_to(np.arange(prod(axes)).reshape(axes) * size, batch).reshape(-1)


@parallel
def _rectify(start, stop, y):
    rectify(y, start, stop - start)


# ---- register tiles


@kernel
def _pack(packed, b, start, j, count, transposed, J, K, width):
    """Columns j ... of B to a panel (K, width), zeros beyond `count`."""
    if transposed:
        if count < width:
            fill(packed, 0, b.dtype.type(0), K * width)
        transpose(packed, 0, width, b, start + j * K, K, count, K)
    else:
        for k in range(K):
            pad(packed, k * width, width, b, start + k * J + j, 0, count)


@parallel
def _tiles(
    start, stop, a, b, y, bias, packed, sums, places, a_starts, b_starts, sizes, cuts, panels, transpose_a, transpose_b, relu
):
    (I, J, K), (i_cuts, j_cuts), width = sizes, cuts, panels.width
    blocks, tasks = -(-I // HEIGHT), a_starts.size * i_cuts * j_cuts
    i_step, k_step = (1, I) if transpose_a else (K, 1)
    for part in range(start, stop):
        panel_of_b, rows_of_y = packed[part], sums[part]
        terms, rows_of_a = places[part, :K], places[part, K:]
        for k in range(K):
            terms[k] = k * k_step
        begin, end = share(part, packed.shape[0], tasks)
        for task in range(begin, end):
            item = task // (i_cuts * j_cuts)
            block, last_block = share(task // j_cuts % i_cuts, i_cuts, blocks)
            first, last = share(task % j_cuts, j_cuts, panels.panels)
            for number in range(first, last):
                j = number * width
                count = min(width, J - j)
                _pack(panel_of_b, b, b_starts[item], j, count, transpose_b, J, K, width)
                if bias.size:
                    pad(panel_of_b, K * width, width, bias, j, 0, count)
                else:
                    fill(panel_of_b, K * width, b.dtype.type(0), width)
                for i in range(block * HEIGHT, min(I, last_block * HEIGHT), HEIGHT):
                    rows = min(HEIGHT, I - i)
                    for row in range(rows_of_a.size):
                        rows_of_a[row] = min(row, rows - 1) * i_step  # tiles read a row too many, but none that is not there
                    panel(
                        rows_of_y, 0, width, panel_of_b, K * width, 0, rows,
                        a, a_starts[item] + i * i_step, rows_of_a, terms, panel_of_b, 0, width, -(-count // panels.lanes),
                    )  # fmt: skip
                    if relu:
                        rectify(rows_of_y, 0, rows * width)
                    for row in range(rows):
                        pad(y, (item * I + i + row) * J + j, count, rows_of_y, row * width, 0, count)


# ---- cblas_sgemm and cblas_dgemm inside kernels


def _blocks_of(I: int, J: int) -> tuple[int, int]:
    """How many blocks a product has along I and along J: the longer side is halved."""
    i = j = 1
    while i * j < BLOCKS:
        if I * j > J * i:
            i *= 2
        else:
            j *= 2
    return i, j


@parallel
def _blas_blocks(start, stop, a, b, y, a_starts, b_starts, sizes, cuts, transpose_a, transpose_b):
    (I, J, K), (i_cuts, j_cuts) = sizes, cuts
    for task in range(start, stop):
        item, i, j = task // (i_cuts * j_cuts), task // j_cuts % i_cuts, task % j_cuts
        (i, i_end), (j, j_end) = share(i, i_cuts, I), share(j, j_cuts, J)
        a0 = a_starts[item] + (i if transpose_a else i * K)
        b0 = b_starts[item] + (j * K if transpose_b else j)
        gemm(
            transpose_a, transpose_b, i_end - i, j_end - j, K,
            a[a0:], I if transpose_a else K, b[b0:], K if transpose_b else J, y[(item * I + i) * J + j :], J,
        )  # fmt: skip


@cache
def _integer() -> int:
    """The size in bytes of the integers that OpenBLAS takes; 0 if its functions are not to be had."""
    single, double = blas_function("cblas_sgemm"), blas_function("cblas_dgemm")
    if jit_disabled() or single is None or double is None:
        return 0
    symbols["tinydl_sgemm"], symbols["tinydl_dgemm"] = single.address, double.address
    return single.integer


@intrinsic
def gemm(typing, transpose_a, transpose_b, I, J, K, a, a_step, b, b_step, y, y_step):
    """y = A B for row-major matrices whose rows are so many numbers apart; A = aᵀ if transpose_a, B likewise."""

    def code(context, builder, signature, args):
        char, real = ("s", ir.FloatType()) if a.dtype == nb.float32 else ("d", ir.DoubleType())
        narrow = ir.IntType(32)

        def flag(value):
            return builder.select(value, ir.Constant(narrow, 112), ir.Constant(narrow, 111))

        def size(value):
            return value if _integer() == 8 else builder.trunc(value, narrow)

        def pointer(kind, value):
            return context.make_array(kind)(context, builder, value).data

        given = [
            *(ir.Constant(narrow, 101), flag(args[0]), flag(args[1]), *map(size, args[2:5]), ir.Constant(real, 1.0)),
            *(pointer(a, args[5]), size(args[6]), pointer(b, args[7]), size(args[8]), ir.Constant(real, 0.0)),
            *(pointer(y, args[9]), size(args[10])),
        ]
        name, module = f"tinydl_{char}gemm", builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(ir.VoidType(), [value.type for value in given]), name)
        builder.call(function, given)
        return context.get_dummy_value()

    sizes = (nb.intp, nb.intp, nb.intp)
    return nb.void(nb.boolean, nb.boolean, *sizes, a, nb.intp, b, nb.intp, y, nb.intp), code
