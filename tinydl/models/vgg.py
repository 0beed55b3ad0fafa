"""VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks ..." (arXiv 1409.1556), configurations A, B,
D and E, without and with BatchNorm. Parameter names are torchvision's.
"""

from __future__ import annotations

from typing import Any

from ..engine.core import Tensor
from ..nn import init
from ..nn.activation import ReLU
from ..nn.containers import Sequential
from ..nn.convolution import Conv2d
from ..nn.dropout import Dropout
from ..nn.linear import Linear
from ..nn.module import Module
from ..nn.normalization import BatchNorm2d
from ..nn.pooling import AdaptiveAvgPool2d, MaxPool2d
from ..ops.shape import flatten
from .parts import draw_he

__all__ = ["VGG", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"]

CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Layers -> 3×3 convolutions before each of the five pools."""


class VGG(Module):
    """Five groups of 3×3 convolutions of `width`, 2, 4, 8 and 8 times as many channels, each before a pool;
    the mean of 7×7 fields; FC `hidden`, FC `hidden`, FC `classes`, with dropout between them.

    Images are (N, in_channels, H, W) of at least 32 pixels a side, 224 in the paper. Convolutions start after
    He, the FC layers N(0, .01²), biases 0, as torchvision's.
    """

    def __init__(
        self,
        layers: int,
        classes: int = 1000,
        batch_norm: bool = False,
        dropout: float = 0.5,
        width: int = 64,
        hidden: int = 4096,
        in_channels: int = 3,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if layers not in CONVOLUTIONS:
            raise ValueError(f"VGG: expected layers one of {[*CONVOLUTIONS]}, got {layers}")
        features: list[Module] = []
        channels = in_channels
        for group, count in enumerate(CONVOLUTIONS[layers]):
            for _ in range(count):
                features.append(Conv2d(channels, width << min(group, 3), 3, padding=1, dtype=dtype))
                channels = width << min(group, 3)
                features += [BatchNorm2d(channels, dtype=dtype)] if batch_norm else []
                features.append(ReLU())
            features.append(MaxPool2d(2))
        self.features = Sequential(*features)
        self.avgpool = AdaptiveAvgPool2d(7)
        self.classifier = Sequential(
            *(Linear(49 * channels, hidden, dtype=dtype), ReLU(), Dropout(dropout)),
            *(Linear(hidden, hidden, dtype=dtype), ReLU(), Dropout(dropout)),
            Linear(hidden, classes, dtype=dtype),
        )
        draw_he(self)
        for layer in self.classifier:
            if isinstance(layer, Linear):
                init.normal_(layer.weight, 0.0, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(flatten(self.avgpool(self.features(x)), 1))


def vgg11(classes: int = 1000, **settings: Any) -> VGG:
    """VGG-11."""
    return VGG(11, classes, **settings)


def vgg11_bn(classes: int = 1000, **settings: Any) -> VGG:
    """VGG-11 with BatchNorm after each convolution."""
    return VGG(11, classes, batch_norm=True, **settings)


def vgg13(classes: int = 1000, **settings: Any) -> VGG:
    """VGG-13."""
    return VGG(13, classes, **settings)


def vgg13_bn(classes: int = 1000, **settings: Any) -> VGG:
    """VGG-13 with BatchNorm after each convolution."""
    return VGG(13, classes, batch_norm=True, **settings)


def vgg16(classes: int = 1000, **settings: Any) -> VGG:
    """VGG-16."""
    return VGG(16, classes, **settings)


def vgg16_bn(classes: int = 1000, **settings: Any) -> VGG:
    """VGG-16 with BatchNorm after each convolution."""
    return VGG(16, classes, batch_norm=True, **settings)


def vgg19(classes: int = 1000, **settings: Any) -> VGG:
    """VGG-19."""
    return VGG(19, classes, **settings)


def vgg19_bn(classes: int = 1000, **settings: Any) -> VGG:
    """VGG-19 with BatchNorm after each convolution."""
    return VGG(19, classes, batch_norm=True, **settings)
