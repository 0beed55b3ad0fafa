"""What several families of nets are made of; nothing here is a network."""

from __future__ import annotations

from typing import Any

from ..engine.core import Tensor
from ..nn import init
from ..nn.containers import Identity, Sequential
from ..nn.convolution import Conv2d
from ..nn.linear import Linear
from ..nn.module import Module
from ..nn.normalization import BatchNorm2d
from ..ops.padding import pad
from ..ops.subscript import getitem

OPTIONS = ("A", "B", "C", "none")


def check_option(who: str, option: str) -> None:
    """Raises: ValueError: no option of shortcuts."""
    if option not in OPTIONS:
        raise ValueError(f"{who}: expected shortcut one of {', '.join(OPTIONS)}, got {option!r}")


class SubsampleAndPad(Module):
    """Every stride-th pixel, zeros for `grown` new channels, half before and half after: no parameters."""

    def __init__(self, stride: int, grown: int) -> None:
        super().__init__()
        self.stride, self.grown = stride, grown

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = getitem(x, (..., slice(None, None, self.stride), slice(None, None, self.stride)))
        if self.grown:
            x = pad(x, (0, 0, 0, 0, self.grown // 2, self.grown - self.grown // 2))
        return x


def shortcut(option: str, in_channels: int, channels: int, stride: int, dtype: Any) -> Module | None:
    """The way around a residual block (He et al., arXiv 1512.03385, section 4.1).

    A: the identity, padded with zeros where channels grow. B: a 1×1 convolution and BatchNorm where the shape
    changes. C: these everywhere. none: a plain net.
    """
    same = stride == 1 and in_channels == channels
    if option == "none":
        return None
    if option == "C" or (option == "B" and not same):
        return Sequential(
            Conv2d(in_channels, channels, 1, stride, bias=False, dtype=dtype),
            BatchNorm2d(channels, dtype=dtype),
        )
    return Identity() if same else SubsampleAndPad(stride, channels - in_channels)


def draw_he(model: Module, mode: str = "fan_out") -> None:
    """Convolutions normal with variance 2 / fan (arXiv 1502.01852); biases, also of linear layers, 0."""
    for layer in model.modules():
        if isinstance(layer, Conv2d):
            init.kaiming_normal_(layer.weight, mode=mode)
        if isinstance(layer, (Conv2d, Linear)) and layer.bias is not None:
            init.zeros_(layer.bias)
