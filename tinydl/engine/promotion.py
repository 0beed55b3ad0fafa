"""The table of dtypes: which are taken, and which dtype an elementwise operation computes in.

Arrays decide; 0-d tensors, then Python and NumPy scalars, only lift the category (bool < integer < floating):
so nothing weak turns float32 into float64. An integer array with a Python float gives float32.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import DtypeError

FLOAT32, INT64, BOOL = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)
_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2}


def checked(dtype: Any, who: str = "dtype", default: Any = None) -> np.dtype:
    """`dtype`, or the default where it is None, as a numpy.dtype; refused by name where
    there are no kernels for it.
    """
    try:
        if dtype is None and default is None:  # which NumPy would take for float64
            raise TypeError
        dtype = np.dtype(default if dtype is None else dtype)
    except TypeError:
        raise DtypeError(
            f"{who}: expected float32, float64, an integer dtype or bool, got {dtype!r}"
        ) from None
    if dtype.kind not in _CATEGORY or (dtype.kind == "f" and dtype.itemsize not in (4, 8)):
        raise DtypeError(f"{who}: expected float32, float64, an integer dtype or bool, got {dtype.name}")
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def floating(dtype: Any, who: str, default: Any = FLOAT32) -> np.dtype:
    """`checked`, and refused unless it is float32 or float64."""
    dtype = checked(dtype, who, default)
    if dtype.kind != "f":
        raise DtypeError(f"{who}: expected float32 or float64, got {dtype}")
    return dtype


def require_floating(who: str, *tensors: Any) -> None:
    """A DtypeError unless all of the tensors (None is passed over) have one floating dtype."""
    if all(x is None or x.dtype is FLOAT32 for x in tensors):  # nearly always
        return
    dtypes = {_native_dtype(x.dtype) for x in tensors if x is not None}
    for dtype in dtypes:
        if dtype.kind != "f":
            raise DtypeError(f"{who}: expected float32 or float64, got {dtype}")
    require_one_dtype(who, *dtypes)


def require_numbers(who: str, x: Any) -> None:
    """A DtypeError for booleans."""
    if x.dtype.kind == "b":
        raise DtypeError(f"{who}: expected numbers, got bool")


def require_one_dtype(who: str, *dtypes: np.dtype) -> None:
    """A DtypeError unless all of the dtypes are the same."""
    if len({_native_dtype(dtype) for dtype in dtypes}) > 1:
        raise DtypeError(f"{who}: expected one dtype, got {' and '.join(sorted(map(str, {*dtypes})))}")


def category(dtype: np.dtype) -> int:
    """0 for bool, 1 for integers, 2 for floating dtypes."""
    return _CATEGORY[dtype.kind]


def is_scalar(value: Any) -> bool:
    """A Python or NumPy number: weak in promotion."""
    return isinstance(value, (numbers.Real, np.bool_))


def scalar_dtype(value: Any) -> np.dtype:
    """The dtype of a number that stands alone: bool, int64 or float32."""
    if isinstance(value, (bool, np.bool_)):
        return BOOL
    return INT64 if isinstance(value, numbers.Integral) else FLOAT32


def target(primitive: Any, inputs: Iterable[Any]) -> np.dtype | None:
    """The dtype to cast the inputs to; None where they agree already. Only elementwise primitives promote."""
    dtypes = {None if is_scalar(x) else _native_dtype(require_array(primitive, x).dtype) for x in inputs}
    refused = [dtype for dtype in dtypes if dtype is not None and dtype.kind in primitive.refused_kinds]
    if len(dtypes) <= 1 and None not in dtypes and not refused:
        return None
    if primitive.elementwise:
        common = common_dtype(inputs, primitive.floating)
        if common.kind in primitive.refused_kinds:
            raise DtypeError(f"{primitive.name}: expected numbers, got {common}")
        return common
    if refused:
        raise DtypeError(f"{primitive.name}: expected float32 or float64, got {refused[0]}")
    got = " and ".join(sorted("a number" if dtype is None else str(dtype) for dtype in dtypes))
    raise DtypeError(f"{primitive.name}: expected one dtype, got {got}")


def common_dtype(inputs: Iterable[Any], floating: bool = False) -> np.dtype:
    """The dtype in which to compute on all of the inputs; with `floating`, integers become float32."""
    tiers: tuple[list[np.dtype], ...] = ([], [], [])  # arrays, 0-d, numbers
    for x in inputs:
        dtype = scalar_dtype(x) if is_scalar(x) else _native_dtype(x.dtype)
        tiers[2 if is_scalar(x) else 0 if x.ndim else 1].append(dtype)
    common = BOOL
    for tier in tiers:
        strongest = max((_CATEGORY[dtype.kind] for dtype in tier), default=-1)
        if tier and (strongest > _CATEGORY[common.kind] or common is BOOL):
            common = np.result_type(*(dtype for dtype in tier if _CATEGORY[dtype.kind] == strongest))
    return FLOAT32 if floating and common.kind != "f" else common


def as_array(primitive: Any, value: Any, dtype: np.dtype | None, like: Any) -> Any:
    """A number as a 0-d array of the dtype in which it is needed, on the device
    of `like`; an array as it is.
    """
    if not is_scalar(value):
        return native(require_array(primitive, value))
    dtype = dtype or scalar_dtype(value)
    try:
        return np.array(value, dtype) if like is None else memory.array_module(like).full((), value, dtype)
    except OverflowError:
        raise _too_large(primitive.name, value, dtype) from None


def number(who: str, value: Any, dtype: np.dtype) -> Any:
    """A number that is written into memory of a dtype: cut to a whole one for integers, and refused if they
    cannot hold it. A negative one for uint8 counts down from 256, as in PyTorch.
    """
    if dtype.kind not in "iu" or isinstance(value, (bool, np.bool_)):
        return dtype.type(value)
    if not isinstance(value, numbers.Integral) and not math.isfinite(value):
        raise _too_large(who, value, dtype)
    whole, limits = math.trunc(value), np.iinfo(dtype)
    if dtype == np.uint8 and isinstance(value, numbers.Integral) and -256 < whole < 0:
        whole += 256
    if not limits.min <= whole <= limits.max:
        raise _too_large(who, value, dtype)
    return dtype.type(whole)


def whole(x: Any, *values: Any) -> tuple[Any, ...]:
    """The numbers as integers, if x is of integers and all are whole: they change no dtype then."""
    if x.dtype.kind in "iu" and all(float(value).is_integer() for value in values):
        return tuple(map(int, values))
    return values


def _too_large(who: str, value: Any, dtype: np.dtype) -> DtypeError:
    return DtypeError(f"{who}: expected a number that {dtype} can hold, got {value}")


def _native_dtype(dtype: np.dtype) -> np.dtype:
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def native(array: Any) -> Any:
    """An array in the byte order of this machine: itself, or a copy."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def foreign(primitive: Any, value: Any) -> DtypeError:
    """The error about what is no tensor, array or number."""
    return DtypeError(
        f"{primitive.name}: expected a tensor, an array or a number, got {type(value).__name__}"
    )


def require_array(primitive: Any, value: Any) -> Any:
    """A tensor, or an array of a dtype that is taken; anything else is refused."""
    if hasattr(value, "version"):  # a tensor: its dtype was checked when it was made
        return value
    if not hasattr(value, "__array_interface__") and not hasattr(value, "__cuda_array_interface__"):
        raise foreign(primitive, value)
    checked(value.dtype, primitive.name)
    return value
