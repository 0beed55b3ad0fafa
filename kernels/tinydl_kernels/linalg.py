"""Inverses, equations and decompositions of stacks of matrices (..., n, n), by LAPACK: NumPy's on the
processor, on one thread so that the bits are those of any machine load; on a GPU CuPy's, that is cuSOLVER.

Cost: a few n³ flops for each matrix. NumPy says where a matrix has no answer; CuPy leaves NaN or infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .cpu.blas import single_threaded_blas
from .machine.dispatch import operation
from .machine.errors import LinAlgError
from .machine.memory import array_module

Array = Any


def _stacked(name: str, why: str, function: Callable[..., Any], a: Array, *more: Array) -> Any:
    """function(a, *more); where NumPy refuses, an error that names the first matrix at fault."""
    try:
        with single_threaded_blas(), np.errstate(all="ignore"):
            return function(a, *more)
    except np.linalg.LinAlgError as error:
        flat = a.reshape(-1, *a.shape[-2:])
        place = next((i for i, one in enumerate(flat) if _fails(function, one, more)), 0)
        which = (
            f"matrix {tuple(map(int, np.unravel_index(place, a.shape[:-2])))}" if a.ndim > 2 else "a matrix"
        )
        raise LinAlgError(f"{name}: expected {why}, got {which} that is not") from error


def _finite(name: str, a: Array) -> Array:
    """LAPACK has any answer to NaN."""
    if isinstance(a, np.ndarray) and not np.isfinite(a).all():
        raise LinAlgError(f"{name}: expected finite numbers, got NaN or infinity")
    return a


def _fails(function: Callable[..., Any], one: Array, more: tuple[Array, ...]) -> bool:
    try:
        function(one, *[np.zeros((one.shape[-1], 1), one.dtype)] * len(more))
    except np.linalg.LinAlgError:
        return True
    return False


@operation(portable=True)
def det(a):
    """Determinants (...)."""
    return _stacked("det", "matrices", array_module(a).linalg.det, a)


@operation(portable=True)
def cofactor(a):
    """Cofactors (..., n, n): the derivative of the determinant, det(A) A⁻ᵀ, also where A is singular.

    With A = U diag(s) Vᵀ they are det(U) det(V) U diag(Π_{j≠i} s_j) Vᵀ.
    """
    xp = array_module(a)
    u, s, vh = _stacked("det", "finite numbers", lambda x: xp.linalg.svd(x, full_matrices=False), a)
    ones = xp.ones_like(s[..., :1])
    before = xp.cumprod(xp.concatenate([ones, s], -1)[..., :-1], -1)
    after = xp.cumprod(xp.concatenate([ones, s[..., ::-1]], -1)[..., :-1], -1)[..., ::-1]
    sign = xp.linalg.det(u) * xp.linalg.det(vh)
    return (u * (before * after * sign[..., None])[..., None, :]) @ vh


@operation(portable=True)
def slogdet(a):
    """Signs (...) and logarithms (...) of the absolute values of determinants."""
    sign, logarithm = _stacked("slogdet", "matrices", array_module(a).linalg.slogdet, a)
    return sign, logarithm


@operation(portable=True)
def inv(a):
    """Inverses (..., n, n)."""
    return _stacked("inv", "invertible matrices", array_module(a).linalg.inv, a)


@operation(portable=True)
def solve(a, b):
    """X (..., n, k) with A X = B; A and B have the same leading axes."""
    return _stacked("solve", "invertible matrices", array_module(a).linalg.solve, a, b)


@operation(portable=True)
def cholesky(a):
    """Lower triangular L with positive diagonal, L Lᵀ = A, of which the lower triangle is read."""
    return _stacked("cholesky", "positive-definite matrices", array_module(a).linalg.cholesky, a)


@operation(portable=True)
def qr(a, mode):
    """Q (..., m, k) with orthonormal columns and R (..., k, n), upper triangular, Q R = A; k = min(m, n), in
    mode "complete" m.
    """
    q, r = _stacked("qr", "finite numbers", lambda x: array_module(a).linalg.qr(x, mode), a)
    return q, r


@operation(portable=True)
def eigh(a):
    """Eigenvalues (..., n), ascending, and orthonormal eigenvectors, the columns of (..., n, n), of symmetric
    matrices, of which the lower triangle is read.
    """
    values, vectors = _stacked(
        "eigh", "finite numbers", lambda x: array_module(a).linalg.eigh(x, "L"), _finite("eigh", a)
    )
    return values, vectors


@operation(portable=True)
def svd(a, full):
    """U (..., m, k), singular values (..., min(m, n)), descending, and Vᵀ (..., k, n). `full`: all columns of
    U and rows of Vᵀ, else k = min(m, n).
    """
    found = _stacked(
        "svd",
        "finite numbers",
        lambda x: array_module(a).linalg.svd(x, full_matrices=full),
        _finite("svd", a),
    )
    return tuple(found)
