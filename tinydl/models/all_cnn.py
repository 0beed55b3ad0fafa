"""Networks of convolutions alone: Springenberg et al., "Striving for simplicity: the all convolutional net"
(arXiv 1412.6806), tables 1 and 2: the base models A, B, C, each with pools and with what replaces them.
"""

from __future__ import annotations

from typing import Any

from ..engine.core import Tensor
from ..nn.activation import ReLU
from ..nn.containers import Sequential
from ..nn.convolution import Conv2d
from ..nn.dropout import Dropout
from ..nn.module import Module
from ..nn.pooling import GlobalAvgPool2d, MaxPool2d
from .parts import draw_he

__all__ = ["AllCNN"]

KERNELS = {"A": (5,), "B": (5, 1), "C": (3, 3)}
"""Base model -> the convolutions of its first two groups; all end with 3×3, 1×1 and 1×1."""

KINDS = ("pool", "strided", "convpool", "all")


class AllCNN(Module):
    """Two groups of convolutions of 96 and 192 channels, each halving the image, conv 192@3×3, 192@1×1,
    `classes`@1×1, the mean over the image. Dropout of .2 on the input, .5 after each group. Images are
    (N, in_channels, H, W) of any size.

    Args:
        base: "A" (5×5), "B" (5×5 and 1×1), "C" (3×3 and 3×3) in each group.
        kind: how a group halves the image: "pool" (max pool 3×3 with stride 2), "strided" (the stride in its
            last convolution), "convpool" (a pool after one more 3×3 convolution), "all" (a 3×3 convolution
            with stride 2 in the place of the pool).
        width: channels of the first group; the others have twice as many.
    """

    def __init__(
        self,
        base: str = "C",
        kind: str = "all",
        classes: int = 10,
        width: int = 96,
        in_channels: int = 3,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if base not in KERNELS:
            raise ValueError(f"AllCNN: expected base one of {', '.join(KERNELS)}, got {base!r}")
        if kind not in KINDS:
            raise ValueError(f"AllCNN: expected kind one of {', '.join(KINDS)}, got {kind!r}")
        layers: list[Module] = [Dropout(0.2)]
        channels = in_channels

        def convolve(kernel: int, to: int, stride: int = 1) -> None:
            nonlocal channels
            layers.extend([Conv2d(channels, to, kernel, stride, kernel // 2, dtype=dtype), ReLU()])
            channels = to

        for to in (width, 2 * width):
            kernels = KERNELS[base]
            for k, kernel in enumerate(kernels):
                convolve(kernel, to, 2 if kind == "strided" and k == len(kernels) - 1 else 1)
            if kind in ("convpool", "all"):
                convolve(3, to, 2 if kind == "all" else 1)
            if kind in ("pool", "convpool"):
                layers.append(MaxPool2d(3, 2, 1))
            layers.append(Dropout(0.5))
        convolve(3, channels)
        convolve(1, channels)
        convolve(1, classes)
        self.features = Sequential(*layers)
        self.pool = GlobalAvgPool2d()
        draw_he(self, "fan_in")

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.features(x))
