"""Harmonic convolutions: Ulicny, Krylov and Dahyot, "Harmonic networks for image classification" (BMVC 2019):
filters as sums of those of the discrete cosine transform.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.core import Tensor
from ..engine.promotion import FLOAT32
from ..nn.checks import require_sizes
from ..nn.convolution import Conv2d
from ..nn.module import Module
from ..nn.normalization import BatchNorm2d
from ..nn.parameter import Buffer
from ..ops.conv import conv2d

__all__ = ["HarmonicConv2d"]


def cosine_filters(k: int) -> np.ndarray:
    """The k² filters (k², k, k) of the DCT-II, cos(π (i + ½) u / k) · cos(π (j + ½) v / k), each of ℓ1 norm
    1; filter u k + v.
    """
    waves = np.cos(np.pi * np.outer(np.arange(k), np.arange(k) + 0.5) / k)  # (frequency, place)
    filters = np.einsum("ui,vj->uvij", waves, waves).reshape(k * k, k, k)
    return filters / np.abs(filters).sum((1, 2), keepdims=True)


class CosineTransform(Module):
    """Each channel convolved with each of the k² filters: (N, C, H, W) to (N, C k², H', W')."""

    def __init__(self, in_channels: int, kernel_size: int, stride: int, padding: int, dtype: Any) -> None:
        super().__init__()
        filters = np.tile(cosine_filters(kernel_size)[:, None], (in_channels, 1, 1, 1))
        self.stride, self.padding, self.in_channels = stride, padding, in_channels
        self.register_buffer("filters", Buffer(filters.astype(dtype or FLOAT32)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.filters, None, self.stride, self.padding, 1, self.in_channels)

    def flops(self, x: Tensor, y: Tensor) -> int:
        """Floating-point operations of one forward."""
        return 2 * y.array.size * self.filters.array[0].size


class HarmonicConv2d(Module):
    """w = Σ_f a_f · DCT_f in the place of a free k × k convolution, as many numbers: the cosine transform of
    each channel, BatchNorm of the C k² responses without parameters of its own (`bn=False`: without, the
    same function as one convolution), and a 1×1 convolution, whose weight (out, C k², 1, 1) is learned.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 0,
        bn: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        require_sizes(self, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
        responses = in_channels * kernel_size**2
        self.transform = CosineTransform(in_channels, kernel_size, stride, padding, dtype)
        self.bn = BatchNorm2d(responses, affine=False, dtype=dtype) if bn else None
        self.mix = Conv2d(responses, out_channels, 1, bias=False, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        h = self.transform(x)
        return self.mix(h if self.bn is None else self.bn(h))
