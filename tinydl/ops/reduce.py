"""Sums and extremes over dims. `dim` is None (all), an int or a sequence of ints;
`keepdim` keeps them at size one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels import elementwise
from tinydl_kernels import reduce as kernels
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Array, Tensor, cast, expand, primitive
from ..engine.promotion import require_floating
from ..engine.public import public
from .elementwise import div, eq, exp, floated, maximum, minimum, mul, ne, sub, to_dtype, where
from .shape import normalize_dim, reshape

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "logsumexp",
    "max",
    "mean",
    "min",
    "nanmean",
    "nansum",
    "sum",
]

Dim = int | Sequence[int] | None


class Picked(NamedTuple):
    """What ordering finds along a dim; torch.return_types of max, min, sort and topk."""

    values: Tensor
    indices: Tensor


@primitive
def _sum(x: Array, *, dims: tuple[int, ...]) -> Array:
    return kernels.sum(x, dims)


@primitive(floating=True)
def _mean(x: Array, *, dims: tuple[int, ...]) -> Array:
    count = math.prod(x.shape[d] for d in dims)
    scale = 2.0 ** -count.bit_length()  # a power of two: the bits of Σ x / count, and no overflow between
    total = elementwise.mul(kernels.wide_sum(x, dims), memory.scalar(scale, np.dtype(np.float64), x))
    return elementwise.div(elementwise.cast(total, x.dtype), memory.scalar(count * scale, x.dtype, x))


@primitive(floating=True)
def _logsumexp(x: Array, *, dims: tuple[int, ...]) -> Array:
    return kernels.logsumexp(x, dims)


@primitive(constant=("x", "out"))
def _any(x: Array, *, dims: tuple[int, ...]) -> Array:
    return kernels.any_true(x, dims)


@primitive(constant=("x", "out"))
def _all(x: Array, *, dims: tuple[int, ...]) -> Array:
    return kernels.all_true(x, dims)


@primitive
def _amax(x: Array, *, dims: tuple[int, ...]) -> Array:
    return kernels.amax(x, dims)


@primitive
def _amin(x: Array, *, dims: tuple[int, ...]) -> Array:
    return kernels.amin(x, dims)


@primitive(outputs=("values", "indices"), constant=("indices",))
def _max(x: Array, *, dim: int) -> tuple[Array, Array]:
    return kernels.max(x, dim)


@primitive(outputs=("values", "indices"), constant=("indices",))
def _min(x: Array, *, dim: int) -> tuple[Array, Array]:
    return kernels.min(x, dim)


def _spread(g: Tensor, shape: tuple[int, ...], dims: tuple[int, ...]) -> Tensor:
    """A reduced tensor, expanded again to the shape that was reduced (a view)."""
    return expand(reshape(g, _kept(shape, dims)), shape=shape)


def _kept(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if i in dims else n for i, n in enumerate(shape))


def _at(g: Tensor, indices: Tensor, shape: tuple[int, ...], dim: int) -> Tensor:
    """g at `indices` along `dim`, zeros elsewhere."""
    places = constant(g, np.arange(shape[dim]).reshape((1,) * dim + (-1,) + (1,) * (len(shape) - dim - 1)))
    return where(
        eq(_spread(indices, (*shape[:dim], 1, *shape[dim + 1 :]), (dim,)), places),
        _spread(g, shape, (dim,)),
        0.0,
    )


def _shared(g: Tensor, x: Tensor, out: Tensor, dims: tuple[int, ...]) -> Tensor:
    """g at the winners, who share it evenly, zeros elsewhere."""
    winners = cast(eq(x, _spread(out, x.shape, dims)), dtype=x.dtype)
    shares = div(winners, sum(winners, dims, keepdim=True))
    return where(eq(shares, 0.0), 0.0, mul(_spread(g, x.shape, dims), shares))


def _softmax_again(x: Tensor, out: Tensor, dims: tuple[int, ...]) -> Tensor:
    """exp(x - logsumexp(x)), and 0 where all of x is -inf. NaN and +inf give NaN, as in PyTorch."""
    return exp(sub(x, _spread(where(eq(out, -math.inf), 0.0, out), x.shape, dims)))


_sum.rule(x=lambda g, x_shape, *, dims: _spread(g, x_shape, dims))
_mean.rule(
    x=lambda g, x_shape, *, dims: _spread(div(g, float(math.prod(x_shape[d] for d in dims))), x_shape, dims)
)
_logsumexp.rule(x=lambda g, x, out, *, dims: mul(_spread(g, x.shape, dims), _softmax_again(x, out, dims)))
_amax.rule(x=lambda g, x, out, *, dims: _shared(g, x, out, dims))
_amin.rule(x=lambda g, x, out, *, dims: _shared(g, x, out, dims))
_max.rule(x=lambda g, indices, x_shape, *, dim: _at(g, indices, x_shape, dim))
_min.rule(x=lambda g, indices, x_shape, *, dim: _at(g, indices, x_shape, dim))


def reduced_dims(who: str, x: Tensor, dim: Dim) -> tuple[int, ...]:
    """The dims that `dim` names, in increasing order."""
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return tuple(range(x.ndim))
    dims = sorted(normalize_dim(who, d, x.ndim) for d in (dim if isinstance(dim, Sequence) else (dim,)))
    if len(set(dims)) < len(dims):
        raise ShapeError(f"{who}: expected each dim once, got {dim}")
    return tuple(d for d in dims if x.ndim)


def _finish(x: Tensor, reduced: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    return reshape(reduced, _kept(x.shape, dims)) if keepdim else reduced


@public
def sum(input: Tensor, dim: Dim = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The sum over `dim`, in a fixed order; float32 is accumulated in float64.
    Booleans and integers give int64.
    """
    input = input if dtype is None else to_dtype(input, dtype)
    dims = reduced_dims("sum", input, dim)
    return _finish(input, _sum(input, dims=dims), dims, keepdim)


@public
def mean(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The mean over `dim`. NaN over nothing. float32 is accumulated in float64: the mean of finite values is
    finite. Booleans and integers give float32.
    """
    dims = reduced_dims("mean", input, dim)
    if input.dtype.kind == "f":
        return _finish(input, _mean(input, dims=dims), dims, keepdim)
    return div(sum(input, dim, keepdim), float(math.prod(input.shape[d] for d in dims)))


@public
def nansum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over `dim` of all that is not NaN, to which alone its gradient flows."""
    dims = reduced_dims("nansum", input, dim)
    known = where(ne(input, input), 0.0, input) if input.dtype.kind == "f" else input
    return sum(known, dims, keepdim, dtype)


@public
def nanmean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over `dim` of all that is not NaN; NaN where there is nothing else."""
    require_floating("nanmean", input)
    dims = reduced_dims("nanmean", input, dim)
    known = to_dtype(eq(input, input), input.dtype if dtype is None else dtype)
    return div(nansum(input, dims, keepdim, dtype=dtype), sum(known, dims, keepdim))


@public
def logsumexp(input: Tensor, dim: Dim, keepdim: bool = False) -> Tensor:
    """log Σ exp(input) over `dim`, without overflow; of integers in float32."""
    input = input if input.dtype.kind == "f" else to_dtype(input, np.float32)
    dims = reduced_dims("logsumexp", input, dim)
    (input,) = floated(input)
    return _finish(input, _logsumexp(input, dims=dims), dims, keepdim)


@public
def amax(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The largest value over `dim`; equal ones share the gradient evenly."""
    return _extreme("amax", input, dim, keepdim, _amax)


@public
def amin(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The smallest value over `dim`; equal ones share the gradient evenly."""
    return _extreme("amin", input, dim, keepdim, _amin)


def _extreme(who: str, x: Tensor, dim: Dim, keepdim: bool, pick: Any) -> Tensor:
    dims = reduced_dims(who, x, dim)
    for d in dims:
        _require_elements(who, x, d)
    return _finish(x, pick(x, dims=dims), dims, keepdim)


def _require_elements(who: str, x: Tensor, dim: int) -> None:
    if x.ndim and x.shape[dim] == 0:
        raise ShapeError(f"{who}: expected at least one element along dim {dim}, got {x.shape}")


@public
def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Without `dim` the largest value of all (as `amax`); with it (values, indices),
    where the first of equals wins. max(input, other) of two tensors is `maximum`.
    """
    if other is not None or isinstance(dim, Tensor):
        return maximum(input, _second("max", dim, other))
    return amax(input) if dim is None else _extreme_along("max", input, dim, keepdim, _max)


@public
def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Without `dim` the smallest value of all (as `amin`); with it (values, indices),
    where the first of equals wins. min(input, other) of two tensors is `minimum`.
    """
    if other is not None or isinstance(dim, Tensor):
        return minimum(input, _second("min", dim, other))
    return amin(input) if dim is None else _extreme_along("min", input, dim, keepdim, _min)


def _second(who: str, dim: Any, other: Any) -> Tensor:
    """The other of two tensors, which PyTorch takes in the place of `dim`."""
    if None not in (dim, other) if not isinstance(dim, Tensor) else other is not None:
        raise TypeError(f"{who}: expected dim or other, got both")
    return dim if other is None else other


def _extreme_along(who: str, x: Tensor, dim: int, keepdim: bool, pick: Any) -> Picked:
    d = normalize_dim(who, dim, x.ndim)
    _require_elements(who, x, d)
    if not x.ndim:
        return Picked(*pick(reshape(x, (1,)), dim=0))
    values, indices = pick(x, dim=d)
    return Picked(_finish(x, values, (d,), keepdim), _finish(x, indices, (d,), keepdim))


@public
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index (int64) of the first largest value along `dim`, or in the flattened tensor."""
    return _place_of("argmax", _max, input, dim, keepdim)


@public
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index (int64) of the first smallest value along `dim`, or in the flattened tensor."""
    return _place_of("argmin", _min, input, dim, keepdim)


def _place_of(who: str, pick: Any, x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    if dim is not None:
        return _extreme_along(who, x, dim, keepdim, pick)[1]
    index = _extreme_along(who, reshape(x, (-1,)), 0, False, pick)[1]
    return reshape(index, (1,) * x.ndim) if keepdim else index


@public
def any(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Is an element over `dim` not zero? bool, or of uint8 0 and 1, as in PyTorch."""
    dims = reduced_dims("any", input, dim)
    return _as_truth(input, _finish(input, _any(input, dims=dims), dims, keepdim))


@public
def all(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Are the elements over `dim` all not zero? bool, or of uint8 0 and 1, as in PyTorch."""
    dims = reduced_dims("all", input, dim)
    return _as_truth(input, _finish(input, _all(input, dims=dims), dims, keepdim))


def _as_truth(input: Tensor, found: Tensor) -> Tensor:
    return cast(found, dtype=input.dtype) if input.dtype == np.uint8 else found
