"""Functions and operators of the bits of integers, which of booleans are those of logic."""

from __future__ import annotations

from typing import Any

from tinydl_kernels import elementwise as kernels
from tinydl_kernels.machine.errors import DtypeError

from ..engine.core import Array, Primitive, Tensor, primitive
from ..engine.promotion import common_dtype, foreign, is_scalar
from ..engine.public import public
from .elementwise import logical_and, logical_not, logical_or
from .functions import logical_xor

__all__ = [
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
]


@primitive(elementwise=True, constant=("out",))
def _bitwise_and(input: Array, other: Array) -> Array:
    return kernels.bitwise_and(input, other)


@primitive(elementwise=True, constant=("out",))
def _bitwise_or(input: Array, other: Array) -> Array:
    return kernels.bitwise_or(input, other)


@primitive(elementwise=True, constant=("out",))
def _bitwise_xor(input: Array, other: Array) -> Array:
    return kernels.bitwise_xor(input, other)


@primitive(elementwise=True, constant=("out",))
def _bitwise_not(input: Array) -> Array:
    return kernels.bitwise_not(input)


@primitive(elementwise=True, constant=("out",))
def _left_shift(input: Array, other: Array) -> Array:
    return kernels.left_shift(input, other)


@primitive(elementwise=True, constant=("out",))
def _right_shift(input: Array, other: Array) -> Array:
    return kernels.right_shift(input, other)


def _on_bits(who: str, of_integers: Primitive, of_masks: Primitive | None, *inputs: Any) -> Tensor:
    for x in inputs:
        if not is_scalar(x) and not hasattr(x, "dtype"):
            raise foreign(of_integers, x)
    kind = common_dtype(inputs).kind
    if kind == "f" or (kind == "b" and of_masks is None):
        raise DtypeError(
            f"{who}: expected integers{' or bool' if of_masks else ''}, got {common_dtype(inputs)}"
        )
    return of_integers(*inputs) if of_masks is None or kind != "b" else of_masks(*inputs)


@public
def bitwise_and(input: Tensor, other: Any) -> Tensor:
    """input & other, of integers or booleans."""
    return _on_bits("bitwise_and", _bitwise_and, logical_and, input, other)


@public
def bitwise_or(input: Tensor, other: Any) -> Tensor:
    """input | other, of integers or booleans."""
    return _on_bits("bitwise_or", _bitwise_or, logical_or, input, other)


@public
def bitwise_xor(input: Tensor, other: Any) -> Tensor:
    """input ^ other, of integers or booleans."""
    return _on_bits("bitwise_xor", _bitwise_xor, logical_xor, input, other)


@public
def bitwise_not(input: Tensor) -> Tensor:
    """~input, of integers or booleans."""
    return _on_bits("bitwise_not", _bitwise_not, logical_not, input)


@public
def bitwise_left_shift(input: Tensor, other: Any) -> Tensor:
    """input << other, of integers; 0 where shifted by less than 0 or by all bits."""
    return _on_bits("bitwise_left_shift", _left_shift, None, input, other)


@public
def bitwise_right_shift(input: Tensor, other: Any) -> Tensor:
    """input >> other, of integers, with their sign; 0 (-1 of a negative one) where shifted by less than 0 or
    by all bits.
    """
    return _on_bits("bitwise_right_shift", _right_shift, None, input, other)
