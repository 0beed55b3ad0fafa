"""Numbers as small integers: y = (q - zero point) · scale. The way to integers is steps and has no gradient;
the way back has one by the scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ....engine.core import Tensor
from . import operations as td
from .elementwise import cast_to, dtype_of
from .table import HALF, Node, Value, on_host, operator, require, tensor, value
from .windows import conv


def _spread(node: Node, v: Value, x: Value) -> Value:
    """A scale or a zero point as x: one for all, one each along the axis, or one for each block of it."""
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    if block:
        v = (td.repeat_interleave if isinstance(v, Tensor) else np.repeat)(v, block, axis % x.ndim)
        return v[(*[slice(None)] * (axis % x.ndim), slice(x.shape[axis]))]
    if v.ndim == 0 or v.shape == (1,):
        return v.reshape(())
    return v.reshape(tuple(-1 if d == axis % x.ndim else 1 for d in range(x.ndim)))


@operator("QuantizeLinear", arrays=True, host=(0, 1, 2))
def quantize(node: Node, x: Any, scale: Any, zero: Any = None) -> Value:
    dtype = zero.dtype if zero is not None else dtype_of(node, node.get("output_dtype", 0) or 2)
    require(node, dtype.kind in "iu" and dtype.itemsize <= 2, f"dtype {dtype}")
    wide = dtype_of(node, node.get("precision", 0) or 1)
    numbers = np.rint(x.astype(wide) / _spread(node, scale, x).astype(wide)).astype(np.float64)
    moved = numbers if zero is None else numbers + _spread(node, zero, x)
    return _clipped(moved, dtype)


def _clipped(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    bounds = np.iinfo(dtype)
    return np.clip(np.rint(numbers), bounds.min, bounds.max).astype(dtype)


@operator("DequantizeLinear", arrays=True, host=(0, 2))
def dequantize(node: Node, x: Any, scale: Value, zero: Any = None) -> Value:
    dtype = dtype_of(node, node.get("output_dtype", 0)) if node.get("output_dtype", 0) else scale.dtype
    whole = x.astype(np.int64) if zero is None else x.astype(np.int64) - _spread(node, zero, x)
    wide = value(scale.astype(np.float32)) if scale.dtype == HALF else scale
    return cast_to(td.mul(tensor(whole.astype(wide.dtype), wide), _spread(node, wide, x)), dtype)


def _whole(x: np.ndarray, zero: Any, dims: int = 0) -> np.ndarray:
    """x without its zero point, of which there may be one for each of the first axis."""
    if zero is None:
        return x.astype(np.float64)
    return x - zero.reshape(zero.shape + (1,) * (dims if zero.size > 1 else 0)).astype(np.float64)


@operator("MatMulInteger", arrays=True, host=(0, 1, 2, 3))
def matmul_integer(node: Node, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Value:
    return (_whole(a, a_zero, 1) @ _whole(b, b_zero)).astype(np.int32)


@operator("QLinearMatMul", arrays=True, host=tuple(range(8)))
def qlinear_matmul(node: Node, *inputs: Any) -> Value:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
    product = _whole(a, a_zero, 1) @ _whole(b, b_zero)
    scale = (a_scale * b_scale / y_scale).astype(np.float64)
    return _clipped(product * scale + y_zero, y_zero.dtype)


def _convolved(node: Node, x: Any, w: Any, x_zero: Any, w_zero: Any) -> np.ndarray:
    """In float64, which holds the sums exactly."""
    return on_host(conv(node, value(_whole(x, x_zero)), value(_whole(w, w_zero, w.ndim - 1))))


@operator("ConvInteger", arrays=True, host=(0, 1, 2, 3))
def conv_integer(node: Node, x: Any, w: Any, x_zero: Any = None, w_zero: Any = None) -> Value:
    return _convolved(node, x, w, x_zero, w_zero).astype(np.int32)


@operator("QLinearConv", arrays=True, host=tuple(range(9)))
def qlinear_conv(node: Node, *inputs: Any) -> Value:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = inputs
    channels = (-1,) + (1,) * (w.ndim - 2)
    sums = _convolved(node, x, w, x_zero, w_zero)
    for more in bias:
        sums = sums + more.reshape(channels)
    return _clipped(sums * (x_scale * w_scale.reshape(channels) / y_scale) + y_zero, y_zero.dtype)
