"""Arithmetic, activations, comparisons, casts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....engine.core import Tensor
from . import operations as td
from .table import FLOATS, Node, Value, operator, require, tensor, value

# ---- One input

UNARY = {
    "Abs": td.abs,
    "Acos": td.acos,
    "Acosh": td.acosh,
    "Asin": td.asin,
    "Asinh": td.asinh,
    "Atan": td.atan,
    "Atanh": td.atanh,
    "Ceil": td.ceil,
    "Cos": td.cos,
    "Cosh": td.cosh,
    "Erf": td.erf,
    "Exp": td.exp,
    "Floor": td.floor,
    "Log": td.log,
    "Mish": td.mish,
    "Neg": td.neg,
    "Reciprocal": td.reciprocal,
    "Relu": td.relu,
    "Round": td.round,
    "Sigmoid": td.sigmoid,
    "Sign": td.sign,
    "Sin": td.sin,
    "Sinh": td.sinh,
    "Softplus": td.softplus,
    "Softsign": td.softsign,
    "Sqrt": td.sqrt,
    "Tan": td.tan,
    "Tanh": td.tanh,
}
for _name, _function in UNARY.items():
    operator(_name)(lambda node, x, f=_function: f(tensor(x)))


@operator("Identity", arrays=True)
def identity(node: Node, x: Value) -> Value:
    return x


@operator("Not", arrays=True)
def logical_not(node: Node, x: Value) -> Value:
    return td.logical_not(x) if isinstance(x, Tensor) else np.logical_not(x)


@operator("BitwiseNot", arrays=True)
def bitwise_not(node: Node, x: Value) -> Value:
    return td.bitwise_not(x) if isinstance(x, Tensor) else np.bitwise_not(x)


@operator("IsNaN", arrays=True)
def is_nan(node: Node, x: Value) -> Value:
    return td.isnan(x) if isinstance(x, Tensor) else np.isnan(x)


@operator("IsInf", arrays=True)
def is_inf(node: Node, x: Value) -> Value:
    x, found = np.asarray(x), False
    if node.get("detect_positive", 1):
        found = found | (x == math.inf)
    if node.get("detect_negative", 1):
        found = found | (x == -math.inf)
    return np.broadcast_to(np.asarray(found), x.shape).copy()


@operator("Elu")
def elu(node: Node, x: Value) -> Value:
    return td.elu(x, node.get("alpha", 1.0))


@operator("Selu")
def selu(node: Node, x: Value) -> Value:
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    return td.mul(td.elu(x, alpha), gamma)


@operator("Celu")
def celu(node: Node, x: Value) -> Value:
    return td.celu(x, node.get("alpha", 1.0))


@operator("Gelu")
def gelu(node: Node, x: Value) -> Value:
    return td.gelu(x, node.get("approximate", "none"))


@operator("Swish")
def swish(node: Node, x: Value) -> Value:
    return td.mul(x, td.sigmoid(td.mul(x, node.get("alpha", 1.0))))


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: Value) -> Value:
    return td.clip(td.add(td.mul(x, node.get("alpha", 0.2)), node.get("beta", 0.5)), 0.0, 1.0)


@operator("HardSwish")
def hard_swish(node: Node, x: Value) -> Value:
    return td.mul(x, td.clip(td.add(td.div(x, 6.0), 0.5), 0.0, 1.0))


@operator("LeakyRelu")
def leaky_relu(node: Node, x: Value) -> Value:
    return td.leaky_relu(x, node.get("alpha", 0.01))


@operator("PRelu", trained=(1,))
def prelu(node: Node, x: Value, slope: Value) -> Value:
    """Below opset 7 a vector has a slope for each channel."""
    if node.opset < 7 and slope.ndim == 1 and slope.shape[0] > 1:
        slope = slope.reshape((-1,) + (1,) * (x.ndim - 2))
    return td.where(td.lt(x, 0.0), td.mul(x, slope), x)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: Value) -> Value:
    return td.threshold(x, node.get("alpha", 1.0), 0.0)


@operator("Shrink", arrays=True)
def shrink(node: Node, x: Value) -> Value:
    bias, lambd = node.get("bias", 0.0), node.get("lambd", 0.5)
    if not isinstance(x, Tensor):
        y = np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0))
        return y.astype(x.dtype)
    low, high = td.lt(x, -lambd), td.gt(x, lambd)
    return td.where(low, td.add(x, bias), td.where(high, td.sub(x, bias), 0.0))


@operator("Clip", arrays=True)
def clip(node: Node, x: Value, low: Value = None, high: Value = None) -> Value:
    """Below opset 11 the bounds are attributes."""
    low, high = node.get("min", low), node.get("max", high)
    if not isinstance(x, Tensor):
        y = x if low is None else np.maximum(x, low)
        return (y if high is None else np.minimum(y, high)).astype(x.dtype)
    y = x if low is None else td.maximum(x, low)
    return y if high is None else td.minimum(y, high)


# ---- Two inputs and more


def _binary(function: Callable[..., Any], of_arrays: Callable[..., Any]) -> Callable[..., Any]:
    def run(node: Node, a: Value, b: Value) -> Value:
        a, b = _aligned(node, a, b)
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return function(tensor(a), tensor(b))
        return np.asarray(of_arrays(a, b))

    return run


def _aligned(node: Node, a: Value, b: Value) -> tuple[Value, Value]:
    """Below opset 7 the second begins at `axis` of the first."""
    axis = node.get("axis")
    if node.opset < 7 and node.get("broadcast", 0) and axis is not None and b.ndim:
        b = b.reshape(tuple(b.shape) + (1,) * (a.ndim - axis % a.ndim - b.ndim))
    return a, b


def _divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integers are cut off towards 0."""
    if a.dtype.kind == "f":
        return a / b
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


def _shifted(node: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.left_shift(a, b) if node.get("direction") == "LEFT" else np.right_shift(a, b)


BINARY: dict[str, tuple[Any, Any]] = {
    "Add": (td.add, np.add),
    "Sub": (td.sub, np.subtract),
    "Mul": (td.mul, np.multiply),
    "Div": (td.div, _divided),
}
for _name, (_function, _of_arrays) in BINARY.items():
    operator(_name, trained=(0, 1), arrays=True)(_binary(_function, _of_arrays))

COMPARISONS: dict[str, tuple[Any, Any]] = {
    "And": (td.logical_and, np.logical_and),
    "Or": (td.logical_or, np.logical_or),
    "Xor": (td.logical_xor, np.logical_xor),
    "BitwiseAnd": (td.bitwise_and, np.bitwise_and),
    "BitwiseOr": (td.bitwise_or, np.bitwise_or),
    "BitwiseXor": (td.bitwise_xor, np.bitwise_xor),
    "Equal": (td.eq, np.equal),
    "Greater": (td.gt, np.greater),
    "GreaterOrEqual": (td.ge, np.greater_equal),
    "Less": (td.lt, np.less),
    "LessOrEqual": (td.le, np.less_equal),
}
for _name, (_function, _of_arrays) in COMPARISONS.items():
    operator(_name, arrays=True)(_binary(_function, _of_arrays))

operator("BitShift", arrays=True)(_shifted)


@operator("Pow", arrays=True)
def power(node: Node, a: Value, b: Value) -> Value:
    """Of the dtype of the base."""
    if isinstance(a, Tensor):
        a, b = _aligned(node, a, b)
        exponent = np.asarray(b) if not isinstance(b, Tensor) or not b.requires_grad else None
        if exponent is not None and exponent.size == 1 and exponent.ndim <= a.ndim:
            return td.pow(a, float(exponent.reshape(())))
        return td.pow(a, tensor(b) if isinstance(b, Tensor) else tensor(b.astype(a.dtype)))
    wide = a if a.dtype.kind == "f" else a.astype(np.float64)
    return np.asarray(np.power(wide, np.asarray(b))).astype(a.dtype)


@operator("Mod", arrays=True)
def modulo(node: Node, a: Value, b: Value) -> Value:
    if isinstance(a, Tensor):
        return td.fmod(a, b) if node.get("fmod", 0) else td.remainder(a, b)
    return (np.fmod if node.get("fmod", 0) else np.mod)(a, b)


def _folded(node: Node, inputs: tuple[Value, ...], function: Any, of_arrays: Any) -> Value:
    total = inputs[0]
    for x in inputs[1:]:
        tensors = isinstance(total, Tensor) or isinstance(x, Tensor)
        total = function(tensor(total), tensor(x)) if tensors else of_arrays(total, x)
    return total


FOLDED: dict[str, tuple[Any, Any]] = {
    "Sum": (td.add, np.add),
    "Max": (td.maximum, np.maximum),
    "Min": (td.minimum, np.minimum),
}
for _name, (_function, _of_arrays) in FOLDED.items():
    operator(_name, arrays=True)(lambda node, *xs, f=_function, g=_of_arrays: _folded(node, xs, f, g))


@operator("Mean", arrays=True)
def mean(node: Node, *inputs: Value) -> Value:
    return _folded(node, inputs, td.add, np.add) / len(inputs)


@operator("Where", arrays=True)
def where(node: Node, condition: Value, a: Value, b: Value) -> Value:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return td.where(tensor(condition), tensor(a), tensor(b))
    return np.where(condition, a, b)


# ---- Dtypes

DTYPES = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    4: np.uint16,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
    12: np.uint32,
    13: np.uint64,
}
"""TensorProto's numbers of the dtypes that are there."""


def dtype_of(node: Node, number: int) -> np.dtype:
    require(node, number in DTYPES, f"dtype {number} of TensorProto")
    return np.dtype(DTYPES[number])


def cast_to(x: Value, dtype: np.dtype) -> Value:
    if isinstance(x, Tensor):
        if dtype in FLOATS and x.dtype in FLOATS:
            return td.cast(x, dtype=dtype)
        x = np.asarray(x.detach())
    return value(x.astype(dtype))


@operator("Cast", arrays=True)
def cast(node: Node, x: Value) -> Value:
    return cast_to(x, dtype_of(node, node.get("to")))


@operator("CastLike", arrays=True)
def cast_like(node: Node, x: Value, like: Value) -> Value:
    return cast_to(x, like.dtype)


@operator("BitCast", arrays=True, host=(0,))
def bit_cast(node: Node, x: Any) -> Value:
    return value(x.view(dtype_of(node, node.get("to"))))


@operator("Dropout", arrays=True, host=(1, 2))
def dropout(node: Node, x: Value, ratio: Any = None, training: Any = None) -> Any:
    """Nothing is dropped outside of training; below opset 12 the ratio is an attribute."""
    p = node.get("ratio", 0.5) if ratio is None else float(ratio)
    keep = np.ones(x.shape, bool)
    if training is None or not bool(training) or p == 0:
        return (x, keep) if len(node.outputs) > 1 else x
    require(node, len(node.outputs) == 1 and node.get("seed") is None, "a mask or a seed in training")
    return td.dropout(x, p, True)
