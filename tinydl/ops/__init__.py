"""The calculus: primitives, their rules, and the public functions over them. The table below is what a Tensor can do."""

from __future__ import annotations

from typing import Any

from ..core import Tensor, add
from . import creation, elementwise, linalg, reduce, shape


def _swapped(function: Any) -> Any:
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
    "__matmul__": linalg.matmul,
    "__rmatmul__": _swapped(linalg.matmul),
    "__neg__": elementwise.neg,
    "__abs__": elementwise.abs,
    "__invert__": elementwise.logical_not,
    "__and__": elementwise.logical_and,
    "__or__": elementwise.logical_or,
    "__eq__": elementwise.eq,
    "__ne__": elementwise.ne,
    "__lt__": elementwise.lt,
    "__le__": elementwise.le,
    "__gt__": elementwise.gt,
    "__ge__": elementwise.ge,
    "__hash__": lambda self: id(self),
    "__getitem__": shape.getitem,
    "__setitem__": creation.setitem,
    "__len__": creation.length,
    "__bool__": creation.truth,
    "__float__": lambda self: float(creation.item(self)),
    "__int__": lambda self: int(creation.item(self)),
    "__array__": creation.to_array,
    "__repr__": creation.describe,
    "__deepcopy__": creation.deepcopy,
}
METHODS: dict[str, Any] = {
    **{name: getattr(creation, name) for name in ("numpy", "item", "tolist")},
    **{
        name: getattr(shape, name)
        for name in (
            *("reshape", "view", "flatten", "permute", "transpose", "movedim", "squeeze", "unsqueeze", "flip", "roll", "rot90"),
            *("repeat", "tile", "split", "chunk", "unbind", "narrow", "diag", "diagonal"),
        )
    },
    **{name: getattr(reduce, name) for name in ("sum", "mean", "max", "min", "amax", "amin", "argmax", "logsumexp")},
    **{name: getattr(elementwise, name) for name in ("exp", "log", "sqrt", "tanh", "sigmoid", "relu", "abs", "sign", "neg")},
    "expand": shape.broadcast_to,
    "clip": elementwise.clip,
    "clamp": elementwise.clip,
    "pow": elementwise.pow,
    "square": elementwise.square,
    "clone": elementwise.clone,
    "to": elementwise.to_dtype,
    "float": lambda self: elementwise.to_dtype(self, "float32"),
    "double": lambda self: elementwise.to_dtype(self, "float64"),
    "size": lambda self, dim=None: self.shape if dim is None else self.shape[dim],
    "numel": lambda self: self.array.size,
    "dim": lambda self: self.ndim,
    "matmul": linalg.matmul,
}

for _name, _function in (OPERATORS | METHODS).items():
    setattr(Tensor, _name, _function)
Tensor.T = property(lambda self: shape.permute(self, *reversed(range(self.ndim))))  # type: ignore[attr-defined]
