"""Matrix product, batched with broadcasting.

    y[..., i, j] = Σ_k A[..., i, k] B[..., k, j]        A = aᵀ if transpose_a else a (last two axes), B likewise

a and b have two axes or more; the leading ones broadcast. 2·batch·I·K·J flops. The product is OpenBLAS's, which takes
transposed operands as a flag, so nothing is copied. Its bits depend on its number of threads: here it has one. A large product
is cut into blocks of y, by its shape alone, and the blocks are shared among the threads of our own pool.
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import prod
from typing import Any

import numpy as np

from . import matmul_cuda, memory
from .compiler import parallel
from .dispatch import operation
from .errors import ShapeError
from .lazy import Module, intrinsic, jit_disabled, nb, symbols
from .threads import blas_function, single_threaded_blas
from .validate import report

Array = Any
ir = Module("llvmlite.ir")

BLOCK = 1 << 21
"""Multiply-adds that a block should have at least."""
MOST = 8
"""Blocks of one product at most. OpenBLAS packs operands anew for each: four cost a tenth of the time, eight a seventh."""


@operation
def matmul(a, b, transpose_a=False, transpose_b=False):
    """A (..., I, K) times B (..., K, J): (..., I, J)."""
    A, B = _oriented(a, transpose_a), _oriented(b, transpose_b)
    _product_shape(A, B)
    with single_threaded_blas():
        return np.matmul(A, B)


@matmul.cpu
def _(a, b, transpose_a=False, transpose_b=False):
    A, B = _oriented(a, transpose_a), _oriented(b, transpose_b)
    shape, K = _product_shape(A, B), A.shape[-1]
    out = memory.empty(shape, A.dtype, a)
    contiguous = a.flags.c_contiguous and b.flags.c_contiguous
    with single_threaded_blas():
        if out.size * K <= BLOCK or not contiguous or a.dtype != b.dtype or a.dtype.char not in "fd" or not _integer():
            return np.matmul(A, B, out=out)
        batch, I, J = shape[:-2], shape[-2], shape[-1]
        starts = _starts(a.shape[:-2], batch, I * K), _starts(b.shape[:-2], batch, K * J)
        cuts = _cuts(I, J, K)
        tasks = prod(batch) * prod(cuts)
        lines = a.reshape(a.size), b.reshape(b.size), out.reshape(out.size)
        _blocks(tasks, 1 + tasks * BLOCK // (out.size * K), *lines, *starts, (I, J, K), cuts, transpose_a, transpose_b)
    return out


@matmul.cuda
def _(a, b, transpose_a=False, transpose_b=False):
    shape = _product_shape(_oriented(a, transpose_a), _oriented(b, transpose_b))
    return matmul_cuda.matmul(a, b, transpose_a, transpose_b, shape)


@lru_cache(maxsize=256)
def _starts(axes: tuple[int, ...], batch: tuple[int, ...], size: int) -> np.ndarray:
    """Where the matrices of an operand begin that the products of the batch take."""
    return np.broadcast_to(np.arange(prod(axes)).reshape(axes) * size, batch).reshape(-1)


def _cuts(I: int, J: int, K: int) -> tuple[int, int]:
    """How many blocks a product has along I and along J: the longer side is halved as long as it pays."""
    i = j = 1
    while i * j < MOST and I * J * K // (i * j) >= 3 * BLOCK:
        if I * j > J * i:
            i *= 2
        else:
            j *= 2
    return i, j


@parallel
def _blocks(start, stop, a, b, y, a_starts, b_starts, sizes, cuts, transpose_a, transpose_b):
    (I, J, K), (i_cuts, j_cuts) = sizes, cuts
    for task in range(start, stop):
        item, i, j = task // (i_cuts * j_cuts), task // j_cuts % i_cuts, task % j_cuts
        i, i_end, j, j_end = i * I // i_cuts, (i + 1) * I // i_cuts, j * J // j_cuts, (j + 1) * J // j_cuts
        a0 = a_starts[item] + (i if transpose_a else i * K)
        b0 = b_starts[item] + (j * K if transpose_b else j)
        gemm(
            transpose_a, transpose_b, i_end - i, j_end - j, K,
            a[a0:], I if transpose_a else K, b[b0:], K if transpose_b else J, y[(item * I + i) * J + j :], J,
        )  # fmt: skip


# ---- cblas_sgemm and cblas_dgemm inside kernels


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


def _oriented(a: Array, transpose: bool) -> Array:
    return a.swapaxes(-1, -2) if transpose else a


def _product_shape(A: Array, B: Array) -> tuple[int, ...]:
    if A.ndim < 2 or B.ndim < 2 or A.shape[-1] != B.shape[-2]:
        raise ShapeError(f"matmul: expected (..., I, K) times (..., K, J), got {A.shape} times {B.shape}")
    try:
        batch = np.broadcast_shapes(A.shape[:-2], B.shape[:-2]) if A.ndim > 2 or B.ndim > 2 else ()
    except ValueError:
        raise ShapeError(f"matmul: expected batch axes that broadcast, got {A.shape} times {B.shape}") from None
    return (*batch, A.shape[-2], B.shape[-1])


def main() -> None:
    """Validate against the reference, then time the products of a layer's forward and backward."""
    random = np.random.default_rng(0)
    for dtype, tolerance in ((np.float32, 1e-3), (np.float64, 1e-11)):
        for i, k, j in ((50, 800, 500), (50, 500, 10), (128, 4096, 1000), (1024, 1024, 1024)):
            x, w, g = (random.standard_normal(shape).astype(dtype) for shape in ((i, k), (j, k), (i, j)))
            for args in ((x, w, False, True), (g, w, False, False), (g, x, True, False)):
                report(matmul, *args, flops=2 * i * j * k, tolerance=tolerance)


if __name__ == "__main__":
    main()
