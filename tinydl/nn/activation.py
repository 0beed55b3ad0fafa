"""Activations as layers: a function with its settings."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.core import Tensor
from ..ops import activations, elementwise, functions, shrinkage, softmax
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
    "Hardshrink",
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
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class _Activation(FunctionLayer):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)


ReLU = layer_of(_Activation, "ReLU", elementwise.relu)
Tanh = layer_of(_Activation, "Tanh", elementwise.tanh)
Sigmoid = layer_of(_Activation, "Sigmoid", elementwise.sigmoid)
LogSigmoid = layer_of(_Activation, "LogSigmoid", functions.logsigmoid)
LeakyReLU = layer_of(_Activation, "LeakyReLU", activations.leaky_relu)
ELU = layer_of(_Activation, "ELU", activations.elu)
SELU = layer_of(_Activation, "SELU", activations.selu)
CELU = layer_of(_Activation, "CELU", activations.celu)
GELU = layer_of(_Activation, "GELU", activations.gelu)
SiLU = layer_of(_Activation, "SiLU", activations.silu)
Mish = layer_of(_Activation, "Mish", activations.mish)
Softplus = layer_of(_Activation, "Softplus", activations.softplus)
Softsign = layer_of(_Activation, "Softsign", activations.softsign)
Hardtanh = layer_of(_Activation, "Hardtanh", activations.hardtanh)
Hardswish = layer_of(_Activation, "Hardswish", activations.hardswish)
Hardsigmoid = layer_of(_Activation, "Hardsigmoid", activations.hardsigmoid)
ReLU6 = layer_of(_Activation, "ReLU6", activations.relu6)
Threshold = layer_of(_Activation, "Threshold", activations.threshold)
GLU = layer_of(_Activation, "GLU", activations.glu)
Maxout = layer_of(_Activation, "Maxout", activations.maxout)
Softmax = layer_of(_Activation, "Softmax", softmax.softmax)
Softmin = layer_of(_Activation, "Softmin", softmax.softmin)
Softshrink = layer_of(_Activation, "Softshrink", shrinkage.softshrink)
Hardshrink = layer_of(_Activation, "Hardshrink", shrinkage.hardshrink)
Tanhshrink = layer_of(_Activation, "Tanhshrink", shrinkage.tanhshrink)
LogSoftmax = layer_of(_Activation, "LogSoftmax", softmax.log_softmax)


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
