"""The calculus: primitives, their rules, and the public functions over them, one family per file.

What a family lists in `__all__` is a function of `tinydl`. It is a method of Tensor too if it takes the
tensor first, in the families and with the exceptions that are named below: those of PyTorch.
"""

from __future__ import annotations

import importlib
from typing import Any

from tinydl_kernels.machine.errors import DtypeError

from ..engine.core import Primitive, Tensor, add, contiguous
from ..engine.promotion import is_scalar
from ..engine.public import public
from . import (
    arithmetic,
    arranging,
    as_number,
    bits,
    choices,
    creation,
    elementwise,
    functions,
    indexing,
    inplace,
    joining,
    matmul,
    products,
    random,
    reduce,
    reductions_by_index,
    sampling,
    scan,
    second_names,
    shape,
    softmax,
    sort,
    statistics,
    subscript,
    views,
)

WITH_METHODS = (
    *(creation, shape, indexing, subscript, sort, reduce, scan, statistics, matmul, softmax, products),
    *(arithmetic, bits, choices, elementwise, functions, joining, sampling, views, reductions_by_index),
    *(second_names, arranging),
)
NO_METHODS = {
    *("zeros_like", "ones_like", "full_like", "empty_like", "one_hot", "var_mean", "std_mean"),
    *("softmin", "cross_entropy", "linear", "bilinear", "logsigmoid"),
}
"""Functions of a tensor that are no methods in PyTorch."""


def _unless_foreign(function: Any) -> Any:
    """The comparison with what can be compared; Python takes anything else for another thing."""

    def operator(self: Tensor, other: Any) -> Any:
        return function(self, other) if is_scalar(other) or hasattr(other, "dtype") else NotImplemented

    return operator


def _direct(function: Any) -> Any:
    """A primitive as a plain function, which Python binds to its object in less time."""
    return (lambda *operands: function(*operands)) if isinstance(function, Primitive) else function


def _swapped(function: Any) -> Any:
    return lambda self, other: function(other, self)


def _takes_a_tensor_first(function: Any) -> bool:
    """By the name of the first parameter, which is PyTorch's."""
    if isinstance(function, Primitive):
        return function.inputs[0] in ("input", "tensor")
    return function.__wrapped__.__code__.co_varnames[0] in ("input", "tensor")


OPERATORS: dict[str, Any] = {
    "__add__": add,
    "__radd__": _swapped(add),
    "__sub__": elementwise.sub,
    "__rsub__": _swapped(elementwise.sub),
    "__mul__": elementwise.mul,
    "__rmul__": _swapped(elementwise.mul),
    "__truediv__": elementwise.div,
    "__rtruediv__": _swapped(elementwise.div),
    "__floordiv__": arithmetic.floor_divide,
    "__rfloordiv__": _swapped(arithmetic.floor_divide),
    "__mod__": arithmetic.remainder,
    "__rmod__": _swapped(arithmetic.remainder),
    "__divmod__": lambda self, other: (
        arithmetic.floor_divide(self, other),
        arithmetic.remainder(self, other),
    ),
    "__rdivmod__": lambda self, other: (
        arithmetic.floor_divide(other, self),
        arithmetic.remainder(other, self),
    ),
    "__pow__": elementwise.pow,
    "__rpow__": _swapped(elementwise.pow),
    "__matmul__": matmul.matmul,
    "__rmatmul__": _swapped(matmul.matmul),
    "__neg__": elementwise.neg,
    "__abs__": elementwise.abs,
    "__invert__": bits.bitwise_not,
    "__and__": bits.bitwise_and,
    "__rand__": _swapped(bits.bitwise_and),
    "__or__": bits.bitwise_or,
    "__ror__": _swapped(bits.bitwise_or),
    "__xor__": bits.bitwise_xor,
    "__rxor__": _swapped(bits.bitwise_xor),
    "__lshift__": bits.bitwise_left_shift,
    "__rlshift__": _swapped(bits.bitwise_left_shift),
    "__rshift__": bits.bitwise_right_shift,
    "__rrshift__": _swapped(bits.bitwise_right_shift),
    "__eq__": _unless_foreign(elementwise.eq),
    "__ne__": _unless_foreign(elementwise.ne),
    "__lt__": elementwise.lt,
    "__le__": elementwise.le,
    "__gt__": elementwise.gt,
    "__ge__": elementwise.ge,
    "__hash__": object.__hash__,
    "__getitem__": subscript.getitem,
    "__len__": as_number.length,
    "__bool__": as_number.truth,
    "__float__": lambda self: float(creation.item(self)),
    "__int__": lambda self: int(creation.item(self)),
    "__index__": as_number.index,
    "__round__": lambda self, digits=None: arithmetic.round(self, decimals=digits or 0),
    "__array__": creation.to_array,
    "__dlpack__": creation.to_dlpack,
    "__dlpack_device__": creation.dlpack_device,
    "__repr__": creation.describe,
    "__format__": as_number.formatted,
    "__deepcopy__": creation.deepcopy,
    "__reduce_ex__": creation.pickled,
    **inplace.OPERATORS,
}
NEW = (
    *(creation.new, creation.new_tensor, creation.new_zeros),
    *(creation.new_ones, creation.new_empty, creation.new_full),
)


def _decompositions() -> Any:
    """Of matrices, a room above this one: it is there when it is asked for."""
    return importlib.import_module("tinydl.decompositions")


def _of_16_bits(who: str) -> Tensor:
    raise DtypeError(f"{who}: expected float() or double(): there are no tensors of 16-bit floats here")


METHODS: dict[str, Any] = {
    name: getattr(family, name)
    for family in WITH_METHODS
    for name in family.__all__
    if name not in NO_METHODS and _takes_a_tensor_first(getattr(family, name))
} | {
    # what is a method only, or one of another form
    "numpy": creation.numpy,
    "item": creation.item,
    "tolist": creation.tolist,
    "to": creation.to,
    "cuda": creation.cuda,
    "cpu": creation.cpu,
    "view": shape.view,
    "repeat": shape.repeat,
    "where": lambda self, condition, other: elementwise.where(condition, self, other),
    "expand": shape.broadcast_to,
    "expand_as": lambda self, other: shape.broadcast_to(self, other.shape),
    "view_as": lambda self, other: shape.view(self, other.shape),
    "contiguous": lambda self, memory_format=None: (
        self if self.array.flags.c_contiguous else contiguous(self)
    ),
    "is_contiguous": lambda self, memory_format=None: bool(self.array.flags.c_contiguous),
    "is_floating_point": lambda self: self.dtype.kind == "f",
    "type_as": lambda self, tensor: creation.to(self, tensor),
    "float": lambda self: elementwise.to_dtype(self, "float32"),
    "double": lambda self: elementwise.to_dtype(self, "float64"),
    "int": lambda self: elementwise.to_dtype(self, "int32"),
    "long": lambda self: elementwise.to_dtype(self, "int64"),
    "bool": lambda self: elementwise.to_dtype(self, "bool"),
    "short": lambda self: elementwise.to_dtype(self, "int16"),
    "char": lambda self: elementwise.to_dtype(self, "int8"),
    "byte": lambda self: elementwise.to_dtype(self, "uint8"),
    "type": lambda self, dtype=None, non_blocking=False: (
        self.dtype.name if dtype is None else elementwise.to_dtype(self, dtype)
    ),
    "size": lambda self, dim=None: self.shape if dim is None else self.shape[dim],
    "nelement": lambda self: self.array.size,
    "element_size": lambda self: self.dtype.itemsize,
    "half": lambda self, memory_format=None: _of_16_bits("half"),
    "bfloat16": lambda self, memory_format=None: _of_16_bits("bfloat16"),
    "det": lambda self: _decompositions().det(self),
    "slogdet": lambda self: _decompositions().slogdet(self),
    "logdet": lambda self: _decompositions().logdet(self),
    "inverse": lambda self: _decompositions().inverse(self),
    "matrix_power": lambda self, n: _decompositions().matrix_power(self, n),
    "cholesky": lambda self, upper=False: _decompositions().cholesky(self, upper),
    "qr": lambda self, some=True: _decompositions().qr(self, some),
    "svd": lambda self, some=True, compute_uv=True: _decompositions().svd(self, some, compute_uv),
    **{f.__name__: f for f in NEW},
    "dim": lambda self: self.ndim,
    "ndimension": lambda self: self.ndim,
    "stride": views.stride,
    **inplace.METHODS,
}

for _name, _function in ({name: _direct(f) for name, f in OPERATORS.items()} | METHODS).items():
    setattr(Tensor, _name, _function)
Tensor.T = property(lambda self: shape.permute(self, *reversed(range(self.ndim))))  # type: ignore[assignment]
Tensor.mT = property(lambda self: shape.transpose(self, -2, -1))  # type: ignore[assignment]
Tensor.data = property(inplace.data, inplace.set_data)
