"""Shapes, views, indexing, joining. Views share memory with what they were taken from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinydl_kernels import indexing
from tinydl_kernels.errors import ShapeError

from ..core import Array, Tensor, contiguous, expand, primitive


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
def _concatenate(*xs: Array, dim: int) -> Array:
    return indexing.concatenate(xs, dim)


@primitive
def _pad(x: Array, *, low: tuple[int, ...], high: tuple[int, ...], value: float) -> Array:
    return indexing.pad(x, low, high, value)


_reshape.rule(x=lambda g, x_shape: reshape(g, x_shape))
_permute.rule(x=lambda g, *, dims: _permute(g, dims=tuple(sorted(range(len(dims)), key=dims.__getitem__))))
_index.rule(x=lambda g, x_shape, *, index: _place(g, shape=x_shape, index=index))
_place.rule(g=lambda h, *, index: _index(h, index=index))
_pad.rule(
    x=lambda g, x_shape, *, low: _index(
        g, index=tuple(slice(before, before + n) for before, n in zip(low, x_shape, strict=True))
    )
)


@_concatenate.joint
def _(needs: tuple[bool, ...], g: Tensor, xs_shape: tuple[tuple[int, ...], ...], *, dim: int) -> list[Tensor | None]:
    pieces, start = [], 0
    for need, shape in zip(needs, xs_shape, strict=True):
        piece = (slice(None),) * dim + (slice(start, start + shape[dim]),)
        pieces.append(_index(g, index=piece) if need else None)
        start += shape[dim]
    return pieces


def normalize_dim(who: str, dim: int, ndim: int) -> int:
    """`dim` counted from the front."""
    if not -max(ndim, 1) <= dim < max(ndim, 1):
        raise ShapeError(f"{who}: expected dim in [{-max(ndim, 1)}, {max(ndim, 1) - 1}], got {dim}")
    return dim % max(ndim, 1)


def sizes(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """f(2, 3) and f((2, 3)) alike."""
    return tuple(arguments[0]) if len(arguments) == 1 and isinstance(arguments[0], Sequence) else tuple(arguments)


def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same values in another shape; one size may be -1. A view where the layout allows it, else a copy."""
    wanted = sizes(shape)
    known = math.prod(n for n in wanted if n != -1)
    if wanted.count(-1) == 1 and known:
        wanted = tuple(x.array.size // known if n == -1 else n for n in wanted)
    if math.prod(wanted) != x.array.size or any(n < 0 for n in wanted):
        raise ShapeError(f"reshape: expected a shape of {x.array.size} elements for {x.shape}, got {sizes(shape)}")
    return _reshape(x if x.array.flags.c_contiguous else contiguous(x), shape=wanted)


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge the dims from start_dim to end_dim into one."""
    first, last = normalize_dim("flatten", start_dim, x.ndim), normalize_dim("flatten", end_dim, x.ndim)
    if first > last:
        raise ShapeError(f"flatten: expected start_dim <= end_dim, got {start_dim} and {end_dim} for {x.shape}")
    return reshape(x, (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def permute(x: Tensor, *dims: Any) -> Tensor:
    """The dims in another order (a view)."""
    order = tuple(normalize_dim("permute", d, x.ndim) for d in sizes(dims))
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"permute: expected an order of the {x.ndim} dims of {x.shape}, got {sizes(dims)}")
    return _permute(x, dims=order)


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dims exchanged (a view)."""
    order = list(range(x.ndim))
    a, b = normalize_dim("transpose", dim0, x.ndim), normalize_dim("transpose", dim1, x.ndim)
    order[a], order[b] = order[b], order[a]
    return _permute(x, dims=tuple(order))


def squeeze(x: Tensor, dim: int | None = None) -> Tensor:
    """Without the dims of size one, or without `dim` if its size is one."""
    if dim is None:
        return reshape(x, tuple(n for n in x.shape if n != 1))
    dim = normalize_dim("squeeze", dim, x.ndim)
    return reshape(x, x.shape[:dim] + x.shape[dim + 1 :]) if x.ndim and x.shape[dim] == 1 else x


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """With a dim of size one at `dim`."""
    dim = normalize_dim("unsqueeze", dim, x.ndim + 1)
    return _index(x, index=(slice(None),) * dim + (None,))


def broadcast_to(x: Tensor, *shape: Any) -> Tensor:
    """x expanded to `shape` (a view); -1 keeps a size. Also `Tensor.expand`."""
    wanted = sizes(shape)
    have = (1,) * (len(wanted) - x.ndim) + x.shape
    wanted = tuple(n if m == -1 else m for n, m in zip(have[-len(wanted) or None :], wanted, strict=False))
    if len(wanted) < x.ndim or any(n not in (1, m) for n, m in zip(have, wanted, strict=True)):
        raise ShapeError(f"expand: expected a shape that {x.shape} broadcasts to, got {sizes(shape)}")
    return expand(x, shape=wanted)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors joined along `dim`."""
    tensors = list(tensors)
    if not tensors:
        raise ShapeError("cat: expected at least one tensor, got none")
    dim = normalize_dim("cat", dim, tensors[0].ndim)
    rest = {x.shape[:dim] + x.shape[dim + 1 :] for x in tensors}
    if len(rest) > 1 or len({x.ndim for x in tensors}) > 1 or not tensors[0].ndim:
        raise ShapeError(f"cat: expected shapes equal but for dim {dim}, got {', '.join(str(x.shape) for x in tensors)}")
    return _concatenate(*tensors, dim=dim)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dim."""
    return cat([unsqueeze(x, dim) for x in tensors], dim)


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Pad with `value`. `pad` is PyTorch's: (low, high) of the last dim, then of the one before, ... Negative sizes crop."""
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ShapeError(f"pad: expected pairs for at most {x.ndim} dims, got {tuple(pad)}")
    if mode != "constant":
        raise NotImplementedError(f"pad: expected mode 'constant', got {mode!r}")
    low, high = ([0] * (x.ndim - len(pad) // 2) + [*reversed(pad[k::2])] for k in (0, 1))
    if any(before + after + n < 0 for before, after, n in zip(low, high, x.shape, strict=True)):
        raise ShapeError(f"pad: expected sizes that stay positive for {x.shape}, got {tuple(pad)}")
    crop = tuple(slice(max(-b, 0), n - max(-a, 0)) for b, a, n in zip(low, high, x.shape, strict=True))
    x = _index(x, index=crop) if min(*low, *high) < 0 else x
    return _pad(x, low=tuple(max(n, 0) for n in low), high=tuple(max(n, 0) for n in high), value=value)


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index] for a basic index (integers, slices, None, Ellipsis): a view."""
    parts = index if isinstance(index, tuple) else (index,)
    for part in parts:
        if not (part is None or part is Ellipsis or isinstance(part, slice) or hasattr(part, "__index__")) or isinstance(
            part, bool
        ):
            raise TypeError(f"indexing: expected integers, slices, None or Ellipsis, got {type(part).__name__}")
    taken = [part for part in parts if part is not None and part is not Ellipsis]
    if len(taken) > x.ndim:
        raise ShapeError(f"indexing: expected at most {x.ndim} indices for {x.shape}, got {len(taken)}")
    try:
        return _index(x, index=tuple(p.__index__() if hasattr(p, "__index__") else p for p in parts))
    except IndexError as error:
        raise IndexError(f"indexing: {error} of {x.shape}") from None
