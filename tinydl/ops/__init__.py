"""The calculus: primitives, their rules, and the public functions over them. The table
below is what a Tensor can do.
"""

from __future__ import annotations

from typing import Any

from ..engine.core import Tensor, add, contiguous
from . import (
    creation,
    elementwise,
    functions,
    indexing,
    matmul,
    products,
    random,
    reduce,
    scan,
    shape,
    softmax,
    sort,
    statistics,
)
from .public import public


def _swapped(function: Any) -> Any:
    function = public(function)
    return lambda self, other: function(other, self)


OPERATORS: dict[str, Any] = {
    "__add__": add,
    "__radd__": _swapped(add),
    "__sub__": elementwise.sub,
    "__rsub__": _swapped(elementwise.sub),
    "__mul__": elementwise.mul,
    "__rmul__": _swapped(elementwise.mul),
    "__truediv__": elementwise.div,
    "__rtruediv__": _swapped(elementwise.div),
    "__pow__": elementwise.pow,
    "__rpow__": _swapped(elementwise.pow),
    "__matmul__": matmul.matmul,
    "__rmatmul__": _swapped(matmul.matmul),
    "__neg__": elementwise.neg,
    "__abs__": elementwise.abs,
    "__invert__": elementwise.not_mask,
    "__and__": elementwise.and_masks,
    "__or__": elementwise.or_masks,
    "__xor__": functions.xor_masks,
    "__eq__": elementwise.eq,
    "__ne__": elementwise.ne,
    "__lt__": elementwise.lt,
    "__le__": elementwise.le,
    "__gt__": elementwise.gt,
    "__ge__": elementwise.ge,
    "__hash__": object.__hash__,
    "__getitem__": indexing.getitem,
    "__setitem__": indexing.setitem,
    "__len__": creation.length,
    "__bool__": creation.truth,
    "__float__": lambda self: float(creation.item(self)),
    "__int__": lambda self: int(creation.item(self)),
    "__array__": creation.to_array,
    "__dlpack__": creation.to_dlpack,
    "__dlpack_device__": creation.dlpack_device,
    "__repr__": creation.describe,
    "__format__": creation.formatted,
    "__deepcopy__": creation.deepcopy,
}
METHODS: dict[str, Any] = {
    name: getattr(family, name)
    for family, names in {
        creation: "numpy item tolist to cuda cpu equal allclose",
        shape: "reshape view flatten permute transpose movedim squeeze unsqueeze flip roll rot90 repeat "
        "tile split chunk "
        "unbind narrow diag diagonal",
        indexing: "index_select gather scatter scatter_add take_along_dim masked_fill masked_select "
        "repeat_interleave tril "
        "triu nonzero bincount",
        sort: "sort argsort topk unique",
        reduce: "sum mean max min amax amin argmax argmin any all logsumexp",
        scan: "prod cumsum cumprod",
        statistics: "var std norm",
        matmul: "matmul",
        softmax: "softmax log_softmax",
        products: "mm bmm mv dot outer cross kron",
        elementwise: "exp log sqrt tanh sigmoid relu abs sign neg add sub mul div pow square maximum "
        "minimum clip clone "
        "isfinite eq ne lt le gt ge logical_and logical_or logical_not",
        functions: "exp2 expm1 log1p log2 log10 sin cos tan asin acos atan sinh cosh asinh acosh atanh "
        "erf erfc lgamma digamma "
        "rsqrt reciprocal floor ceil round trunc isnan isinf logical_xor lerp addcmul addcdiv",
    }.items()
    for name in names.split()
} | {
    "where": lambda self, condition, other: elementwise.where(condition, self, other),
    "expand": shape.broadcast_to,
    "expand_as": lambda self, other: shape.broadcast_to(self, other.shape),
    "view_as": lambda self, other: shape.view(self, other.shape),
    "contiguous": lambda self: self if self.array.flags.c_contiguous else contiguous(self),
    "clamp": elementwise.clip,
    "float": lambda self: elementwise.to_dtype(self, "float32"),
    "double": lambda self: elementwise.to_dtype(self, "float64"),
    "int": lambda self: elementwise.to_dtype(self, "int32"),
    "long": lambda self: elementwise.to_dtype(self, "int64"),
    "bool": lambda self: elementwise.to_dtype(self, "bool"),
    "size": lambda self, dim=None: self.shape if dim is None else self.shape[dim],
    "numel": lambda self: self.array.size,
    "dim": lambda self: self.ndim,
}

for _name, _function in (OPERATORS | METHODS).items():
    setattr(Tensor, _name, public(_function))
Tensor.T = property(lambda self: shape.permute(self, *reversed(range(self.ndim))))  # type: ignore[attr-defined]
