"""Residual networks for 32 × 32 images: He et al., arXiv 1512.03385, section 4.2, with the
parameter-free shortcut (option A).

Parameter names are those of the widely used CIFAR-10 weights
(akamaster/pytorch_resnet_cifar10), which load as they are.
"""

from __future__ import annotations

from typing import Any

from ..engine.core import Tensor, add
from ..nn import init
from ..nn.containers import Sequential
from ..nn.convolution import Conv2d
from ..nn.linear import Linear
from ..nn.module import Module
from ..nn.normalization import BatchNorm2d
from ..ops.elementwise import relu
from ..ops.padding import pad
from ..ops.reduce import mean
from ..ops.subscript import getitem

__all__ = ["ResNet", "resnet20", "resnet32", "resnet44", "resnet56"]


class BasicBlock(Module):
    """relu(bn2(conv2(relu(bn1(conv1 x)))) + shortcut); the shortcut takes every stride-th
    pixel, zeros for new channels.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, dtype: Any) -> None:
        super().__init__()
        self.stride, self.grown = stride, channels - in_channels
        self.conv1 = Conv2d(in_channels, channels, 3, stride, 1, bias=False, dtype=dtype)
        self.bn1 = BatchNorm2d(channels, dtype=dtype)
        self.conv2 = Conv2d(channels, channels, 3, 1, 1, bias=False, dtype=dtype)
        self.bn2 = BatchNorm2d(channels, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = getitem(x, (..., slice(None, None, self.stride), slice(None, None, self.stride)))
        if self.grown:
            x = pad(x, (0, 0, 0, 0, self.grown // 2, self.grown - self.grown // 2))
        return relu(add(y, x))


class ResNet(Module):
    """6 n + 2 layers: a convolution, three groups of n blocks of `widths` channels, the
    mean over the image, linear. Images are (N, in_channels, H, W) of any size.
    """

    def __init__(
        self,
        n: int,
        classes: int = 10,
        widths: tuple[int, int, int] = (16, 32, 64),
        dtype: Any = None,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, widths[0], 3, 1, 1, bias=False, dtype=dtype)
        self.bn1 = BatchNorm2d(widths[0], dtype=dtype)
        channels = widths[0]
        for number, width in enumerate(widths, 1):
            blocks = []
            for k in range(n):
                blocks.append(BasicBlock(channels, width, 2 if number > 1 and k == 0 else 1, dtype))
                channels = width
            self.add_module(f"layer{number}", Sequential(*blocks))
        self.linear = Linear(channels, classes, dtype=dtype)
        for module in self.modules():
            if isinstance(module, (Conv2d, Linear)):
                init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = relu(self.bn1(self.conv1(x)))
        h = self.layer3(self.layer2(self.layer1(h)))
        return self.linear(mean(h, (2, 3)))


def resnet20(classes: int = 10, **settings: Any) -> ResNet:
    """ResNet-20: n = 3."""
    return ResNet(3, classes, **settings)


def resnet32(classes: int = 10, **settings: Any) -> ResNet:
    """ResNet-32: n = 5."""
    return ResNet(5, classes, **settings)


def resnet44(classes: int = 10, **settings: Any) -> ResNet:
    """ResNet-44: n = 7."""
    return ResNet(7, classes, **settings)


def resnet56(classes: int = 10, **settings: Any) -> ResNet:
    """ResNet-56: n = 9."""
    return ResNet(9, classes, **settings)
