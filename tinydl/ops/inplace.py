"""Writing in place: `x += y`, `x.add_(y)`, `x.zero_()`, `x.data`.

Where nothing goes on the tape (under `no_grad`, or no operand requires grad) the value is written into the
memory of x, which its views share: an effect, so a recorded step repeats it. In grad mode the memory stays as
it is, for the tape may have seen it: the result of an operation (or a constant that meets what requires
grad) becomes the new value, on the tape, in the same Tensor object. Others of the same memory would not
follow: a view, or a tensor with live views, is refused there, and so is a leaf that requires grad.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import DtypeError, GraphError, ShapeError

from ..devices import constant, transfer
from ..engine.core import Primitive, Tensor, contiguous, enable_grad, expand, no_grad, state
from ..engine.promotion import category, is_scalar, number
from ..engine.public import public
from . import bits, choices, elementwise, shape
from .arithmetic import div, floor_divide, fmod, remainder, round
from .creation import zeros
from .elementwise import (
    add,
    clamp_max,
    clamp_min,
    clip,
    exp,
    log,
    mul,
    neg,
    pow,
    relu,
    sigmoid,
    sign,
    square,
    sub,
    tanh,
    to_dtype,
)
from .functions import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    ceil,
    cos,
    cosh,
    digamma,
    erf,
    erfc,
    exp2,
    expm1,
    floor,
    frac,
    hypot,
    lgamma,
    log1p,
    log2,
    log10,
    reciprocal,
    rsqrt,
    sin,
    sinh,
    tan,
    trunc,
)
from .indexing import from_outside, gather, masked_fill, scatter, scatter_add, tril, triu
from .joining import index_add, index_copy, index_fill
from .random import Generator, bernoulli, rand, randint, randn
from .reductions_by_index import scatter_reduce
from .scan import cumprod, cumsum
from .subscript import WRITES, getitem, setitem
from .update import assign, broadcasts

__all__: list[str] = []


def update(who: str, x: Tensor, operands: tuple[Any, ...], value: Callable[[], Tensor]) -> Tensor:
    """x with the value that is computed from it and the operands. Errors name `who`."""
    if not state.grad or not any(y.requires_grad for y in (x, *operands) if isinstance(y, Tensor)):
        with no_grad():
            _write(who, x, _fitting(who, x, value()))
        return x
    if type(x) is not Tensor or (x.requires_grad and x.is_leaf):
        raise GraphError(
            f"{who}: expected no_grad around a write to a leaf that requires grad, a Parameter or a Buffer, "
            f"got {x.shape} in grad mode"
        )
    if x.version.shared(x):
        raise GraphError(
            f"{who}: expected a tensor without live views in grad mode, got {x.shape} that shares its "
            "memory: use the operation that returns a new tensor, or clone()"
        )
    new = to_dtype(_fitting(who, x, value()), x.dtype)
    x.array, x.version, x.node, x.index, x.slot = new.array, new.version, new.node, new.index, new.slot
    return x


def _fitting(who: str, x: Tensor, value: Tensor) -> Tensor:
    """The value, if it has the shape of x and is of no higher kind."""
    if value.shape != x.shape:
        raise ShapeError(f"{who}: expected operands that broadcast to {x.shape}, got {value.shape}")
    if category(value.dtype) > category(x.dtype):
        raise DtypeError(f"{who}: expected a value that {x.dtype} can hold, got {value.dtype}")
    return value


def _write(who: str, x: Tensor, value: Any) -> None:
    repeated = any(n > 1 and step == 0 for n, step in zip(x.shape, x.array.strides, strict=True))
    repeated = repeated and x.array.size > 0  # an empty array may have any strides
    if repeated or not getattr(x.array.flags, "writeable", True):
        raise GraphError(f"{who}: expected memory that may be written, got {x.shape} expanded or read-only")
    assign(x, value)


def _replaced(x: Tensor, index: Any, value: Any) -> Tensor:
    """x with the value at the index; the last of several for a place has the gradient."""
    if not isinstance(value, Tensor) and not is_scalar(value):
        value = from_outside(WRITES, value, x, x.dtype)
    if is_scalar(value) or not value.ndim:
        there = zeros(x.shape, dtype="bool", device=x.device)
        setitem(there, index, True)
        return elementwise.where(there, value, x)
    size = getitem(x.detach(), index).shape
    while value.ndim > len(size) and value.shape[0] == 1:
        value = shape.reshape(value, value.shape[1:])
    if not broadcasts(value.shape, size):
        raise ShapeError(f"{WRITES}: expected a value that broadcasts to {size}, got {value.shape}")
    values = shape.reshape(shape.broadcast_to(value, size), (-1,))
    if not values.array.size:
        return contiguous(x)
    source = zeros(x.shape, dtype="int64", device=x.device)  # the number of a place's value, or 0
    setitem(source, index, constant(x, np.arange(1, values.array.size + 1).reshape(size)))
    picked = gather(values, 0, shape.reshape(clamp_min(sub(source, 1), 0), (-1,)))
    return elementwise.where(elementwise.gt(source, 0), shape.reshape(picked, x.shape), x)


def _assigned(x: Tensor, index: Any, value: Any) -> None:
    """x[index] = value. The last of several values for a place wins. As other writes in place: into the
    memory where nothing goes on the tape, else x becomes a new value, on the tape.
    """
    if state.grad and (x.requires_grad or (isinstance(value, Tensor) and value.requires_grad)):
        update(WRITES, x, (value,), lambda: _replaced(x, index, value))
    else:
        setitem(x, index, value)


def _operator(function: Callable[..., Tensor], sign: str) -> Callable[[Tensor, Any], Tensor]:
    def operator(self: Tensor, other: Any) -> Tensor:
        return update(sign, self, (other,), lambda: function(self, other))

    return operator


OPERATORS = {
    "__setitem__": _assigned,
    "__iadd__": _operator(add, "+="),
    "__isub__": _operator(sub, "-="),
    "__imul__": _operator(mul, "*="),
    "__itruediv__": _operator(div, "/="),
    "__ifloordiv__": _operator(floor_divide, "//="),
    "__imod__": _operator(remainder, "%="),
    "__ipow__": _operator(pow, "**="),
    "__iand__": _operator(bits.bitwise_and, "&="),
    "__ior__": _operator(bits.bitwise_or, "|="),
    "__ixor__": _operator(bits.bitwise_xor, "^="),
    "__ilshift__": _operator(bits.bitwise_left_shift, "<<="),
    "__irshift__": _operator(bits.bitwise_right_shift, ">>="),
}


def _times(y: Any, alpha: float) -> Any:
    return y if alpha == 1 else mul(y, alpha) if isinstance(y, Tensor) else y * alpha


@public
def add_(input: Tensor, other: Any, *, alpha: float = 1) -> Tensor:
    """input += alpha · other."""
    return update("add_", input, (other,), lambda: add(input, _times(other, alpha)))


@public
def sub_(input: Tensor, other: Any, *, alpha: float = 1) -> Tensor:
    """input -= alpha · other."""
    return update("sub_", input, (other,), lambda: sub(input, _times(other, alpha)))


@public
def mul_(input: Tensor, value: Any) -> Tensor:
    """input *= value."""
    return update("mul_", input, (value,), lambda: mul(input, value))


@public
def div_(input: Tensor, value: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input /= value, rounded as in `div`."""
    return update("div_", input, (value,), lambda: div(input, value, rounding_mode=rounding_mode))


@public
def clamp_(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """The input limited to [min, max]."""
    return update("clamp_", input, (min, max), lambda: clip(input, min, max))


@public
def lerp_(input: Tensor, end: Any, weight: Any) -> Tensor:
    """input += weight · (end - input)."""
    return update("lerp_", input, (end, weight), lambda: add(input, mul(sub(end, input), weight)))


@public
def addcmul_(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input += value · tensor1 · tensor2."""
    operands = tensor1, tensor2
    return update("addcmul_", input, operands, lambda: add(input, _times(mul(tensor1, tensor2), value)))


@public
def addcdiv_(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input += value · tensor1 / tensor2."""
    operands = tensor1, tensor2
    return update("addcdiv_", input, operands, lambda: add(input, _times(div(tensor1, tensor2), value)))


@public
def fill_(input: Tensor, value: Any) -> Tensor:
    """`value`, a number or a tensor of shape (), everywhere."""
    if isinstance(value, Tensor) and value.ndim:
        raise ShapeError(f"fill_: expected one value, got {value.shape}")
    return _filled("fill_", input, value)


@public
def zero_(input: Tensor) -> Tensor:
    """Zeros everywhere."""
    return _filled("zero_", input, 0)


def _filled(who: str, x: Tensor, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        value = Tensor(memory.array_module(x.array).full((), number(who, value, x.dtype), x.dtype))
    return update(who, x, (value,), lambda: expand(value, shape=x.shape))


@public
def copy_(input: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """The values of `src`, which broadcast, are cast and moved to the input's device."""

    def value() -> Tensor:
        there = src if src.device == input.device else transfer(src, device=input.device)
        there = to_dtype(there, input.dtype)
        if there.version is input.version:  # it may overlap
            there = contiguous(there)
        return expand(there, shape=input.shape) if broadcasts(there.shape, input.shape) else there

    return update("copy_", input, (src,), value)


@public
def normal_(input: Tensor, mean: float = 0, std: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Draws from N(mean, std²)."""

    def value() -> Tensor:
        draws = randn(input.shape, generator=generator, dtype=input.dtype, device=input.device)
        return add(mul(draws, std), mean)

    return update("normal_", input, (), value)


@public
def uniform_(input: Tensor, from_: float = 0, to: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Draws that are uniform in [from_, to)."""

    def value() -> Tensor:
        draws = rand(input.shape, generator=generator, dtype=input.dtype, device=input.device)
        return add(mul(draws, to - from_), from_)

    return update("uniform_", input, (), value)


@public
def bernoulli_(input: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """1 with probability p, a number or a tensor of them that broadcasts, else 0."""

    def value() -> Tensor:
        if not isinstance(p, Tensor):
            return bernoulli(input.detach(), p, generator=generator)
        chances = expand(p, shape=input.shape) if broadcasts(p.shape, input.shape) else p
        return to_dtype(bernoulli(chances, generator=generator), input.dtype)

    return update("bernoulli_", input, (), value)


@public
def exponential_(input: Tensor, lambd: float = 1, *, generator: Generator | None = None) -> Tensor:
    """Draws of the density lambd exp(-lambd x), x >= 0."""
    if not lambd > 0:
        raise ValueError(f"exponential_: expected lambd above 0, got {lambd}")

    def value() -> Tensor:
        draws = rand(input.shape, generator=generator, dtype=input.dtype, device=input.device)
        return mul(log1p(neg(draws)), -1 / lambd)

    return update("exponential_", input, (), value)


@public
def random_(
    input: Tensor, from_: int | None = None, to: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Whole numbers, uniform in from_, ..., to - 1; of one number n in 0, ..., n - 1; without any, from 0 to
    the largest of an integer dtype (2⁶³ - 2 of int64), or to that up to which a floating one has them all.
    """
    if to is None and from_ is not None:
        from_, to = None, from_
    from_ = from_ or 0
    if to is None:
        kind = input.dtype.kind
        largest = 1 if kind == "b" else np.iinfo(input.dtype).max if kind in "iu" else 0
        to = min(largest + 1, np.iinfo(np.int64).max) if largest else 1 << np.finfo(input.dtype).nmant + 1

    def value() -> Tensor:
        drawn = randint(from_, to, input.shape, generator=generator, device=input.device)
        return to_dtype(drawn, input.dtype)

    return update("random_", input, (), value)


def _another_shape(function: Any) -> Callable[..., Tensor]:
    """The method that makes a tensor the view of itself that the function gives. Nothing is written: other
    tensors of the same memory stay as they are.
    """
    name = f"{function.__name__}_"

    def method(input: Tensor, *args: Any, **settings: Any) -> Tensor:
        if type(input) is not Tensor or (input.requires_grad and input.is_leaf):
            raise GraphError(
                f"{name}: expected no leaf that requires grad, Parameter or Buffer, got {input.shape}"
            )
        if state.recorder is not None and input.node is None:
            raise GraphError(
                f"{name}: expected {function.__name__}, which returns the view, in a recorded step"
            )
        with enable_grad():  # a result stays where it is on the tape
            new = function(input, *args, **settings)
        input.array, input.node, input.index, input.slot = new.array, new.node, new.index, new.slot
        return input

    return _named(method, name, function)


def _method(function: Any) -> Callable[..., Tensor]:
    """The method that puts what the function gives of the tensor in the tensor's place."""
    own = function.name if isinstance(function, Primitive) else function.__name__
    name = f"{own}_"

    def method(input: Tensor, *args: Any, **settings: Any) -> Tensor:
        return update(name, input, (*args, *settings.values()), lambda: function(input, *args, **settings))

    return _named(method, name, function)


def _named(method: Any, name: str, function: Any) -> Callable[..., Tensor]:
    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"`{name[:-1]}`, in place of the input."
    method.__signature__ = inspect.signature(function)
    return method


METHODS = {
    f.__name__: f
    for f in (
        *(add_, sub_, mul_, div_, clamp_, lerp_, addcmul_, addcdiv_),
        *(fill_, zero_, copy_, normal_, uniform_, bernoulli_, exponential_, random_),
        *map(_another_shape, (shape.squeeze, shape.unsqueeze, shape.t, shape.transpose)),
        *map(_method, (elementwise.abs, neg, sign, square, elementwise.sqrt, exp, log, pow)),
        *map(_method, (relu, sigmoid, tanh, clamp_min, clamp_max, floor, ceil, round, trunc)),
        *map(_method, (sin, cos, expm1, log1p, rsqrt, reciprocal, erf, remainder, fmod)),
        *map(_method, (tan, asin, acos, atan, sinh, cosh, asinh, acosh, atanh, exp2, log2, log10)),
        *map(_method, (erfc, lgamma, digamma, frac, atan2, hypot, floor_divide)),
        *map(_method, (choices.nan_to_num, choices.logit, choices.xlogy, tril, triu, cumsum, cumprod)),
        *map(_method, (getattr(bits, name) for name in bits.__all__)),
        *map(_method, (masked_fill, scatter, scatter_add, scatter_reduce, index_add, index_copy, index_fill)),
    )
}
METHODS["clip_"] = clamp_
relu_ = METHODS["relu_"]


def data(x: Tensor) -> Tensor:
    """The same array off the tape, as `detach`."""
    return x.detach()


def set_data(x: Tensor, value: Tensor) -> None:
    """Write a value of the same shape, dtype and device into the memory; another one takes its place."""
    if not isinstance(value, Tensor):
        raise DtypeError(f"data: expected a tensor, got {type(value).__name__}")
    if (value.shape, value.dtype, value.device) == (x.shape, x.dtype, x.device):
        with no_grad():
            copy_(x, value.detach())
        return
    if x.node is not None:
        raise GraphError(
            f"data: expected a leaf or a value of {x.shape} {x.dtype}, got {value.shape} {value.dtype}"
        )
    x.array, x.version, x.grad = value.array, value.version, None
