"""PyTorch's `torch.autograd`, by its names: what scripts import from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinydl_kernels.machine.errors import DtypeError, GraphError

from . import functional as functional
from .debug import detect_anomaly
from .engine.backward import accumulate, grad
from .engine.core import Tensor, enable_grad, inference_mode, no_grad, set_grad_enabled
from .function import Function
from .gradcheck import gradcheck

__all__ = [
    "Function",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "inference_mode",
    "no_grad",
    "set_grad_enabled",
]


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradient of sum <tensors, grad_tensors> to `.grad` of every leaf, or of the `inputs` alone. A
    scalar needs no grad_tensor.
    """
    outputs = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if grad_tensors is None or isinstance(grad_tensors, Tensor):
        grad_tensors = [grad_tensors] * (len(outputs) if grad_tensors is None else 1)
    if len(grad_tensors) != len(outputs):
        raise GraphError(
            f"backward: expected one grad_tensor per tensor ({len(outputs)}), got {len(grad_tensors)}"
        )
    accumulate(outputs, list(grad_tensors), retain_graph, create_graph, inputs)


class _Tensors(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_Tensors):
    """What a tensor once had to be wrapped in. `Variable(data)` is `data` off the tape, in the same memory;
    every tensor is an instance.
    """

    def __new__(cls, data: Tensor, requires_grad: bool = False) -> Tensor:  # type: ignore[misc]
        if not isinstance(data, Tensor):
            raise DtypeError(f"Variable: expected a tensor for 'data', got {type(data).__name__}")
        return data.detach().requires_grad_(requires_grad)
