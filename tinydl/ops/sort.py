"""Order: sorting is stable, NaN counts as larger than everything. Values carry a gradient, indices do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tinydl_kernels import sort as kernels
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Array, Tensor, primitive
from ..engine.public import public
from .elementwise import ge, le, logical_or, where
from .functions import isnan
from .indexing import gather, refuse_recording
from .reduce import Picked
from .shape import cat, narrow, normalize_dim, reshape

__all__ = [
    "argsort",
    "cummax",
    "cummin",
    "sort",
    "topk",
    "unique",
]


@primitive(constant=("x", "out"))
def _argsort(x: Array, *, dim: int, descending: bool) -> Array:
    return kernels.argsort(x, dim, descending)


@primitive(outputs=("values", "inverse", "counts"), constant=("x", "values", "inverse", "counts"))
def _unique(x: Array, *, dim: int | None) -> tuple[Array, Array, Array]:
    return kernels.unique(x, dim)


@public
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The indices (int64) that sort along `dim`. The order of equals is kept whether `stable` or not."""
    dim = normalize_dim("argsort", dim, input.ndim)
    return (
        _argsort(input, dim=dim, descending=descending)
        if input.ndim
        else reshape(argsort(reshape(input, 1)), ())
    )


@public
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Picked:
    """(values, indices) sorted along `dim`. The order of equals is kept whether `stable` or not."""
    dim = normalize_dim("sort", dim, input.ndim)
    line = input if input.ndim else reshape(input, 1)
    indices = _argsort(line, dim=dim, descending=descending)
    values = gather(line, dim, indices)
    return Picked(values, indices) if input.ndim else Picked(reshape(values, ()), reshape(indices, ()))


@public
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Picked:
    """(values, indices) of the k largest (or smallest) elements along `dim`, in
    order whether `sorted` or not.

    Of equal ones the first are taken.
    """
    dim = normalize_dim("topk", dim, input.ndim)
    line = input if input.ndim else reshape(input, 1)
    if not 0 <= k <= line.shape[dim]:
        raise ShapeError(
            f"topk: expected k from 0 to {line.shape[dim]} for {input.shape} along dim {dim}, got {k}"
        )
    indices = narrow(_argsort(line, dim=dim, descending=largest), dim, 0, k)
    values = gather(line, dim, indices)
    return (
        Picked(values, indices) if input.ndim or k != 1 else Picked(reshape(values, ()), reshape(indices, ()))
    )


@public
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different elements in ascending order (`sorted` or not), or the different
    slices along `dim`. No gradient.

    return_inverse adds where each element is among them, return_counts how often each is
    there. Not in a recorded step.
    """
    refuse_recording("unique")
    dim = dim if dim is None else normalize_dim("unique", dim, input.ndim)
    values, inverse, counts = _unique(input, dim=dim)
    asked = (values, *[inverse] * return_inverse, *[counts] * return_counts)
    return asked if len(asked) > 1 else values


@public
def cummax(input: Tensor, dim: int) -> Picked:
    """(values, indices) of the largest element so far along `dim`; of equals the last, NaN counts as the
    largest.
    """
    return _running("cummax", input, dim, ge)


@public
def cummin(input: Tensor, dim: int) -> Picked:
    """(values, indices) of the smallest element so far along `dim`; of equals the last, NaN counts as the
    smallest.
    """
    return _running("cummin", input, dim, le)


def _running(who: str, input: Tensor, dim: int, wins: Callable[..., Tensor]) -> Picked:
    """Each place takes over what is 1, 2, 4, ... places before it, unless its own wins."""
    dim = normalize_dim(who, dim, input.ndim)
    x = input.detach() if input.ndim else reshape(input.detach(), 1)
    size = x.shape[dim]
    line = np.arange(size).reshape(-1, *[1] * (x.ndim - 1 - dim))
    best, indices, apart = x, constant(x, np.broadcast_to(line, x.shape).copy()), 1
    while apart < size:
        own, before = narrow(best, dim, apart, size - apart), narrow(best, dim, 0, size - apart)
        stays = wins(own, before) if x.dtype.kind != "f" else logical_or(wins(own, before), isnan(own))
        places = (narrow(indices, dim, start, size - apart) for start in (apart, 0))
        best = cat([narrow(best, dim, 0, apart), where(stays, own, before)], dim)
        indices = cat([narrow(indices, dim, 0, apart), where(stays, *places)], dim)
        apart *= 2
    values = gather(input if input.ndim else reshape(input, 1), dim, indices)
    return Picked(values, indices) if input.ndim else Picked(reshape(values, ()), reshape(indices, ()))
