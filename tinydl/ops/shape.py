"""Shapes, views, joining, splitting. Views share memory with what they were taken from."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from tinydl_kernels import indexing
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Array, Tensor, cast, contiguous, expand, primitive
from ..engine.promotion import common_dtype
from ..engine.public import public

__all__ = [
    "broadcast_tensors",
    "broadcast_to",
    "cat",
    "chunk",
    "concatenate",
    "diag",
    "diagonal",
    "flatten",
    "flip",
    "movedim",
    "narrow",
    "permute",
    "reshape",
    "roll",
    "rot90",
    "split",
    "squeeze",
    "stack",
    "t",
    "tile",
    "transpose",
    "unbind",
    "unsqueeze",
]


@primitive(view=True)
def _reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    return x.reshape(shape)


@primitive(view=True)
def _permute(x: Array, *, dims: tuple[int, ...]) -> Array:
    return x.transpose(dims)


@primitive(view=True)
def _index(x: Array, *, index: Any) -> Array:
    return x[index if Ellipsis in index else (*index, ...)]  # the dots keep a 0-d result a view


@primitive
def _place(g: Array, *, shape: tuple[int, ...], index: Any) -> Array:
    """Zeros of `shape` with g at `index`: the transpose of basic indexing."""
    return indexing.place(g, shape, index)


@primitive
def _cat(*parts: Array | None, sizes: tuple[int, ...], dim: int) -> Array:
    """Parts of the given sizes along `dim`, one after another; a None stands for zeros."""
    return indexing.concatenate(parts, dim, sizes)


@primitive(view=True, outputs=("*parts",))
def _split(x: Array, *, sizes: tuple[int, ...], dim: int) -> tuple[Array, ...]:
    """Views of the given sizes along `dim`: the transpose of `_cat`."""
    ends = list(itertools.accumulate(sizes, initial=0))
    return tuple(x[(slice(None),) * dim + (slice(*bounds),)] for bounds in itertools.pairwise(ends))


@primitive(view=True)
def _diagonal(x: Array, *, offset: int, dim1: int, dim2: int) -> Array:
    return memory.diagonal(x, offset, dim1, dim2)


@primitive
def _place_diagonal(g: Array, *, shape: tuple[int, ...], offset: int, dim1: int, dim2: int) -> Array:
    """Zeros of `shape` with g on a diagonal: the transpose of taking it."""
    return indexing.place_diagonal(g, shape, offset, dim1, dim2)


_permute.rule(x=lambda g, *, dims: _permute(g, dims=tuple(sorted(range(len(dims)), key=dims.__getitem__))))
_index.rule(x=lambda g, x_shape, *, index: _place(g, shape=x_shape, index=index))
_place.rule(g=lambda h, *, index: _index(h, index=index))


@_cat.joint
def _(needs: tuple[bool, ...], g: Tensor, *, sizes: tuple[int, ...], dim: int) -> list[Tensor | None]:
    return [part if need else None for need, part in zip(needs, _split(g, sizes=sizes, dim=dim), strict=True)]


_split.rule(x=lambda g, *, sizes, dim: _cat(*g, sizes=sizes, dim=dim))
_diagonal.rule(
    x=lambda g, x_shape, *, offset, dim1, dim2: _place_diagonal(
        g, shape=x_shape, offset=offset, dim1=dim1, dim2=dim2
    )
)
_place_diagonal.rule(g=lambda h, *, offset, dim1, dim2: _diagonal(h, offset=offset, dim1=dim1, dim2=dim2))


def normalize_dim(who: str, dim: int, ndim: int) -> int:
    """`dim` counted from the front."""
    if not isinstance(dim, (int, np.integer)) or not -max(ndim, 1) <= dim < max(ndim, 1):
        raise ShapeError(f"{who}: expected dim in [{-max(ndim, 1)}, {max(ndim, 1) - 1}], got {dim!r}")
    return dim % max(ndim, 1)


def sizes(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """f(2, 3) and f((2, 3)) alike."""
    return (
        tuple(arguments[0])
        if len(arguments) == 1 and isinstance(arguments[0], Sequence)
        else tuple(arguments)
    )


def _numbers(wanted: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sizes, those that are tensors of one integer as that."""
    if not any(isinstance(n, Tensor) for n in wanted):
        return wanted
    return tuple(operator.index(n) if isinstance(n, Tensor) else n for n in wanted)


def new_size(who: str, size: Any) -> tuple[int, ...]:
    """The size of a new tensor: an int or several."""
    wanted = _numbers(sizes((size,)) if not isinstance(size, tuple) else sizes(size))
    if any(not isinstance(n, (int, np.integer)) or n < 0 for n in wanted):
        raise ShapeError(f"{who}: expected sizes of at least 0, got {wanted}")
    return wanted


def _resolved(who: str, x: Tensor, shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The sizes of a shape for the elements of x, -1 replaced."""
    wanted = sizes(shape)
    if all(type(n) is int and n > 0 for n in wanted) and math.prod(wanted) == x.array.size:
        return wanted
    wanted = _numbers(wanted)
    if any(not isinstance(n, (int, np.integer)) for n in wanted):
        raise TypeError(f"{who}: expected integers, got {wanted}")
    known = math.prod(n for n in wanted if n != -1)
    if wanted.count(-1) == 1 and not known:
        raise ShapeError(
            f"{who}: expected a size in the place of -1, which 0 elements leave open, got {wanted}"
        )
    if wanted.count(-1) == 1:
        wanted = tuple(x.array.size // known if n == -1 else n for n in wanted)
    if math.prod(wanted) != x.array.size or any(n < 0 for n in wanted):
        raise ShapeError(
            f"{who}: expected a shape of {x.array.size} elements for {x.shape}, got {sizes(shape)}"
        )
    return wanted


@public
def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same values in another shape; one size may be -1. A view where the strides allow it, else a
    copy.
    """
    wanted = _resolved("reshape", input, shape)
    whole = input.array.flags.c_contiguous or _keeps_memory(input.array, wanted)
    return _reshape(input if whole else contiguous(input), shape=wanted)


def _keeps_memory(x: Array, shape: tuple[int, ...]) -> bool:
    """Do the strides of x allow a view of this shape?"""
    return not x.size or memory.array_module(x).may_share_memory(x, x.reshape(shape))


_reshape.rule(x=lambda g, x_shape: reshape(g, x_shape))


@public
def view(input: Tensor, *shape: Any) -> Tensor:
    """The same memory in another shape; one size may be -1. ShapeError where the strides do not allow it."""
    wanted = _resolved("view", input, shape)
    if not _keeps_memory(input.array, wanted):
        raise ShapeError(
            f"view: expected strides that allow a view, got {input.shape} with strides "
            f"{input.array.strides}: use reshape"
        )
    return _reshape(input, shape=wanted)


@public
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge the dims from start_dim to end_dim into one."""
    first, last = (
        normalize_dim("flatten", start_dim, input.ndim),
        normalize_dim("flatten", end_dim, input.ndim),
    )
    if first > last:
        raise ShapeError(
            f"flatten: expected start_dim <= end_dim, got {start_dim} and {end_dim} for {input.shape}"
        )
    return reshape(
        input, (*input.shape[:first], math.prod(input.shape[first : last + 1]), *input.shape[last + 1 :])
    )


@public
def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dims in another order (a view)."""
    order = tuple(normalize_dim("permute", d, input.ndim) for d in sizes(dims))
    if sorted(order) != list(range(input.ndim)):
        raise ShapeError(
            f"permute: expected an order of the {input.ndim} dims of {input.shape}, got {sizes(dims)}"
        )
    return _permute(input, dims=order)


@public
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dims exchanged (a view)."""
    order = list(range(input.ndim))
    a, b = normalize_dim("transpose", dim0, input.ndim), normalize_dim("transpose", dim1, input.ndim)
    if input.ndim:
        order[a], order[b] = order[b], order[a]
    return _permute(input, dims=tuple(order))


@public
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix, a view; a vector or a 0-d tensor as it is."""
    if input.ndim > 2:
        raise ShapeError(f"t: expected at most two dims, got {input.shape}")
    return input if input.ndim < 2 else permute(input, 1, 0)


@public
def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """The dims `source` moved to the places `destination`, the others in their order (a view)."""
    taken, places = (
        [normalize_dim("movedim", d, input.ndim) for d in ((dims,) if isinstance(dims, int) else dims)]
        for dims in (source, destination)
    )
    if len(taken) != len(places) or len({*taken}) < len(taken) or len({*places}) < len(places):
        raise ShapeError(
            f"movedim: expected as many different sources as destinations, got {source} and {destination}"
        )
    order = [d for d in range(input.ndim) if d not in taken]
    for place, dim in sorted(zip(places, taken, strict=True)):
        order.insert(place, dim)
    return _permute(input, dims=tuple(order[: input.ndim]))


@public
def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without the dims of size one, or without those of `dim` whose size is one."""
    named = range(input.ndim) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    dims = {normalize_dim("squeeze", d, input.ndim) for d in named}
    return reshape(input, tuple(n for d, n in enumerate(input.shape) if n != 1 or d not in dims))


@public
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a dim of size one at `dim`."""
    dim = normalize_dim("unsqueeze", dim, input.ndim + 1)
    return _index(input, index=(slice(None),) * dim + (None,))


@public
def broadcast_to(input: Tensor, *shape: Any) -> Tensor:
    """x expanded to `shape` (a view); -1 keeps a size. Also `Tensor.expand`."""
    wanted = sizes(shape)
    have = (1,) * (len(wanted) - input.ndim) + input.shape
    wanted = tuple(n if m == -1 else m for n, m in zip(have[-len(wanted) or None :], wanted, strict=False))
    if len(wanted) < input.ndim or any(n not in (1, m) for n, m in zip(have, wanted, strict=True)):
        raise ShapeError(
            f"broadcast_to: expected a shape that {input.shape} broadcasts to, got {sizes(shape)}"
        )
    return expand(input, shape=wanted)


@public
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors joined along `dim`, in their common dtype; beside others one of shape (0,) is left out."""
    tensors = list(tensors)
    if not tensors:
        raise ShapeError("cat: expected at least one tensor, got none")
    dtype = common_dtype(tensors)
    alike = [x if x.dtype == dtype else cast(x, dtype=dtype) for x in tensors]
    tensors = alike if all(x.ndim == 1 for x in alike) else [x for x in alike if x.shape != (0,)]
    dim = normalize_dim("cat", dim, tensors[0].ndim)
    rest = {x.shape[:dim] + x.shape[dim + 1 :] for x in tensors}
    if len(rest) > 1 or len({x.ndim for x in tensors}) > 1 or not tensors[0].ndim:
        got = ", ".join(str(x.shape) for x in tensors)
        raise ShapeError(f"cat: expected shapes equal but for dim {dim}, got {got}")
    return _cat(*tensors, sizes=tuple(x.shape[dim] for x in tensors), dim=dim)


concatenate = cat


@public
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dim, in the dtype that they have in common."""
    tensors = list(tensors)
    if not tensors:
        raise ShapeError("stack: expected at least one tensor, got none")
    if len({x.shape for x in tensors}) > 1:
        got = ", ".join(str(x.shape) for x in tensors)
        raise ShapeError(f"stack: expected tensors of one shape, got {got}")
    dim = normalize_dim("stack", dim, tensors[0].ndim + 1)
    return cat([unsqueeze(x, dim) for x in tensors], dim)


@public
def split(tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of a size along `dim` (the last may be smaller), or of a list of sizes."""
    dim = _existing_dim("split", dim, tensor)
    n = tensor.shape[dim]
    if isinstance(split_size_or_sections, (int, np.integer)):
        size = int(split_size_or_sections)
        if size < 0 or (size == 0 and n):
            raise ShapeError(f"split: expected a positive size, got {size}")
        parts = tuple(min(size, n - at) for at in range(0, n, size)) if n else (0,)
    else:
        parts = tuple(split_size_or_sections) if isinstance(split_size_or_sections, Sequence) else (None,)
        if any(not isinstance(size, (int, np.integer)) for size in parts):
            raise TypeError(
                f"split: expected an integer or a sequence of them, got {split_size_or_sections!r}"
            )
        if sum(parts) != n or any(size < 0 for size in parts):
            raise ShapeError(
                f"split: expected sizes that add up to {n} along dim {dim} of {tensor.shape}, got {parts}"
            )
    return _split(tensor, sizes=parts, dim=dim)


@public
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views, of one size along `dim` but for the last; of nothing so many empty ones."""
    if chunks < 1:
        raise ShapeError(f"chunk: expected at least one chunk, got {chunks}")
    dim = _existing_dim("chunk", dim, input)
    n = input.shape[dim]
    return split(input, -(-n // chunks) if n else (0,) * chunks, dim)


@public
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The views at each index of `dim`, which disappears."""
    dim = _existing_dim("unbind", dim, input)
    first = (slice(None),) * dim + (0,)
    return tuple(_index(part, index=first) for part in split(input, 1, dim)) if input.shape[dim] else ()


@public
def narrow(input: Tensor, dim: int, start: int | Tensor, length: int) -> Tensor:
    """The `length` elements from `start`, an integer or a 0-d tensor of one, along `dim` (a view)."""
    dim = _existing_dim("narrow", dim, input)
    n = input.shape[dim]
    start, length = operator.index(start), operator.index(length)
    first = start + n if start < 0 else start
    if not 0 <= first <= first + length <= n:
        raise ShapeError(
            f"narrow: expected start and length within {n} along dim {dim}, got {start} and {length}"
        )
    return _slice(input, dim, first, first + length)


def _existing_dim(who: str, dim: int, x: Tensor) -> int:
    if not x.ndim:
        raise ShapeError(f"{who}: expected at least one dim, got a 0-d tensor")
    return normalize_dim(who, dim, x.ndim)


def _slice(x: Tensor, dim: int, *bounds: int | None) -> Tensor:
    return _index(x, index=(slice(None),) * dim + (slice(*bounds),))


@public
def flip(input: Tensor, *dims: Any) -> Tensor:
    """The elements along `dims` in the opposite order (a view)."""
    turned = [normalize_dim("flip", d, input.ndim) for d in sizes(dims)]
    if len({*turned}) < len(turned):
        raise ShapeError(f"flip: expected each dim once, got {sizes(dims)}")
    return _index(
        input, index=tuple(slice(None, None, -1 if d in turned else None) for d in range(input.ndim))
    )


@public
def roll(input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
    """The elements shifted by `shifts` along `dims`, cyclically; without dims in the flattened order."""
    if dims is None:
        return reshape(roll(reshape(input, -1), shifts, 0), input.shape)
    steps, along = ((s,) if isinstance(s, int) else tuple(s) for s in (shifts, dims))
    if len(steps) != len(along):
        raise ShapeError(f"roll: expected as many shifts as dims, got {shifts} and {dims}")
    for step, dim in zip(steps, along, strict=True):
        d = _existing_dim("roll", dim, input)
        cut = -step % input.shape[d] if input.shape[d] else 0
        input = cat([_slice(input, d, cut, None), _slice(input, d, 0, cut)], d) if cut else input
    return input


@public
def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned k times by a right angle in the plane of two dims, from the first
    towards the second (a view).
    """
    a, b = (normalize_dim("rot90", d, input.ndim) for d in dims) if len(dims) == 2 else (0, 0)
    if a == b or input.ndim < 2:
        raise ShapeError(f"rot90: expected two different dims of {input.shape}, got {tuple(dims)}")
    if k % 2 == 0:
        return flip(input, a, b) if k % 4 else input
    return transpose(flip(input, b), a, b) if k % 4 == 1 else flip(transpose(input, a, b), b)


@public
def tile(input: Tensor, *dims: Any) -> Tensor:
    """The input repeated dims[i] times along dim i; the shorter of its shape and
    dims counts from the last dim.
    """
    times = sizes(dims)
    times = (1,) * (input.ndim - len(times)) + times
    if any(n < 0 for n in times):
        raise ShapeError(f"tile: expected counts of at least 0, got {sizes(dims)}")
    shape = (1,) * (len(times) - input.ndim) + input.shape
    interleaved = reshape(input, tuple(n for size in shape for n in (1, size)))
    repeated = expand(interleaved, shape=tuple(n for pair in zip(times, shape, strict=True) for n in pair))
    return reshape(repeated, tuple(count * size for count, size in zip(times, shape, strict=True)))


@public
def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """`tile` with a count for every dim at least: Tensor.repeat."""
    if len(sizes(repeats)) < input.ndim:
        raise ShapeError(
            f"repeat: expected at least {input.ndim} counts for {input.shape}, got {sizes(repeats)}"
        )
    return tile(input, *repeats)


@public
def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors expanded to their common shape (views)."""
    shape = common_shape("broadcast_tensors", *tensors)
    return tuple(x if x.shape == shape else expand(x, shape=shape) for x in tensors)


def common_shape(who: str, *values: Any) -> tuple[int, ...]:
    """The shape that the tensors among the values broadcast to; numbers and None are passed over."""
    shapes = [x.shape for x in values if hasattr(x, "shape")]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(
            f"{who}: expected shapes that broadcast, got {', '.join(map(str, shapes))}"
        ) from None


@public
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The elements [..., i, i + offset] of two dims, as a new last dim (a view)."""
    a, b = normalize_dim("diagonal", dim1, input.ndim), normalize_dim("diagonal", dim2, input.ndim)
    if a == b or input.ndim < 2:
        raise ShapeError(f"diagonal: expected two different dims of {input.shape}, got {dim1} and {dim2}")
    return _diagonal(input, offset=offset, dim1=a, dim2=b)


@public
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The square matrix with a vector on a diagonal, zeros elsewhere; of a matrix that diagonal."""
    if input.ndim not in (1, 2):
        raise ShapeError(f"diag: expected a vector or a matrix, got {input.shape}")
    if input.ndim == 2:
        return _diagonal(input, offset=diagonal, dim1=0, dim2=1)
    n = input.shape[0] + abs(diagonal)
    return _place_diagonal(input, shape=(n, n), offset=diagonal, dim1=0, dim2=1)
