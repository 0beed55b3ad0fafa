"""The types of state: Parameter is trained, Buffer is kept and changed by effects alone."""

from __future__ import annotations

from typing import Any

from tinydl_kernels.machine.errors import GraphError

from ..engine.core import Tensor, state
from ..ops.creation import copied

__all__ = [
    "Buffer",
    "Parameter",
]


class Parameter(Tensor):
    """A leaf that belongs to a module and is trained. Copies `data`."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(copied("Parameter", data, None).array)
        self.requires_grad = requires_grad


class Buffer(Tensor):
    """State that belongs to a module and is not trained: running statistics, counters, a
    learning rate. Copies `data`, which must not require grad: a buffer carries none.
    """

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None) -> None:
        if isinstance(data, Tensor) and data.requires_grad and state.grad:
            raise GraphError(
                "Buffer: expected data without gradient, got a tensor that requires grad: use detach()"
            )
        super().__init__(copied("Buffer", data, dtype).array)


def as_buffer(tensor: Tensor) -> Buffer:
    """A Buffer of the memory of a tensor. GraphError if that requires grad: a Buffer is not trained."""
    if tensor.requires_grad:
        raise GraphError(
            f"Buffer: expected a tensor off the tape, got {tensor.shape} that requires grad: detach()"
        )
    buffer = object.__new__(Buffer)
    Tensor.__init__(buffer, tensor.array, tensor.version)
    return buffer
