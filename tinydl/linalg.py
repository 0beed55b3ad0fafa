"""Linear algebra of stacks of matrices (..., m, n), with PyTorch's names (torch.linalg), differentiable to
any order. float32 or float64.

    L = td.linalg.cholesky(K + noise * td.eye(n))
    evidence = 0.5 * (y * td.linalg.solve(K, y)).sum() + L.diagonal().log().sum()

Rules: Giles, "An extended collection of matrix derivative results", 2008; Walter & Lehmann, "Algorithmic
differentiation of linear algebra functions", 2010 (QR). Eigenvectors and singular vectors are determined up
to their signs, and only where values are apart: what is computed from them should not depend on the signs,
and between equal values their derivative is infinite or NaN, as in PyTorch.

A matrix without an answer is a LinAlgError that names it; on a GPU, where nobody looks, NaN or infinity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tinydl_kernels import linalg as kernels
from tinydl_kernels.machine.errors import GraphError, LinAlgError, ShapeError

from .devices import constant
from .engine.core import Array, Tensor, primitive
from .engine.promotion import require_floating, require_one_dtype
from .engine.public import public
from .ops.creation import zeros
from .ops.elementwise import abs as absolute
from .ops.elementwise import mul, neg, square, sub, where
from .ops.indexing import tril
from .ops.matmul import matmul
from .ops.reduce import Dim, amax, amin, reduced_dims, sum
from .ops.shape import (
    broadcast_to,
    cat,
    movedim,
    narrow,
    normalize_dim,
    reshape,
    transpose,
    unsqueeze,
)
from .ops.statistics import norm as power_norm

__all__ = [
    "LinAlgError",
    "cholesky",
    "det",
    "eigh",
    "eigvalsh",
    "inv",
    "matrix_norm",
    "matrix_power",
    "norm",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "vector_norm",
]


class SignAndLog(NamedTuple):
    """torch.return_types.linalg_slogdet."""

    sign: Tensor
    logabsdet: Tensor


class Eigen(NamedTuple):
    """torch.return_types.linalg_eigh."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class QR(NamedTuple):
    """torch.return_types.linalg_qr."""

    Q: Tensor
    R: Tensor


class SVD(NamedTuple):
    """torch.return_types.linalg_svd."""

    U: Tensor
    S: Tensor
    Vh: Tensor


# ---- primitives


@primitive(floating=True)
def _inv(a: Array) -> Array:
    return kernels.inv(a)


@primitive(floating=True)
def _solve(a: Array, b: Array) -> Array:
    return kernels.solve(a, b)


@primitive(floating=True)
def _det(a: Array) -> Array:
    return kernels.det(a)


@primitive(floating=True)
def _cofactor(a: Array) -> Array:
    return kernels.cofactor(a)


@primitive(floating=True, outputs=("sign", "logabsdet"), constant=("sign",))
def _slogdet(a: Array) -> tuple[Array, Array]:
    return kernels.slogdet(a)


@primitive(floating=True)
def _cholesky(a: Array) -> Array:
    return kernels.cholesky(a)


@primitive(floating=True, outputs=("q", "r"))
def _qr(a: Array, *, mode: str) -> tuple[Array, Array]:
    return kernels.qr(a, mode)


@primitive(floating=True, outputs=("values", "vectors"))
def _eigh(a: Array) -> tuple[Array, Array]:
    return kernels.eigh(a)


@primitive(floating=True, outputs=("u", "s", "vh"))
def _svd(a: Array) -> tuple[Array, Array, Array]:
    return kernels.svd(a, False)


@primitive(floating=True, outputs=("u", "s", "vh"))
def _full_svd(a: Array) -> tuple[Array, Array, Array]:
    return kernels.svd(a, True)


# ---- rules


def _mT(x: Tensor) -> Tensor:
    return transpose(x, -2, -1)


def _product(*factors: Tensor) -> Tensor:
    product = factors[0]
    for factor in factors[1:]:
        product = matmul(product, factor)
    return product


def _column(x: Tensor) -> Tensor:
    """Numbers of the stack as matrices of one element, which broadcast."""
    return unsqueeze(unsqueeze(x, -1), -1)


def _diagonal_is(values: Tensor | None, x: Tensor) -> Tensor:
    """x with other numbers on its diagonal: those of (..., n), or zeros."""
    eye = constant(x, np.eye(x.shape[-1], dtype=bool))
    return where(eye, x.dtype.type(0) if values is None else unsqueeze(values, -2), x)


def _symmetric(x: Tensor) -> Tensor:
    return mul(x + _mT(x), x.dtype.type(0.5))


def _half_diagonal(x: Tensor) -> Tensor:
    """The lower triangle, with half of the diagonal."""
    return mul(tril(x) + tril(x, -1), x.dtype.type(0.5))


def _solve_dab(needs: tuple[bool, ...], g: Tensor, a: Tensor, out: Tensor) -> Sequence[Tensor | None]:
    b = _solve(_mT(a), g)
    return neg(matmul(b, _mT(out))) if needs[0] else None, b


def _cholesky_da(g: Tensor, out: Tensor) -> Tensor:
    inner = _solve(_mT(out), _half_diagonal(matmul(_mT(out), g)))
    return _symmetric(_mT(_solve(_mT(out), _mT(inner))))


def _cofactor_da(g: Tensor, a: Tensor) -> Tensor:
    b = _mT(_inv(a))
    along = _column(sum(mul(g, b), (-2, -1)))
    return mul(_column(_det(a)), sub(mul(along, b), _product(b, _mT(g), b)))


def _qr_da(
    needs: tuple[bool, ...], gq: Tensor | None, gr: Tensor | None, q: Tensor, r: Tensor, *, mode: str
) -> Sequence[Tensor]:
    if q.shape[-1] > r.shape[-1]:
        raise GraphError(
            'qr: expected mode "reduced" for a gradient, got "complete" of more rows than columns'
        )
    left = zeros(1, dtype=r.dtype, device=r.device) if gr is None else matmul(r, _mT(gr))
    if gq is not None:
        left = sub(left, matmul(_mT(gq), q))
    lower = broadcast_to(left, r.shape)
    symmetric = tril(lower) + _mT(tril(lower, -1))
    inner = matmul(q, symmetric)
    if gq is not None:
        inner = gq + inner
    return [_mT(_solve(r, _mT(inner)))]


def _eigh_da(
    needs: tuple[bool, ...], gvalues: Tensor | None, gvectors: Tensor | None, values: Tensor, vectors: Tensor
) -> Sequence[Tensor]:
    if gvectors is None:
        assert gvalues is not None
        return [matmul(mul(vectors, unsqueeze(gvalues, -2)), _mT(vectors))]
    gaps = _diagonal_of_ones(sub(unsqueeze(values, -2), unsqueeze(values, -1)))
    inner = _diagonal_is(gvalues, matmul(_mT(vectors), gvectors) / gaps)
    return [_symmetric(_product(vectors, inner, _mT(vectors)))]


def _diagonal_of_ones(x: Tensor) -> Tensor:
    return where(constant(x, np.eye(x.shape[-1], dtype=bool)), x.dtype.type(1), x)


def _svd_da(
    needs: tuple[bool, ...],
    gu: Tensor | None,
    gs: Tensor | None,
    gvh: Tensor | None,
    u: Tensor,
    s: Tensor,
    vh: Tensor,
) -> Sequence[Tensor]:
    size = s.shape[-1]
    row = unsqueeze(s, -2)
    inner = None
    if gu is not None or gvh is not None:
        squares = square(s)
        gaps = _diagonal_of_ones(sub(unsqueeze(squares, -2), unsqueeze(squares, -1)))
        if gu is not None:
            inner = mul(_skew(matmul(_mT(u), gu)) / gaps, row)
        if gvh is not None:
            right = mul(unsqueeze(s, -1), _skew(matmul(vh, _mT(gvh))) / gaps)
            inner = right if inner is None else inner + right
        assert inner is not None
        inner = _diagonal_is(gs, inner)
        total = _product(u, inner, vh)
    else:
        assert gs is not None
        total = matmul(mul(u, unsqueeze(gs, -2)), vh)
    if gu is not None and u.shape[-2] > size:
        outside = gu / row
        total = total + matmul(sub(outside, _product(u, _mT(u), outside)), vh)
    if gvh is not None and vh.shape[-1] > size:
        outside = gvh / unsqueeze(s, -1)
        total = total + matmul(u, sub(outside, _product(outside, _mT(vh), vh)))
    return [total]


def _full_svd_da(
    needs: tuple[bool, ...], gu: Tensor | None, gs: Tensor | None, gvh: Tensor | None, a: Tensor
) -> Sequence[Tensor]:
    if gu is not None or gvh is not None or gs is None:
        raise GraphError(
            "svd: expected full_matrices=False for a gradient of U or Vh, of which further columns and "
            "rows are not determined"
        )
    u, _, vh = _svd(a)
    return [matmul(mul(u, unsqueeze(gs, -2)), vh)]


def _skew(x: Tensor) -> Tensor:
    return sub(x, _mT(x))


_inv.rule(a=lambda g, out: neg(_product(_mT(out), g, _mT(out))))
_solve.joint(_solve_dab)
_det.rule(a=lambda g, a: mul(_column(g), _cofactor(a)))
_cofactor.rule(a=_cofactor_da)
_slogdet.rule(a=lambda g, a: mul(_column(g), _mT(_inv(a))))
_cholesky.rule(a=_cholesky_da)
_qr.joint(_qr_da)
_eigh.joint(_eigh_da)
_svd.joint(_svd_da)
_full_svd.joint(_full_svd_da)


# ---- functions


def _matrices(who: str, x: Tensor, square: bool = True) -> Tensor:
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        wanted = "square matrices (..., n, n)" if square else "matrices (..., m, n)"
        raise ShapeError(f"{who}: expected {wanted}, got {x.shape}")
    return x


def _of_triangle(who: str, x: Tensor, UPLO: str) -> Tensor:
    if UPLO.upper() not in ("L", "U"):
        raise ShapeError(f"{who}: expected UPLO 'L' or 'U', got {UPLO!r}")
    _matrices(who, x)
    return x if UPLO.upper() == "L" else _mT(x)


@public
def det(A: Tensor) -> Tensor:
    """Determinants (...) of square matrices (..., n, n). Singular ones have a gradient, their cofactors
    (PyTorch's is 0), but no second derivative (LinAlgError).
    """
    return _det(_matrices("det", A))


@public
def slogdet(A: Tensor) -> SignAndLog:
    """(sign, logabsdet), each (...), of the determinants of square matrices (..., n, n); 0 and -inf of a
    singular one, which has no gradient (LinAlgError).
    """
    return SignAndLog(*_slogdet(_matrices("slogdet", A)))


@public
def inv(A: Tensor) -> Tensor:
    """Inverses of square matrices (..., n, n). LinAlgError for a singular one."""
    return _inv(_matrices("inv", A))


@public
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with A X = B, or X A = B where not `left`, for A (..., n, n).

    B is (..., n, k), or (..., k, n) where not `left`; or vectors: (n,), or A's shape without its last axis.
    Leading axes broadcast. LinAlgError for a singular A.
    """
    _matrices("solve", A)
    require_one_dtype("solve", A.dtype, B.dtype)
    vectors = B.ndim == 1 or (B.ndim == A.ndim - 1 and B.shape == A.shape[:-1])
    if vectors and not left:
        raise ShapeError(f"solve: expected matrices for B with left=False, got {B.shape}")
    b = unsqueeze(B, -1) if vectors else B if left else _mT(B)
    a = A if left else _mT(A)
    if b.ndim < 2 or b.shape[-2] != a.shape[-1]:
        wanted = f"B of {a.shape[-1]} {'rows' if left else 'columns'}"
        raise ShapeError(f"solve: expected {wanted}, got {A.shape} and {B.shape}")
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ShapeError(
            f"solve: expected leading sizes that broadcast, got {A.shape} and {B.shape}"
        ) from None
    x = _solve(broadcast_to(a, *batch, *a.shape[-2:]), broadcast_to(b, *batch, *b.shape[-2:]))
    return reshape(x, x.shape[:-1]) if vectors else x if left else _mT(x)


@public
def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """Lower triangular L with L Lᵀ = A for symmetric positive-definite matrices (..., n, n); Lᵀ if `upper`.
    Only one triangle is read. LinAlgError for a matrix that is not positive-definite.
    """
    _matrices("cholesky", A)
    return _mT(_cholesky(_mT(A))) if upper else _cholesky(A)


@public
def qr(A: Tensor, mode: str = "reduced") -> QR:
    """(Q, R) of matrices (..., m, n): Q has orthonormal columns, R is upper triangular, Q R = A.

    Args:
        mode: "reduced": Q (..., m, k) and R (..., k, n) with k = min(m, n); "complete": k = m, without a
            gradient where m > n; "r": Q is empty.
    """
    if mode not in ("reduced", "complete", "r"):
        raise ShapeError(f"qr: expected mode 'reduced', 'complete' or 'r', got {mode!r}")
    rows, columns = _matrices("qr", A, square=False).shape[-2:]
    if rows >= columns:
        q, r = _qr(A, mode="complete" if mode == "complete" else "reduced")
    else:  # of the first columns; the others are turned along
        q, r = _qr(narrow(A, -1, 0, rows), mode="reduced")
        r = cat([r, matmul(_mT(q), narrow(A, -1, rows, columns - rows))], -1)
    return QR(zeros(0, dtype=A.dtype, device=A.device) if mode == "r" else q, r)


@public
def eigh(A: Tensor, UPLO: str = "L") -> Eigen:
    """(eigenvalues, eigenvectors) of symmetric matrices (..., n, n): (..., n), ascending, and the columns of
    (..., n, n). Only the lower or upper triangle is read; the gradient is symmetric.
    """
    return Eigen(*_eigh(_of_triangle("eigh", A, UPLO)))


@public
def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues (..., n) of symmetric matrices, ascending."""
    return _eigh(_of_triangle("eigvalsh", A, UPLO))[0]


@public
def svd(A: Tensor, full_matrices: bool = True) -> SVD:
    """(U, S, Vh) with U diag(S) Vh = A for (..., m, n); singular values (..., min(m, n)), descending.

    U is (..., m, m) and Vh (..., n, n) with `full_matrices`, else (..., m, k) and (..., k, n), k = min(m, n);
    of the full ones only S has a gradient, unless m = n.
    """
    rows, columns = _matrices("svd", A, square=False).shape[-2:]
    return SVD(*(_full_svd(A) if full_matrices and rows != columns else _svd(A)))


@public
def svdvals(A: Tensor) -> Tensor:
    """The singular values (..., min(m, n)) of matrices (..., m, n), descending."""
    return _svd(_matrices("svdvals", A, square=False))[1]


@public
def matrix_power(A: Tensor, n: int) -> Tensor:
    """The n-th powers of square matrices, by repeated squares; of their inverses for n < 0."""
    _matrices("matrix_power", A)
    require_floating("matrix_power", A)
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"matrix_power: expected n an integer, got {n!r}")
    if n == 0:
        return broadcast_to(constant(A, np.eye(A.shape[-1], dtype=A.dtype)), A.shape)
    square_, power, n = (A if n > 0 else _inv(A)), None, abs(n)
    while n:
        if n % 2:
            power = square_ if power is None else matmul(power, square_)
        n //= 2
        square_ = matmul(square_, square_) if n else square_
    assert power is not None
    return power


@public
def vector_norm(x: Tensor, ord: float = 2, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """(Σ |x|ᵒʳᵈ)^(1/ord) over `dim`, over all elements without; inf is the largest |x|, -inf the smallest, 0
    counts what is not 0. ShapeError: of no numbers there is no norm of negative or infinite order.
    """
    if isinstance(ord, str) or math.isnan(ord):
        raise ValueError(f"vector_norm: expected ord a number, got {ord!r}")
    dims = reduced_dims("vector_norm", x, dim)
    if (ord < 0 or math.isinf(ord)) and not math.prod(x.shape[d] for d in dims):
        raise ShapeError(f"vector_norm: expected numbers for ord={ord}, got {x.shape}")
    return power_norm(x, float(ord), dim, keepdim)


@public
def matrix_norm(
    A: Tensor, ord: float | str = "fro", dim: tuple[int, int] = (-2, -1), keepdim: bool = False
) -> Tensor:
    """Norms of the matrices in two dims: "fro", the root of the sum of squares; "nuc", the sum of singular
    values; 2 and -2, the largest and the smallest of them; 1 and -1, inf and -inf, the largest and the
    smallest sum of a column's and of a row's absolute values. Of matrices without elements it is 0, but for
    the smallest of nothing, an error.
    """
    if ord not in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf):
        raise ValueError(f"matrix_norm: expected ord 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, got {ord!r}")
    if isinstance(dim, int) or len(dim) != 2 or A.ndim < 2:
        raise ShapeError(f"matrix_norm: expected two dims of matrices, got {dim} of {A.shape}")
    row, column = (normalize_dim("matrix_norm", d, A.ndim) for d in dim)
    if row == column:
        raise ShapeError(f"matrix_norm: expected two dims, got {dim}")
    if ord == "fro":
        return power_norm(A, 2.0, (row, column), keepdim)
    empty = not (A.shape[row] and A.shape[column])  # then the largest is 0
    pick = sum if isinstance(ord, str) or (empty and ord > 0) else amax if ord > 0 else amin
    if not isinstance(ord, str) and abs(ord) != 2:
        along, across = (row, column) if abs(ord) == 1 else (column, row)
        sums = sum(absolute(A), along, keepdim=True)
        found = pick(sums, across, keepdim=True)
    else:
        values = _svd(movedim(A, (row, column), (-2, -1)))[1]
        found = pick(values, -1)
        for d in sorted((row, column)):
            found = unsqueeze(found, d)
    return found if keepdim else reshape(found, [n for d, n in enumerate(A.shape) if d not in (row, column)])


@public
def norm(input: Tensor, ord: float | str | None = None, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """`vector_norm` of one dim, `matrix_norm` of two; without `dim` and `ord` the root of the sum of all
    squares, without `dim` that of a vector or a matrix.
    """
    if dim is None and ord is None:
        return vector_norm(input, 2.0, None, keepdim)
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    if dim is None and input.ndim not in (1, 2):
        raise ShapeError(f"norm: expected a vector or a matrix without dim, got {input.shape}")
    if dim is None and input.ndim == 2:
        dims = (0, 1)
    if len(dims) == 2:
        row, column = dims
        return matrix_norm(input, "fro" if ord is None else ord, (row, column), keepdim)
    if isinstance(ord, str):
        raise ValueError(f"norm: expected ord a number for vectors, got {ord!r}")
    return vector_norm(input, 2.0 if ord is None else ord, dim, keepdim)
