"""Residual networks for 224 × 224 images: He et al., arXiv 1512.03385, table 1, and the plain 34 layers.

Parameter names are torchvision's. Its bottleneck has the stride in the 3×3 convolution, the paper's in the
first 1×1: 4.1 in the place of 3.8 G multiply-adds.
"""

from __future__ import annotations

from typing import Any

from ..engine.core import Tensor, add
from ..nn.containers import Sequential
from ..nn.convolution import Conv2d
from ..nn.linear import Linear
from ..nn.module import Module
from ..nn.normalization import BatchNorm2d
from ..ops.elementwise import relu
from ..ops.pool import max_pool2d
from ..ops.reduce import mean
from .parts import check_option, draw_he, shortcut

__all__ = ["ImageNetResNet", "plain18", "plain34", "resnet18", "resnet34", "resnet50"]


class BasicBlock(Module):
    """relu(bn2(conv2(relu(bn1(conv1 x)))) + downsample x), both 3×3."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, option: str, dtype: Any) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, width, 3, stride, 1, bias=False, dtype=dtype)
        self.bn1 = BatchNorm2d(width, dtype=dtype)
        self.conv2 = Conv2d(width, width, 3, 1, 1, bias=False, dtype=dtype)
        self.bn2 = BatchNorm2d(width, dtype=dtype)
        self.downsample = shortcut(option, in_channels, width, stride, dtype)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(y if self.downsample is None else add(y, self.downsample(x)))


class Bottleneck(Module):
    """1×1 to `width` channels, 3×3, 1×1 to four times as many, each with BatchNorm; and downsample x."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, option: str, dtype: Any) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, width, 1, bias=False, dtype=dtype)
        self.bn1 = BatchNorm2d(width, dtype=dtype)
        self.conv2 = Conv2d(width, width, 3, stride, 1, bias=False, dtype=dtype)
        self.bn2 = BatchNorm2d(width, dtype=dtype)
        self.conv3 = Conv2d(width, 4 * width, 1, bias=False, dtype=dtype)
        self.bn3 = BatchNorm2d(4 * width, dtype=dtype)
        self.downsample = shortcut(option, in_channels, 4 * width, stride, dtype)

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))))
        y = self.bn3(self.conv3(y))
        return relu(y if self.downsample is None else add(y, self.downsample(x)))


class ImageNetResNet(Module):
    """conv 7×7 with stride 2, max pool, four groups of blocks of `width`, 2, 4 and 8 times as many channels,
    the mean over the image, linear. Images are (N, in_channels, H, W).

    Args:
        layers: blocks of each group.
        classes: of the last layer.
        bottleneck: blocks of three convolutions, with four times the channels between them.
        shortcut: the paper's option "A", "B" (torchvision's), "C", or "none" for the plain net.
    """

    def __init__(
        self,
        layers: tuple[int, int, int, int],
        classes: int = 1000,
        bottleneck: bool = False,
        shortcut: str = "B",
        width: int = 64,
        in_channels: int = 3,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_option("ImageNetResNet", shortcut)
        self.conv1 = Conv2d(in_channels, width, 7, 2, 3, bias=False, dtype=dtype)
        self.bn1 = BatchNorm2d(width, dtype=dtype)
        block = Bottleneck if bottleneck else BasicBlock
        channels = width
        for number, count in enumerate(layers):
            blocks = []
            for k in range(count):
                stride = 2 if number and k == 0 else 1
                blocks.append(block(channels, width << number, stride, shortcut, dtype))
                channels = block.expansion * (width << number)
            self.add_module(f"layer{number + 1}", Sequential(*blocks))
        self.fc = Linear(channels, classes, dtype=dtype)
        draw_he(self)

    def forward(self, x: Tensor) -> Tensor:
        h = max_pool2d(relu(self.bn1(self.conv1(x))), 3, 2, 1)
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        return self.fc(mean(h, (2, 3)))


def resnet18(classes: int = 1000, **settings: Any) -> ImageNetResNet:
    """ResNet-18."""
    return ImageNetResNet((2, 2, 2, 2), classes, **settings)


def resnet34(classes: int = 1000, **settings: Any) -> ImageNetResNet:
    """ResNet-34."""
    return ImageNetResNet((3, 4, 6, 3), classes, **settings)


def resnet50(classes: int = 1000, **settings: Any) -> ImageNetResNet:
    """ResNet-50, of bottlenecks."""
    return ImageNetResNet((3, 4, 6, 3), classes, bottleneck=True, **settings)


def plain18(classes: int = 1000, **settings: Any) -> ImageNetResNet:
    """The plain twin of ResNet-18: no shortcuts."""
    return ImageNetResNet((2, 2, 2, 2), classes, shortcut="none", **settings)


def plain34(classes: int = 1000, **settings: Any) -> ImageNetResNet:
    """The plain twin of ResNet-34: no shortcuts."""
    return ImageNetResNet((3, 4, 6, 3), classes, shortcut="none", **settings)
