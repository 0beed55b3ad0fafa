"""Shapes, places, order: nothing is computed but indices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....engine.core import Tensor
from . import operations as td
from .elementwise import dtype_of
from .table import Node, UnsupportedError, Value, on_host, operator, tensor, value


def integers(x: Any) -> list[int]:
    """An attribute or the values of an input, as a list."""
    return [int(n) for n in np.ravel(on_host(x))]


def moved(x: Value, order: Sequence[int]) -> Value:
    return td.permute(x, tuple(order)) if isinstance(x, Tensor) else np.transpose(x, order)


def taken(x: Value, places: np.ndarray, axis: int) -> Value:
    """np.take."""
    if not isinstance(x, Tensor):
        return np.take(x, places, axis)
    places = np.where(places < 0, places + x.shape[axis], places)
    picked = td.index_select(x, axis, tensor(places.ravel(), x))
    return picked.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


def padded(x: Value, width: Sequence[tuple[int, int]], fill: Any = 0.0) -> Value:
    """np.pad with a constant."""
    if isinstance(x, Tensor):
        return td.pad(x, [n for pair in reversed(width) for n in pair], value=fill)
    return np.pad(x, width, constant_values=fill)


def joined(parts: Sequence[Value], axis: int) -> Value:
    if any(isinstance(x, Tensor) for x in parts):
        return td.cat([tensor(x) for x in parts], axis)
    return np.concatenate(parts, axis)


def broadcast(x: Value, shape: Sequence[int]) -> Value:
    shape = tuple(shape)
    return td.broadcast_to(x, shape) if isinstance(x, Tensor) else np.broadcast_to(x, shape)


@operator("Constant", arrays=True)
def constant(node: Node) -> Value:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        found = node.get(name)
        if found is not None:
            kind = np.float32 if "float" in name else np.int64 if "int" in name else None
            return value(np.asarray(found, kind))
    raise UnsupportedError(f"{node}: the form {sorted(node.attributes)} is not supported")


@operator("ConstantOfShape", arrays=True, host=(0,))
def constant_of_shape(node: Node, shape: Any) -> Value:
    fill = np.asarray(node.get("value", np.zeros(1, np.float32)))
    return value(np.full(tuple(integers(shape)), fill.reshape(()), fill.dtype))


@operator("Shape", arrays=True)
def shape_of(node: Node, x: Value) -> Value:
    return np.array(x.shape[slice(node.get("start", 0), node.get("end"))], np.int64)


@operator("Size", arrays=True)
def size_of(node: Node, x: Value) -> Value:
    return np.array(np.prod(x.shape, dtype=np.int64))


@operator("Reshape", arrays=True, host=(1,))
def reshape(node: Node, x: Value, shape: Any = None) -> Value:
    """Below opset 5 the shape is an attribute."""
    sizes = integers(node.get("shape") if shape is None else shape)
    if not node.get("allowzero", 0):
        sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    if -1 in sizes:  # with zeros among the others NumPy and PyTorch cannot tell
        rest = int(np.prod([n for n in sizes if n != -1], dtype=np.int64))
        sizes[sizes.index(-1)] = int(np.prod(x.shape, dtype=np.int64)) // rest if rest else 0
    return x.reshape(tuple(sizes))


@operator("Flatten", arrays=True)
def flatten(node: Node, x: Value) -> Value:
    axis = node.get("axis", 1)
    axis += x.ndim * (axis < 0)
    return x.reshape((math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Transpose", arrays=True)
def transpose(node: Node, x: Value) -> Value:
    return moved(x, node.get("perm", range(x.ndim)[::-1]))


@operator("Squeeze", arrays=True, host=(1,))
def squeeze(node: Node, x: Value, axes: Any = None) -> Value:
    """Below opset 13 the axes are an attribute."""
    axes = node.get("axes") if axes is None else axes
    dims = None if axes is None else [d % x.ndim for d in integers(axes)]
    return x.reshape(tuple(n for d, n in enumerate(x.shape) if (n != 1 if dims is None else d not in dims)))


@operator("Unsqueeze", arrays=True, host=(1,))
def unsqueeze(node: Node, x: Value, axes: Any = None) -> Value:
    axes = integers(node.get("axes") if axes is None else axes)
    ndim = x.ndim + len(axes)
    dims, sizes = {d % ndim for d in axes}, iter(x.shape)
    return x.reshape(tuple(1 if d in dims else next(sizes) for d in range(ndim)))


@operator("Expand", arrays=True, host=(1,))
def expand(node: Node, x: Value, shape: Any) -> Value:
    return broadcast(x, np.broadcast_shapes(x.shape, tuple(integers(shape))))


@operator("Concat", arrays=True, trained=())
def concat(node: Node, *parts: Value) -> Value:
    axis = node.get("axis", 1)
    return joined(parts, axis % parts[0].ndim)


@operator("Split", arrays=True, host=(1,))
def split(node: Node, x: Value, sizes: Any = None) -> Any:
    axis, count = node.get("axis", 0) % x.ndim, len(node.outputs)
    sizes = node.get("split") if sizes is None else sizes
    if sizes is None:
        size = -(-x.shape[axis] // count)
        sizes = [min(size, x.shape[axis] - i * size) for i in range(count)]
    ends = np.cumsum([0, *integers(sizes)])
    whole = [slice(None)] * axis
    return tuple(x[(*whole, slice(int(a), int(b)))] for a, b in itertools.pairwise(ends))


@operator("Slice", arrays=True, host=(1, 2, 3, 4))
def slices(
    node: Node, x: Value, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Value:
    """Below opset 10 all are attributes."""
    starts = integers(node.get("starts") if starts is None else starts)
    ends = integers(node.get("ends") if ends is None else ends)
    axes = node.get("axes") if axes is None else axes
    dims = range(len(starts)) if axes is None else [d % x.ndim for d in integers(axes)]
    strides = [1] * len(starts) if steps is None else integers(steps)
    for axis, start, end, step in zip(dims, starts, ends, strides, strict=True):
        places = range(x.shape[axis])[slice(start, _end(end, step, x.shape[axis]), step)]
        if step > 0:
            first = places.start if len(places) else 0
            stop = places[-1] + 1 if len(places) else 0
            x = x[(*[slice(None)] * axis, slice(first, stop, step))]
        else:
            x = taken(x, np.array(places, np.int64), axis)
    return x


def _end(end: int, step: int, size: int) -> int | None:
    """An end before the beginning, as the largest negative numbers say it, takes the first place too."""
    return None if step < 0 and end < -size else end


@operator("Tile", arrays=True, host=(1,))
def tile(node: Node, x: Value, repeats: Any) -> Value:
    counts = tuple(integers(repeats))
    return td.tile(x, counts) if isinstance(x, Tensor) else np.tile(x, counts)


@operator("Gather", arrays=True, trained=(0,), host=(1,))
def gather(node: Node, x: Value, places: Any) -> Value:
    return taken(x, places, node.get("axis", 0) % x.ndim)


@operator("GatherElements", arrays=True, host=(1,))
def gather_elements(node: Node, x: Value, places: Any) -> Value:
    axis = node.get("axis", 0) % x.ndim
    places = np.where(places < 0, places + x.shape[axis], places)
    if isinstance(x, Tensor):
        return td.gather(x, axis, tensor(places, x))
    part = tuple(slice(None) if d == axis else slice(n) for d, n in enumerate(places.shape))
    return np.take_along_axis(x[part], places, axis)


@operator("GatherND", arrays=True, host=(1,))
def gather_nd(node: Node, x: Value, places: Any) -> Value:
    batch = node.get("batch_dims", 0)
    flat, inner = _flat_places(x.shape, places, batch)
    rows = x.reshape((-1, *inner))
    return taken(rows, flat.ravel(), 0).reshape((*places.shape[:-1], *inner))


def _flat_places(
    shape: Sequence[int], places: np.ndarray, batch: int = 0
) -> tuple[np.ndarray, tuple[int, ...]]:
    """(rows that the last axis of `places` points to, of x with its leading dims made one; a row's shape)."""
    depth = places.shape[-1]
    sizes = shape[batch : batch + depth]
    flat = np.zeros(places.shape[:-1], np.int64)
    for k, n in enumerate(sizes):
        flat = flat * n + np.where(places[..., k] < 0, places[..., k] + n, places[..., k])
    if batch:
        own = np.arange(math.prod(shape[:batch])).reshape((*shape[:batch], *(1,) * (flat.ndim - batch)))
        flat = flat + own * math.prod(sizes)
    return flat, tuple(shape[batch + depth :])


@operator("ScatterElements", "Scatter", arrays=True, host=(1,))
def scatter_elements(node: Node, x: Value, places: Any, updates: Value) -> Value:
    axis, how = node.get("axis", 0) % x.ndim, node.get("reduction", "none")
    places = np.where(places < 0, places + x.shape[axis], places)
    if isinstance(x, Tensor):
        return _scattered(x, axis, tensor(places, x), updates, how)
    y, where = x.copy(), list(np.indices(places.shape))
    where[axis] = places
    _WRITES[how](y, tuple(where), updates)
    return y


def _scattered(x: Tensor, dim: int, places: Tensor, updates: Tensor, how: str) -> Tensor:
    if how == "none":
        return td.scatter(x, dim, places, updates)
    if how == "add":
        return td.scatter_add(x, dim, places, updates)
    return td.scatter_reduce(x, dim, places, updates, {"mul": "prod", "max": "amax", "min": "amin"}[how])


def _written(y: np.ndarray, where: Any, updates: np.ndarray) -> None:
    y[where] = updates


_WRITES = {
    "none": _written,
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


@operator("ScatterND", arrays=True, host=(1,))
def scatter_nd(node: Node, x: Value, places: Any, updates: Value) -> Value:
    how = node.get("reduction", "none")
    flat, inner = _flat_places(x.shape, places)
    size = int(np.prod(inner, dtype=np.int64))
    if isinstance(x, Tensor):
        index = tensor(np.repeat(flat.reshape(-1, 1), size, 1), x)
        return _scattered(x.reshape((-1, size)), 0, index, updates.reshape((-1, size)), how).reshape(x.shape)
    y = x.copy().reshape(-1, size)
    _WRITES[how](y, flat.ravel(), updates.reshape(-1, size))
    return y.reshape(x.shape)


@operator("OneHot", arrays=True, host=(0, 1))
def one_hot(node: Node, places: Any, depth: Any, values: Value) -> Value:
    n, axis = int(np.ravel(depth)[0]), node.get("axis", -1)
    axis += (places.ndim + 1) * (axis < 0)
    places = places.astype(np.int64)
    hot = np.expand_dims(np.where(places < 0, places + n, places), axis) == np.arange(n).reshape(
        (n,) + (1,) * (places.ndim - axis)
    )
    if isinstance(values, Tensor):
        return td.where(tensor(hot, values), values[1], values[0])
    return np.where(hot, *values[::-1]).astype(values.dtype)


@operator("NonZero", arrays=True, host=(0,))
def nonzero(node: Node, x: Any) -> Value:
    return np.array(np.nonzero(x), np.int64)


@operator("Compress", arrays=True, host=(1,))
def compress(node: Node, x: Value, condition: Any) -> Value:
    axis = node.get("axis")
    x, axis = (x.reshape((-1,)), 0) if axis is None else (x, axis % x.ndim)
    return taken(x, np.flatnonzero(condition), axis)


@operator("Trilu", arrays=True, host=(1,))
def trilu(node: Node, x: Value, k: Any = 0) -> Value:
    upper, k = node.get("upper", 1), int(np.ravel(k)[0])
    if isinstance(x, Tensor):
        return (td.triu if upper else td.tril)(x, k)
    return (np.triu if upper else np.tril)(x, k)


@operator("EyeLike", arrays=True)
def eye_like(node: Node, x: Value) -> Value:
    number = node.get("dtype")
    dtype: Any = x.dtype if number is None else dtype_of(node, number)
    rows, columns = x.shape
    return value(np.eye(rows, columns, k=node.get("k", 0), dtype=dtype))


@operator("Range", arrays=True, host=(0, 1, 2))
def arange(node: Node, start: Any, limit: Any, delta: Any) -> Value:
    dtype: Any = start.dtype
    return value(np.arange(start.item(), limit.item(), delta.item(), dtype=dtype))


@operator("Pad", arrays=True, host=(1, 3))
def pad(node: Node, x: Value, pads: Any = None, fill: Any = None, axes: Any = None) -> Value:
    """Below opset 11 pads and value are attributes."""
    amounts = integers(node.get("pads", node.get("paddings")) if pads is None else pads)
    fill = node.get("value", 0.0) if fill is None or 0 in fill.shape else fill.reshape(())
    dims = range(x.ndim) if axes is None else [d % x.ndim for d in integers(axes)]
    width = [(0, 0)] * x.ndim
    for i, d in enumerate(dims):
        width[d] = (amounts[i], amounts[i + len(dims)])
    x = x[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, width, strict=True))]
    width = [(max(a, 0), max(b, 0)) for a, b in width]
    mode = node.get("mode", "constant")
    if mode == "constant":
        return padded(x, width, fill)
    if not isinstance(x, Tensor):
        return np.pad(x, width, mode)
    for d, (a, b) in enumerate(width):  # the other modes take places of x
        if a or b:
            x = taken(x, np.pad(np.arange(x.shape[d]), (a, b), mode), d)
    return x


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Value) -> Value:
    (n, c, h, w), b = x.shape, node.get("blocksize")
    c //= b**2
    if node.get("mode", "DCR") == "CRD":
        parts = moved(x.reshape((n, c, b, b, h, w)), (0, 1, 4, 2, 5, 3))
    else:
        parts = moved(x.reshape((n, b, b, c, h, w)), (0, 3, 4, 1, 5, 2))
    return parts.reshape((n, c, h * b, w * b))


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: Value) -> Value:
    (n, c, h, w), b = x.shape, node.get("blocksize")
    parts = x.reshape((n, c, h // b, b, w // b, b))
    order = (0, 1, 3, 5, 2, 4) if node.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    return moved(parts, order).reshape((n, c * b**2, h // b, w // b))


@operator("TopK", arrays=True, host=(1,))
def topk(node: Node, x: Value, k: Any = None) -> Any:
    count, axis = int(np.ravel(node.get("k") if k is None else k)[0]), node.get("axis", -1) % x.ndim
    numbers, largest = on_host(x), node.get("largest", 1)
    order = np.argsort(-numbers.astype(np.float64) if largest else numbers, axis, kind="stable")
    if numbers.dtype.kind in "iu" and largest:  # -x would overflow
        backward = np.argsort(np.flip(numbers, axis), axis, kind="stable")
        order = np.flip(numbers.shape[axis] - 1 - backward, axis)
    places = np.take(order, np.arange(count), axis).astype(np.int64)
    if isinstance(x, Tensor):
        return td.gather(x, axis, tensor(places, x)), places
    return np.take_along_axis(x, places, axis), places


@operator("Unique", arrays=True, host=(0,))
def unique(node: Node, x: Any) -> Any:
    axis = node.get("axis")
    values, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    inverse = inverse.ravel()
    if not node.get("sorted", 1):
        order = np.argsort(first)
        values = np.take(values, order, 0 if axis is None else axis)
        first, counts, inverse = first[order], counts[order], np.argsort(order)[inverse]
    return value(values), first.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)


@operator("ReverseSequence", arrays=True, host=(1,))
def reverse_sequence(node: Node, x: Value, lengths: Any) -> Value:
    batch, time = node.get("batch_axis", 1), node.get("time_axis", 0)
    steps = np.arange(x.shape[time])[:, None]
    places = np.where(steps < lengths, lengths - 1 - steps, steps)  # (time, batch)
    places = places if (time, batch) == (0, 1) else places.T
    places = np.broadcast_to(places.reshape(places.shape + (1,) * (x.ndim - 2)), x.shape).astype(np.int64)
    if isinstance(x, Tensor):
        return td.gather(x, time, tensor(places, x))
    return np.take_along_axis(x, places, time)


@operator("CenterCropPad", arrays=True, host=(1,))
def center_crop_pad(node: Node, x: Value, shape: Any) -> Value:
    axes = node.get("axes", range(x.ndim))
    for d, n in zip([d % x.ndim for d in axes], integers(shape), strict=True):
        size = x.shape[d]
        if n < size:
            first = (size - n) // 2
            x = x[(*[slice(None)] * d, slice(first, first + n))]
        elif n > size:
            low = (n - size) // 2
            width = [(0, 0)] * x.ndim
            width[d] = (low, n - size - low)
            x = padded(x, width)
    return x
