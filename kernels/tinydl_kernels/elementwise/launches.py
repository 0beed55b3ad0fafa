"""Launches of the elementwise kernels: elementwise.cu (numbers), functions.cu (floating numbers), bits.cu (of
integers), masks.cu (truth values).

A kernel's operands have one dtype, but for the condition of `where`. Others are cast first, by NumPy's rule,
and results after: what is not float32, float64, int64 or bool is computed in int64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cuda import launching
from ..machine import memory
from ..machine.constants import OF_FILE
from ..machine.layout import packed, storage

Array = Any

MASKS = {
    "ne": "logical_xor",
    "add": "logical_or",
    "maximum": "logical_or",
    "mul": "logical_and",
    "minimum": "logical_and",
}
"""What arithmetic on truth values is."""
BOOL, INT64, FLOAT64 = map(np.dtype, (np.bool_, np.int64, np.float64))


@dataclass(frozen=True)
class _Plan:
    """A kernel for some dtypes of operands: what they are cast to, and what the result is cast to."""

    family: str
    real: np.dtype | None
    kernel: str
    operands: tuple[np.dtype, ...]
    result: np.dtype

    @functools.cached_property
    def made(self) -> np.dtype:
        """The dtype that the kernel gives."""
        return next(
            p.dtype
            for p in launching.module(self.family, self.real).signatures[f"map_{self.kernel}"]
            if p.name == "y"
        )

    @property
    def pack(self) -> int:
        """N of the .cu file."""
        return OF_FILE["masks"]["N"] if self.family == "masks" else 16 // self.operands[-1].itemsize


def _plan(name: str, given: tuple[np.dtype, ...], result: np.dtype) -> _Plan:
    conditions = given[:1] if name == "where" else ()
    values = given[len(conditions) :]
    common = np.result_type(*values)
    if common == BOOL == result and f"map_{MASKS.get(name, name)}" in launching.module("masks").signatures:
        return _Plan("masks", None, MASKS.get(name, name), (BOOL,) * len(given), BOOL)
    if f"map_{name}" in launching.module("bits").signatures:
        return _Plan("bits", None, name, (INT64,) * len(given), result)
    if f"map_{name}" in launching.module("functions", FLOAT64).signatures:
        family, common = "functions", common if common in launching.REAL else FLOAT64
    else:
        family, common = "elementwise", common if common in launching.NUMBER else INT64
    return _Plan(family, common, name, (BOOL,) * len(conditions) + (common,) * len(values), result)


def launcher(name: str, dtype_of: Callable[..., np.dtype]) -> Callable[..., Array]:
    """The CUDA implementation of the operation of that name; dtype_of(*dtypes) is the dtype of its result."""
    plan = functools.cache(lambda *given: _plan(name, given, dtype_of(*given)))

    def run(*operands: Array) -> Array:
        wanted = plan(*[x.dtype for x in operands])
        operands = tuple(
            [x if x.dtype == d else cast(x, d) for x, d in zip(operands, wanted.operands, strict=True)]
        )
        y = _launch(wanted, operands)
        return y if wanted.made == wanted.result else cast(y, wanted.result)

    return run


def _launch(plan: _Plan, operands: Sequence[Array]) -> Array:
    first = operands[0]
    if all(x.flags.c_contiguous and x.shape == first.shape for x in operands):
        flat = ((first.size,),) * len(operands), tuple([(x.itemsize,) for x in operands])
        shape, (_, items, layout) = (
            first.shape,
            packed(*flat, tuple([x.itemsize for x in operands]), plan.pack),
        )
    else:
        shapes, strides = tuple([x.shape for x in operands]), tuple([x.strides for x in operands])
        shape, items, layout = packed(shapes, strides, tuple([x.itemsize for x in operands]), plan.pack)
    y = memory.empty(shape, plan.made, first)
    if y.size:
        arguments = (*map(storage, operands), y, np.int64(items), layout)
        launching.launch(plan.family, f"map_{plan.kernel}", items, *arguments, real=plan.real)
    return y


def copy(x: Array) -> Array:
    """A contiguous copy of x."""
    return cast(x, x.dtype)


def cast(x: Array, dtype: Any) -> Array:
    """A contiguous copy of x as `dtype`. What is neither float32, float64, int64 nor bool is assigned by
    CuPy.
    """
    dtype = np.dtype(dtype)
    if {x.dtype, dtype} <= {*launching.NUMBER, BOOL}:
        family, real = ("masks", None) if x.dtype == BOOL else ("elementwise", x.dtype)
        return _launch(_Plan(family, real, f"to_{dtype}", (x.dtype,), dtype), (x,))
    y = memory.empty(x.shape, dtype, x)
    y[...] = x
    return y
