"""Primitives as nodes of ONNX: one function each.

`@emission(name)` takes the writer, the call and its twin on a batch of one sample more, and gives the names
of the outputs, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...engine.core import Array
from .operators import UnsupportedError
from .writer import NUMBERS, Call, Writer

Emission = Callable[[Writer, Call, Call], Any]
EMISSIONS: dict[str, Emission] = {}


def emission(*keys: str) -> Callable[[Emission], Emission]:
    def enter(function: Emission) -> Emission:
        for key in keys:
            EMISSIONS[key] = function
        return function

    return enter


# ---- One node each

SAME = {
    **{name.lower(): name for name in ("Add", "Sub", "Mul", "Div", "Neg", "Exp", "Log")},
    **{name.lower(): name for name in ("Sqrt", "Tanh", "Sigmoid", "Relu", "Abs", "Sign")},
    **{name.lower(): name for name in ("Pow", "Where")},
    "maximum": "Max",
    "minimum": "Min",
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_not": "Not",
    "logical_xor": "Xor",
    **{name.lower(): name for name in ("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh")},
    **{name.lower(): name for name in ("Cosh", "Asinh", "Acosh", "Atanh", "Erf", "Floor")},
    **{name.lower(): name for name in ("Ceil", "Round", "Reciprocal", "IsNaN", "IsInf")},
    "contiguous": "Identity",
}


def _same(kind: str) -> Emission:
    return lambda w, call, twin: w.node(kind, w.given(call, twin))


for _key, _kind in SAME.items():
    emission(_key)(_same(_kind))

# ---- Several nodes of x

Formula = Callable[[Writer, str, Array], str]
OF_ONE: dict[str, Formula] = {
    "square": lambda w, x, a: w.node("Mul", [x, x]),
    "rsqrt": lambda w, x, a: w.node("Reciprocal", [w.node("Sqrt", [x])]),
    "log1p": lambda w, x, a: w.node("Log", [w.node("Add", [x, w.like(1, a)])]),
    "expm1": lambda w, x, a: w.node("Sub", [w.node("Exp", [x]), w.like(1, a)]),
    "exp2": lambda w, x, a: w.node("Pow", [w.like(2, a), x]),
    "log2": lambda w, x, a: w.node("Div", [w.node("Log", [x]), w.like(np.log(2), a)]),
    "log10": lambda w, x, a: w.node("Div", [w.node("Log", [x]), w.like(np.log(10), a)]),
    "erfc": lambda w, x, a: w.node("Sub", [w.like(1, a), w.node("Erf", [x])]),
    "logsigmoid": lambda w, x, a: w.node("Neg", [w.node("Softplus", [w.node("Neg", [x])])]),
    "trunc": lambda w, x, a: _truncated(w, x),
    "frac": lambda w, x, a: w.node("Sub", [x, _truncated(w, x)]),
    "isfinite": lambda w, x, a: w.node("Not", [w.node("Or", [w.node("IsNaN", [x]), w.node("IsInf", [x])])]),
}


def _of_one(formula: Formula) -> Emission:
    return lambda w, call, twin: formula(w, w.given(call, twin)[0], call.inputs[0])


for _key, _formula in OF_ONE.items():
    emission(_key)(_of_one(_formula))


def _truncated(w: Writer, x: str) -> str:
    return w.node("Mul", [w.node("Sign", [x]), w.node("Floor", [w.node("Abs", [x])])])


@emission("power")
def power(w: Writer, call: Call, twin: Call) -> str:
    return w.node("Pow", [*w.given(call, twin), w.like(call.settings["exponent"], call.inputs[0])])


@emission("root")
def root(w: Writer, call: Call, twin: Call) -> str:
    return w.node("Pow", [*w.given(call, twin), w.like(1 / call.settings["degree"], call.inputs[0])])


@emission("ne")
def not_equal(w: Writer, call: Call, twin: Call) -> str:
    return w.node("Not", [w.node("Equal", w.given(call, twin))])


@emission("clip")
def clip(w: Writer, call: Call, twin: Call) -> str:
    x, low, high = w.given(call, twin)
    return w.node("Min", [w.node("Max", [x, low]), high])


@emission("weighted")
def weighted(w: Writer, call: Call, twin: Call) -> str:
    """0 where the weight is 0, whatever the value."""
    weight, value = w.given(call, twin)
    zero = w.like(0, call.inputs[0])
    return w.node("Where", [w.node("Equal", [weight, zero]), zero, w.node("Mul", [weight, value])])


@emission("cast")
def cast(w: Writer, call: Call, twin: Call) -> str:
    return w.node("Cast", w.given(call, twin), to=NUMBERS[np.dtype(call.settings["dtype"])])


# ---- Shapes


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
        return w.node("Reshape", [x, w.sizes(call.outputs[0].shape, twin.outputs[0].shape)], allowzero=1)
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
    summed = w.node("ReduceSum", [*w.given(call, twin), w.constant(dims, np.int64)], keepdims=1)
    return w.node("Squeeze", [summed, w.constant(range(more), np.int64)]) if more else summed


@emission("permute")
def permute(w: Writer, call: Call, twin: Call) -> str:
    return w.node("Transpose", w.given(call, twin), perm=list(call.settings["dims"]))


@emission("cat")
def cat(w: Writer, call: Call, twin: Call) -> str:
    if any(part is None for part in call.inputs):
        raise UnsupportedError(f"onnx.export: {call.path}: a concatenation with nothing")
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
    x, places = call.inputs[0], list(call.settings["index"])
    if any(n is Ellipsis for n in places):
        at = next(i for i, n in enumerate(places) if n is Ellipsis)
        rest = x.ndim - sum(n is not None and n is not Ellipsis for n in places)
        places[at : at + 1] = [slice(None)] * rest
    spans: list[tuple[int, int, int, int]] = []  # starts, ends, axes, steps
    dropped: list[int] = []
    added: list[int] = []
    axis = at = 0
    for n in places:
        if n is None:
            added.append(at)
            at += 1
            continue
        if isinstance(n, slice):
            if n != slice(None):
                start, end, step = n.indices(x.shape[axis])
                spans.append((start, FIRST if end < 0 else LAST if end == x.shape[axis] else end, axis, step))
            at += 1
        else:
            spans.append((int(n), LAST if n == -1 else int(n) + 1, axis, 1))
            dropped.append(axis)
        axis += 1
    [y] = w.given(call, twin)
    if spans:
        y = w.node("Slice", [y, *(w.constant(numbers, np.int64) for numbers in zip(*spans, strict=True))])
    if dropped:
        y = w.node("Squeeze", [y, w.constant(dropped, np.int64)])
    return w.node("Unsqueeze", [y, w.constant(added, np.int64)]) if added else y


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


# ---- Reductions


def _reduction(kind: str) -> Emission:
    def emit(w: Writer, call: Call, twin: Call) -> Any:
        dims = list(call.settings["dims"])
        inputs, later = w.given(call, twin), w.opset >= 18 or kind == "ReduceSum"
        if not dims:
            return w.node("Identity", inputs)
        if later:
            return w.node(kind, [*inputs, w.constant(dims, np.int64)], keepdims=0)
        return w.node(kind, inputs, axes=dims, keepdims=0)

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


@emission("max", "min")
def extreme(w: Writer, call: Call, twin: Call) -> list[str]:
    largest, dim = call.name == "max", call.settings["dim"]
    [x] = w.given(call, twin)
    kind = "ReduceMax" if largest else "ReduceMin"
    if w.opset >= 18:
        value = w.node(kind, [x, w.constant([dim], np.int64)], keepdims=0)
    else:
        value = w.node(kind, [x], axes=[dim], keepdims=0)
    return [value, w.node("ArgMax" if largest else "ArgMin", [x], axis=dim, keepdims=0)]


@emission("softmax", "log_softmax")
def softmax(w: Writer, call: Call, twin: Call) -> str:
    kind = "Softmax" if call.name == "softmax" else "LogSoftmax"
    return w.node(kind, w.given(call, twin), axis=call.settings["dim"])


@emission("cumsum")
def cumsum(w: Writer, call: Call, twin: Call) -> str:
    axis = w.constant(call.settings["dim"], np.int64)
    return w.node("CumSum", [*w.given(call, twin), axis], reverse=int(call.settings["reverse"]))


# ---- Products, convolutions, pools, norms


@emission("matmul")
def matmul(w: Writer, call: Call, twin: Call) -> str:
    names = w.given(call, twin)
    for i, turned in enumerate((call.settings.get("ta"), call.settings.get("tb"))):
        if turned:
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
def max_pool(w: Writer, call: Call, twin: Call) -> str:
    window = call.settings["window"]
    return w.node("MaxPool", w.given(call, twin), **_window(window), ceil_mode=int(window.ceil_mode))


@emission("avg_pool")
def avg_pool(w: Writer, call: Call, twin: Call) -> str:
    window = call.settings["window"]
    if call.settings.get("divisor") is not None or set(window.dilation) != {1}:
        raise UnsupportedError(f"onnx.export: {call.path}: average pooling with a divisor of its own")
    shape = {name: n for name, n in _window(window).items() if name != "dilations"}
    counted = int(call.settings["count_include_pad"])
    return w.node(
        "AveragePool",
        w.given(call, twin),
        **shape,
        ceil_mode=int(window.ceil_mode),
        count_include_pad=counted,
    )


@emission("adaptive_max_pool")
def adaptive_max_pool(w: Writer, call: Call, twin: Call) -> str:
    sizes, out = call.inputs[0].shape[2:], call.outputs[0].shape[2:]
    if any(n % m for n, m in zip(sizes, out, strict=True)):
        raise UnsupportedError(f"onnx.export: {call.path}: adaptive pooling of {sizes} to {out}")
    kernel = [n // m for n, m in zip(sizes, out, strict=True)]
    return w.node("MaxPool", w.given(call, twin), kernel_shape=kernel, strides=kernel)


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

    def mean(value: str) -> str:
        if w.opset >= 18:
            return w.node("ReduceMean", [value, w.constant(dims, np.int64)], keepdims=1)
        return w.node("ReduceMean", [value], axes=dims, keepdims=1)

    centre = mean(name)
    rest = w.node("Sub", [name, centre])
    var = mean(w.node("Mul", [rest, rest]))
    root = w.node("Sqrt", [w.node("Add", [var, w.like(call.settings["eps"], x)])])
    y = w.node("Div", [rest, root])
    shape = w.constant([1, -1, *[1] * (x.ndim - 2)], np.int64)
    for kind, v, v_twin in (("Mul", gamma, twin.inputs[1]), ("Add", beta, twin.inputs[2])):
        if v is not None:
            y = w.node(kind, [y, w.node("Reshape", [w.name(v, v_twin), shape])])
    flat = w.constant([-1], np.int64)
    return [y, w.node("Reshape", [centre, flat]), w.node("Reshape", [var, flat])]
