"""Layers that draw random numbers in training and do nothing in evaluation."""

from __future__ import annotations

from typing import Any

from ..engine.core import Tensor
from ..ops.channel_dropout import dropout1d, dropout2d, dropout3d
from ..ops.random import Generator, alpha_dropout, dropout, gaussian_noise, require_probability
from .checks import require_real
from .module import Module

__all__ = [
    "AlphaDropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "GaussianNoise",
]


class Dropout(Module):
    """In training, zero each element with probability p and scale the others by 1/(1 - p).
    Draws from `generator` if given. `inplace` is taken for PyTorch's sake and has no meaning.
    """

    function: Any = staticmethod(dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False, generator: Generator | None = None) -> None:
        super().__init__()
        require_probability(type(self).__name__, p, inplace)
        self.p, self.inplace, self.generator = p, inplace, generator

    def forward(self, input: Tensor) -> Tensor:
        return self.function(input, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout1d(Dropout):
    """Dropout of whole channels of (N, C, L)."""

    function = staticmethod(dropout1d)


class Dropout2d(Dropout):
    """Dropout of whole channels of (N, C, H, W)."""

    function = staticmethod(dropout2d)


class Dropout3d(Dropout):
    """Dropout of whole channels of (N, C, D, H, W)."""

    function = staticmethod(dropout3d)


class AlphaDropout(Dropout):
    """Dropout that keeps mean 0 and variance 1 in SELU nets."""

    function = staticmethod(alpha_dropout)


class GaussianNoise(Module):
    """In training, add N(0, std²) noise."""

    def __init__(self, std: float = 0.1, generator: Generator | None = None) -> None:
        super().__init__()
        require_real(self, 0, std=std)
        self.std, self.generator = std, generator

    def forward(self, input: Tensor) -> Tensor:
        return gaussian_noise(input, self.std, self.training, self.generator)

    def extra_repr(self) -> str:
        return f"std={self.std}"
