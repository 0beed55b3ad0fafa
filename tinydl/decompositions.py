"""Functions of matrices by PyTorch's older names: those of `linalg`, of a tensor `input`, some in another
form.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from . import linalg
from .engine.core import Tensor
from .engine.public import public
from .ops.creation import new_zeros
from .ops.elementwise import lt, where
from .ops.shape import transpose

__all__ = ["cholesky", "det", "inverse", "logdet", "matrix_power", "qr", "slogdet", "svd"]


class SVD(NamedTuple):
    """torch.return_types.svd."""

    U: Tensor
    S: Tensor
    V: Tensor


@public
def det(input: Tensor) -> Tensor:
    """`linalg.det`: determinants of square matrices (..., n, n)."""
    return linalg.det(input)


@public
def slogdet(input: Tensor) -> linalg.SignAndLog:
    """`linalg.slogdet`: (sign, logabsdet) of the determinants of square matrices."""
    return linalg.slogdet(input)


@public
def logdet(input: Tensor) -> Tensor:
    """The logarithms of the determinants of square matrices (..., n, n): -inf of 0, NaN of one below."""
    sign, logarithm = linalg.slogdet(input)
    return where(lt(sign, 0.0), math.nan, logarithm)


@public
def inverse(input: Tensor) -> Tensor:
    """`linalg.inv`: inverses of square matrices (..., n, n)."""
    return linalg.inv(input)


@public
def matrix_power(input: Tensor, n: int) -> Tensor:
    """`linalg.matrix_power`: powers of square matrices (..., n, n)."""
    return linalg.matrix_power(input, n)


@public
def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """`linalg.cholesky`: lower triangular L with L Lᵀ = input, or Lᵀ if `upper`."""
    return linalg.cholesky(input, upper=upper)


@public
def qr(input: Tensor, some: bool = True) -> linalg.QR:
    """`linalg.qr`: (Q, R) of matrices (..., m, n), Q with min(m, n) columns, or with m if not `some`."""
    return linalg.qr(input, "reduced" if some else "complete")


@public
def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> SVD:
    """(U, S, V) with U diag(S) Vᵀ = input (..., m, n): V, where `linalg.svd` has Vᵀ, and of U and V
    min(m, n) columns if `some`, else all. Without `compute_uv` all of theirs are 0.
    """
    if not compute_uv:
        values = linalg.svdvals(input)
        sizes = [new_zeros(input, (*input.shape[:-2], n, n)) for n in input.shape[-2:]]
        return SVD(sizes[0], values, sizes[1])
    u, s, vh = linalg.svd(input, full_matrices=not some)
    return SVD(u, s, transpose(vh, -2, -1))
