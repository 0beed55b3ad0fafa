"""Residual networks for 32 × 32 images: He et al., arXiv 1512.03385, section 4.2, and their plain twins.

Parameter names are those of the widely used CIFAR-10 weights (akamaster/pytorch_resnet_cifar10, shortcut
options A and B), which load as they are.
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
from ..ops.reduce import mean
from .parts import check_option, shortcut

__all__ = [
    "ResNet",
    "plain20",
    "plain32",
    "plain44",
    "plain56",
    "plain110",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
]


class BasicBlock(Module):
    """relu(bn2(conv2(relu(bn1(conv1 x)))) + shortcut x)."""

    def __init__(self, in_channels: int, channels: int, stride: int, option: str, dtype: Any) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, channels, 3, stride, 1, bias=False, dtype=dtype)
        self.bn1 = BatchNorm2d(channels, dtype=dtype)
        self.conv2 = Conv2d(channels, channels, 3, 1, 1, bias=False, dtype=dtype)
        self.bn2 = BatchNorm2d(channels, dtype=dtype)
        self.shortcut = shortcut(option, in_channels, channels, stride, dtype)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(y if self.shortcut is None else add(y, self.shortcut(x)))


class ResNet(Module):
    """6 n + 2 layers: a convolution, three groups of n blocks of `widths` channels, the
    mean over the image, linear. Images are (N, in_channels, H, W) of any size.

    `shortcut` is the paper's option: "A" (subsampled, padded with zeros), "B" (projected where the shape
    changes), "C" (projected everywhere), or "none" for the plain net.
    """

    def __init__(
        self,
        n: int,
        classes: int = 10,
        widths: tuple[int, int, int] = (16, 32, 64),
        dtype: Any = None,
        in_channels: int = 3,
        shortcut: str = "A",
    ) -> None:
        super().__init__()
        check_option("ResNet", shortcut)
        self.conv1 = Conv2d(in_channels, widths[0], 3, 1, 1, bias=False, dtype=dtype)
        self.bn1 = BatchNorm2d(widths[0], dtype=dtype)
        channels = widths[0]
        for number, width in enumerate(widths, 1):
            blocks = []
            for k in range(n):
                stride = 2 if number > 1 and k == 0 else 1
                blocks.append(BasicBlock(channels, width, stride, shortcut, dtype))
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


def resnet110(classes: int = 10, **settings: Any) -> ResNet:
    """ResNet-110: n = 18."""
    return ResNet(18, classes, **settings)


def plain20(classes: int = 10, **settings: Any) -> ResNet:
    """The plain twin of ResNet-20: no shortcuts."""
    return ResNet(3, classes, shortcut="none", **settings)


def plain32(classes: int = 10, **settings: Any) -> ResNet:
    """The plain twin of ResNet-32: no shortcuts."""
    return ResNet(5, classes, shortcut="none", **settings)


def plain44(classes: int = 10, **settings: Any) -> ResNet:
    """The plain twin of ResNet-44: no shortcuts."""
    return ResNet(7, classes, shortcut="none", **settings)


def plain56(classes: int = 10, **settings: Any) -> ResNet:
    """The plain twin of ResNet-56: no shortcuts."""
    return ResNet(9, classes, shortcut="none", **settings)


def plain110(classes: int = 10, **settings: Any) -> ResNet:
    """The plain twin of ResNet-110: no shortcuts."""
    return ResNet(18, classes, shortcut="none", **settings)
