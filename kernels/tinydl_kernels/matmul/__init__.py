"""Matrix product, batched with broadcasting, and the one of a layer.

    y[..., i, j] = Σ_k A[..., i, k] B[..., k, j]      A = aᵀ if transpose_a else a (last two axes), B likewise
    linear[i, j] = Σ_k x[i, k] w[j, k] + b[j]

a and b have two axes or more; the leading ones broadcast. 2·batch·I·K·J flops. How a product is computed:
product.py.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .. import elementwise
from ..cpu.blas import single_threaded_blas
from ..cpu.product import oriented, product
from ..machine import memory
from ..machine.dispatch import operation
from ..machine.errors import ShapeError
from ..machine.validate import report
from . import launches

Array = Any
Sizes = tuple[int, ...]


@operation
def matmul(a, b, transpose_a=False, transpose_b=False):
    """A (..., I, K) times B (..., K, J): (..., I, J)."""
    _product_shape(a.shape, b.shape, transpose_a, transpose_b)
    with single_threaded_blas():
        return np.matmul(oriented(a, transpose_a), oriented(b, transpose_b))


@matmul.loops
def _(a, b, transpose_a=False, transpose_b=False):
    shape = _product_shape(a.shape, b.shape, transpose_a, transpose_b)
    y = memory.empty(shape, a.dtype, a)
    product(a, b, y, transpose_a, transpose_b)
    return y


@matmul.cuda
def _(a, b, transpose_a=False, transpose_b=False):
    shape = _product_shape(a.shape, b.shape, transpose_a, transpose_b)
    return launches.matmul(a, b, transpose_a, transpose_b, shape)


@operation
def linear(x, w, b, relu=False):
    """x (I, K) times wᵀ, w (J, K), plus b (J,), then relu if asked for (not on CUDA): (I, J)."""
    with single_threaded_blas():
        y = x @ w.T + b
    return np.maximum(y, 0) if relu else y


@linear.loops
def _(x, w, b, relu=False):
    y = memory.empty((x.shape[0], w.shape[0]), x.dtype, x)
    product(x, w, y, False, True, b, relu)
    return y


@linear.cuda
def _(x, w, b):
    return elementwise.add(launches.matmul(x, w, False, True, (x.shape[0], w.shape[0])), b)


@lru_cache(maxsize=1024)
def _product_shape(a: Sizes, b: Sizes, transpose_a: bool, transpose_b: bool) -> Sizes:
    """The shape of the product of arrays of these shapes. ShapeError if there is none."""
    A = (*a[:-2], *(a[-2:][::-1] if transpose_a else a[-2:]))
    B = (*b[:-2], *(b[-2:][::-1] if transpose_b else b[-2:]))
    if len(A) < 2 or len(B) < 2 or A[-1] != B[-2]:
        raise ShapeError(f"matmul: expected (..., I, K) times (..., K, J), got {A} times {B}")
    try:
        return (*np.broadcast_shapes(A[:-2], B[:-2]), A[-2], B[-1])
    except ValueError:
        raise ShapeError(f"matmul: expected batch axes that broadcast, got {A} times {B}") from None


def main() -> None:
    """Validate against the reference, then time the products of a layer's forward and backward."""
    random = np.random.default_rng(0)
    for dtype, tolerance in ((np.float32, 1e-3), (np.float64, 1e-11)):
        for i, k, j in ((50, 800, 500), (50, 500, 10), (128, 4096, 1000), (1024, 1024, 1024)):
            x, w, g = (random.standard_normal(shape).astype(dtype) for shape in ((i, k), (j, k), (i, j)))
            for args in ((x, w, False, True), (g, w, False, False), (g, x, True, False)):
                report(matmul, *args, flops=2 * i * j * k, tolerance=tolerance)
