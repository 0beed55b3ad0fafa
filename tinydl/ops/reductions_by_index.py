"""Reductions into places that an index names."""

from __future__ import annotations

import numpy as np

from ..devices import constant
from ..engine.core import Tensor, add
from ..engine.public import public
from .arithmetic import div
from .elementwise import clone, eq, gt, logical_not, logical_or, maximum, minimum, mul, to_dtype, where
from .functions import isnan
from .indexing import (
    _box,
    _checked,
    _filled,
    _grown,
    _is_nothing,
    _reshaped,
    _scatter,
    _source,
    _with_dims,
    gather,
    one_hot,
    places,
    scatter_add,
)
from .scan import prod
from .shape import movedim, unsqueeze
from .sort import argsort

__all__ = [
    "scatter_reduce",
]

REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")


@public
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """A copy of `input` where out[i][index[i][j][k]][k] is the reduction of all src[i][j][k] that come there,
    for dim = 1.

    Args:
        reduce: "sum", "prod", "mean", "amax" or "amin". Extremes share the gradient equally; NaN wins.
            "prod" takes memory for the size of `dim` times the sources.
        include_self: does what stands in the input take part? Places without sources keep it in any case.
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"scatter_reduce: expected reduce of {', '.join(REDUCTIONS)}, got {reduce!r}")
    shape = input.shape
    input, index, _ = _with_dims(input, places("scatter_reduce", index, input))
    if _is_nothing("scatter_reduce", input, dim, index, src):
        return clone(_reshaped(input, shape))
    dim, index = _checked("scatter_reduce", input, dim, index)
    src, part = _source("scatter_reduce", src, index, input), _box(input, index, dim)
    met = scatter_add(_filled(part, part.shape, 0), dim, index, _filled(src, src.shape, 1))  # how many come
    reached = gt(met, met.dtype.type(0))
    if reduce in ("sum", "mean"):
        found = scatter_add(
            part if include_self else where(reached, _filled(part, (), 0), part), dim, index, src
        )
    elif reduce == "prod":
        found = _product(
            part if include_self else where(reached, _filled(part, (), 1), part), dim, index, src
        )
    else:
        found = _extreme(part, dim, index, src, reached, reduce == "amax", include_self)
    if reduce == "mean":
        count = where(reached, add(met, met.dtype.type(include_self)), _filled(met, (), 1))
        found = div(found, count, rounding_mode=None if input.dtype.kind == "f" else "floor")
    if part.shape != input.shape:
        inside = np.zeros(input.shape, np.bool_)
        inside[tuple(slice(n) for n in part.shape)] = True
        found = where(constant(input, inside), _grown(found, input.shape), input)
    return _reshaped(found, shape)


def _product(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """Every source times what is 1 but for its place, multiplied up: exact with zeros at every order."""
    here = to_dtype(one_hot(movedim(index, dim, -1), x.shape[dim]), "bool")  # (..., sources, places)
    factors = where(here, unsqueeze(movedim(src, dim, -1), -1), _filled(src, (), 1))
    return mul(x, to_dtype(movedim(prod(factors, -2), -1, dim), x.dtype))


def _extreme(
    x: Tensor, dim: int, index: Tensor, src: Tensor, reached: Tensor, largest: bool, include_self: bool
) -> Tensor:
    """The sources are put to their places in order, so that the best stays; then all that equal it share."""
    values, own = src.detach(), x.detach()
    order = argsort(values, dim, descending=not largest)
    best = _scatter(own, gather(values, dim, order), gather(index, dim, order), dim=dim)
    if include_self:
        best = (maximum if largest else minimum)(own, best)
    if x.dtype.kind != "f":
        return best
    unknown = isnan(values)
    if not largest:  # NaN comes first in a descending order
        nans = scatter_add(_filled(own, own.shape, 0), dim, index, to_dtype(unknown, x.dtype))
        best = where(gt(nans, x.dtype.type(0)), _filled(own, (), np.nan), best)
    win = logical_or(eq(values, gather(best, dim, index)), unknown)
    stay = logical_or(eq(own, best), isnan(own)) if include_self else logical_not(reached)
    stay = logical_or(stay, logical_not(reached))
    shares = scatter_add(to_dtype(stay, x.dtype), dim, index, to_dtype(win, x.dtype))
    nothing = _filled(own, (), 0)
    given = where(win, div(src, where(win, gather(shares, dim, index), _filled(own, (), 1))), nothing)
    kept = where(stay, div(x, where(stay, shares, _filled(own, (), 1))), nothing)
    return scatter_add(kept, dim, index, given)
