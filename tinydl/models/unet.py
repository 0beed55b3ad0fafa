"""U-Net: Ronneberger, Fischer and Brox (arXiv 1505.04597), with BatchNorm and padded convolutions, so that
maps are as large as images. Parameter names are those of mateuszbuda/brain-segmentation-pytorch.
"""

from __future__ import annotations

from typing import Any

from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from ..nn.activation import ReLU
from ..nn.containers import Sequential
from ..nn.convolution import Conv2d, ConvTranspose2d
from ..nn.module import Module
from ..nn.normalization import BatchNorm2d
from ..ops.joining import cat
from ..ops.pool import max_pool2d

__all__ = ["UNet"]

DEPTH = 4


def twice(name: str, in_channels: int, channels: int, dtype: Any) -> Sequential:
    """conv 3×3, BatchNorm, ReLU, twice; with the names of the published weights."""
    layers: dict[str, Module] = {}
    for k, c in ((1, in_channels), (2, channels)):
        layers[f"{name}conv{k}"] = Conv2d(c, channels, 3, padding=1, bias=False, dtype=dtype)
        layers[f"{name}norm{k}"] = BatchNorm2d(channels, dtype=dtype)
        layers[f"{name}relu{k}"] = ReLU()
    return Sequential(layers)


class UNet(Module):
    """Four times two convolutions and a pool, two convolutions at the bottom, and up again beside what was
    there before each pool: images (N, in_channels, H, W) to logits (N, classes, H, W).

    `features` are the channels at the top, doubled with each pool: 64 in the paper, 32 in the published
    weights (classes=1, whose sigmoid is left to the loss).

    Raises:
        ShapeError: images whose sides are no multiples of 16.
    """

    def __init__(self, classes: int = 2, in_channels: int = 3, features: int = 64, dtype: Any = None) -> None:
        super().__init__()
        channels = in_channels
        for level in range(1, DEPTH + 1):
            self.add_module(f"encoder{level}", twice(f"enc{level}", channels, features, dtype))
            channels, features = features, 2 * features
        self.bottleneck = twice("bottleneck", channels, features, dtype)
        for level in range(DEPTH, 0, -1):
            half = features // 2
            self.add_module(f"upconv{level}", ConvTranspose2d(features, half, 2, 2, dtype=dtype))
            self.add_module(f"decoder{level}", twice(f"dec{level}", features, half, dtype))
            features = half
        self.conv = Conv2d(features, classes, 1, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or any(size % 2**DEPTH for size in x.shape[2:]):
            raise ShapeError(f"UNet: expected images (N, C, H, W), H and W multiples of 16, got {x.shape}")
        before_pools = []
        for level in range(1, DEPTH + 1):
            x = getattr(self, f"encoder{level}")(x)
            before_pools.append(x)
            x = max_pool2d(x, 2)
        x = self.bottleneck(x)
        for level in range(DEPTH, 0, -1):
            up = getattr(self, f"upconv{level}")(x)
            x = getattr(self, f"decoder{level}")(cat([up, before_pools.pop()], 1))
        return self.conv(x)
