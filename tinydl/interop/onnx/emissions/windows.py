"""Products, convolutions, pools, norms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels.machine.window import adaptive_spans

from ..writer import Call, Writer
from .table import emission


@emission("matmul")
def matmul(w: Writer, call: Call, twin: Call) -> str:
    names, (a, b) = w.given(call, twin), call.inputs
    turned = call.settings.get("ta", False), call.settings.get("tb", False)
    if any(turned) and a.ndim == b.ndim == 2 and a.dtype.kind == "f":
        return w.node("Gemm", names, transA=int(turned[0]), transB=int(turned[1]))
    for i, turn in enumerate(turned):
        if turn:
            dims = list(range(call.inputs[i].ndim))
            names[i] = w.node("Transpose", [names[i]], perm=[*dims[:-2], dims[-1], dims[-2]])
    return w.node("MatMul", names)


@emission("linear")
def linear(w: Writer, call: Call, twin: Call) -> str:
    names = w.given(call, twin)
    if call.inputs[0].ndim == 2:
        return w.node("Gemm", names, transB=1)
    y = w.node("MatMul", [names[0], w.node("Transpose", [names[1]], perm=[1, 0])])
    return w.node("Add", [y, names[2]]) if len(names) > 2 else y


@emission("conv")
def conv(w: Writer, call: Call, twin: Call) -> str:
    window = call.settings["window"]
    return w.node("Conv", w.given(call, twin), **_window(window), group=window.groups)


def _window(window: Any) -> dict[str, Any]:
    return {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "dilations": list(window.dilation),
        "pads": [*window.low, *window.high],
    }


@emission("conv_dx")
def conv_transpose(w: Writer, call: Call, twin: Call) -> str:
    """A high pad below 0 is an output_padding."""
    window = call.settings["window"]
    shape = _window(window)
    shape["pads"] = [*window.low, *(max(n, 0) for n in window.high)]
    more = [max(-n, 0) for n in window.high]
    return w.node("ConvTranspose", w.given(call, twin), **shape, output_padding=more, group=window.groups)


@emission("max_pool")
def max_pool(w: Writer, call: Call, twin: Call) -> list[str]:
    """ONNX counts places through the whole array, we in each plane."""
    window = call.settings["window"]
    shape = {**_window(window), "ceil_mode": int(window.ceil_mode)}
    values, places = w.node("MaxPool", w.given(call, twin), 2, **shape)
    return [values, w.node("Mod", [places, w.constant(math.prod(window.input), np.int64)])]


@emission("adaptive_max_pool")
def adaptive_max_pool(w: Writer, call: Call, twin: Call) -> list[str]:
    """A MaxPool where all spans are of one size. Else the planes, flattened, are taken apart into spans, of
    which the smaller repeat their last place.
    """
    sizes, out = call.inputs[0].shape[2:], call.outputs[0].shape[2:]
    if not any(n % m for n, m in zip(sizes, out, strict=True)):
        kernel = [n // m for n, m in zip(sizes, out, strict=True)]
        values, places = w.node("MaxPool", w.given(call, twin), 2, kernel_shape=kernel, strides=kernel)
        return [values, w.node("Mod", [places, w.constant(math.prod(sizes), np.int64)])]
    table = np.zeros((1, 1), np.int64)  # places of the plane: (spans, elements of each)
    for n, m in zip(sizes, out, strict=True):
        first, end = adaptive_spans(n, m)
        axis = np.minimum(first[:, None] + np.arange((end - first).max()), end[:, None] - 1)
        whole = table[:, None, :, None] * n + axis[None, :, None, :]
        table = whole.reshape(len(table) * m, -1)
    [x] = w.given(call, twin)
    planes = w.node("Reshape", [x, w.constant([0, 0, -1], np.int64)])
    spans = w.node("Gather", [planes, w.constant(table, np.int64)], axis=2)
    chosen = w.node("ArgMax", [spans], axis=3, keepdims=0)
    starts = w.constant(np.arange(len(table)) * table.shape[1], np.int64)
    places = w.node("Gather", [w.constant(table.ravel(), np.int64), w.node("Add", [chosen, starts])])
    shape = w.constant([0, 0, *out], np.int64)
    return [w.node("Reshape", [y, shape]) for y in (w.reduced("ReduceMax", spans, [3]), places)]


@emission("avg_pool")
def avg_pool(w: Writer, call: Call, twin: Call) -> str:
    """With a divisor of its own a convolution of each plane with equal numbers."""
    window, divisor = call.settings["window"], call.settings.get("divisor")
    [x] = w.given(call, twin)
    if divisor is not None:
        weight = np.full((call.inputs[0].shape[1], 1, *window.kernel), 1 / divisor, call.inputs[0].dtype)
        return w.node("Conv", [x, w.constant(weight)], **_reached(window), group=len(weight))
    shape = {name: n for name, n in _window(window).items() if name != "dilations"}
    counted = int(call.settings["count_include_pad"])
    return w.node("AveragePool", [x], **shape, ceil_mode=int(window.ceil_mode), count_include_pad=counted)


def _reached(window: Any) -> dict[str, Any]:
    """A window whose high pads are what it reaches, which in ceil_mode is more than they are."""
    reached = zip(window.low, window.input, window.extent, strict=True)
    return {**_window(window), "pads": [*window.low, *(end - low - n for low, n, end in reached)]}


def _taps(window: Any, channels: int, dtype: Any) -> np.ndarray:
    """The weights (C·K, 1, *kernel) of a convolution whose output channels are the taps of each channel."""
    size = math.prod(window.kernel)
    return np.tile(np.eye(size, dtype=dtype), (channels, 1)).reshape(channels * size, 1, *window.kernel)


@emission("unfold")
def unfold(w: Writer, call: Call, twin: Call) -> str:
    window, channels = call.settings["window"], call.inputs[0].shape[1]
    taps = w.constant(_taps(window, channels, call.inputs[0].dtype))
    planes = w.node("Conv", [*w.given(call, twin), taps], **_window(window), group=channels)
    return w.node("Reshape", [planes, w.constant([0, 0, -1], np.int64)])


@emission("fold")
def fold(w: Writer, call: Call, twin: Call) -> str:
    """The transpose of that convolution."""
    window, channels = call.settings["window"], call.outputs[0].shape[1]
    taps = w.constant(_taps(window, channels, call.inputs[0].dtype))
    planes = w.node("Reshape", [*w.given(call, twin), w.constant([0, 0, *window.out], np.int64)])
    whole = zip(window.low, window.input, window.high, window.extent, strict=True)
    rest = [low + n + high - end for low, n, high, end in whole]
    return w.node("ConvTranspose", [planes, taps], **_window(window), output_padding=rest, group=channels)


@emission("resample")
def resample(w: Writer, call: Call, twin: Call) -> str:
    """A matrix of weights along a dim."""
    rows, dim, x = call.settings["rows"], call.settings["dim"], call.inputs[0]
    matrix = np.zeros(rows.shape[::-1], x.dtype)
    for i in range(rows.shape[0]):
        part = slice(rows.starts[i], rows.starts[i + 1])
        np.add.at(matrix[:, i], rows.columns[part], rows.weights[part])
    order = [*(d for d in range(x.ndim) if d != dim), dim]
    turned = w.node("Transpose", w.given(call, twin), perm=order)
    back = [int(n) for n in np.argsort(order)]
    return w.node("Transpose", [w.node("MatMul", [turned, w.constant(matrix)])], perm=back)


@emission("batch_norm")
def batch_norm(w: Writer, call: Call, twin: Call) -> list[str]:
    """By the statistics of the input: norms of layers and groups are made of it."""
    x, gamma, beta = call.inputs
    name = w.name(x, twin.inputs[0])
    dims = [d for d in range(x.ndim) if d != 1]

    centre = w.reduced("ReduceMean", name, dims, keep=True)
    rest = w.node("Sub", [name, centre])
    var = w.reduced("ReduceMean", w.node("Mul", [rest, rest]), dims, keep=True)
    root = w.node("Sqrt", [w.node("Add", [var, w.like(call.settings["eps"], x)])])
    y = w.node("Div", [rest, root])
    shape = w.constant([1, -1, *[1] * (x.ndim - 2)], np.int64)
    for kind, v, v_twin in (("Mul", gamma, twin.inputs[1]), ("Add", beta, twin.inputs[2])):
        if v is not None:
            y = w.node(kind, [y, w.node("Reshape", [w.name(v, v_twin), shape])])
    flat = w.constant([-1], np.int64)
    return [y, w.node("Reshape", [centre, flat]), w.node("Reshape", [var, flat])]
