"""Matrix product, batched with broadcasting, and the one of a layer.

    y[..., i, j] = Σ_k A[..., i, k] B[..., k, j]        A = aᵀ if transpose_a else a (last two axes), B likewise
    linear[i, j] = Σ_k x[i, k] w[j, k] + b[j]

a and b have two axes or more; the leading ones broadcast. 2·batch·I·K·J flops. How a product is computed: product.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import elementwise, matmul_cuda, memory
from .dispatch import operation
from .errors import ShapeError
from .product import product
from .threads import single_threaded_blas
from .validate import report

Array = Any


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
    y = memory.empty(_product_shape(A, B), A.dtype, a)
    contiguous = a.flags.c_contiguous and b.flags.c_contiguous
    if contiguous and a.dtype == b.dtype and a.dtype.char in "fd":
        product(a, b, y, transpose_a, transpose_b)
        return y
    with single_threaded_blas():
        return np.matmul(A, B, out=y)


@matmul.cuda
def _(a, b, transpose_a=False, transpose_b=False):
    shape = _product_shape(_oriented(a, transpose_a), _oriented(b, transpose_b))
    return matmul_cuda.matmul(a, b, transpose_a, transpose_b, shape)


@operation
def linear(x, w, b, relu=False):
    """x (I, K) times wᵀ, w (J, K), plus b (J,), then relu if asked for (not on CUDA): (I, J)."""
    with single_threaded_blas():
        y = x @ w.T + b
    return np.maximum(y, 0) if relu else y


@linear.cpu
def _(x, w, b, relu=False):
    y = memory.empty((x.shape[0], w.shape[0]), x.dtype, x)
    product(x, w, y, False, True, b, relu)
    return y


@linear.cuda
def _(x, w, b):
    return elementwise.add(matmul_cuda.matmul(x, w, False, True, (x.shape[0], w.shape[0])), b)


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
