"""Convolutions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import Tensor
from ..ops.conv import conv2d
from . import init
from .module import Module
from .parameter import Parameter


class Conv2d(Module):
    """Cross-correlation of (N, C, H, W). weight (O, C/groups, KH, KW), bias (O,); both U(±1/√fan_in), fan_in = C/groups·KH·KW.

    padding: an int, one an axis, ((top, bottom), (left, right)), "same" or "valid".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"Conv2d: expected channels divisible by groups={groups}, got {in_channels} and {out_channels}")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.weight = Parameter(np.empty((out_channels, in_channels // groups, *kernel), dtype))
        self.bias = Parameter(np.empty(out_channels, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.reset(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def flops(self, x: Tensor, y: Tensor) -> int:
        """Floating-point operations of one forward."""
        return 2 * y.array.size * math.prod(self.weight.shape[1:])

    def extra_repr(self) -> str:
        plain = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        changed = [f"{name}={getattr(self, name)}" for name, default in plain.items() if getattr(self, name) != default]
        changed += [] if self.bias is not None else ["bias=False"]
        return ", ".join([f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}", *changed])
