"""Functions of one element beyond arithmetic, and rounding, whose derivative is 0."""

from __future__ import annotations

import math
from typing import Any

from tinydl_kernels.elementwise import functions as kernels
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import DtypeError

from ..engine.core import Array, Primitive, Tensor, add, primitive
from ..engine.promotion import is_scalar, whole
from ..engine.public import public
from .elementwise import (
    comparison,
    div,
    eq,
    exp,
    mul,
    neg,
    query,
    sigmoid,
    square,
    sub,
    unary,
    where,
    zeros_as,
)
from .shape import common_shape

__all__ = [
    "acos",
    "acosh",
    "addcdiv",
    "addcmul",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "digamma",
    "erf",
    "erfc",
    "exp2",
    "expm1",
    "floor",
    "frac",
    "hypot",
    "isinf",
    "isnan",
    "lerp",
    "lgamma",
    "log1p",
    "log2",
    "log10",
    "logical_xor",
    "logsigmoid",
    "polygamma",
    "reciprocal",
    "rsqrt",
    "sin",
    "sinh",
    "tan",
    "trunc",
]

exp2 = unary(kernels.exp2, lambda g, out: mul(g, mul(out, math.log(2))))
expm1 = unary(kernels.expm1, lambda g, out: mul(g, add(out, 1.0)))
log1p = unary(kernels.log1p, lambda g, input: div(g, add(input, 1.0)))
log2 = unary(kernels.log2, lambda g, input: div(g, mul(input, math.log(2))))
log10 = unary(kernels.log10, lambda g, input: div(g, mul(input, math.log(10))))
rsqrt = unary(kernels.rsqrt, lambda g, out: mul(mul(g, -0.5), mul(out, square(out))))
reciprocal = unary(kernels.reciprocal, lambda g, out: neg(mul(g, square(out))))
sin = unary(kernels.sin, lambda g, input: mul(g, cos(input)))
cos: Primitive = unary(kernels.cos, lambda g, input: neg(mul(g, sin(input))))
tan = unary(kernels.tan, lambda g, out: mul(g, add(square(out), 1.0)))
asin = unary(kernels.asin, lambda g, input: mul(g, rsqrt(sub(1.0, square(input)))))
acos = unary(kernels.acos, lambda g, input: neg(mul(g, rsqrt(sub(1.0, square(input))))))
atan = unary(kernels.atan, lambda g, input: div(g, add(square(input), 1.0)))
sinh = unary(kernels.sinh, lambda g, input: mul(g, cosh(input)))
cosh: Primitive = unary(kernels.cosh, lambda g, input: mul(g, sinh(input)))
asinh = unary(kernels.asinh, lambda g, input: div(g, hypot(input, 1.0)))
acosh = unary(kernels.acosh, lambda g, input: mul(g, rsqrt(sub(square(input), 1.0))))
atanh = unary(kernels.atanh, lambda g, input: div(g, sub(1.0, square(input))))
erf = unary(kernels.erf, lambda g, input: mul(g, mul(_gaussian(input), 2 / math.sqrt(math.pi))))
erfc = unary(kernels.erfc, lambda g, input: mul(g, mul(_gaussian(input), -2 / math.sqrt(math.pi))))
lgamma = unary(kernels.lgamma, lambda g, input: mul(g, digamma(input)))
digamma: Primitive = unary(kernels.digamma, lambda g, input: mul(g, _polygamma(input, n=1)))
logsigmoid = unary(kernels.logsigmoid, lambda g, input: mul(g, sigmoid(neg(input))))
floor = unary(kernels.floor, lambda g: zeros_as(g), floating=False)
ceil = unary(kernels.ceil, lambda g: zeros_as(g), floating=False)
round = unary(kernels.round, lambda g: zeros_as(g), floating=False)  # halves to even
trunc = unary(kernels.trunc, lambda g: zeros_as(g), floating=False)
frac = unary(kernels.frac, lambda g: g)  # input - trunc(input)
isnan, isinf, logical_xor = query(kernels.isnan), query(kernels.isinf), comparison(kernels.logical_xor)


@primitive(elementwise=True, floating=True)
def atan2(input: Array, other: Array) -> Array:
    """The angle of the point (other, input) in (-π, π]."""
    return kernels.atan2(input, other)


@primitive(elementwise=True, floating=True)
def hypot(input: Array, other: Array) -> Array:
    """√(input² + other²) without overflow."""
    return kernels.hypot(input, other)


@primitive(elementwise=True, floating=True)
def _polygamma(x: Array, *, n: int) -> Array:
    return kernels.polygamma(memory.scalar(n, x.dtype, x), x)


def _over_square(x: Tensor, length: Tensor) -> Tensor:
    """x / length² without its square; 0 at length 0, as PyTorch has it."""
    length = where(eq(length, 0.0), 1.0, length)
    return div(div(x, length), length)


atan2.rule(
    input=lambda g, input, other: mul(g, _over_square(other, hypot(input, other))),
    other=lambda g, input, other: neg(mul(g, _over_square(input, hypot(input, other)))),
)
hypot.rule(
    input=lambda g, input, out: mul(g, div(input, out)), other=lambda g, other, out: mul(g, div(other, out))
)
_polygamma.rule(x=lambda g, x, *, n: mul(g, _polygamma(x, n=n + 1)))


@public
def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma, n ≥ 0."""
    if not isinstance(n, int) or n < 0:
        raise ValueError(f"polygamma: expected n an integer of at least 0, got {n!r}")
    return _polygamma(input, n=n) if n else digamma(input)


def _gaussian(x: Tensor) -> Tensor:
    return exp(neg(square(x)))


@public
def lerp(input: Tensor, end: Any, weight: Any) -> Tensor:
    """input + weight (end - input)."""
    common_shape("lerp", input, end, weight)
    return add(input, mul(sub(end, input), weight))


def _require_number(who: str, value: Any) -> None:
    """Torch's old addcdiv(input, value, tensor1, tensor2) would mean something else here."""
    if not is_scalar(value):
        raise DtypeError(
            f"{who}: expected (input, tensor1, tensor2, value) with a number value, got {value!r}"
        )


@public
def addcmul(input: Tensor, tensor1: Any, tensor2: Any, value: float = 1) -> Tensor:
    """input + value · tensor1 · tensor2, for a number `value`."""
    _require_number("addcmul", value)
    common_shape("addcmul", input, tensor1, tensor2)
    (value,) = whole(input, value)
    return add(input, mul(mul(tensor1, tensor2), value))


@public
def addcdiv(input: Tensor, tensor1: Any, tensor2: Any, value: float = 1) -> Tensor:
    """input + value · tensor1 / tensor2, for a number `value`."""
    _require_number("addcdiv", value)
    common_shape("addcdiv", input, tensor1, tensor2)
    return add(input, mul(div(tensor1, tensor2), value))
