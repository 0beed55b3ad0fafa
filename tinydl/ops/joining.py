"""Tensors beside and under one another, and slices of one put into another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ..devices import constant
from ..engine.core import Tensor, add, expand
from ..engine.promotion import is_scalar, number, require_one_dtype, whole
from ..engine.public import public
from .elementwise import lt, mul, to_dtype, where
from .indexing import places, scatter, scatter_add
from .shape import broadcast_tensors, cat, normalize_dim, reshape

__all__ = [
    "hstack",
    "index_add",
    "index_copy",
    "index_fill",
    "meshgrid",
    "vstack",
]


@public
def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors joined along dim 1, or 0 where they are vectors or numbers."""
    tensors = [x if x.ndim else reshape(x, (1,)) for x in tensors]
    return cat(tensors, 1 if tensors and tensors[0].ndim > 1 else 0)


@public
def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors joined along dim 0, vectors and numbers as rows."""
    return cat([x if x.ndim > 1 else reshape(x, (1, x.array.size)) for x in tensors], 0)


@public
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """A copy of the input with alpha · source[k] added to its slice index[k] along `dim`, by ascending k."""
    dim, spread = _slices("index_add", input, dim, index, source)
    (alpha,) = whole(input, alpha)
    if input.dtype.kind != "f" and not isinstance(alpha, int):
        raise DtypeError(f"index_add: expected a whole alpha for {input.dtype}, got {alpha}")
    return scatter_add(input, dim, spread, source if alpha == 1 else mul(source, alpha))


@public
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy of the input with source[k] in place of its slice index[k] along `dim`; of several the last."""
    dim, spread = _slices("index_copy", input, dim, index, source)
    return scatter(input, dim, spread, source)


@public
def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """A copy of the input with `value`, a number or a 0-d tensor, in its slices `index` along `dim`, counted
    from the end where below 0.
    """
    if not is_scalar(value) and value.ndim:
        raise ShapeError(f"index_fill: expected a number or a 0-d tensor as value, got {value.shape}")
    dim, index = normalize_dim("index_fill", dim, input.ndim), places("index_fill", index, input)
    index = where(lt(index, 0), add(index, input.shape[dim] if input.ndim else 1), index)
    shape = (*input.shape[:dim], index.array.size, *input.shape[dim + 1 :])
    one = (
        constant(input, np.asarray(number("index_fill", value, input.dtype)))
        if is_scalar(value)
        else to_dtype(value, input.dtype)
    )
    return index_copy(input, dim, index, expand(one, shape=shape if input.ndim else index.shape))


def _slices(who: str, x: Tensor, dim: int, index: Any, source: Tensor) -> tuple[int, Tensor]:
    """The dim from the front, and for each element of the source the place along it."""
    dim, index = normalize_dim(who, dim, x.ndim), places(who, index, x)
    require_one_dtype(who, x.dtype, source.dtype)
    wanted = (*x.shape[:dim], index.array.size, *x.shape[dim + 1 :]) if x.ndim else source.shape
    if index.ndim > 1 or source.shape != wanted or (not x.ndim and source.array.size != index.array.size):
        raise ShapeError(
            f"{who}: expected a vector of places and a source {wanted}, got {index.shape} and {source.shape}"
        )
    if not x.ndim:
        return dim, reshape(index, source.shape)
    line = (1,) * dim + (index.array.size,) + (1,) * (x.ndim - dim - 1)
    return dim, expand(reshape(index, line), shape=wanted)


@public
def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid: out[k][i0, i1, ...] = tensors[k][ik]. "xy" exchanges
    the first two dims of the grid.
    """
    axes = list(tensors[0] if len(tensors) == 1 and not isinstance(tensors[0], Tensor) else tensors)
    if indexing not in ("ij", "xy"):
        raise ValueError(f"meshgrid: expected indexing 'ij' or 'xy', got {indexing!r}")
    if any(x.ndim > 1 for x in axes):
        raise ShapeError(f"meshgrid: expected vectors, got {', '.join(str(x.shape) for x in axes)}")
    place = list(range(len(axes)))
    if indexing == "xy":
        place[:2] = place[1::-1]
    lines = [
        reshape(x, tuple(-1 if d == own else 1 for d in range(len(axes))))
        for x, own in zip(axes, place, strict=True)
    ]
    return broadcast_tensors(*lines) if lines else ()
