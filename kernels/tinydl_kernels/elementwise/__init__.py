"""Functions of one element at a time, with NumPy broadcasting.

    y[i] = f(a[i], b[i], ...)          any shapes that broadcast, any strides (views, expanded, permuted), 0-d
                                       and empty

An operation is one row of the table: its name, its expression on whole arrays (NumPy runs it as
the reference), and the scalar function for Numba where the expression cannot serve as one. Floating operands
of one call have one dtype. NaN propagates, and what is undefined gives NaN or inf without a warning.

The Numba loop of an operation (loops.py) is compiled once per dtype and serves every broadcast: the *layout*
tells it the shape, its axes merged as far as all strides allow, and the strides of each operand. It walks
over rows of the last merged axis, whose common cases (all operands contiguous, or some constant along the
row) LLVM turns into vector code. The result is C-contiguous. On a GPU it is the same (launches.py), with a
line in a .cu file for each operation. Cost: bytes of the operands and of the result, once each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cpu import jobs, transcendental
from ..machine import memory
from ..machine.dispatch import operation
from ..machine.validate import report
from . import launches, loops
from .loops import OPERANDS, chained, compiled, elementwise_operation, scalar_kernel, scalars

Array = Any


def _power(a: Array, b: Array) -> Array:
    """a to the power of b. NumPy takes the square root for an exponent of 0.5, which is NaN at -inf."""
    y = a**b
    return np.where((a == -np.inf) & (b == 0.5), y.dtype.type(np.inf), y) if y.dtype.kind == "f" else y


neg = elementwise_operation("neg", lambda x: -x)
abs = elementwise_operation("abs", lambda x: np.abs(x))
sign = elementwise_operation("sign", lambda x: np.where(x == x, np.sign(x), x.dtype.type(0)), loops.sign)
sqrt = elementwise_operation("sqrt", lambda x: np.sqrt(x))
exp = elementwise_operation("exp", lambda x: np.exp(x), lambda x: transcendental.exp(x))
log = elementwise_operation("log", lambda x: np.log(x), lambda x: transcendental.log(x))
tanh = elementwise_operation("tanh", lambda x: np.tanh(x), lambda x: transcendental.tanh(x))
sigmoid = elementwise_operation(
    "sigmoid", lambda x: np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))), loops.sigmoid
)
relu = elementwise_operation("relu", lambda x: np.maximum(x, 0), lambda x: type(x)(0) if x <= 0 else x)
isfinite = elementwise_operation("isfinite", lambda x: np.isfinite(x))
logical_not = elementwise_operation("logical_not", lambda x: np.logical_not(x))

add = elementwise_operation("add", lambda a, b: a + b)
sub = elementwise_operation("sub", lambda a, b: a - b)
mul = elementwise_operation("mul", lambda a, b: a * b)
div = elementwise_operation("div", lambda a, b: a / b)
pow = elementwise_operation("pow", _power, loops.pow, forceinline=True)
floor_divide = elementwise_operation("floor_divide", lambda a, b: np.floor_divide(a, b), lambda a, b: a // b)
# of the divisor's sign, and of the dividend's
remainder = elementwise_operation("remainder", lambda a, b: np.remainder(a, b), lambda a, b: a % b)
fmod = elementwise_operation("fmod", lambda a, b: np.fmod(a, b), loops.fmod)
maximum = elementwise_operation("maximum", lambda a, b: np.maximum(a, b))
minimum = elementwise_operation("minimum", lambda a, b: np.minimum(a, b))
eq = elementwise_operation("eq", lambda a, b: a == b)
ne = elementwise_operation("ne", lambda a, b: a != b)
lt = elementwise_operation("lt", lambda a, b: a < b)
le = elementwise_operation("le", lambda a, b: a <= b)
gt = elementwise_operation("gt", lambda a, b: a > b)
ge = elementwise_operation("ge", lambda a, b: a >= b)
logical_and = elementwise_operation("logical_and", lambda a, b: np.logical_and(a, b))
logical_or = elementwise_operation("logical_or", lambda a, b: np.logical_or(a, b))
# of bits; what is shifted by less than 0 or by all bits is 0 (-1 of a negative one to the right)
bitwise_and = elementwise_operation("bitwise_and", lambda a, b: a & b)
bitwise_or = elementwise_operation("bitwise_or", lambda a, b: a | b)
bitwise_xor = elementwise_operation("bitwise_xor", lambda a, b: a ^ b)
bitwise_not = elementwise_operation("bitwise_not", lambda x: ~x)
left_shift = elementwise_operation("left_shift", lambda a, b: a << b, loops.left_shift)
right_shift = elementwise_operation("right_shift", lambda a, b: a >> b, loops.right_shift)

where = elementwise_operation(
    "where", lambda condition, a, b: np.where(condition, a, b), lambda condition, a, b: a if condition else b
)
clip = elementwise_operation("clip", lambda x, low, high: np.minimum(np.maximum(x, low), high))

# The derivatives of relu and of clip: g unless y <= 0 (NaN lets it by); g where low <= x <= high; else 0.
gate = elementwise_operation(
    "gate", lambda g, y: np.where(y <= 0, 0, g), lambda g, y: type(g)(0) if y <= 0 else g
)
between = elementwise_operation(
    "between",
    lambda g, x, low, high: np.where((low <= x) & (x <= high), g, 0),
    lambda g, x, low, high: g if low <= x <= high else type(g)(0),
)

# a · b, where a weight a of 0 counts nothing though b is infinite: 0 log 0 = 0.
weighted = elementwise_operation(
    "weighted",
    lambda a, b: np.where((a == 0) & np.isinf(b), 0, a * b),
    lambda a, b: type(a)(0) if a == 0 and np.isinf(b) else a * b,
)

SCATTERED = 1 << 14
"""Elements from which on NumPy copies what does not lie in rows."""
_cast = compiled("cast", scalar_kernel("cast", lambda x: x))


@operation
def copy(x):
    """A contiguous copy of x."""
    return x.copy()


@copy.loops
def _(x):
    if x.size < SCATTERED or x.strides[-1] == x.itemsize:
        return _cast(x.dtype, x)
    jobs.spoil()
    out = memory.empty(x.shape, x.dtype, x)
    out[...] = x  # NumPy orders its loops by the strides
    return out


copy.cuda(launches.copy)


@operation
def cast(x, dtype):
    """A contiguous copy of x as `dtype`."""
    with np.errstate(all="ignore"):
        return x.astype(dtype, order="C")


@cast.loops
def _(x, dtype):
    return _cast(dtype, x)


cast.cuda(launches.cast)


def main() -> None:
    """Validate every operation against its reference, then time the typical broadcasts."""
    random = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        x, y = random.uniform(0.1, 2, (2, 64, 16, 28, 28)).astype(dtype)
        channel, scalar = x[0, :, :1, :1].copy(), np.asarray(1.5, dtype)
        for op in (neg, exp, log, tanh, sigmoid, relu, sqrt):
            report(op, x)
        for op in (add, mul, div, pow, maximum, gate, lt):
            report(op, x, y)
        report(add, x, channel)
        report(mul, x, scalar)
        report(where, x > y, x, y)
        report(clip, x, scalar, scalar)
        report(between, x, y, scalar, scalar)
        report(copy, x.transpose(0, 2, 3, 1))
        report(cast, x, np.float64)
