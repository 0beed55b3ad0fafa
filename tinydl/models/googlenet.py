"""GoogLeNet: Szegedy et al., "Going deeper with convolutions" (arXiv 1409.4842), with BatchNorm as in Ioffe
and Szegedy (arXiv 1502.03167).

Parameter names are torchvision's, and so is the 3×3 convolution where the paper has one of 5×5: its published
weights have it. (They were trained on images (x - ½) / ½.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..engine.core import Tensor
from ..nn import init
from ..nn.containers import Sequential
from ..nn.convolution import Conv2d
from ..nn.dropout import Dropout
from ..nn.linear import Linear
from ..nn.module import Module
from ..nn.normalization import BatchNorm2d
from ..nn.pooling import MaxPool2d
from ..ops.elementwise import relu
from ..ops.joining import cat
from ..ops.pool import adaptive_avg_pool2d
from ..ops.reduce import mean
from ..ops.shape import flatten

__all__ = ["GoogLeNet", "GoogLeNetOutputs", "Inception", "googlenet"]

BLOCKS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Table 1 of the paper: channels of 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection."""


class GoogLeNetOutputs(NamedTuple):
    """What a GoogLeNet with auxiliary classifiers gives in training: three times logits (N, classes)."""

    logits: Tensor
    aux_logits2: Tensor
    aux_logits1: Tensor


class BasicConv2d(Module):
    """relu(bn(conv x)); the convolution without bias, BatchNorm with eps 1e-3."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1, dtype: Any = None):
        super().__init__()
        self.conv = Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False, dtype=dtype)
        self.bn = BatchNorm2d(channels, eps=0.001, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn(self.conv(x)))


class Inception(Module):
    """Four branches side by side, their channels joined: 1×1; 1×1 and 3×3; 1×1 and 3×3 (`kernel=5` for the
    paper's 5×5); max pool and 1×1. (N, in_channels, H, W) to (N, ch1x1 + ch3x3 + ch5x5 + pool_proj, H, W).
    """

    def __init__(
        self,
        in_channels: int,
        ch1x1: int,
        ch3x3red: int,
        ch3x3: int,
        ch5x5red: int,
        ch5x5: int,
        pool_proj: int,
        kernel: int = 3,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(in_channels, ch1x1, 1, dtype=dtype)
        self.branch2 = Sequential(
            BasicConv2d(in_channels, ch3x3red, 1, dtype=dtype), BasicConv2d(ch3x3red, ch3x3, 3, dtype=dtype)
        )
        self.branch3 = Sequential(
            BasicConv2d(in_channels, ch5x5red, 1, dtype=dtype),
            BasicConv2d(ch5x5red, ch5x5, kernel, dtype=dtype),
        )
        self.branch4 = Sequential(
            MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv2d(in_channels, pool_proj, 1, dtype=dtype)
        )

    def forward(self, x: Tensor) -> Tensor:
        return cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Auxiliary(Module):
    """A classifier on the way: the mean of 4×4 fields, 1×1 convolution, FC 1024, dropout .7, FC `classes`."""

    def __init__(self, in_channels: int, classes: int, width: int, dtype: Any) -> None:
        super().__init__()
        self.conv = BasicConv2d(in_channels, 2 * width, 1, dtype=dtype)
        self.fc1 = Linear(32 * width, 16 * width, dtype=dtype)
        self.fc2 = Linear(16 * width, classes, dtype=dtype)
        self.dropout = Dropout(0.7)

    def forward(self, x: Tensor) -> Tensor:
        h = flatten(self.conv(adaptive_avg_pool2d(x, 4)), 1)
        return self.fc2(self.dropout(relu(self.fc1(h))))


class GoogLeNet(Module):
    """Three convolutions, nine Inception blocks, five pools, the mean over the image, dropout, linear.

    Images are (N, in_channels, H, W) of at least 15 pixels a side, 224 in the paper. With `aux_logits` a
    forward in training gives GoogLeNetOutputs; the paper adds .3 of the losses of the two further ones. All
    channels are in proportion to `width`, those of the first convolution.
    """

    def __init__(
        self,
        classes: int = 1000,
        aux_logits: bool = False,
        dropout: float = 0.2,
        width: int = 64,
        in_channels: int = 3,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.conv1 = BasicConv2d(in_channels, width, 7, 2, dtype=dtype)
        self.maxpool1 = MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = BasicConv2d(width, width, 1, dtype=dtype)
        self.conv3 = BasicConv2d(width, 3 * width, 3, dtype=dtype)
        self.maxpool2 = MaxPool2d(3, 2, ceil_mode=True)
        channels = 3 * width
        inputs = {}
        for name, published in BLOCKS.items():
            sizes: list[Any] = [-(-c * width // 64) for c in published]
            self.add_module(f"inception{name}", Inception(channels, *sizes, 3, dtype))  # type: ignore[call-arg]
            inputs[name], channels = channels, sizes[0] + sizes[2] + sizes[4] + sizes[5]
        self.maxpool3 = MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool4 = MaxPool2d(2, 2, ceil_mode=True)
        self.aux1 = Auxiliary(inputs["4b"], classes, width, dtype) if aux_logits else None
        self.aux2 = Auxiliary(inputs["4e"], classes, width, dtype) if aux_logits else None
        self.dropout = Dropout(dropout)
        self.fc = Linear(channels, classes, dtype=dtype)
        for layer in self.modules():
            if isinstance(layer, (Conv2d, Linear)):
                init.normal_(layer.weight, 0.0, 0.01)

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutputs:
        h = self.conv3(self.conv2(self.maxpool1(self.conv1(x))))
        h = self.maxpool3(self.inception3b(self.inception3a(self.maxpool2(h))))
        after_4a = self.inception4a(h)
        after_4d = self.inception4d(self.inception4c(self.inception4b(after_4a)))
        h = self.inception5b(self.inception5a(self.maxpool4(self.inception4e(after_4d))))
        logits = self.fc(self.dropout(mean(h, (2, 3))))
        if self.aux1 is None or self.aux2 is None or not self.training:
            return logits
        return GoogLeNetOutputs(logits, self.aux2(after_4d), self.aux1(after_4a))


def googlenet(classes: int = 1000, **settings: Any) -> GoogLeNet:
    """GoogLeNet."""
    return GoogLeNet(classes, **settings)
