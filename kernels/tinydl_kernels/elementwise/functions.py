"""Functions of one element beyond arithmetic: exponential, trigonometric, hyperbolic, error and gamma
functions, rounding.

Rows of the same kind as those of `__init__.py`, with its broadcasting, strides and cost. digamma and
polygamma are

    ψ⁽ⁿ⁾(x) = (-1)ⁿ⁺¹ n! Σ_k (x + k)⁻ⁿ⁻¹      (n ≥ 1; digamma is n = 0)

by the recurrence up to x ≥ 10 and from there by the asymptotic series (Abramowitz & Stegun
6.3.18, 6.4.11), to 1e-12 relative.
"""

from __future__ import annotations

import math

import numpy as np

from ..machine.constants import OF_FILE
from ..machine.validate import report
from . import copy
from .loops import elementwise_operation as row

_BERNOULLI = OF_FILE["functions"]["BERNOULLI"]

log1p = row("log1p", lambda x: np.log1p(x))
expm1 = row("expm1", lambda x: np.expm1(x))
exp2 = row("exp2", lambda x: np.exp2(x))
log2 = row("log2", lambda x: np.log2(x))
log10 = row("log10", lambda x: np.log10(x))
rsqrt = row("rsqrt", lambda x: 1 / np.sqrt(x), lambda x: type(x)(1) / np.sqrt(x))
reciprocal = row("reciprocal", lambda x: 1 / x, lambda x: type(x)(1) / x)
sin = row("sin", lambda x: np.sin(x))
cos = row("cos", lambda x: np.cos(x))
tan = row("tan", lambda x: np.tan(x))
asin = row("asin", lambda x: np.arcsin(x))
acos = row("acos", lambda x: np.arccos(x))
atan = row("atan", lambda x: np.arctan(x))
sinh = row("sinh", lambda x: np.sinh(x))
cosh = row("cosh", lambda x: np.cosh(x))
asinh = row("asinh", lambda x: np.arcsinh(x))
acosh = row("acosh", lambda x: np.arccosh(x))
atanh = row("atanh", lambda x: np.arctanh(x))
logsigmoid = row("logsigmoid", lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))))
floor = row("floor", lambda x: _rounded(np.floor, x), lambda x: np.floor(x))
ceil = row("ceil", lambda x: _rounded(np.ceil, x), lambda x: np.ceil(x))
round = row("round", lambda x: _rounded(np.rint, x), lambda x: np.rint(x))
trunc = row("trunc", lambda x: _rounded(np.trunc, x), lambda x: np.trunc(x))
frac = row("frac", lambda x: x - np.trunc(x))
isnan = row("isnan", lambda x: np.isnan(x))
isinf = row("isinf", lambda x: np.isinf(x))
atan2 = row("atan2", lambda a, b: np.arctan2(a, b))
hypot = row("hypot", lambda a, b: np.hypot(a, b))
logical_xor = row("logical_xor", lambda a, b: np.logical_xor(a, b))


def _rounded(rounding, x):
    """Integers are round as they are; NumPy's functions would make float64 of them."""
    return rounding(x) if x.dtype.kind == "f" else +x


def _of_floats_alone(op):
    """Numba and CUDA would make float64 of integers too, and lose bits from 2⁵³ on."""
    op.loops(_unless_integers(op.implementations["cpu"], copy.implementations["cpu"]))
    op.cuda(_unless_integers(op.implementations["cuda"], copy.implementations["cuda"]))


def _unless_integers(of_floats, of_integers):
    return lambda x: of_floats(x) if x.dtype.kind == "f" else of_integers(x)


for _op in (floor, ceil, round, trunc):
    _of_floats_alone(_op)


def _digamma(x):
    if x == 0:
        return -np.copysign(np.inf, x)
    if x < 0 and x == np.floor(x):
        return np.nan
    shift = 0.0
    if x < 0:  # ψ(x) = ψ(1 - x) - π / tan(π x), with the fraction of x, where the tangent is exact
        shift = -np.pi / np.tan(np.pi * (x - np.rint(x)))
        x = 1 - x
    while x < 10:
        shift -= 1 / x
        x += 1.0
    square = 1 / (x * x)
    series, power = 0.0, 1.0
    for k in range(len(_BERNOULLI)):
        power *= square
        series -= _BERNOULLI[k] / (2 * (k + 1)) * power
    return shift + np.log(x) - 0.5 / x + series


def _polygamma(n, x):
    if x <= 0 and x == np.floor(x):
        return np.inf
    n = int(n)
    total = 0.0
    while x < 10 + n:
        term = 1.0
        for _ in range(n + 1):  # a power that overflows is an error in Python
            term /= x
        total += term
        x += 1.0
    # Σ over the rest: x⁻ⁿ / n + x⁻ⁿ⁻¹ / 2 + Σ_k B_2k (n + 1) ... (n + 2k - 1) / (2k)! x⁻ⁿ⁻²ᵏ
    total += x**-n / n + 0.5 * x ** -(n + 1)
    rising, power = 1.0, x**-n
    for k in range(1, len(_BERNOULLI) + 1):
        rising *= (n + 2 * k - 2) * (n + 2 * k - 1) / ((2 * k - 1) * (2 * k)) if k > 1 else (n + 1) / 2
        power /= x * x
        total += _BERNOULLI[k - 1] * rising * power
    factorial = 1.0
    for i in range(2, n + 1):
        factorial *= i
    return factorial * total if n % 2 else -factorial * total


def _each(function):
    """A scalar function on arrays: what the reference needs where NumPy has none."""
    mapped = np.frompyfunc(function, function.__code__.co_argcount if hasattr(function, "__code__") else 1, 1)

    def apply(*operands):
        floating = operands[-1]
        return np.asarray(mapped(*(x.astype(np.float64) for x in operands))).astype(floating.dtype)

    return apply


def _lgamma(x):
    if math.isinf(x) or (x <= 0 and x == math.floor(x)):
        return math.inf
    try:
        return math.lgamma(x)
    except OverflowError:
        return math.inf


erf = row("erf", _each(math.erf), lambda x: math.erf(x))
erfc = row("erfc", _each(math.erfc), lambda x: math.erfc(x))
lgamma = row("lgamma", _each(_lgamma), lambda x: math.lgamma(x))
digamma = row("digamma", _each(_digamma), _digamma)
polygamma = row("polygamma", _each(_polygamma), _polygamma)


def main() -> None:
    """Validate every function against its reference, then time it."""
    x = np.random.default_rng(0).uniform(0.1, 0.9, (64, 16, 28, 28))
    for dtype in (np.float32, np.float64):
        for op in (log1p, expm1, rsqrt, sin, tan, asin, sinh, asinh, atanh, logsigmoid, erf, lgamma, digamma):
            report(op, x.astype(dtype))


if __name__ == "__main__":
    main()
