"""Functions of one element at a time, with NumPy broadcasting.

    y[i] = f(a[i], b[i], ...)          any shapes that broadcast, any strides (views, expanded, permuted), 0-d and empty

An operation is one row of the table below: its name, its expression on whole arrays (NumPy runs it as the reference, CuPy runs
the same through NumPy's protocols), and the scalar function for Numba where the expression does not serve as one.
Floating operands of one call have one dtype. NaN propagates, and the invalid gives NaN or inf without a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .dispatch import Operation, operation


def _elementwise(name: str, expression: Callable[..., Any], scalar: Callable[..., Any] | None = None) -> Operation:
    def reference(*operands: Any) -> Any:
        with np.errstate(all="ignore"):
            return expression(*operands)

    reference.__name__ = reference.__qualname__ = name
    return operation(reference, portable=True)


neg = _elementwise("neg", lambda x: -x)
abs = _elementwise("abs", lambda x: np.abs(x))
sign = _elementwise("sign", lambda x: np.sign(x))
sqrt = _elementwise("sqrt", lambda x: np.sqrt(x))
exp = _elementwise("exp", lambda x: np.exp(x))
log = _elementwise("log", lambda x: np.log(x))
tanh = _elementwise("tanh", lambda x: np.tanh(x))
sigmoid = _elementwise("sigmoid", lambda x: np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))))
relu = _elementwise("relu", lambda x: np.maximum(x, 0))
isfinite = _elementwise("isfinite", lambda x: np.isfinite(x))
logical_not = _elementwise("logical_not", lambda x: np.logical_not(x))
copy = _elementwise("copy", lambda x: x.copy())

add = _elementwise("add", lambda a, b: a + b)
sub = _elementwise("sub", lambda a, b: a - b)
mul = _elementwise("mul", lambda a, b: a * b)
div = _elementwise("div", lambda a, b: a / b)
pow = _elementwise("pow", lambda a, b: a**b)
maximum = _elementwise("maximum", lambda a, b: np.maximum(a, b))
minimum = _elementwise("minimum", lambda a, b: np.minimum(a, b))
eq = _elementwise("eq", lambda a, b: a == b)
ne = _elementwise("ne", lambda a, b: a != b)
lt = _elementwise("lt", lambda a, b: a < b)
le = _elementwise("le", lambda a, b: a <= b)
gt = _elementwise("gt", lambda a, b: a > b)
ge = _elementwise("ge", lambda a, b: a >= b)
logical_and = _elementwise("logical_and", lambda a, b: np.logical_and(a, b))
logical_or = _elementwise("logical_or", lambda a, b: np.logical_or(a, b))

where = _elementwise("where", lambda condition, a, b: np.where(condition, a, b))
gate = _elementwise("gate", lambda g, y: np.where(y > 0, g, 0))
clip = _elementwise("clip", lambda x, low, high: np.minimum(np.maximum(x, low), high))
between = _elementwise("between", lambda g, x, low, high: np.where((low <= x) & (x <= high), g, 0))


@operation(portable=True)
def cast(x, dtype):
    """A contiguous copy of x as `dtype`."""
    with np.errstate(all="ignore"):
        return x.astype(dtype, order="C")
