"""AlexNet in the form of Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (arXiv
1404.5997): one tower, no response normalization. Parameter names are torchvision's.
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
from ..nn.pooling import AdaptiveAvgPool2d, MaxPool2d
from ..ops.shape import flatten

__all__ = ["AlexNet", "alexnet"]


class AlexNet(Module):
    """conv 64@11×11 with stride 4, conv 192@5×5, conv 384, 256, 256@3×3, three pools; the mean of 6×6 fields;
    FC `hidden`, FC `hidden`, FC `classes`, with dropout before the first two.

    Images are (N, in_channels, H, W) of at least 63 pixels a side, 224 in the paper. All channels are in
    proportion to `width`, those of the first convolution.
    """

    def __init__(
        self,
        classes: int = 1000,
        dropout: float = 0.5,
        width: int = 64,
        hidden: int = 4096,
        in_channels: int = 3,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        c = [in_channels, width, 3 * width, 6 * width, 4 * width, 4 * width]
        self.features = Sequential(
            *(Conv2d(c[0], c[1], 11, 4, 2, dtype=dtype), ReLU(), MaxPool2d(3, 2)),
            *(Conv2d(c[1], c[2], 5, padding=2, dtype=dtype), ReLU(), MaxPool2d(3, 2)),
            *(Conv2d(c[2], c[3], 3, padding=1, dtype=dtype), ReLU()),
            *(Conv2d(c[3], c[4], 3, padding=1, dtype=dtype), ReLU()),
            *(Conv2d(c[4], c[5], 3, padding=1, dtype=dtype), ReLU(), MaxPool2d(3, 2)),
        )
        self.avgpool = AdaptiveAvgPool2d(6)
        self.classifier = Sequential(
            *(Dropout(dropout), Linear(36 * c[5], hidden, dtype=dtype), ReLU()),
            *(Dropout(dropout), Linear(hidden, hidden, dtype=dtype), ReLU()),
            Linear(hidden, classes, dtype=dtype),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(flatten(self.avgpool(self.features(x)), 1))


def alexnet(classes: int = 1000, **settings: Any) -> AlexNet:
    """AlexNet."""
    return AlexNet(classes, **settings)
