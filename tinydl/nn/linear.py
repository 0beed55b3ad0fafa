"""Linear layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine.core import Tensor
from ..ops.matmul import bilinear, linear
from . import init
from .checks import layer_dtype, require_sizes
from .module import Module
from .parameter import Parameter

__all__ = [
    "Bilinear",
    "Linear",
]


class Linear(Module):
    """x weightᵀ + bias: (*, in_features) to (*, out_features). weight (out, in),
    bias (out,); both U(±1/√in).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = None) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(self, 0, in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(np.empty((out_features, in_features), dtype))
        self.bias = Parameter(np.empty(out_features, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.reset(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)

    def flops(self, x: Tensor, y: Tensor) -> int:
        """Floating-point operations of one forward."""
        return 2 * y.array.size * self.in_features

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


class Bilinear(Module):
    """x1ᵀ weight_o x2 + bias_o: (*, in1) and (*, in2) to (*, out). weight (out, in1, in2),
    bias (out,); both U(±1/√in1).
    """

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True, dtype: Any = None
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(
            self, 0, in1_features=in1_features, in2_features=in2_features, out_features=out_features
        )
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = Parameter(np.empty((out_features, in1_features, in2_features), dtype))
        self.bias = Parameter(np.empty(out_features, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        bound = 1 / math.sqrt(max(self.in1_features, 1))
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        sizes = f"{self.in1_features}, {self.in2_features}, {self.out_features}"
        return sizes + ("" if self.bias is not None else ", bias=False")
