"""NumPy's indexing: integers, slices, None, Ellipsis, arrays of integers and masks, in any mixture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Tensor
from ..engine.promotion import is_scalar, number
from ..engine.public import public
from .indexing import (
    _flat_index,
    _gather,
    _put,
    from_outside,
    nonzero,
    places,
    refuse_recording,
    require_mask,
)
from .shape import _index, broadcast_to, common_shape, permute, reshape, unsqueeze
from .update import assign

__all__ = ["masked_select"]

WRITES = "indexing assignment"


def _is_array(part: Any) -> bool:
    of_numpy = isinstance(part, (Tensor, np.ndarray, list, tuple, range, bool, np.bool_))
    return of_numpy or hasattr(part, "__cuda_array_interface__")


def _normalized(x: Tensor, index: Any) -> tuple[Any, ...]:
    """The parts of an index, checked, lists made arrays."""
    parts = tuple(index) if isinstance(index, tuple) else (index,)
    for part in parts:
        basic = part is None or part is Ellipsis or isinstance(part, slice) or hasattr(part, "__index__")
        if not basic and not _is_array(part):
            raise TypeError(
                "indexing: expected integers, slices, None, Ellipsis, arrays of integers or masks, got "
                f"{type(part).__name__}"
            )
    parts = tuple(
        _indices(x, p)
        if _is_array(p)
        else p
        if p is None or p is Ellipsis or isinstance(p, slice)
        else p.__index__()
        for p in parts
    )
    if any(isinstance(part, slice) and part.step is not None and part.step == 0 for part in parts):
        raise ValueError("indexing: expected a slice with a step other than 0, got 0")
    taken = sum(_consumed(part) for part in parts)
    if taken > x.ndim:
        raise ShapeError(f"indexing: expected at most {x.ndim} indices for {x.shape}, got {taken}")
    if sum(part is Ellipsis for part in parts) > 1:
        raise IndexError(
            f"indexing: expected at most one Ellipsis, got {sum(part is Ellipsis for part in parts)}"
        )
    return parts


def _indices(x: Tensor, part: Any) -> Tensor:
    """An array of indices as it is if it is a mask, else as int64."""
    part = part if isinstance(part, Tensor) else from_outside("indexing", part, x)
    if part.dtype.kind == "b":
        return part.detach()
    return places("indexing", part, x)


def _consumed(part: Any) -> int:
    """How many dims of the tensor a part of an index stands for."""
    if isinstance(part, Tensor) and part.dtype.kind == "b":
        return part.ndim
    return int(part is not None and part is not Ellipsis)


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index] as in NumPy: a view for integers, slices, None and Ellipsis, a copy with arrays of
    integers or masks among them.

    A mask stands for the indices where it holds; how many there are depends on its values,
    so a recorded step refuses it.
    """
    parts = _normalized(x, index)
    if any(isinstance(part, Tensor) for part in parts):
        return _take(x, parts)
    try:
        return _index(x, index=parts)
    except IndexError as error:
        raise IndexError(f"indexing: {error} of {x.shape}") from None


class _Indexed(NamedTuple):
    """An advanced index as basic indexing, and arrays of integers for some dims of what that gives."""

    basic: tuple[Any, ...]  # slices and None
    dims: list[int]  # ascending, one per array
    arrays: list[Tensor]
    together: bool  # does nothing stand between the arrays in the index?


def _classified(x: Tensor, parts: tuple[Any, ...]) -> _Indexed:
    """Which parts of an index are basic, which are arrays, and for which dims they stand."""
    basic: list[Any] = []
    arrays: list[Tensor] = []
    dims: list[int] = []
    ellipsis = -1
    consumed = 0  # dims of x so far
    missing = x.ndim - sum(map(_consumed, parts))
    for part in parts if any(part is Ellipsis for part in parts) else (*parts, Ellipsis):
        if part is Ellipsis:
            ellipsis = len(basic)
            basic += [slice(None)] * missing
            consumed += missing
        elif part is None or isinstance(part, slice):
            basic.append(part)
            consumed += part is not None
        else:
            if isinstance(part, Tensor) and part.dtype.kind == "b" and not part.ndim:
                basic.append(None)  # a dim of size one that a 0-d mask takes or leaves
                part = unsqueeze(part, 0)
                dims.append(len(basic) - 1)
                refuse_recording("indexing by a mask")
                arrays += nonzero(part, as_tuple=True)
                continue
            columns = _columns(x, part, consumed)
            dims += range(len(basic), len(basic) + len(columns))
            basic += [slice(None)] * len(columns)
            consumed += len(columns)
            arrays += columns
    together = dims[-1] - dims[0] + 1 == len(dims) and not dims[0] < ellipsis <= dims[-1]
    return _Indexed(tuple(basic), dims, arrays, together)


def _take(x: Tensor, parts: tuple[Any, ...]) -> Tensor:
    """Advanced indexing: the dims with arrays are brought together and merged, and one index runs over them.

    As in NumPy the result has the indexed dims where they stood, or in front where others stand between them.
    """
    index = _classified(x, parts)
    x = _index(x, index=index.basic)
    others = [d for d in range(x.ndim) if d not in index.dims]
    first = index.dims[0] if index.together else 0
    return _gather_at(permute(x, *others[:first], *index.dims, *others[first:]), first, index.arrays)


def _gather_at(x: Tensor, first: int, arrays: Sequence[Tensor]) -> Tensor:
    """x with its dims from `first` on, one per array, replaced by those of the broadcast arrays."""
    last = first + len(arrays)
    before, sizes, behind = x.shape[:first], x.shape[first:last], x.shape[last:]
    flat = _flat_index(*arrays, sizes=sizes)
    lines = reshape(x, (*before, math.prod(sizes), *behind))
    line = (1,) * len(before) + (flat.array.size,) + (1,) * len(behind)
    return reshape(_gather(lines, reshape(flat, line), dim=first), (*before, *flat.shape, *behind))


def _columns(x: Tensor, part: Any, dim: int) -> list[Tensor]:
    """An integer or an array in an index as arrays of integers, one for each dim that it stands for."""
    if not isinstance(part, Tensor):
        return [constant(x, np.asarray(part))]
    if part.dtype.kind != "b":
        return [part]
    if part.shape != x.shape[dim : dim + part.ndim]:
        raise ShapeError(
            f"indexing: expected a mask of shape {x.shape[dim : dim + part.ndim]}, got {part.shape}"
        )
    refuse_recording("indexing by a mask")
    return list(nonzero(part, as_tuple=True))


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """x[index] = value in memory, off the tape (inplace.py has what goes on it). The last of several values
    for a place wins.
    """
    parts = _normalized(x, index)
    at = tuple(i for i, part in enumerate(parts) if isinstance(part, Tensor))
    if not at:
        try:
            view = x.array[parts if Ellipsis in parts else (*parts, ...)]
        except IndexError as error:
            raise IndexError(f"{WRITES}: {error} of {x.shape}") from None
        assign(Tensor(view, x.version), value)
        return
    if not isinstance(value, Tensor):
        value = number(WRITES, value, x.dtype) if is_scalar(value) else value
        value = from_outside(WRITES, value, x, x.dtype)
    if value.ndim and any(parts[i].dtype.kind == "b" for i in at):
        refuse_recording("indexing assignment by a mask")
    arrays = [parts[i] for i in at]
    try:
        _put(
            x,
            value.detach(),
            *arrays,
            index=tuple(None if i in at else part for i, part in enumerate(parts)),
            at=at,
        )
    except ValueError as error:
        raise ShapeError(f"{WRITES}: {error}") from None
    except IndexError as error:
        raise IndexError(f"{WRITES}: {error} of {x.shape}") from None


@public
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, in one dim; mask and input broadcast. Not in a recorded step."""
    require_mask("masked_select", mask)
    shape = common_shape("masked_select", input, mask)
    return getitem(broadcast_to(input, shape), broadcast_to(mask, shape))
