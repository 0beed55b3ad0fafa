"""Elements taken from and put to places that an array of indices names, and what follows from that.

Two primitives carry the calculus, each the transpose of the other: `_gather` takes along a dim,
`_scatter_add` adds up along it in a fixed order. Indices are int64 and carry no gradient. Where the shape of
a result depends on values (masks, nonzero), a recorded step refuses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels import indexing as kernels
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.dispatch import device_of
from tinydl_kernels.machine.errors import DeviceError, DtypeError, GraphError, ShapeError

from ..devices import constant, on_host
from ..engine.core import Array, Tensor, add, primitive, state
from ..engine.effect import effect
from ..engine.promotion import INT64, is_scalar, number, require_one_dtype
from ..engine.public import public
from .elementwise import clone, eq, to_dtype, where
from .padding import pad
from .shape import (
    _existing_dim,
    _index,
    broadcast_to,
    common_shape,
    narrow,
    normalize_dim,
    reshape,
    unsqueeze,
)

__all__ = [
    "argwhere",
    "bincount",
    "gather",
    "index_select",
    "masked_fill",
    "nonzero",
    "one_hot",
    "repeat_interleave",
    "scatter",
    "scatter_add",
    "take_along_dim",
    "tril",
    "triu",
]


@primitive(constant=("index",))
def _gather(x: Array, index: Array, *, dim: int) -> Array:
    """x at `index` along `dim`; off `dim` index has the sizes of x, or ones before or behind it."""
    return kernels.gather(x, index, dim)


@primitive(constant=("index",))
def _scatter_add(g: Array, index: Array, *, size: int, dim: int) -> Array:
    """Zeros with `size` elements along `dim`, and g added at `index`."""
    return kernels.scatter_add(g, index, size, dim)


@primitive(constant=("index",))
def _scatter(x: Array, source: Array, index: Array, *, dim: int) -> Array:
    """x with `source` in place at `index`, which has its shape."""
    return kernels.scatter(x, source, index, dim)


@primitive(strided=True, constant=("out",))
def _flat_index(*indices: Array, sizes: tuple[int, ...]) -> Array:
    return kernels.flat_index(indices, sizes)


@primitive(constant=("x", "out"))
def _nonzero(x: Array) -> Array:
    return kernels.nonzero(x)


@primitive(constant=("index", "out"))
def _one_hot(index: Array, *, classes: int) -> Array:
    return kernels.one_hot(index, classes)


@effect(writes=("target",))
def _put(target: Array, value: Array, *arrays: Array, index: tuple[Any, ...], at: tuple[int, ...]) -> None:
    """target[index] = value, with the arrays in the index at the positions `at`."""
    filled = list(index)
    for position, array in zip(at, arrays, strict=True):
        filled[position] = array
    kernels.put(target, tuple(filled), value)


_gather.rule(x=lambda g, index, x_shape, *, dim: _scatter_add(g, index, size=x_shape[dim], dim=dim))
_scatter_add.rule(g=lambda h, index, *, dim: _gather(h, index, dim=dim))
_scatter.rule(
    x=lambda g, index, *, dim: _scatter(g, _filled(g, index.shape, 0.0), index, dim=dim),
    source=lambda g, index, *, dim: where(_wins(index, g.shape, dim), _gather(g, index, dim=dim), 0.0),
)


def _filled(like: Tensor, shape: tuple[int, ...], value: Any) -> Tensor:
    return Tensor(memory.array_module(like.array).full(shape, value, like.dtype))


def _wins(index: Tensor, shape: tuple[int, ...], dim: int) -> Tensor:
    """Which elements of a scattered source are still there when others have been put to
    the same places behind them.
    """
    line = (1,) * dim + (-1,) + (1,) * (index.ndim - dim - 1)
    order = broadcast_to(constant(index, np.arange(index.shape[dim]).reshape(line)), index.shape)
    last = _scatter(_filled(index, shape, 0), order, index, dim=dim)
    return eq(_gather(last, index, dim=dim), order)


def refuse_recording(who: str, why: str = "the shape of the result depends on values") -> None:
    """A GraphError inside a recorded step, for what a replay cannot do."""
    if state.recorder is not None:
        raise GraphError(f"{who}: expected an eager step, got a recorded one: {why}")


def places(who: str, index: Any, like: Tensor) -> Tensor:
    """An index as an int64 tensor."""
    index = index if isinstance(index, Tensor) else from_outside(who, index, like)
    if index.dtype.kind not in "iu" and index.array.size:
        raise DtypeError(f"{who}: expected an index of integers, got {index.dtype}")
    return to_dtype(index.detach(), INT64)


def from_outside(who: str, given: Any, like: Tensor, dtype: Any = None) -> Tensor:
    """A tensor of what a user gives instead: numbers and lists go to the device of `like`, a NumPy or
    CuPy array must be there already.
    """
    cupys = hasattr(given, "__cuda_array_interface__")
    if (cupys or isinstance(given, np.ndarray)) and device_of(given) != like.device:
        kind = "a CuPy array, which is on cuda" if cupys else "a NumPy array, which is on cpu"
        raise DeviceError(f"{who}: expected a tensor on {like.device} or a list, got {kind}")
    return Tensor(given) if cupys else constant(like, np.asarray(given, dtype))


# ---- Along a dim


@public
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of `input` at the places `index` (m,) along `dim`."""
    dim, index = normalize_dim("index_select", dim, input.ndim), places("index_select", index, input)
    if index.ndim > 1 or (not input.ndim and index.array.size != 1):
        raise ShapeError(
            f"index_select: expected a vector of indices, one for a 0-d tensor, got {index.shape} for "
            f"{input.shape}"
        )
    if not input.ndim:
        return gather(input, 0, reshape(index, ()))
    kernels.check_index("index_select", index.array, 0, input.shape[dim])
    return _gather(input, reshape(index, (1,) * dim + (-1,) + (1,) * (input.ndim - dim - 1)), dim=dim)


@public
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """out[i][j][k] = input[i][index[i][j][k]][k] for dim = 1: `index` has as many dims,
    elsewhere no larger than the input. One of nothing may have any shape.
    """
    input, index, shape = _with_dims(input, places("gather", index, input))
    if _is_nothing("gather", input, dim, index):
        return reshape(narrow(reshape(input, -1), 0, 0, 0), shape)
    dim, index = _checked("gather", input, dim, index)
    return _reshaped(_gather(_box(input, index, dim), index, dim=dim), shape)


@public
def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, value: Any = None) -> Tensor:
    """A copy of `input` with out[i][index[i][j][k]][k] = src[i][j][k] for dim = 1, in the order of j; src may
    be a number, which may be given as `value`.

    Where several come to one place the last one wins, and it alone has a gradient.
    """
    shape = input.shape
    input, index, _ = _with_dims(input, places("scatter", index, input))
    if (src is None) is (value is None):
        raise TypeError(f"scatter: expected src or value, got {'neither' if src is None else 'both'}")
    if _is_nothing("scatter", input, dim, index, src):
        return clone(_reshaped(input, shape))
    dim, index = _checked("scatter", input, dim, index)
    src = value if src is None else src
    if is_scalar(src):
        src = number("scatter", src, input.dtype)
    source = _filled(input, index.shape, src) if is_scalar(src) else _source("scatter", src, index, input)
    part = _box(input, index, dim)
    scattered = _scatter(part, source, index, dim=dim)
    if part.shape == input.shape:
        return _reshaped(scattered, shape)
    inside = np.zeros(input.shape, np.bool_)
    inside[tuple(slice(n) for n in part.shape)] = True
    return where(constant(input, inside), _grown(scattered, input.shape), input)


@public
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A copy of `input` with src[i][j][k] added to out[i][index[i][j][k]][k] for
    dim = 1, in the order of j.
    """
    shape = input.shape
    input, index, _ = _with_dims(input, places("scatter_add", index, input))
    if _is_nothing("scatter_add", input, dim, index, src):
        return clone(_reshaped(input, shape))
    dim, index = _checked("scatter_add", input, dim, index)
    source = _source("scatter_add", src, index, input)
    added = to_dtype(_scatter_add(source, index, size=input.shape[dim], dim=dim), input.dtype)
    return _reshaped(add(input, _grown(added, input.shape)), shape)


@public
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` whose operands broadcast off `dim`; without `dim` in the flattened
    input (numpy.take_along_axis).
    """
    indices = places("take_along_dim", indices, input)
    if dim is None:
        input, indices, dim = reshape(input, -1), reshape(indices, -1), 0
    dim = _existing_dim("take_along_dim", dim, input)
    if indices.ndim != input.ndim:
        raise ShapeError(
            f"take_along_dim: expected indices of {input.ndim} dims for {input.shape}, got {indices.shape}"
        )
    shape = common_shape("take_along_dim", narrow(input, dim, 0, 0), narrow(indices, dim, 0, 0))
    kernels.check_index("take_along_dim", indices.array, 0, input.shape[dim])
    x, index = (broadcast_to(y, (*shape[:dim], y.shape[dim], *shape[dim + 1 :])) for y in (input, indices))
    return _gather(x, index, dim=dim)


def _with_dims(x: Tensor, index: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """x and the index with the one dim that a 0-d tensor of theirs stands for; the shape that the index
    had.
    """
    if x.ndim > 1 or index.ndim > 1:
        return x, index, index.shape
    return _reshaped(x, x.shape or (1,)), _reshaped(index, index.shape or (1,)), index.shape


def _reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape == shape else reshape(x, shape)


def _reaches(x: Tensor, dim: int, index: Tensor) -> bool:
    """Has the index the dims of x, off `dim` no larger ones?"""
    sizes = [*zip(index.shape, x.shape, strict=False)]
    return index.ndim == x.ndim and all(i <= n for d, (i, n) in enumerate(sizes) if d != dim)


def _is_nothing(who: str, x: Tensor, dim: int, index: Tensor, src: Any = None) -> bool:
    """Is it an index of nothing, whose shape does not go with x and the source, and need not?"""
    if index.array.size:
        return False
    goes = _reaches(x, normalize_dim(who, dim, x.ndim), index)
    return not (goes and (not isinstance(src, Tensor) or _holds(src, index)))


def _holds(src: Tensor, index: Tensor) -> bool:
    """Is the source at least as large as the index?"""
    sizes = [*zip(index.shape, src.shape, strict=False)]
    return src.ndim == index.ndim and all(i <= n for i, n in sizes)


def _checked(who: str, x: Tensor, dim: int, index: Tensor) -> tuple[int, Tensor]:
    """The dim from the front and the index as int64, of a shape and with values that go with x."""
    index, dim = places(who, index, x), normalize_dim(who, dim, x.ndim)
    if not _reaches(x, dim, index):
        raise ShapeError(
            f"{who}: expected an index no larger than the input {x.shape} but for dim {dim}, got "
            f"{index.shape}"
        )
    kernels.check_index(who, index.array, 0, x.shape[dim])
    return dim, index


def _source(who: str, src: Tensor, index: Tensor, input: Tensor) -> Tensor:
    src = src if src.ndim or index.ndim != 1 else reshape(src, (1,))
    if not _holds(src, index):
        raise ShapeError(f"{who}: expected src at least as large as the index {index.shape}, got {src.shape}")
    require_one_dtype(who, src.dtype, input.dtype)
    return src if src.shape == index.shape else _index(src, index=tuple(slice(n) for n in index.shape))


def _box(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """The part of x that an index can reach: off `dim` of the index's sizes."""
    shape = (*index.shape[:dim], x.shape[dim], *index.shape[dim + 1 :])
    return x if x.shape == shape else _index(x, index=tuple(slice(n) for n in shape))


def _grown(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x in the first corner of zeros of `shape`."""
    sides = [
        side for have, wanted in zip(x.shape[::-1], shape[::-1], strict=True) for side in (0, wanted - have)
    ]
    return pad(x, sides) if any(sides) else x


@public
def repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each slice along `dim`, without `dim` each element, `repeats` times in a row. A tensor
    gives a count for each of them. Of counts alone, the place of each as often as it says.

    With counts a recorded step refuses, since the size of the result depends on them; `output_size`, which
    must be that size, says it in advance, and does not change that.
    """
    if repeats is None:
        return repeat_interleave(_steps(input), input, 0, output_size=output_size)
    x, d = (
        (reshape(input, -1), 0)
        if dim is None
        else (input, normalize_dim("repeat_interleave", dim, input.ndim))
    )
    if is_scalar(repeats):
        if not isinstance(repeats, (int, np.integer)) or repeats < 0:
            raise ShapeError(f"repeat_interleave: expected counts of at least 0, got {repeats}")
        repeated = broadcast_to(unsqueeze(x, d + 1), (*x.shape[: d + 1], repeats, *x.shape[d + 1 :]))
        _require_size(output_size, x.shape[d] * int(repeats))
        return reshape(repeated, (*x.shape[:d], x.shape[d] * repeats, *x.shape[d + 1 :]))
    refuse_recording("repeat_interleave")
    counts = on_host(repeats)
    if counts.ndim > 1 or counts.size not in (1, x.shape[d]) or (counts < 0).any():
        raise ShapeError(f"repeat_interleave: expected {x.shape[d]} counts of at least 0, got {counts.shape}")
    chosen = np.repeat(np.arange(x.shape[d]), counts)
    _require_size(output_size, chosen.size)
    return index_select(x, d, constant(x, chosen))


def _steps(counts: Tensor) -> Tensor:
    """0, 1, ... for each of a vector of counts."""
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise ShapeError(
            f"repeat_interleave: expected a vector of integers as counts, got {counts.shape} {counts.dtype}"
        )
    return constant(counts, np.arange(counts.shape[0]))


def _require_size(wanted: int | None, size: int) -> None:
    if wanted not in (None, size):
        raise ShapeError(f"repeat_interleave: expected output_size {size}, got {wanted}")


# ---- By masks


@public
def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`value` (a number or a 0-d tensor) where the mask holds, else `input`."""
    require_mask("masked_fill", mask)
    common_shape("masked_fill", input, mask)
    if not is_scalar(value) and value.ndim:
        raise ShapeError(f"masked_fill: expected a number or a 0-d tensor as value, got {value.shape}")
    return where(
        mask,
        number("masked_fill", value, input.dtype) if is_scalar(value) else to_dtype(value, input.dtype),
        input,
    )


def require_mask(who: str, mask: Tensor) -> None:
    if mask.dtype.kind != "b":
        raise DtypeError(f"{who}: expected a mask of booleans, got {mask.dtype}")


@public
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The matrices with zeros above a diagonal: [..., i, j] is kept where j <= i + diagonal."""
    return where(_triangle("tril", input, diagonal), input, input.dtype.type(0))


@public
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The matrices with zeros below a diagonal: [..., i, j] is kept where j >= i + diagonal."""
    return where(_triangle("triu", input, diagonal - 1), input.dtype.type(0), input)


def _triangle(who: str, x: Tensor, diagonal: int) -> Tensor:
    if x.ndim < 2:
        raise ShapeError(f"{who}: expected matrices, got {x.shape}")
    return constant(x, np.tri(x.shape[-2], x.shape[-1], diagonal, dtype=np.bool_))


# ---- Counting


@public
def nonzero(input: Tensor, as_tuple: bool = False) -> Any:
    """The indices (count, dims) of the elements that are not zero; as_tuple: one vector per
    dim. Not in a recorded step.
    """
    refuse_recording("nonzero")
    found = _nonzero(input)
    if as_tuple and not input.ndim:  # as of a vector
        return (constant(input, np.zeros(found.shape[0], np.int64)),)
    return tuple(_index(found, index=(slice(None), d)) for d in range(input.ndim)) if as_tuple else found


@public
def argwhere(input: Tensor) -> Tensor:
    """The indices (count, dims) of the elements that are not zero: `nonzero` by NumPy's name."""
    refuse_recording("argwhere")
    return _nonzero(input)


@public
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Classes (*) to int64 (*, num_classes): 1 at the class, else 0. -1 counts the classes,
    which a recorded step refuses.
    """
    index = places("one_hot", tensor, tensor)
    if num_classes == -1:
        refuse_recording("one_hot")
        num_classes = _largest(index) + 1
    if not isinstance(num_classes, (int, np.integer)):
        raise TypeError(f"one_hot: expected num_classes an integer, got {num_classes!r}")
    return _one_hot(index, classes=int(num_classes))


def _largest(index: Tensor) -> int:
    """The largest index, -1 if there is none."""
    return int(index.array.max()) if index.array.size else -1


@public
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, ... is among the integers (n,), or the sums of their
    weights, float64 of integers. Not in a recorded step.
    """
    refuse_recording("bincount")
    index = places("bincount", input, input)
    if index.ndim != 1 or (weights is not None and weights.shape != index.shape):
        got = "" if weights is None else f" with weights {weights.shape}"
        raise ShapeError(f"bincount: expected a vector, and weights of its shape, got {index.shape}{got}")
    kernels.check_index("bincount", index.array, 0, np.iinfo(np.int64).max)
    size = max(_largest(index) + 1, minlength)
    if weights is None:
        weights = _filled(index, index.shape, 1)
    elif weights.dtype.kind != "f":
        weights = to_dtype(weights, np.float64)
    return _scatter_add(weights, index, size=size, dim=0)
