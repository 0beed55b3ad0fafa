"""Wide residual networks: Zagoruyko and Komodakis (arXiv 1605.07146). Parameter names are those of
xternalz/WideResNet-pytorch.
"""

from __future__ import annotations

from typing import Any

from ..engine.core import Tensor, add
from ..nn.containers import Sequential
from ..nn.convolution import Conv2d
from ..nn.dropout import Dropout
from ..nn.linear import Linear
from ..nn.module import Module
from ..nn.normalization import BatchNorm2d
from ..ops.elementwise import relu
from ..ops.reduce import mean
from .harmonic import HarmonicConv2d
from .parts import draw_he

__all__ = ["WideResNet"]


class WideBlock(Module):
    """conv2(dropout(relu(bn2(conv1 a)))) + x with a = relu(bn1 x); a 1×1 convolution of a in the place of x
    where the shape changes.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, dropout: float, dtype: Any) -> None:
        super().__init__()
        self.bn1 = BatchNorm2d(in_channels, dtype=dtype)
        self.conv1 = Conv2d(in_channels, channels, 3, stride, 1, bias=False, dtype=dtype)
        self.bn2 = BatchNorm2d(channels, dtype=dtype)
        self.dropout = Dropout(dropout) if dropout else None
        self.conv2 = Conv2d(channels, channels, 3, 1, 1, bias=False, dtype=dtype)
        changed = stride > 1 or in_channels != channels
        self.convShortcut = (
            Conv2d(in_channels, channels, 1, stride, bias=False, dtype=dtype) if changed else None
        )

    def forward(self, x: Tensor) -> Tensor:
        a = relu(self.bn1(x))
        h = relu(self.bn2(self.conv1(a)))
        h = self.conv2(h if self.dropout is None else self.dropout(h))
        return add(h, x if self.convShortcut is None else self.convShortcut(a))


class WideGroup(Module):
    """Blocks one after another, the first with the stride."""

    def __init__(
        self, n: int, in_channels: int, channels: int, stride: int, dropout: float, dtype: Any
    ) -> None:
        super().__init__()
        first = WideBlock(in_channels, channels, stride, dropout, dtype)
        others = (WideBlock(channels, channels, 1, dropout, dtype) for _ in range(n - 1))
        self.layer = Sequential(first, *others)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(Module):
    """WRN-depth-widen: conv 3×3 of 16 channels, three groups of (depth - 4) / 6 blocks of 16, 32 and 64 times
    `widen` channels, BatchNorm, the mean over the image, linear. Images are (N, in_channels, H, W).

    Args:
        depth: 6 n + 4 layers.
        widen: factor on the channels.
        classes: of the last layer.
        dropout: between the convolutions of each block (the paper's .3).
        harmonic: the first convolution is one of the cosine transform (HarmonicConv2d).
    """

    def __init__(
        self,
        depth: int = 28,
        widen: int = 10,
        classes: int = 10,
        dropout: float = 0.0,
        harmonic: bool = False,
        in_channels: int = 3,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise ValueError(f"WideResNet: expected a depth of 6 n + 4, n at least 1, got {depth}")
        n, widths = (depth - 4) // 6, [16, 16 * widen, 32 * widen, 64 * widen]
        self.conv1: Module
        if harmonic:
            self.conv1 = HarmonicConv2d(in_channels, widths[0], 3, padding=1, dtype=dtype)
        else:
            self.conv1 = Conv2d(in_channels, widths[0], 3, padding=1, bias=False, dtype=dtype)
        self.block1 = WideGroup(n, widths[0], widths[1], 1, dropout, dtype)
        self.block2 = WideGroup(n, widths[1], widths[2], 2, dropout, dtype)
        self.block3 = WideGroup(n, widths[2], widths[3], 2, dropout, dtype)
        self.bn1 = BatchNorm2d(widths[3], dtype=dtype)
        self.fc = Linear(widths[3], classes, dtype=dtype)
        draw_he(self)

    def forward(self, x: Tensor) -> Tensor:
        h = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(mean(relu(self.bn1(h)), (2, 3)))
