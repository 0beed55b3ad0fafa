"""Variance and norms over dims.

Variances are taken about the mean in two steps: what rounding left of the mean is taken off too, so that a
large mean costs no digits. Deviations and norms are of values scaled by the largest (for p < 0 the smallest):
no power overflows or vanishes where the result does not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels import elementwise as kernels
from tinydl_kernels.machine import memory

from ..devices import constant
from ..engine.core import Array, Tensor, primitive
from ..engine.promotion import require_floating
from ..engine.public import public
from .elementwise import abs, div, eq, isfinite, logical_and, mul, ne, pow, sign, square, sub, where
from .reduce import Dim, amax, amin, mean, reduced_dims, sum
from .shape import reshape

__all__ = [
    "norm",
    "std",
    "std_mean",
    "var",
    "var_mean",
]


@primitive(floating=True)
def _root(x: Array, *, degree: float) -> Array:
    """x to the power of 1 / degree, for x >= 0. At 0 and at infinity the derivatives are 0."""
    return kernels.sqrt(x) if degree == 2 else kernels.pow(x, memory.scalar(1 / degree, x.dtype, x))


def _root_dx(g: Tensor, x: Tensor, out: Tensor, *, degree: float) -> Tensor:
    if degree == 2:
        return div(g, mul(where(eq(out, 0.0), math.inf, out), 2.0))
    slope = div(out, mul(where(eq(x, 0.0), 1.0, x), degree))
    return mul(g, where(eq(x, math.inf), 0.0, slope) if degree > 0 else slope)


_root.rule(x=_root_dx)


@public
def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The variance over `dim`: Σ (input - mean)² / (n - correction), where
    correction is 1, or 0 if not unbiased.
    """
    return _var("var", input, dim, unbiased, keepdim, correction)


@public
def std(
    input: Tensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The square root of `var`; its derivatives are 0 where it is 0."""
    return _std("std", input, dim, unbiased, keepdim, correction)


@public
def std_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(`std`, `mean`) over `dim`."""
    return _std("std_mean", input, dim, unbiased, keepdim, correction), _mean(input, dim, keepdim)


@public
def var_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(`var`, `mean`) over `dim`."""
    return _var("var_mean", input, dim, unbiased, keepdim, correction), _mean(input, dim, keepdim)


def _var(who: str, x: Tensor, dim: Any, unbiased: bool, keepdim: bool, correction: float | None) -> Tensor:
    dims, free, centred = _centred(who, x, dim, unbiased, correction)
    return div(sum(square(centred), dims, keepdim), max(free, 0.0))


def _std(who: str, x: Tensor, dim: Any, unbiased: bool, keepdim: bool, correction: float | None) -> Tensor:
    dims, free, centred = _centred(who, x, dim, unbiased, correction)
    return div(norm(centred, 2.0, dims, keepdim), math.sqrt(free) if free > 0 else 0.0)


def _mean(x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """Over all dims where `unbiased` was given in the place of `dim`."""
    return mean(x, None if isinstance(dim, bool) else dim, keepdim)


def _centred(
    who: str, x: Tensor, dim: Any, unbiased: bool, correction: float | None
) -> tuple[tuple[int, ...], float, Tensor]:
    """The dims, the degrees of freedom, and x less its mean."""
    if isinstance(dim, bool):  # var(x, unbiased)
        dim, unbiased = None, dim
    dims = reduced_dims(who, x, dim)
    free = math.prod(x.shape[d] for d in dims) - (float(unbiased) if correction is None else correction)
    near = sub(x, mean(x.detach(), dims, keepdim=True))  # about a constant: the derivatives are the same
    return dims, free, sub(near, mean(near, dims, keepdim=True))


@public
def norm(input: Tensor, p: float | str = "fro", dim: Dim = None, keepdim: bool = False) -> Tensor:
    """(Σ |x|ᵖ)^(1/p) over `dim`; "fro" is 2, inf the largest |x|, -inf the smallest, 0 counts what is not 0.

    At 0 the derivatives are 0, as PyTorch has them. Powers and sums overflow only where the result does.
    """
    if p != "fro" and (isinstance(p, str) or math.isnan(p)):
        raise ValueError(f"norm: expected p a number or 'fro', got {p!r}")
    require_floating("norm", input)
    dim = reduced_dims("norm", input, dim)
    p = 2.0 if p == "fro" else float(p)
    if math.isinf(p):
        return (amax if p > 0 else amin)(abs(input), dim, keepdim)
    if p == 0:
        return sum(abs(sign(where(ne(input, input), 1.0, input))), dim, keepdim)  # NaN is not 0
    if p == 1:
        return sum(abs(input), dim, keepdim)
    scale = scale_of(input, p, dim)
    input = div(input, scale)
    if p == 2:
        powers = square(input)
    elif p > 0 and p % 2 == 0:
        powers = pow(input, p)
    else:
        there = ne(input, 0.0)  # |x|ᵖ has no derivative at 0: there the power of 1 is taken and not used
        powers = where(there, pow(where(there, abs(input), 1.0), p), 0.0 if p > 0 else math.inf)
    length = _root(sum(powers, dim, keepdim), degree=p)
    return mul(length, scale if keepdim else reshape(scale, length.shape))


def scale_of(x: Tensor, p: float, dims: tuple[int, ...]) -> Tensor:
    """What to divide x by before its powers are summed: a constant, since a norm is homogeneous."""
    if not x.array.size:
        return constant(x, np.ones([1 if d in dims else n for d, n in enumerate(x.shape)], x.dtype))
    size = (amax if p > 0 else amin)(abs(x.detach()), dims, keepdim=True)
    return where(logical_and(isfinite(size), ne(size, 0.0)), size, 1.0)
