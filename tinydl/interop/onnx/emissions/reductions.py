"""Sums, extremes, softmax, and what is accumulated."""

from __future__ import annotations

import numpy as np

from ..writer import Call, Writer
from .table import Emission, emission


def _reduction(kind: str) -> Emission:
    def emit(w: Writer, call: Call, twin: Call) -> str:
        [x] = w.given(call, twin)
        return w.reduced(kind, x, call.settings["dims"])

    return emit


REDUCTIONS = {
    "sum": "ReduceSum",
    "mean": "ReduceMean",
    "logsumexp": "ReduceLogSumExp",
    "amax": "ReduceMax",
    "amin": "ReduceMin",
}
for _key, _kind in REDUCTIONS.items():
    emission(_key)(_reduction(_kind))


@emission("prod")
def prod(w: Writer, call: Call, twin: Call) -> str:
    [x] = w.given(call, twin)
    return w.reduced("ReduceProd", x, [call.settings["dim"]])


@emission("any", "all")
def any_or_all(w: Writer, call: Call, twin: Call) -> str:
    """Extremes of 0 and 1, since those of truth values are of opset 20."""
    [x] = w.given(call, twin)
    kind = "ReduceMax" if call.name == "any" else "ReduceMin"
    numbers = w.cast(w.cast(x, np.bool_), np.int32)
    return w.cast(w.reduced(kind, numbers, call.settings["dims"]), np.bool_)


@emission("max", "min")
def extreme(w: Writer, call: Call, twin: Call) -> list[str]:
    largest, dim = call.name == "max", call.settings["dim"]
    [x] = w.given(call, twin)
    value = w.reduced("ReduceMax" if largest else "ReduceMin", x, [dim])
    return [value, w.node("ArgMax" if largest else "ArgMin", [x], axis=dim, keepdims=0)]


@emission("argsort")
def argsort(w: Writer, call: Call, twin: Call) -> str:
    """Of equal numbers the first comes first, here and there."""
    dim = call.settings["dim"]
    size = w.sizes(call.inputs[0].shape[dim : dim + 1], twin.inputs[0].shape[dim : dim + 1])
    largest = int(call.settings["descending"])
    return w.node("TopK", [*w.given(call, twin), size], 2, axis=dim, largest=largest)[1]


@emission("softmax", "log_softmax")
def softmax(w: Writer, call: Call, twin: Call) -> str:
    kind = "Softmax" if call.name == "softmax" else "LogSoftmax"
    return w.node(kind, w.given(call, twin), axis=call.settings["dim"])


@emission("cumsum")
def cumsum(w: Writer, call: Call, twin: Call) -> str:
    axis = w.constant(call.settings["dim"], np.int64)
    return w.node("CumSum", [*w.given(call, twin), axis], reverse=int(call.settings["reverse"]))


@emission("cumprod")
def cumprod(w: Writer, call: Call, twin: Call) -> str:
    """By doubling: x times itself moved by 1, the product moved by 2, by 4, ... CumProd is of opset 26."""
    [y], x, dim = w.given(call, twin), call.inputs[0], call.settings["dim"]
    w.require_size(x.shape[dim], twin.inputs[0].shape[dim])
    for step in (1 << k for k in range(max(x.shape[dim] - 1, 0).bit_length())):
        axis = w.constant([dim], np.int64)
        first = w.node("Slice", [y, w.constant([0], np.int64), w.constant([-step], np.int64), axis])
        pads = [0] * 2 * x.ndim
        pads[dim] = step
        moved = w.node("Pad", [first, w.constant(pads, np.int64), w.like(1, call.outputs[0])])
        y = w.node("Mul", [y, moved])
    return y
