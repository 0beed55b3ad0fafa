"""Tensors cut at places, set beside one another, turned over, and put on diagonals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ..engine.core import Tensor
from ..engine.public import public
from .creation import as_tensor
from .elementwise import ne, to_dtype
from .joining import vstack
from .reduce import reduced_dims, sum
from .shape import _place_diagonal, cat, flip, normalize_dim, reshape, split
from .subscript import getitem

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "column_stack",
    "count_nonzero",
    "diag_embed",
    "dsplit",
    "dstack",
    "fliplr",
    "flipud",
    "hsplit",
    "row_stack",
    "select",
    "tensor_split",
    "tril_indices",
    "triu_indices",
    "vsplit",
]

row_stack = vstack


@public
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The slice at `index` along `dim`, without that dim (a view)."""
    dim = normalize_dim("select", dim, input.ndim)
    n = input.shape[dim] if input.ndim else 0
    if not -n <= index < n:
        raise ShapeError(f"select: expected index in [{-n}, {n - 1}] along dim {dim}, got {index}")
    return getitem(input, (slice(None),) * dim + (int(index),))


@public
def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """So many parts along `dim`, the first ones longer by one where it does not divide; or parts that begin
    at the given places (views).
    """
    return _cut("tensor_split", input, indices_or_sections, dim)


def _cut(who: str, input: Tensor, where: Any, dim: int, even: bool = False) -> tuple[Tensor, ...]:
    dim = normalize_dim(who, dim, input.ndim)
    if not input.ndim:
        raise ShapeError(f"{who}: expected at least one dim, got {input.shape}")
    n = input.shape[dim]
    where = where.numpy() if isinstance(where, Tensor) else where
    if np.ndim(where):
        ends = [slice(int(end)).indices(n)[1] for end in where]
    else:
        if where < 1 or (even and n % int(where)):
            dividing = f"that divides {n}" if even else "of at least 1"
            raise ShapeError(f"{who}: expected a number of sections {dividing}, got {where}")
        long, parts = n % int(where), int(where)
        ends = [k * (n // parts) + min(k, long) for k in range(1, parts)]
    bounds = [0, *ends, n]
    if sorted(bounds) == bounds:
        return split(input, [b - a for a, b in pairwise(bounds)], dim)
    before = (slice(None),) * dim
    return tuple(getitem(input, (*before, slice(a, b))) for a, b in pairwise(bounds))


@public
def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along dim 1, or 0 of a vector; sections must divide."""
    return _cut("hsplit", input, indices_or_sections, 1 if input.ndim > 1 else 0, even=True)


@public
def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` of rows; sections must divide."""
    return _cut("vsplit", _of_dims("vsplit", input, 2), indices_or_sections, 0, even=True)


@public
def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along dim 2; sections must divide."""
    return _cut("dsplit", _of_dims("dsplit", input, 3), indices_or_sections, 2, even=True)


def _of_dims(who: str, x: Tensor, least: int) -> Tensor:
    if x.ndim < least:
        raise ShapeError(f"{who}: expected at least {least} dims, got {x.shape}")
    return x


def _each(who: str, function: Any, tensors: tuple[Any, ...]) -> Any:
    """Of one tensor the result, of several or a list a tuple of results."""
    alone = len(tensors) == 1 and isinstance(tensors[0], Tensor)
    several = tensors[0] if len(tensors) == 1 and not alone else tensors
    for x in several:
        if not isinstance(x, Tensor):
            raise DtypeError(f"{who}: expected tensors, got {type(x).__name__}")
    return function(tensors[0]) if alone else tuple(function(x) for x in several)


@public
def atleast_1d(*tensors: Any) -> Any:
    """Numbers as vectors of one; others as they are."""
    return _each("atleast_1d", lambda x: x if x.ndim else reshape(x, (1,)), tensors)


@public
def atleast_2d(*tensors: Any) -> Any:
    """Vectors as rows; others as they are."""
    return _each("atleast_2d", lambda x: x if x.ndim > 1 else reshape(x, (1, x.array.size)), tensors)


@public
def atleast_3d(*tensors: Any) -> Any:
    """(n,) as (1, n, 1), (m, n) as (m, n, 1); others as they are."""
    return _each("atleast_3d", _deep, tensors)


def _deep(x: Tensor) -> Tensor:
    if x.ndim > 2:
        return x
    return reshape(x, (*x.shape, 1) if x.ndim == 2 else (1, x.array.size, 1))


@public
def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dim 1, vectors and numbers as columns."""
    parts = _some("column_stack", tensors)
    return cat([x if x.ndim > 1 else reshape(x, (x.array.size, 1)) for x in parts], 1)


@public
def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dim 2, as `atleast_3d` makes them."""
    return cat([_deep(x) for x in _some("dstack", tensors)], 2)


def _some(who: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    parts = list(tensors)
    if not parts:
        raise ShapeError(f"{who}: expected at least one tensor, got none")
    return parts


@public
def fliplr(input: Tensor) -> Tensor:
    """The columns in the opposite order (a view)."""
    return flip(_of_dims("fliplr", input, 2), 1)


@public
def flipud(input: Tensor) -> Tensor:
    """The rows in the opposite order (a view)."""
    return flip(_of_dims("flipud", input, 1), 0)


@public
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices of zeros with the last dim of the input on a diagonal; they lie along dims dim1 and dim2."""
    _of_dims("diag_embed", input, 1)
    a, b = (normalize_dim("diag_embed", d, input.ndim + 1) for d in (dim1, dim2))
    if a == b:
        raise ShapeError(f"diag_embed: expected two different dims, got {dim1} and {dim2}")
    offset = offset if a < b else -offset
    n = input.shape[-1] + (offset if offset > 0 else -offset)
    shape = list(input.shape[:-1])
    for d in sorted((a, b)):
        shape.insert(d, n)
    return _place_diagonal(input, shape=tuple(shape), offset=offset, dim1=min(a, b), dim2=max(a, b))


@public
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are not 0, over the dims; int64."""
    reduced_dims("count_nonzero", input, dim)
    return sum(to_dtype(ne(input, 0), np.int64), dim)


@public
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = np.int64, device: Any = None) -> Tensor:
    """Rows and columns (2, n) of the places of `tril`."""
    return _places("tril_indices", np.tril_indices, row, col, offset, dtype, device)


@public
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = np.int64, device: Any = None) -> Tensor:
    """Rows and columns (2, n) of the places of `triu`."""
    return _places("triu_indices", np.triu_indices, row, col, offset, dtype, device)


def _places(who: str, function: Any, row: int, col: int, offset: int, dtype: Any, device: Any) -> Tensor:
    for n in (row, col, offset):
        if not isinstance(n, (int, np.integer)):
            raise DtypeError(f"{who}: expected whole numbers, got {n}")
    return as_tensor(np.stack(function(row, offset, col)), dtype=dtype, device=device)
