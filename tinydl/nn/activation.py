"""Activations as layers: a function with its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.core import Tensor
from ..ops import activations, elementwise, functions, softmax
from .checks import layer_dtype, require_real, require_sizes
from .function_layer import FunctionLayer, layer_of
from .module import Module
from .parameter import Parameter

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Maxout",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    "Threshold",
]


class _Activation(FunctionLayer):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)


def _layer(name: str, function: Callable[..., Tensor]) -> type[_Activation]:
    return layer_of(_Activation, name, function, inputs=1)


ReLU = _layer("ReLU", elementwise.relu)
Tanh = _layer("Tanh", elementwise.tanh)
Sigmoid = _layer("Sigmoid", elementwise.sigmoid)
LogSigmoid = _layer("LogSigmoid", functions.logsigmoid)
LeakyReLU = _layer("LeakyReLU", activations.leaky_relu)
ELU = _layer("ELU", activations.elu)
SELU = _layer("SELU", activations.selu)
CELU = _layer("CELU", activations.celu)
GELU = _layer("GELU", activations.gelu)
SiLU = _layer("SiLU", activations.silu)
Mish = _layer("Mish", activations.mish)
Softplus = _layer("Softplus", activations.softplus)
Softsign = _layer("Softsign", activations.softsign)
Hardtanh = _layer("Hardtanh", activations.hardtanh)
Hardswish = _layer("Hardswish", activations.hardswish)
Hardsigmoid = _layer("Hardsigmoid", activations.hardsigmoid)
ReLU6 = _layer("ReLU6", activations.relu6)
Threshold = _layer("Threshold", activations.threshold)
GLU = _layer("GLU", activations.glu)
Maxout = _layer("Maxout", activations.maxout)
Softmax = _layer("Softmax", softmax.softmax)
LogSoftmax = _layer("LogSoftmax", softmax.log_softmax)


class PReLU(Module):
    """x where x > 0, else weight · x, with one trained weight for all, or one per channel.
    He et al., arXiv 1502.01852.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = None) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(self, num_parameters=num_parameters)
        require_real(self, init=init)
        self.weight = Parameter(np.full(num_parameters, init, dtype))

    def forward(self, input: Tensor) -> Tensor:
        return activations.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.weight.shape[0]}"
