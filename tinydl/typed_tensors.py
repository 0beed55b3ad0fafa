"""PyTorch's older constructors, with a dtype in their name: `FloatTensor(2, 3)`, `LongTensor([1, 2])`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .devices import checked_device
from .engine.core import Tensor
from .ops.creation import empty, tensor

KINDS = {
    "FloatTensor": "float32",
    "DoubleTensor": "float64",
    "ByteTensor": "uint8",
    "CharTensor": "int8",
    "ShortTensor": "int16",
    "IntTensor": "int32",
    "LongTensor": "int64",
    "BoolTensor": "bool",
}
__all__ = [*KINDS, "of_device"]


class _Typed(type):
    """A class whose instances are the tensors of a dtype on a device."""

    dtype: Any
    device: str

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and (instance.dtype, instance.device) == (cls.dtype, cls.device)

    def __call__(cls, *given: Any) -> Tensor:
        """A copy of data, or a tensor of a size that holds anything."""
        if len(given) == 1 and not isinstance(given[0], (int, np.integer)):
            return tensor(given[0], dtype=cls.dtype, device=cls.device)
        return empty(*(given or (0,)), dtype=cls.dtype, device=cls.device)


def of_device(device: str) -> dict[str, Any]:
    """The constructors by name, of tensors on "cpu" or "cuda"."""
    where = checked_device(device, "of_device")
    return {
        name: _Typed(name, (), {"dtype": np.dtype(dtype), "device": where, "__doc__": __doc__})
        for name, dtype in KINDS.items()
    }


globals().update(of_device("cpu"))
