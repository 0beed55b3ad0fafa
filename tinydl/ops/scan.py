"""Running sums and products, differences, and the product over a dim. Zeros among the factors are exact
at every order of derivative.
"""

from __future__ import annotations

from typing import Any

from tinydl_kernels import reduce, scan
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Array, Tensor, expand, primitive
from ..engine.public import public
from .elementwise import mul, ne, sub, to_dtype
from .padding import pad
from .shape import cat, flip, narrow, normalize_dim, reshape, unsqueeze

__all__ = [
    "cumprod",
    "cumsum",
    "diff",
    "prod",
]


@primitive
def _cumsum(x: Array, *, dim: int, reverse: bool) -> Array:
    return scan.cumsum(x, dim, reverse)


@primitive
def _cumprod(x: Array, *, dim: int) -> Array:
    return scan.cumprod(x, dim)


@primitive
def _recurrence(a: Array, b: Array, *, dim: int, reverse: bool) -> Array:
    """y[k] = a[k] y[k - 1] + b[k] along `dim`; with k + 1 for k - 1 if reverse. a at
    the first place is not used.
    """
    return scan.recurrence(a, b, dim, reverse)


@primitive
def _prod(x: Array, *, dim: int) -> Array:
    return reduce.prod(x, dim)


def _shifted(x: Tensor, dim: int, by: int, value: float) -> Tensor:
    """x moved on by one place (by = 1) or back (-1) along `dim`; `value` comes in."""
    return pad(x, [0, 0] * (x.ndim - 1 - dim) + [by, -by], value=value) if x.shape[dim] else x


_cumsum.rule(x=lambda g, *, dim, reverse: _cumsum(g, dim=dim, reverse=not reverse))


@_recurrence.joint
def _(
    needs: tuple[bool, ...], g: Tensor, a: Tensor, out: Tensor, *, dim: int, reverse: bool
) -> tuple[Tensor, Tensor]:
    # What reaches y[k] comes from k itself and, times a[k + 1], from y[k + 1]: the
    # recurrence the other way round.
    ahead = 1 if reverse else -1
    db = _recurrence(_shifted(a, dim, ahead, 0.0), g, dim=dim, reverse=not reverse)
    return mul(db, _shifted(out, dim, -ahead, 0.0)), db


# d(x[0] ... x[i]) / dx[k] = (x[0] ... x[k - 1]) (x[k + 1] ... x[i]): the sum over i >= k of the second factor
# times g[i] is a recurrence. No division, so zeros do no harm.
_cumprod.rule(
    x=lambda g, x, out, *, dim: mul(
        _shifted(out, dim, 1, 1.0), _recurrence(_shifted(x, dim, -1, 0.0), g, dim=dim, reverse=True)
    )
)


def _product_of_others(x: Tensor, dim: int) -> Tensor:
    before = _shifted(_cumprod(x, dim=dim), dim, 1, 1.0)
    behind = _shifted(flip(_cumprod(flip(x, dim), dim=dim), dim), dim, -1, 1.0)
    return mul(before, behind)


_prod.rule(x=lambda g, x, *, dim: mul(expand(unsqueeze(g, dim), shape=x.shape), _product_of_others(x, dim)))


@public
def cumsum(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """Running sums along `dim`, accumulated in float64. Booleans and integers give int64."""
    input = input if dtype is None else to_dtype(input, dtype)
    dim = normalize_dim("cumsum", dim, input.ndim)
    return (
        _cumsum(input, dim=dim, reverse=False)
        if input.ndim
        else reshape(_cumsum(reshape(input, 1), dim=0, reverse=False), ())
    )


@public
def cumprod(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """Running products along `dim`, accumulated in float64. Booleans and integers give int64."""
    input = input if dtype is None else to_dtype(input, dtype)
    dim = normalize_dim("cumprod", dim, input.ndim)
    return _cumprod(input, dim=dim) if input.ndim else reshape(_cumprod(reshape(input, 1), dim=0), ())


@public
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The product over `dim`, or over all elements. Booleans and integers give int64."""
    input = input if dtype is None else to_dtype(input, dtype)
    if dim is None:
        y = _prod(reshape(input, -1), dim=0)
        return reshape(y, (1,) * input.ndim) if keepdim else y
    dim = normalize_dim("prod", dim, input.ndim)
    y = _prod(input if input.ndim else reshape(input, 1), dim=dim)
    return unsqueeze(y, dim) if keepdim and input.ndim else y


@public
def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """Differences x[k + 1] - x[k] along `dim`, n times; of masks, where they change. `prepend` and `append`
    are put before and behind first.
    """
    if not input.ndim:
        raise ShapeError("diff: expected at least one dim, got a 0-d tensor")
    if n < 0:
        raise ValueError(f"diff: expected n of at least 0, got {n}")
    dim = normalize_dim("diff", dim, input.ndim)
    parts = [x for x in (prepend, input, append) if x is not None]
    x = cat(parts, dim) if len(parts) > 1 and n else input
    for _ in range(n):
        size = x.shape[dim]
        later, earlier = narrow(x, dim, min(1, size), max(size - 1, 0)), narrow(x, dim, 0, max(size - 1, 0))
        x = ne(later, earlier) if x.dtype == "bool" else sub(later, earlier)
    return x
