"""DenseNet: Huang et al., "Densely connected convolutional networks" (arXiv 1608.06993). Parameter names are
torchvision's.

Its published files of 2017 write `norm.1` and `conv.2` for `norm1` and `conv2`:
`fit_weights(..., rename={r"(norm|conv|relu)\\.([12])": r"\\1\\2"})` reads them.
"""

from __future__ import annotations

from typing import Any

from ..engine.core import Tensor
from ..nn.activation import ReLU
from ..nn.containers import Sequential
from ..nn.convolution import Conv2d
from ..nn.dropout import Dropout
from ..nn.linear import Linear
from ..nn.module import Module
from ..nn.normalization import BatchNorm2d
from ..nn.pooling import AvgPool2d, MaxPool2d
from ..ops.elementwise import relu
from ..ops.joining import cat
from ..ops.reduce import mean
from .parts import draw_he

__all__ = ["DenseNet", "densenet121", "densenet161", "densenet169", "densenet201"]


class DenseLayer(Module):
    """conv2(relu(norm2(conv1(relu(norm1 x))))): 1×1 to 4 `growth` channels, 3×3 to `growth`, dropout."""

    def __init__(self, in_channels: int, growth: int, bottleneck: int, dropout: float, dtype: Any) -> None:
        super().__init__()
        self.norm1 = BatchNorm2d(in_channels, dtype=dtype)
        self.conv1 = Conv2d(in_channels, bottleneck * growth, 1, bias=False, dtype=dtype)
        self.norm2 = BatchNorm2d(bottleneck * growth, dtype=dtype)
        self.conv2 = Conv2d(bottleneck * growth, growth, 3, padding=1, bias=False, dtype=dtype)
        self.dropout = Dropout(dropout) if dropout else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(relu(self.norm2(self.conv1(relu(self.norm1(x))))))
        return h if self.dropout is None else self.dropout(h)


class DenseBlock(Module):
    """Each layer sees the channels of all before it; all are joined."""

    def __init__(
        self, layers: int, in_channels: int, growth: int, bottleneck: int, dropout: float, dtype: Any
    ) -> None:
        super().__init__()
        for k in range(layers):
            layer = DenseLayer(in_channels + k * growth, growth, bottleneck, dropout, dtype)
            self.add_module(f"denselayer{k + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = cat([x, layer(x)], 1)
        return x


class DenseNet(Module):
    """A first convolution, dense blocks with transitions between them (1×1 to half the channels, mean pool),
    BatchNorm, the mean over the image, linear. Images are (N, in_channels, H, W).

    Args:
        growth_rate: channels that each layer adds.
        block_config: layers of each block.
        num_init_features: channels of the first convolution, 7×7 with stride 2 before a max pool.
        small_images: it is 3×3 without stride and without a pool, as for CIFAR: `DenseNet(12, (16, 16, 16),
            24, 10, small_images=True)` is the paper's DenseNet-BC of 100 layers.
        bn_size: channels of the 1×1 convolutions in multiples of growth_rate.
        drop_rate: dropout after each layer.
    """

    def __init__(
        self,
        growth_rate: int = 32,
        block_config: tuple[int, ...] = (6, 12, 24, 16),
        num_init_features: int = 64,
        classes: int = 1000,
        bn_size: int = 4,
        drop_rate: float = 0.0,
        small_images: bool = False,
        in_channels: int = 3,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        channels = num_init_features
        kernel, stride = (3, 1) if small_images else (7, 2)
        first = Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False, dtype=dtype)
        features: dict[str, Module] = {"conv0": first}
        if not small_images:
            norm = BatchNorm2d(channels, dtype=dtype)
            features |= {"norm0": norm, "relu0": ReLU(), "pool0": MaxPool2d(3, 2, 1)}
        for number, layers in enumerate(block_config, 1):
            block = DenseBlock(layers, channels, growth_rate, bn_size, drop_rate, dtype)
            features[f"denseblock{number}"] = block
            channels += layers * growth_rate
            if number < len(block_config):
                features[f"transition{number}"] = Sequential(
                    {
                        "norm": BatchNorm2d(channels, dtype=dtype),
                        "relu": ReLU(),
                        "conv": Conv2d(channels, channels // 2, 1, bias=False, dtype=dtype),
                        "pool": AvgPool2d(2),
                    }
                )
                channels //= 2
        features["norm5"] = BatchNorm2d(channels, dtype=dtype)
        self.features = Sequential(features)
        self.classifier = Linear(channels, classes, dtype=dtype)
        draw_he(self, "fan_in")

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(mean(relu(self.features(x)), (2, 3)))


def densenet121(classes: int = 1000, **settings: Any) -> DenseNet:
    """DenseNet-121."""
    return DenseNet(32, (6, 12, 24, 16), 64, classes, **settings)


def densenet161(classes: int = 1000, **settings: Any) -> DenseNet:
    """DenseNet-161."""
    return DenseNet(48, (6, 12, 36, 24), 96, classes, **settings)


def densenet169(classes: int = 1000, **settings: Any) -> DenseNet:
    """DenseNet-169."""
    return DenseNet(32, (6, 12, 32, 32), 64, classes, **settings)


def densenet201(classes: int = 1000, **settings: Any) -> DenseNet:
    """DenseNet-201."""
    return DenseNet(32, (6, 12, 48, 32), 64, classes, **settings)
