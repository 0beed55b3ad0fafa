"""What changes color and light and leaves pixels, and so masks, where they are.

Images are uint8 of 0 to 255 or float32 of 0 to 1: these stand before Normalize. Results are cut to that
range. The formulas are in adjustments.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from . import adjustments as adjust
from .contract import Draws, Transform, around, not_negative, probability, span

__all__ = [
    "ColorJitter",
    "GaussianBlur",
    "GaussianNoise",
    "RandomAdjustSharpness",
    "RandomAutocontrast",
    "RandomEqualize",
    "RandomGamma",
    "RandomGrayscale",
    "RandomIllumination",
    "RandomInvert",
    "RandomPosterize",
    "RandomSolarize",
]


class Photometric(Transform):
    """Changes values only: a subclass has ``recolor(images, draws)``."""

    def change(
        self, images: np.ndarray, masks: np.ndarray | None, draws: Draws
    ) -> tuple[np.ndarray, np.ndarray | None]:
        return self.recolor(images, draws), masks

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__}: expected a method recolor(images, draws)")


class ColorJitter(Photometric):
    """Brightness, contrast, then saturation times factors that are uniform in their ranges; then another hue.

    brightness: x ↦ f x; contrast: about the image's mean brightness; saturation: about the gray picture; hue:
    turned on the circle of colors. The last two are for three channels. (torchvision draws their order.)

    Args:
        brightness, contrast, saturation: v stands for (max(0, 1 - v), 1 + v); or (low, high). 0: no change.
        hue: h stands for (-h, h); or (low, high), in turns within -1/2 … 1/2.
        p: probability that a sample is changed.
    """

    def __init__(
        self, brightness: Any = 0, contrast: Any = 0, saturation: Any = 0, hue: Any = 0, *, p: float = 1.0
    ) -> None:
        who = type(self).__name__
        self.brightness = around(who, "brightness", brightness, 1, 0)
        self.contrast = around(who, "contrast", contrast, 1, 0)
        self.saturation = around(who, "saturation", saturation, 1, 0)
        self.hue = span(who, "hue", around(who, "hue", hue), -0.5, 0.5)
        self.p = probability(who, p)

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        for change, factors, none in (
            (adjust.brightness, self.brightness, 1),
            (adjust.contrast, self.contrast, 1),
            (adjust.saturation, self.saturation, 1),
            (adjust.hue, self.hue, 0),
        ):
            if factors != (none, none):
                images = change(images, draws.uniform(*factors))
        return images


class RandomGamma(Photometric):
    """x ↦ x^γ on a scale from 0 to 1, log γ uniform.

    Args:
        gamma: (low, high), above 0.
        p: probability that a sample is changed.
    """

    def __init__(self, gamma: Any = (0.7, 1.5), p: float = 1.0) -> None:
        who = type(self).__name__
        self.gamma = span(who, "gamma", gamma, 0)
        if self.gamma[0] == 0:
            raise ShapeError(f"{who}: gamma: expected numbers above 0, got {gamma}")
        self.p = probability(who, p)

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        return adjust.gamma(images, np.exp(draws.uniform(*np.log(self.gamma))))


class RandomIllumination(Photometric):
    """Uneven light: times a smooth field, bilinear between points whose factors are uniform in
    (1 - strength, 1 + strength).

    Args:
        strength: 0 to 1.
        grid: points along each side, 2 or more.
        p: probability that a sample is changed.
    """

    def __init__(self, strength: float = 0.3, grid: int = 3, p: float = 1.0) -> None:
        who = type(self).__name__
        self.strength = probability(who, strength, "strength")
        if grid < 2:
            raise ShapeError(f"{who}: grid: expected 2 points or more, got {grid}")
        self.grid = grid
        self.p = probability(who, p)

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        if self.strength == 0:
            return images
        shares = draws.uniforms(self.grid**2).reshape(-1, self.grid, self.grid)
        return adjust.lit(images, 1 + self.strength * (2.0 * shares - 1))


class RandomPosterize(Photometric):
    """Only the upper `bits` bits of each pixel, with probability p."""

    def __init__(self, bits: int, p: float = 0.5) -> None:
        who = type(self).__name__
        if bits not in range(9):
            raise ShapeError(f"{who}: bits: expected 0 to 8, got {bits}")
        self.bits = bits
        self.p = probability(who, p)

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        return adjust.posterize(images, np.full(len(images), self.bits))


class RandomSolarize(Photometric):
    """Pixels of at least the threshold (in the images' units) are inverted, with probability p."""

    def __init__(self, threshold: float, p: float = 0.5) -> None:
        self.threshold = float(threshold)
        self.p = probability(type(self).__name__, p)

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        return adjust.solarize(images, np.full(len(images), self.threshold))


class RandomInvert(Photometric):
    """White minus the image, with probability p."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(type(self).__name__, p)

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        return adjust.invert(images)


class RandomGrayscale(Photometric):
    """Three channels that are all the gray picture, with probability p."""

    def __init__(self, p: float = 0.1) -> None:
        self.p = probability(type(self).__name__, p)

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        return adjust.saturation(images, np.zeros(len(images)))


class RandomEqualize(Photometric):
    """Each channel's histogram made even, as Pillow does, with probability p."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(type(self).__name__, p)

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        return adjust.equalize(images)


class RandomAutocontrast(Photometric):
    """Each channel stretched from black to white, with probability p."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(type(self).__name__, p)

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        return adjust.autocontrast(images)


class RandomAdjustSharpness(Photometric):
    """The distance from a smoothed picture times `sharpness_factor` (0 blurs, 1 changes nothing), with
    probability p.
    """

    def __init__(self, sharpness_factor: float, p: float = 0.5) -> None:
        who = type(self).__name__
        self.sharpness_factor = not_negative(who, "sharpness_factor", sharpness_factor)
        self.p = probability(who, p)

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        return adjust.sharpness(images, np.full(len(images), self.sharpness_factor))


class GaussianNoise(Photometric):
    """Plus mean + sigma z, z normal and another for each pixel and channel.

    Args:
        mean, sigma: in parts of white (for uint8, times 255); sigma 0 or more.
        clip: cut float32 to 0 … 1.
        p: probability that a sample is changed.
    """

    def __init__(self, mean: float = 0.0, sigma: float = 0.1, clip: bool = True, *, p: float = 1.0) -> None:
        who = type(self).__name__
        self.mean, self.sigma = float(mean), not_negative(who, "sigma", sigma)
        self.clip = bool(clip)
        self.p = probability(who, p)

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        values = images.astype(np.float32) + np.float32(self.mean * adjust.top(images))
        if self.sigma:
            noise = draws.normals(images[0].size if len(images) else 0).reshape(images.shape)
            values += np.float32(self.sigma * adjust.top(images)) * noise
        return adjust.restored(values, images, self.clip)


class GaussianBlur(Photometric):
    """Smoothed by a Gaussian whose standard deviation is uniform in a range; mirrored at the edges.

    Args:
        kernel_size: taps along each side, odd.
        sigma: (low, high) in pixels, above 0; or one number.
        p: probability that a sample is changed.
    """

    def __init__(self, kernel_size: int, sigma: Any = (0.1, 2.0), *, p: float = 1.0) -> None:
        who = type(self).__name__
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ShapeError(f"{who}: kernel_size: expected an odd number, 1 or more, got {kernel_size}")
        self.kernel_size = kernel_size
        self.sigma = span(who, "sigma", sigma, 0)
        if self.sigma[0] == 0:
            raise ShapeError(f"{who}: sigma: expected numbers above 0, got {sigma}")
        self.p = probability(who, p)

    def recolor(self, images: np.ndarray, draws: Draws) -> np.ndarray:
        return adjust.blur(images, draws.uniform(*self.sigma), self.kernel_size // 2)
