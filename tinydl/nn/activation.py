"""Activations as layers: a function with its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.core import Tensor
from ..ops import activations, elementwise, functions, softmax
from .checks import layer_dtype, require_real, require_sizes
from .module import Module
from .parameter import Parameter


class _Activation(Module):
    """A function with its settings, which have the names, the order and the defaults that they have there."""

    function: Any
    signature: inspect.Signature

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError:
            known, given = (
                ", ".join(self.signature.parameters),
                [*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())],
            )
            raise TypeError(
                f"{type(self).__name__}: expected settings ({known}), got ({', '.join(given)})"
            ) from None
        bound.apply_defaults()
        self.settings = bound.arguments
        annotated = {name: parameter.annotation for name, parameter in self.signature.parameters.items()}
        require_real(
            self, **{name: value for name, value in self.settings.items() if annotated[name] == "float"}
        )

    def forward(self, input: Tensor) -> Tensor:
        return self.function(input, **self.settings)

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value!r}" for key, value in self.settings.items())


def _layer(name: str, function: Callable[..., Tensor]) -> type[_Activation]:
    """The layer of an activation function."""
    settings = (
        list(inspect.signature(function).parameters.values())[1:] if inspect.isfunction(function) else []
    )
    signature = inspect.Signature(settings)
    members = {
        "function": staticmethod(function),
        "signature": signature,
        "__signature__": signature,
        "__doc__": function.__doc__,
        "__module__": __name__,
    }
    return type(name, (_Activation,), members)


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
    """x where x > 0, else weight · x, with a trained weight for all or one a channel.
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
