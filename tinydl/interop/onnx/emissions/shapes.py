"""Shapes, places, order."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..writer import Call, Writer
from .table import emission


@emission("reshape")
def reshape(w: Writer, call: Call, twin: Call) -> str:
    """A batch in its place is copied, one elsewhere is what remains."""
    sizes: list[int] = []
    before = call.inputs[0].shape, twin.inputs[0].shape
    for i, (n, m) in enumerate(zip(call.outputs[0].shape, twin.outputs[0].shape, strict=True)):
        copied = i < len(before[0]) and (before[0][i], before[1][i]) == (n, m)
        sizes.append(n if n == m else 0 if copied else -1)
    [x] = w.given(call, twin)
    if sizes.count(-1) > 1 or 0 in call.outputs[0].shape:
        zeros = {"allowzero": 1} if w.opset >= 14 else {}
        return w.node("Reshape", [x, w.sizes(call.outputs[0].shape, twin.outputs[0].shape)], **zeros)
    return w.node("Reshape", [x, w.constant(sizes, np.int64)])


@emission("expand")
def expand(w: Writer, call: Call, twin: Call) -> str:
    """Dims that the input has already are 1 in the shape."""
    shape, other = list(call.outputs[0].shape), list(twin.outputs[0].shape)
    own = call.inputs[0].shape
    for i in range(1, len(own) + 1):
        if own[-i] == shape[-i]:
            shape[-i] = other[-i] = 1
    return w.node("Expand", [*w.given(call, twin), w.sizes(shape, other)])


@emission("sum_to")
def sum_to(w: Writer, call: Call, twin: Call) -> str:
    x, shape = call.inputs[0], call.outputs[0].shape
    more = x.ndim - len(shape)
    dims = [*range(more), *(d for d in range(more, x.ndim) if shape[d - more] == 1 != x.shape[d])]
    summed = w.reduced("ReduceSum", w.given(call, twin)[0], dims, keep=True)
    return w.node("Squeeze", [summed, w.constant(range(more), np.int64)]) if more else summed


@emission("permute")
def permute(w: Writer, call: Call, twin: Call) -> str:
    return w.node("Transpose", w.given(call, twin), perm=list(call.settings["dims"]))


@emission("cat")
def cat(w: Writer, call: Call, twin: Call) -> str:
    if any(part is None for part in call.inputs):
        raise w.refused("a concatenation with nothing")
    dim = call.settings["dim"]
    names = w.given(call, twin)
    full = [name for name, part in zip(names, call.inputs, strict=True) if part.shape[dim]]
    return w.node("Concat", full or names[:1], axis=dim)


@emission("split")
def split(w: Writer, call: Call, twin: Call) -> list[str]:
    sizes = w.sizes(call.settings["sizes"], twin.settings["sizes"])
    made = w.node("Split", [*w.given(call, twin), sizes], len(call.outputs), axis=call.settings["dim"])
    return [made] if isinstance(made, str) else made


FIRST, LAST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
"""Ends of a slice beyond the first and the last place."""


@emission("index")
def index(w: Writer, call: Call, twin: Call) -> str:
    """Numbers, slices, new dims and dots."""
    spans, dropped, added = found = _parts(call)
    if found != _parts(twin):
        raise w.refused(f"expected places that every batch has, got {call.settings} and {twin.settings}")
    [y] = w.given(call, twin)
    if spans:
        y = w.node("Slice", [y, *(w.constant(numbers, np.int64) for numbers in zip(*spans, strict=True))])
    if dropped:
        y = w.node("Squeeze", [y, w.constant(dropped, np.int64)])
    return w.node("Unsqueeze", [y, w.constant(added, np.int64)]) if added else y


def _parts(call: Call) -> tuple[list[tuple[int, int, int, int]], list[int], list[int]]:
    """(start, end, axis and step of each slice; the axes that are dropped; where the result has new ones)."""
    x, places = call.inputs[0], list(call.settings["index"])
    if any(n is Ellipsis for n in places):
        at = next(i for i, n in enumerate(places) if n is Ellipsis)
        rest = x.ndim - sum(n is not None and n is not Ellipsis for n in places)
        places[at : at + 1] = [slice(None)] * rest
    spans: list[tuple[int, int, int, int]] = []
    dropped: list[int] = []
    added: list[int] = []
    axis = at = 0
    for n in places:
        if n is None:
            added.append(at)
            at += 1
            continue
        if isinstance(n, slice):
            step = 1 if n.step is None else n.step
            start = (0 if step > 0 else LAST) if n.start is None else n.start
            whole = n.stop is None or (step > 0 and n.stop == x.shape[axis])
            end = (LAST if step > 0 else FIRST) if whole else n.stop
            if (start, end, step) != (0, LAST, 1):
                spans.append((start, end, axis, step))
            at += 1
        else:
            spans.append((int(n), LAST if n == -1 else int(n) + 1, axis, 1))
            dropped.append(axis)
        axis += 1
    return spans, dropped, added


@emission("pad")
def pad(w: Writer, call: Call, twin: Call) -> str:
    amounts = [*call.settings["low"], *call.settings["high"]]
    fill = w.like(call.settings["value"], call.inputs[0])
    return w.node("Pad", [*w.given(call, twin), w.constant(amounts, np.int64), fill])


@emission("gather")
def gather(w: Writer, call: Call, twin: Call) -> str:
    places = call.inputs[1]
    dim = call.settings["dim"]
    names = w.given(call, twin)
    if all(n == 1 for d, n in enumerate(places.shape) if d != dim):
        flat = w.node("Reshape", [names[1], w.constant([-1], np.int64)])
        return w.node("Gather", [names[0], flat], axis=dim)
    if tuple(places.shape) != tuple(call.outputs[0].shape):
        sizes = w.sizes(call.outputs[0].shape, twin.outputs[0].shape)
        names[1] = w.node("Expand", [names[1], sizes])
    return w.node("GatherElements", names, axis=dim)


@emission("shared_rows")
def shared_rows(w: Writer, call: Call, twin: Call) -> str:
    rows, index, _ = w.given(call, twin)
    return w.node("Gather", [rows, w.node("Reshape", [index, w.constant([-1], np.int64)])], axis=0)


@emission("flat_index")
def flat_index(w: Writer, call: Call, twin: Call) -> str:
    flat, sizes = "", zip(call.settings["sizes"], twin.settings["sizes"], strict=True)
    for name, (n, m) in zip(w.given(call, twin), sizes, strict=True):
        w.require_size(n, m)
        size, zero = w.constant(n, np.int64), w.constant(0, np.int64)
        back = w.node("Add", [name, size])
        place = w.node("Where", [w.node("Less", [name, zero]), back, name])
        flat = w.node("Add", [w.node("Mul", [flat, size]), place]) if flat else place
    return flat


@emission("pool.gather")
def gather_of_planes(w: Writer, call: Call, twin: Call) -> str:
    """At indices of flattened planes."""
    rows = [w.node("Reshape", [name, w.constant([0, 0, -1], np.int64)]) for name in w.given(call, twin)]
    sizes = w.constant([0, 0, *call.outputs[0].shape[2:]], np.int64)
    return w.node("Reshape", [w.node("GatherElements", rows, axis=2), sizes])


@emission("indexing.scatter")
def scatter(w: Writer, call: Call, twin: Call) -> str:
    x, source, index = w.given(call, twin)
    return w.node("ScatterElements", [x, index, source], axis=call.settings["dim"])


@emission("indexing.scatter_add")
def scatter_add(w: Writer, call: Call, twin: Call) -> str:
    if w.opset < 16:
        raise w.refused("scatter_add below opset 16")
    g, index = w.given(call, twin)
    index = w.node("Expand", [index, w.node("Shape", [g])])
    fill = w.tensor(np.zeros(1, call.inputs[0].dtype))
    sizes = w.sizes(call.outputs[0].shape, twin.outputs[0].shape)
    zeros = w.node("ConstantOfShape", [sizes], value=fill)
    return w.node("ScatterElements", [zeros, index, g], axis=call.settings["dim"], reduction="add")


@emission("one_hot")
def one_hot(w: Writer, call: Call, twin: Call) -> str:
    [x] = w.given(call, twin)
    places = np.arange(call.settings["classes"], dtype=call.inputs[0].dtype)
    last = w.node("Unsqueeze", [x, w.constant([-1], np.int64)])
    return w.cast(w.node("Equal", [last, w.constant(places)]), call.outputs[0].dtype)


def _diagonal(w: Writer, whole: Call, of: Any, twin: Any) -> tuple[list[int], np.ndarray]:
    """(the dims of an array in an order that has the two of the diagonal last, its places in those two made
    one).
    """
    offset, *two = (whole.settings[name] for name in ("offset", "dim1", "dim2"))
    for d in two:
        w.require_size(of.shape[d], twin.shape[d])
    rows, columns = (of.shape[d] for d in two)
    places = np.arange(rows * columns).reshape(rows, columns).diagonal(offset)
    return [*(d for d in range(of.ndim) if d not in two), *two], places


@emission("diagonal")
def diagonal(w: Writer, call: Call, twin: Call) -> str:
    order, places = _diagonal(w, call, call.inputs[0], twin.inputs[0])
    turned = w.node("Transpose", w.given(call, twin), perm=order)
    flat = w.node("Reshape", [turned, w.constant([0] * (len(order) - 2) + [-1], np.int64)])
    return w.node("Gather", [flat, w.constant(places, np.int64)], axis=len(order) - 2)


@emission("place_diagonal")
def place_diagonal(w: Writer, call: Call, twin: Call) -> str:
    """As a gather from the diagonal with a zero behind it."""
    y, rest = call.outputs[0], call.outputs[0].ndim - 2
    order, places = _diagonal(w, call, y, twin.outputs[0])
    sources = np.full([y.shape[d] for d in order[-2:]], len(places))
    sources.reshape(-1)[places] = np.arange(len(places))
    pads = w.constant([0] * (2 * rest + 1) + [1], np.int64)
    longer = w.node("Pad", [*w.given(call, twin), pads, w.like(0, y)])
    planes = w.node("Gather", [longer, w.constant(sources, np.int64)], axis=rest)
    return w.node("Transpose", [planes], perm=[int(d) for d in np.argsort(order)])
