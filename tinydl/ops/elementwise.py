"""Elementwise arithmetic, functions and comparisons, with NumPy broadcasting.

Dtypes follow promotion.py. At a kink: relu and abs have derivative 0, clip 1 at its bounds,
maximum and minimum share it. What is not chosen is left out of a derivative, not multiplied by 0: an infinite
cotangent makes no NaN there. NaN goes through relu, maximum and minimum with derivative 1, as in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tinydl_kernels import elementwise as kernels
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.dispatch import Operation

from ..devices import constant
from ..engine.core import Array, Primitive, Tensor, cast, contiguous, expand, primitive
from ..engine.core import add as add
from ..engine.promotion import checked, common_dtype, is_scalar
from ..engine.public import public
from .shape import common_shape

__all__ = [
    "abs",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "clone",
    "eq",
    "exp",
    "ge",
    "gt",
    "isfinite",
    "le",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "ne",
    "neg",
    "pow",
    "relu",
    "sigmoid",
    "sign",
    "sqrt",
    "square",
    "tanh",
]


def unary(kernel: Operation, rule: Callable[..., Tensor], floating: bool = True) -> Primitive:
    """The primitive of a kernel of one input, differentiated by `rule` (which reads g, and input or out)."""

    def function(input: Array) -> Array:
        return kernel(input)

    made = Primitive(_named(function, kernel), floating=floating, numeric=True, elementwise=True)
    made.rule(input=rule)
    return made


def query(kernel: Operation) -> Primitive:
    """The primitive of a kernel of one input whose result is boolean and carries no gradient."""

    def function(input: Array) -> Array:
        return kernel(input)

    return Primitive(_named(function, kernel), elementwise=True, constant=("out",))


class Comparison(Primitive):
    """A primitive of two inputs whose result is boolean. A number beyond the range of integers is compared
    with them as an infinite one: no uint8 is -1.
    """

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        if len(inputs) == 2 and any(type(x) is int for x in inputs):
            a, b = inputs
            inputs = _in_range(a, b), _in_range(b, a)
        return super().__call__(*inputs, **settings)


def _in_range(number: Any, other: Any) -> Any:
    """A number to compare with a tensor: ±inf beyond what its integers hold."""
    if type(number) is not int or not isinstance(other, (Tensor, np.ndarray)) or other.dtype.kind not in "iu":
        return number
    limits = np.iinfo(other.dtype)
    return number if limits.min <= number <= limits.max else math.copysign(math.inf, number)


def comparison(kernel: Operation) -> Primitive:
    """The primitive of a kernel of two inputs whose result is boolean and carries no gradient."""

    def function(input: Array, other: Array) -> Array:
        return kernel(input, other)

    return Comparison(_named(function, kernel), elementwise=True, constant=("out",))


def _named(function: Callable[..., Array], kernel: Operation) -> Callable[..., Array]:
    name, doc = kernel.name.rpartition(".")[2], kernel.__doc__
    function.__name__, function.__qualname__, function.__module__, function.__doc__ = (
        name,
        name,
        kernel.__module__,
        doc,
    )
    return function


@primitive(elementwise=True, numeric=True)
def sub(input: Array, other: Array) -> Array:
    """input - other."""
    return kernels.sub(input, other)


@primitive(elementwise=True)
def mul(input: Array, other: Array) -> Array:
    """input · other."""
    return kernels.mul(input, other)


@primitive(elementwise=True, floating=True)
def div(input: Array, other: Array) -> Array:
    """input / other, true division: integers give float32."""
    return kernels.div(input, other)


@primitive(elementwise=True, numeric=True)
def _pow(a: Array, b: Array) -> Array:
    return kernels.pow(a, b)


@primitive(elementwise=True, numeric=True)
def _power(x: Array, *, exponent: float) -> Array:
    return kernels.pow(x, memory.scalar(exponent, x.dtype, x))


@primitive(elementwise=True, constant=("condition",))
def where(condition: Array, input: Array, other: Array) -> Array:
    """input where the condition holds, else other. The side that is not taken has gradient 0."""
    return kernels.where(condition, input, other)


@primitive(elementwise=True)
def maximum(input: Array, other: Array) -> Array:
    """The larger of the two; NaN if either is. Equal values share the gradient by halves; with NaN both have
    it.
    """
    return kernels.maximum(input, other)


@primitive(elementwise=True)
def minimum(input: Array, other: Array) -> Array:
    """The smaller of the two; NaN if either is. Equal values share the gradient by halves; with NaN both have
    it.
    """
    return kernels.minimum(input, other)


@primitive(elementwise=True, floating=True)
def _weighted(weight: Array, value: Array) -> Array:
    """weight · value, and 0 where the weight is 0 and the value infinite: 0 log 0 = 0."""
    return kernels.weighted(weight, value)


@primitive(elementwise=True, constant=("y",))
def _gate(g: Array, y: Array) -> Array:
    """0 where y <= 0, else g."""
    return kernels.gate(g, y)


@primitive(elementwise=True, numeric=True, constant=("low", "high"))
def _clip(x: Array, low: Array, high: Array) -> Array:
    return kernels.clip(x, low, high)


@primitive(elementwise=True, constant=("x", "low", "high"))
def _between(g: Array, x: Array, low: Array, high: Array) -> Array:
    """g where low <= x <= high, else 0."""
    return kernels.between(g, x, low, high)


eq, ne, lt = comparison(kernels.eq), comparison(kernels.ne), comparison(kernels.lt)
le, gt, ge = comparison(kernels.le), comparison(kernels.gt), comparison(kernels.ge)
logical_and, logical_or = comparison(kernels.logical_and), comparison(kernels.logical_or)
logical_not, isfinite = query(kernels.logical_not), query(kernels.isfinite)

neg: Primitive = unary(kernels.neg, lambda g: neg(g), floating=False)
exp = unary(kernels.exp, lambda g, out: mul(g, out))
log = unary(kernels.log, lambda g, input: div(g, input))
sqrt = unary(kernels.sqrt, lambda g, out: div(g, mul(out, 2.0)))
tanh = unary(kernels.tanh, lambda g, out: mul(g, sub(1.0, mul(out, out))))
sigmoid = unary(kernels.sigmoid, lambda g, out: mul(g, mul(out, sub(1.0, out))))
_relu = unary(kernels.relu, lambda g, out: _gate(g, out), floating=False)
sign = unary(kernels.sign, lambda g: zeros_as(g), floating=False)
abs = unary(kernels.abs, lambda g, input: mul(g, sign(input)), floating=False)

sub.rule(input=lambda g: g, other=lambda g: neg(g))
mul.rule(input=lambda g, other: mul(g, other), other=lambda g, input: mul(g, input))
div.rule(input=lambda g, other: div(g, other), other=lambda g, other, out: neg(div(mul(g, out), other)))
_pow.rule(
    a=lambda g, a, b: mul(g, where(eq(b, 0.0), 0.0, mul(b, _pow(a, sub(b, 1.0))))),
    b=lambda g, a, b, out: mul(g, where(logical_and(eq(a, 0.0), ge(b, 0.0)), 0.0, mul(out, log(a)))),
)
_power.rule(
    x=lambda g, x, *, exponent: (
        mul(g, mul(_power(x, exponent=exponent - 1), exponent)) if exponent else zeros_as(g)
    )
)
where.rule(
    input=lambda g, condition: where(condition, g, 0.0), other=lambda g, condition: where(condition, 0.0, g)
)
maximum.rule(
    input=lambda g, input, other: _share(g, lt(input, other), input, other),
    other=lambda g, input, other: _share(g, gt(input, other), input, other),
)
minimum.rule(
    input=lambda g, input, other: _share(g, gt(input, other), input, other),
    other=lambda g, input, other: _share(g, lt(input, other), input, other),
)
_weighted.rule(weight=lambda g, value: _weighted(g, value), value=lambda g, weight: _weighted(weight, g))
_gate.rule(g=lambda h, y: _gate(h, y))
_clip.rule(x=lambda g, x, low, high: _between(g, x, low, high))
_between.rule(g=lambda h, x, low, high: _between(h, x, low, high))


def _share(g: Tensor, loses: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """0 where this side loses, ½ g where both are equal, else g."""
    return where(loses, 0.0, where(eq(a, b), mul(g, 0.5), g))


def zeros_as(x: Tensor) -> Tensor:
    """Zeros of the shape and dtype of x, of which one is stored."""
    return expand(constant(x, np.zeros((), x.dtype)), shape=x.shape)


@public
def pow(input: Tensor | float, exponent: Tensor | float) -> Tensor:
    """input to the power of a number or a tensor. At exponent 0 its derivative is
    0, also where the input is 0. Of the number 0.5 it is the square root, as in PyTorch: NaN at -inf.

    Integers to a floating power give float32; to a tensor of negative ones what is left of 1/x without its
    fraction. To a negative number they are a ValueError.
    """
    if not is_scalar(exponent):
        known = all(is_scalar(x) or isinstance(x, Tensor) for x in (input, exponent))
        if known and common_dtype((input, exponent)).kind == "i":
            return _whole_power(input, exponent)
        return _pow(input, exponent)
    if isinstance(input, Tensor) and input.dtype.kind in "biu":
        if isinstance(exponent, (int, np.integer)) and exponent < 0:
            raise ValueError(f"pow: expected an exponent of at least 0 for integers, got {exponent}")
        input = to_dtype(input, common_dtype((input, exponent)))
    if isinstance(input, Tensor) and exponent in CHEAPER_POWERS:
        return CHEAPER_POWERS[exponent](input)
    return _power(input, exponent=exponent)


CHEAPER_POWERS: dict[Any, Callable[[Tensor], Tensor]] = {
    -1: lambda x: div(1.0, x),
    0.5: sqrt,
    2: lambda x: mul(x, x),
    3: lambda x: mul(mul(x, x), x),
}
"""Exponents that need no logarithm, as in PyTorch."""


def _whole_power(x: Any, exponent: Any) -> Tensor:
    """Of signed integers. 1 and -1 are their own inverses, others have one without a whole part; so has 0, as
    in PyTorch.
    """
    if is_scalar(x):
        x = constant(exponent, np.asarray(x, common_dtype((x, exponent))))
    lost = logical_and(lt(exponent, 0), logical_and(ne(x, 1), ne(x, -1)))
    return _pow(where(lost, 0, x), abs(exponent))


@public
def clip(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """x limited to [min, max] (torch.clamp), max where min > max. A bound may be a number, a tensor or None;
    numbers beyond an integer dtype limit nothing.

    At a bound the derivative is 1 by x, 0 by a bound that is a tensor.
    """
    if min is None and max is None:
        raise ValueError("clip: expected min, max or both, got neither")
    return _clipped("clip", input, min, max)


def _clipped(who: str, input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    if all(bound is None or is_scalar(bound) for bound in (min, max)):
        dtype = common_dtype([x for x in (input, min, max) if x is not None])
        input = to_dtype(input, np.int64 if dtype.kind == "b" else dtype)
        limits = np.finfo(input.dtype) if input.dtype.kind == "f" else np.iinfo(input.dtype)
        low, high = (-np.inf, np.inf) if input.dtype.kind == "f" else (limits.min, limits.max)
        return _clip(
            input, _bound(input, low if min is None else min), _bound(input, high if max is None else max)
        )
    common_shape(who, input, min, max)
    input = input if min is None else _limited(input, min, ge, lt)
    return input if max is None else _limited(input, max, le, gt)


def _limited(x: Tensor, bound: Any, keeps: Primitive, breaks: Primitive) -> Tensor:
    """x where it keeps the bound, the bound where it breaks it; NaN, without a gradient, where one is NaN."""
    kept = keeps(x, bound)
    limited = where(kept, x, bound)
    return (
        where(logical_or(kept, breaks(x, bound)), limited, math.nan) if limited.dtype.kind == "f" else limited
    )


clamp = clip


@public
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """The input, at least `min`, a number or a tensor that broadcasts."""
    return _clipped("clamp_min", input, min=min)


@public
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """The input, at most `max`, a number or a tensor that broadcasts."""
    return _clipped("clamp_max", input, max=max)


def _bound(x: Tensor, value: Any) -> Tensor:
    if x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        value = limits.min if value < limits.min else limits.max if value > limits.max else value
    return Tensor(memory.array_module(x.array).full((), value, x.dtype))


def to_dtype(input: Tensor, dtype: Any) -> Tensor:
    """The input in another dtype, or itself where it has that dtype already. Only a
    floating result carries a gradient.
    """
    dtype = checked(dtype, "cast")
    if input.dtype == dtype:
        return input
    return cast(input if dtype.kind == "f" else input.detach(), dtype=dtype)


def floated(*inputs: Any) -> list[Any]:
    """Tensors in the floating dtype that they have in common, float32 if all are integers; numbers stay."""
    dtype = common_dtype(inputs, floating=True)
    return [x if is_scalar(x) else to_dtype(x, dtype) for x in inputs]


@public
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0). `inplace` is taken for PyTorch's sake and has no meaning."""
    return _relu(input)


@public
def square(input: Tensor) -> Tensor:
    """x², int64 of booleans."""
    return mul(input, input) if input.dtype.kind != "b" else to_dtype(input, np.int64)


@public
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy that stays on the tape. There is one memory format."""
    return contiguous(input)
