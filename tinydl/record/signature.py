"""When is a call like one that was recorded? Constants are the same if their types and bits are."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import numpy as np
from tinydl_kernels.machine import dispatch, precision

from ..engine.core import Tensor, state

PLAIN = frozenset({int, bool, str, bytes, type(None)})
"""Types whose equal values have the same bits."""


def signature(arguments: list[Any]) -> Any:
    """What a recording depends on: the scope, tensors but for their values, and everything else to the bit.
    TypeError for an argument that cannot be hashed.
    """
    given = tuple(
        (x.shape, x.dtype, x.device, x.requires_grad) if isinstance(x, Tensor) else exact(x)
        for x in arguments
    )
    try:
        hash(given)
    except TypeError:
        kinds = ", ".join(type(x).__name__ for x in arguments)
        raise TypeError(f"record: expected tensors, arrays and hashable constants, got ({kinds})") from None
    return dispatch.override(), state.grad, precision.get_float32_matmul_precision(), state.shard, given


def exact(constant: Any) -> Any:
    """What is equal for constants of the same types and bits, all the way down, and for no others. Python
    finds 0.0 and -0.0, 1 and True equal, and NaN unequal to itself.
    """
    kind = type(constant)
    if kind in PLAIN:
        return kind, constant
    if isinstance(constant, float) and not isinstance(constant, np.generic):
        return kind, struct.pack("d", constant)
    if isinstance(constant, complex) and not isinstance(constant, np.generic):
        return kind, struct.pack("dd", constant.real, constant.imag)
    if isinstance(constant, np.generic):
        return kind, constant.dtype, constant.tobytes()
    if isinstance(constant, tuple):
        return kind, *map(exact, constant)
    if isinstance(constant, frozenset):
        return kind, frozenset(map(exact, constant))
    if isinstance(constant, slice):
        return kind, exact(constant.start), exact(constant.stop), exact(constant.step)
    if dataclasses.is_dataclass(kind) and kind.__eq__ is not object.__eq__ and kind.__hash__ is not None:
        own = tuple(exact(getattr(constant, field.name)) for field in dataclasses.fields(constant))
        return kind, own
    return kind, constant
