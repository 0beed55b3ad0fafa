"""Sums with a factor, quotients that are rounded, remainders."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels import elementwise as kernels
from tinydl_kernels.machine.errors import DtypeError

from ..engine.core import Array, Tensor, primitive
from ..engine.core import add as _add
from ..engine.promotion import is_scalar
from ..engine.public import public
from .elementwise import div as _div
from .elementwise import mul, neg, zeros_as
from .elementwise import sub as _sub
from .functions import round as _round
from .functions import trunc

__all__ = [
    "add",
    "div",
    "floor_divide",
    "fmod",
    "remainder",
    "round",
    "sub",
]


@primitive(elementwise=True, numeric=True)
def _floor_divide(a: Array, b: Array) -> Array:
    return kernels.floor_divide(a, b)


@primitive(elementwise=True, numeric=True)
def _remainder(a: Array, b: Array) -> Array:
    return kernels.remainder(a, b)


@primitive(elementwise=True, numeric=True)
def _fmod(a: Array, b: Array) -> Array:
    return kernels.fmod(a, b)


_floor_divide.rule(a=lambda g: zeros_as(g), b=lambda g: zeros_as(g))
_remainder.rule(a=lambda g: g, b=lambda g, a, b: neg(mul(g, _floor_divide(a, b))))
_fmod.rule(a=lambda g: g, b=lambda g, a, b: neg(mul(g, trunc(_div(a, b)))))


@public
def add(input: Tensor | float, other: Any, *, alpha: float = 1) -> Tensor:
    """input + alpha · other."""
    return _add(input, _times("add", input, other, alpha))


@public
def sub(input: Tensor | float, other: Any, *, alpha: float = 1) -> Tensor:
    """input - alpha · other."""
    return _sub(input, _times("sub", input, other, alpha))


def _times(who: str, input: Any, other: Any, alpha: float) -> Any:
    """alpha · other. A factor with a fraction would take integers out of their dtype."""
    if type(alpha) is int and alpha == 1:
        return other
    if not is_scalar(alpha):
        raise DtypeError(f"{who}: expected alpha a number, got {alpha!r}")
    integers = all(getattr(x, "dtype", np.dtype(type(x))).kind in "biu" for x in (input, other))
    if integers and not isinstance(alpha, (int, np.integer)):
        raise DtypeError(f"{who}: expected alpha an integer for integers, got {alpha!r}")
    return mul(other, alpha) if isinstance(other, Tensor) else other * alpha


@public
def div(input: Tensor | float, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, true division: integers give float32. Rounded down with "floor", towards 0 with "trunc";
    then integers stay what they are and the derivative is 0.
    """
    if rounding_mode not in (None, "floor", "trunc"):
        raise ValueError(f"div: expected rounding_mode None, 'floor' or 'trunc', got {rounding_mode!r}")
    if rounding_mode is None:
        return _div(input, other)
    _require_divisor("div", input, other)
    if rounding_mode == "floor":
        return _floor_divide(input, other)
    rest = _fmod(input, other)
    if rest.dtype.kind == "f":
        return trunc(_div(input, other))
    return _floor_divide(_sub(input, rest), other)


@public
def floor_divide(input: Tensor | float, other: Any) -> Tensor:
    """input / other, rounded down, as `//` of Python; its derivative is 0. An integer 0 as divisor is a
    ZeroDivisionError; where it goes unseen (on the GPU, in a replay) the result is 0.
    """
    _require_divisor("floor_divide", input, other)
    return _floor_divide(input, other)


@public
def remainder(input: Tensor | float, other: Any) -> Tensor:
    """input - other · floor(input / other), of the sign of the divisor, as `%` of Python. An integer 0 as
    divisor as in `floor_divide`.
    """
    _require_divisor("remainder", input, other)
    return _remainder(input, other)


@public
def fmod(input: Tensor | float, other: Any) -> Tensor:
    """input - other · trunc(input / other), of the sign of the dividend, as fmod of C. An integer 0 as
    divisor as in `floor_divide`.
    """
    _require_divisor("fmod", input, other)
    return _fmod(input, other)


def _require_divisor(who: str, input: Any, other: Any) -> None:
    """A ZeroDivisionError for integers by an integer 0, where a look costs nothing."""
    values = other.array if isinstance(other, Tensor) else other
    if isinstance(values, (int, np.integer)) or (type(values) is np.ndarray and values.dtype.kind in "iu"):
        of_integers = getattr(input, "dtype", np.dtype(type(input))).kind in "biu"
        if of_integers and not np.all(values):
            raise ZeroDivisionError(f"{who}: expected a divisor other than 0 of integers, got 0")


@public
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest integer, or the nearest multiple of 10^-decimals, halves to even; its derivative is 0."""
    if not decimals:
        return _round(input)
    if decimals > 0:
        return _div(_round(mul(input, 10.0**decimals)), 10.0**decimals)
    return mul(_round(_div(input, 10.0**-decimals)), 10.0**-decimals)
