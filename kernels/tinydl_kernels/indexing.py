"""Moving elements to other places.

    concatenate      arrays one after another along an axis
    pad, crop        a constant frame around x; the part of x within a frame (pad's transpose)
    place            zeros(shape) with [index] = g: the transpose of basic indexing x[index]
    place_diagonal   zeros(shape) with g on a diagonal

and by arrays of places, with every index in [0, size). For x (outer, size, inner), index (outer, m, inner) or
broadcast to it:

    gather           out[o, k, c] = x[o, index[o, k, c], c]
    scatter_add      out[o, index[o, k, c], c] += g[o, k, c] on zeros, in the order of k: the transpose of
                     gather
    scatter          out[o, index[o, k, c], c] = source[o, k, c] on a copy of x, in the order of k: the last
                     of several wins
    put              target[index] = value for any index, in place

Each element is read and written once: 2·bytes of the result. scatter_add and scatter walk along k within one
column (o, c), so that their order is fixed; columns are independent. On a GPU (indexing.cu) each place
fetches its elements in that order: it looks through all of its column if they are few, else they are first
sorted by place, O(m log size). Indices on a GPU are not checked, since to look at them is to wait for it: a
wrong one reads anything, or is lost, but nothing is ever written outside of the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .cpu.compiler import kernel, parallel
from .cuda import launching
from .machine import memory
from .machine.constants import OF_FILE
from .machine.dispatch import operation
from .machine.errors import ShapeError
from .machine.memory import array_module
from .machine.validate import report
from .sort import radix_order

Array = Any
Index = Any  # an int, slice, None or Ellipsis, or a tuple of them
GRAIN = 1 << 14
TILE = 1 << 7
"""Columns that one walk along k takes together."""
FEW = 8
"""Elements of a column that each of its places looks through on a GPU."""
RUN = OF_FILE["indexing"]["RUN"]


def concatenate(arrays: Sequence[Array | None], dim: int, sizes: Sequence[int]) -> Array:
    """Arrays of equal shapes but for axis `dim`, one after another along it; zeros for a None. sizes: theirs
    along `dim`.

    The same slicing serves NumPy and CuPy.
    """
    first = next(a for a in arrays if a is not None)
    out = memory.empty((*first.shape[:dim], sum(sizes), *first.shape[dim + 1 :]), first.dtype, first)
    at = 0
    for a, size in zip(arrays, sizes, strict=True):
        out[(slice(None),) * dim + (slice(at, at + size),)] = 0 if a is None else a
        at += size
    return out


def place_diagonal(g: Array, shape: Sequence[int], offset: int, dim1: int, dim2: int) -> Array:
    """zeros(shape) with g (..., diagonal) at [..., i, i + offset] of the axes dim1, dim2. For NumPy and
    CuPy.
    """
    out = memory.zeros(tuple(shape), g.dtype, g)
    if g.size:
        start = [slice(None)] * len(shape)
        start[dim1], start[dim2] = slice(max(-offset, 0), None), slice(max(offset, 0), None)
        others = [stride for dim, stride in enumerate(out.strides) if dim not in (dim1, dim2)]
        steps = (*others, out.strides[dim1] + out.strides[dim2])
        array_module(g).lib.stride_tricks.as_strided(out[tuple(start)], g.shape, steps)[...] = g
    return out


@operation
def pad(x, low, high, value):
    """x with low[i] elements of `value` before and high[i] after it along axis i."""
    return np.pad(x, list(zip(low, high, strict=True)) or 0, constant_values=value)


@pad.cuda
@pad.cpu
def _(x, low, high, value):
    out = memory.empty(
        tuple([a + size + b for size, a, b in zip(x.shape, low, high, strict=True)]), x.dtype, x
    )
    out[...] = value
    out[tuple([slice(a, a + size) for size, a in zip(x.shape, low, strict=True)])] = x
    return out


@operation
def crop(x, low, high):
    """x without its first low[i] and last high[i] elements along axis i."""
    return x[_inside(x.shape, low, high)].copy()


@crop.cuda
@crop.cpu
def _(x, low, high):
    part = x[_inside(x.shape, low, high)]
    out = memory.empty(part.shape, x.dtype, x)
    out[...] = part
    return out


def _inside(shape: Sequence[int], low: Sequence[int], high: Sequence[int]) -> Index:
    # ...: an array even if 0-d
    return (*[slice(a, size - b) for size, a, b in zip(shape, low, high, strict=True)], ...)


@operation
def place(g, shape, index):
    """zeros(shape) with [index] = g, for a basic index: ints, slices, None, Ellipsis."""
    out = np.zeros(shape, g.dtype)
    out[index] = g
    return out


@place.cuda
@place.cpu
def _(g, shape, index):
    out = memory.zeros(shape, g.dtype, g)
    out[index] = g
    return out


# ---- By arrays of places


def check_index(who: str, index: Array, low: int, size: int) -> None:
    """An IndexError unless low <= index < size."""
    if isinstance(index, np.ndarray) and index.size and not low <= index.min() <= index.max() < size:
        raise IndexError(
            f"{who}: expected indices from {low} to {size - 1}, got {index.min()} to {index.max()}"
        )


def _extents(x: Array, index: Array, dim: int) -> tuple[int, ...]:
    """size, m, inner, and the steps of the index along outer, k and inner."""
    inner, columns = math.prod(x.shape[dim + 1 :]), math.prod(index.shape[dim + 1 :])
    m = index.shape[dim]
    outer_step = 0 if math.prod(index.shape[:dim]) == 1 else m * columns
    return x.shape[dim], m, inner, outer_step, columns, 0 if columns == 1 else 1


@operation
def gather(x, index, dim):
    """The elements of x at `index` (int64) along `dim`; off `dim` index has the sizes of x, or ones before or
    behind it.
    """
    check_index("gather", index, 0, x.shape[dim])
    return np.take_along_axis(x, index, dim)


@gather.loops
def _(x, index, dim):
    check_index("gather", index, 0, x.shape[dim])
    out = memory.empty((*x.shape[:dim], index.shape[dim], *x.shape[dim + 1 :]), x.dtype, x)
    extents = _extents(x, index, dim)
    if out.size:
        _gather_loop(
            out.size // extents[2],
            1 + GRAIN // extents[2],
            x.reshape(-1),
            index.reshape(-1),
            out.reshape(-1),
            *extents,
        )
    return out


@gather.cuda
def _(x, index, dim):
    check_index("gather", index, 0, x.shape[dim])
    source = launching.widened(x, "f")
    out = memory.empty((*x.shape[:dim], index.shape[dim], *x.shape[dim + 1 :]), source.dtype, x)
    if out.size:
        picture = _picture(x.shape, index, dim)
        launching.launch(
            "indexing", "gather", out.size, source, index, out, np.int64(out.size), *picture, real=out.dtype
        )
    return out if source is x else _as(out, x.dtype)


def _as(x: Array, dtype: Any) -> Array:
    out = memory.empty(x.shape, dtype, x)
    out[...] = x
    return out


@operation
def scatter_add(g, index, size, dim):
    """Zeros with `size` elements along `dim`, and g added at `index`: the sum where places coincide."""
    check_index("scatter_add", index, 0, size)
    out = np.zeros(
        (*g.shape[:dim], size, *g.shape[dim + 1 :]), np.float64 if g.dtype.kind == "f" else np.int64
    )
    np.add.at(out, _along(index, g.shape, dim), g)
    return out.astype(g.dtype if g.dtype.kind == "f" else np.int64)


@scatter_add.cpu
def _(g, index, size, dim):
    check_index("scatter_add", index, 0, size)
    wide = np.float64 if g.dtype.kind == "f" else np.int64
    sums = memory.zeros((*g.shape[:dim], size, *g.shape[dim + 1 :]), wide, g)
    if g.size:
        _scattered(_scatter_add_loop, g, index, sums, dim)
    if g.dtype != np.float32:
        return sums
    out = memory.empty(sums.shape, g.dtype, g)
    out[...] = sums
    return out


@scatter_add.cuda
def _(g, index, size, dim):
    check_index("scatter_add", index, 0, size)
    g = launching.widened(g, "f")
    out = memory.empty((*g.shape[:dim], size, *g.shape[dim + 1 :]), g.dtype, g)
    if not g.size:
        out[...] = 0
    elif out.size:
        _collect("scatter_add", (g,), index, out, dim)
    return out


@operation
def scatter(x, source, index, dim):
    """A copy of x with `source` at `index` along `dim`."""
    check_index("scatter", index, 0, x.shape[dim])
    out = x.copy()
    for k in range(source.shape[dim]):
        here = (slice(None),) * dim + (slice(k, k + 1),)
        np.put_along_axis(out, np.broadcast_to(index, source.shape)[here], source[here], dim)
    return out


@scatter.cpu
def _(x, source, index, dim):
    check_index("scatter", index, 0, x.shape[dim])
    out = memory.empty_like(x)
    out[...] = x
    if source.size:
        _scattered(_replace_loop, source, index, out, dim)
    return out


@scatter.cuda
def _(x, source, index, dim):
    check_index("scatter", index, 0, x.shape[dim])
    native = launching.widened(x, "f")
    out = memory.empty(x.shape, native.dtype, x)
    if source.size:
        _collect("scatter", (native, launching.widened(source, "f")), index, out, dim)
    else:
        out[...] = native
    return out if native is x else _as(out, x.dtype)


def _along(index: Array, shape: Sequence[int], dim: int) -> tuple[Array, ...]:
    """The index of every axis that NumPy needs for an index along `dim`."""
    places = list(np.ogrid[tuple([slice(n) for n in shape])])
    places[dim] = index
    return tuple(places)


def flat_index(indices: Sequence[Array], sizes: Sequence[int]) -> Array:
    """The place in an array of the given sizes, flattened, of the broadcast `indices`; negative ones count
    from the end.
    """
    shapes = [index.shape for index in indices]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(
            f"indexing: expected indices that broadcast, got {', '.join(map(str, shapes))}"
        ) from None
    out = memory.zeros(shape, np.int64, indices[0])
    for index, size in zip(indices, sizes, strict=True):
        check_index("indexing", index, -size, size)
        out *= size
        out += array_module(index).where(index < 0, index + size, index)
    return out


@operation
def put(target, index, value):
    """target[index] = value, in place, for any index of NumPy's: a tuple. The last of several values for a
    place wins.
    """
    target[index] = value


@put.cuda
def _(target, index, value):
    if any(getattr(part, "dtype", None) == np.bool_ for part in index):  # no place comes twice
        target[index] = value
        return
    places = array_module(target).arange(target.size).reshape(target.shape)[index]
    values, flat = (
        memory.empty(places.shape, target.dtype, target),
        memory.empty(target.shape, target.dtype, target),
    )
    values[...], flat[...] = value, target
    target[...] = scatter(flat.reshape(-1), values.reshape(-1), places.reshape(-1), 0).reshape(target.shape)


@operation(portable=True)
def nonzero(x):
    """The indices (count, axes) of the elements of x that are not zero. How many there are depends on the
    values.
    """
    return array_module(x).argwhere(x)


@operation
def one_hot(index, classes):
    """index (...) to int64 (..., classes): 1 at the index, 0 elsewhere."""
    check_index("one_hot", index, 0, classes)
    return (index[..., None] == np.arange(classes)).astype(np.int64)


@one_hot.cuda
def _(index, classes):
    check_index("one_hot", index, 0, classes)
    out = memory.empty((*index.shape, classes), np.int64, index)
    sizes = np.int64(out.size), np.int64(classes)
    launching.launch("indexing", "one_hot", out.size, index, out, *sizes, real=out.dtype)
    return out


# ---- Numba


def _scattered(loop: Any, source: Array, index: Array, out: Array, dim: int) -> None:
    extents = _extents(out, index, dim)
    m, inner = extents[1:3]
    columns = math.prod(out.shape[:dim]) * -(-inner // TILE)
    grain = 1 + GRAIN // (1 + m * min(inner, TILE))
    loop(columns, grain, source.reshape(-1), index.reshape(-1), out.reshape(-1), *extents)


@parallel
def _gather_loop(start, stop, x, index, out, size, m, inner, outer_step, step, column_step):
    for item in range(start, stop):
        outer, k = item // m, item % m
        at = outer * outer_step + k * step
        row, base = out[item * inner : (item + 1) * inner], outer * size * inner
        if column_step == 0:
            if not 0 <= index[at] < size:  # in a replay, which does not pass by check_index
                raise IndexError("gather: expected indices within the dim")
            base += index[at] * inner
            for c in range(inner):
                row[c] = x[base + c]
        else:
            for c in range(inner):
                if not 0 <= index[at + c] < size:
                    raise IndexError("gather: expected indices within the dim")
            for c in range(inner):
                row[c] = x[base + index[at + c] * inner + c]


def _scatter_loop(name: str, put: Callable[..., Any]) -> Any:
    """The loop that puts source (outer, m, inner) into out (outer, size, inner), by tiles of columns."""

    def loop(start, stop, source, index, out, size, m, inner, outer_step, step, column_step):
        tiles = (inner + TILE - 1) // TILE
        for item in range(start, stop):
            outer, column = item // tiles, item % tiles * TILE
            width = min(TILE, inner - column)
            for k in range(m):
                at, base = outer * outer_step + k * step, outer * size * inner + column
                first = (outer * m + k) * inner + column
                row = source[first : first + width]
                if column_step == 0:
                    base += index[at] * inner
                    place = out[base : base + width]
                    for c in range(width):
                        place[c] = put(place[c], row[c])
                else:
                    for c in range(width):
                        there = base + index[at + column + c] * inner + c
                        out[there] = put(out[there], row[c])

    loop.__name__ = loop.__qualname__ = f"{name}_loop"
    return parallel(loop)


@kernel
def _added(old, new):
    return old + new


@kernel
def _replaced(old, new):
    return new


_scatter_add_loop, _replace_loop = _scatter_loop("scatter_add", _added), _scatter_loop("scatter", _replaced)


# ---- CUDA


def _picture(shape: Sequence[int], index: Array, dim: int) -> tuple[np.int64, ...]:
    """count, rows, width, size, m, columns of indexing.cu, for an index into an array of `shape`."""
    size, m = shape[dim], index.shape[dim]
    outer, columns = math.prod(index.shape[:dim]), math.prod(index.shape[dim + 1 :])
    width = math.prod(shape[dim + 1 :]) // columns
    return tuple([np.int64(n) for n in (index.size, outer * size * columns, width, size, m, columns)])


def _collect(kernel: str, arrays: tuple[Array, ...], index: Array, out: Array, dim: int) -> None:
    """scatter_add or scatter of a source that is not empty."""
    picture = _picture(out.shape, index, dim)
    n, (count, rows, width, size, m, columns) = np.int64(out.size), picture
    if m <= FEW:
        launching.launch(
            "indexing", f"{kernel}_few", out.size, *arrays, index, out, n, *picture, real=out.dtype
        )
        return
    keys, starts = memory.empty((int(count),), np.uint64, out), memory.empty((int(rows) + 1,), np.int64, out)
    launching.launch("indexing", "places", int(count), index, keys, count, size, m, columns, real=out.dtype)
    order = radix_order(keys, max(1, int(rows - 1).bit_length()), int(count))
    launching.launch("indexing", "starts", int(rows) + 1, keys, order, starts, count, rows, real=out.dtype)
    settings = n, count, rows, width
    if kernel == "scatter":
        launching.launch(
            "indexing", "scatter_sorted", out.size, *arrays, order, starts, out, *settings, real=out.dtype
        )
        return
    sums, runs = None, np.int64(int(count) // RUN if count >= 4 * RUN else 0)
    if runs:
        # int64 for integers
        sums = memory.empty((out.size // int(rows * width), int(runs), int(width)), np.float64, out)
        sizes = np.int64(sums.size), count, runs, width
        launching.launch(
            "indexing", "scatter_add_runs", sums.size, *arrays, order, keys, sums, *sizes, real=out.dtype
        )
    launching.launch(
        "indexing",
        "scatter_add_sorted",
        out.size,
        *arrays,
        order,
        starts,
        sums,
        out,
        *settings,
        runs,
        real=out.dtype,
    )


def main() -> None:
    """Validate every operation against its reference, then time it."""
    x = np.random.default_rng(0).standard_normal((64, 16, 28, 28)).astype(np.float32)
    frame = (0, 0, 2, 2)
    report(pad, x, frame, frame, 0.0)
    report(crop, x, frame, frame)
    report(place, x, (64, 16, 56, 56), (..., slice(None, None, 2), slice(1, None, 2)))
    rows, words = x.reshape(-1, 784), np.random.default_rng(1).integers(0, 1024, 4096)
    places = np.random.default_rng(2).integers(0, 1024, rows.shape)
    report(gather, rows, words[:, None], 0)
    report(gather, rows, places, 0)
    report(scatter_add, rows[words % 64], words[:, None], 1024, 0)
    report(scatter_add, rows, places, 1024, 0)
    report(scatter, rows, rows, places, 0)


if __name__ == "__main__":
    main()
