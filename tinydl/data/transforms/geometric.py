"""What moves pixels: affine maps, perspective, flips, elastic distortion, and another size.

All but Resize are maps of the plane (warping.py): in a Compose, neighbours of them become one map, and the
image is sampled once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels import resample
from tinydl_kernels.machine.errors import ShapeError

from .contract import (
    Draws,
    Transform,
    above_zero,
    around,
    not_negative,
    pair_of,
    pair_of_sizes,
    probability,
    span,
)
from .warping import (
    TAPS,
    Geometric,
    Map,
    affine,
    check_interpolation,
    gaussian,
    homographies,
    identities,
    settings,
)

__all__ = [
    "AlternatingHorizontalFlip",
    "ElasticTransform",
    "RandomAffine",
    "RandomHorizontalFlip",
    "RandomPerspective",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
]


class RandomAffine(Geometric):
    """Shift, rotation, scale and shear about the center, drawn uniformly for each sample.

    x ↦ center + shift + scale · R(angle) · [[1, tan shear_x], [tan shear_y, 1]] (x - center), x = (column,
    row). A positive angle turns counter-clockwise, here and in RandomRotation (torchvision's RandomAffine
    turns clockwise, its rotation counter-clockwise). Shifts need not be whole pixels.

    Args:
        degrees: d stands for (-d, d); or (low, high).
        translate: (a, b), the largest shifts as parts of width and height; None: no shift.
        scale: (low, high) above 0; None: 1.
        shear: degrees along x: s for (-s, s), (low, high), or (low, high, low, high) of x and y; None: 0.
        interpolation: of images, "bilinear" (torchvision's default is "nearest") or "nearest".
        padding_mode: what is outside of the image: "constant" (`fill`), "edge" or "reflect", as in np.pad.
        fill: in the images' units. mask_fill: the label outside of masks.
        center: (column, row); None: the middle of the image.
        p: probability that a sample is changed.
    """

    def __init__(
        self,
        degrees: Any,
        translate: tuple[float, float] | None = None,
        scale: Any = None,
        shear: Any = None,
        interpolation: str = "bilinear",
        fill: float = 0,
        center: tuple[float, float] | None = None,
        *,
        padding_mode: str = "constant",
        mask_fill: int = 0,
        p: float = 1.0,
    ) -> None:
        who = type(self).__name__
        self.degrees = around(who, "degrees", degrees)
        self.translate = pair_of(who, "translate", (0.0, 0.0) if translate is None else translate)
        if not all(0 <= part <= 1 for part in self.translate):
            raise ShapeError(f"{who}: translate: expected two numbers, 0 to 1, got {translate}")
        self.scale = (1.0, 1.0) if scale is None else span(who, "scale", scale)
        if self.scale[0] <= 0:
            raise ShapeError(f"{who}: scale: expected numbers above 0, got {scale}")
        along_y = shear[2:] if isinstance(shear, (tuple, list)) and len(shear) == 4 else 0
        self.shear_x = around(who, "shear", 0 if shear is None else shear[:2] if along_y else shear)
        self.shear_y = around(who, "shear", along_y)
        self.center = None if center is None else pair_of(who, "center", center)
        self.p = probability(who, p)
        self.settings = settings(who, interpolation, padding_mode, fill, mask_fill)

    def map(self, draws: Draws, size: tuple[int, int]) -> Map:
        (H, W), (a, b) = size, self.translate
        angle = draws.uniform(*self.degrees)
        shift = draws.uniform(-a * W, a * W), draws.uniform(-b * H, b * H)
        scale, shears = (
            draws.uniform(*self.scale),
            (draws.uniform(*self.shear_x), draws.uniform(*self.shear_y)),
        )
        return Map(affine(size, angle, *shift, scale, *shears, self.center), size)


class RandomRotation(RandomAffine):
    """Rotation about the center, counter-clockwise, by degrees drawn uniformly; the frame stays.

    Args as in RandomAffine.
    """

    def __init__(
        self,
        degrees: Any,
        interpolation: str = "bilinear",
        center: tuple[float, float] | None = None,
        fill: float = 0,
        *,
        padding_mode: str = "constant",
        mask_fill: int = 0,
        p: float = 1.0,
    ) -> None:
        super().__init__(
            degrees, interpolation=interpolation, fill=fill, center=center, padding_mode=padding_mode,
            mask_fill=mask_fill, p=p,
        )  # fmt: skip


class RandomPerspective(Geometric):
    """The four corners move inwards, each by its own part of up to distortion_scale / 2 of width and height.

    Args:
        distortion_scale: 0 to 1.
        p: probability that a sample is changed.
        The others as in RandomAffine.
    """

    def __init__(
        self,
        distortion_scale: float = 0.5,
        p: float = 0.5,
        interpolation: str = "bilinear",
        fill: float = 0,
        *,
        padding_mode: str = "constant",
        mask_fill: int = 0,
    ) -> None:
        who = type(self).__name__
        self.distortion_scale = probability(who, distortion_scale, "distortion_scale")
        self.p = probability(who, p)
        self.settings = settings(who, interpolation, padding_mode, fill, mask_fill)

    def map(self, draws: Draws, size: tuple[int, int]) -> Map:
        H, W = size
        if self.distortion_scale == 0 or min(size) < 2:
            return Map(identities(draws.samples), size)
        corners = np.array([[0, 0], [W - 1, 0], [W - 1, H - 1], [0, H - 1]], np.float64)
        inwards = np.sign((W - 1) / 2 - corners[:, 0]), np.sign((H - 1) / 2 - corners[:, 1])
        most = self.distortion_scale * (W - 1) / 2 * 0.999, self.distortion_scale * (H - 1) / 2 * 0.999
        moved = np.tile(corners, (draws.samples, 1, 1))
        for k in range(4):
            for axis in range(2):
                moved[:, k, axis] += inwards[axis][k] * draws.uniform(0, most[axis])
        return Map(homographies(moved, np.broadcast_to(corners, moved.shape)), size)


class RandomHorizontalFlip(Geometric):
    """Left and right change places, with probability p."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(type(self).__name__, p)

    def map(self, draws: Draws, size: tuple[int, int]) -> Map:
        matrices = identities(draws.samples)
        matrices[:, 0, 0], matrices[:, 0, 2] = -1, size[1] - 1
        return Map(matrices, size)


class RandomVerticalFlip(Geometric):
    """Top and bottom change places, with probability p."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(type(self).__name__, p)

    def map(self, draws: Draws, size: tuple[int, int]) -> Map:
        matrices = identities(draws.samples)
        matrices[:, 1, 1], matrices[:, 1, 2] = -1, size[0] - 1
        return Map(matrices, size)


class AlternatingHorizontalFlip(RandomHorizontalFlip):
    """Each sample is flipped in every second epoch: a random half in epoch 0, the other half in epoch 1, and
    so on, so that two epochs in a row show both sides (Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single
    GPU", arXiv 2404.00498).
    """

    def __init__(self) -> None:
        super().__init__(1.0)

    def chosen(self, draws: Draws) -> np.ndarray | None:
        side = draws.in_epoch(0).integers(2)
        return np.flatnonzero((side + draws.number_of_epoch()) % 2)


class ElasticTransform(Geometric):
    """A smooth random displacement of each pixel (Simard, Steinkraus and Platt, ICDAR 2003).

    The displacements along x and y are uniform in (-alpha, alpha) for each pixel, then smoothed by a Gaussian
    of standard deviation sigma, cut at 3 sigma, with zeros outside. With alpha = 34 and sigma = 4 they have a
    standard deviation of 1.4 pixels: what the paper found best on MNIST.

    Args:
        alpha, sigma: in pixels (torchvision's alpha counts half pixels).
        The others as in RandomAffine.
    """

    last = True

    def __init__(
        self,
        alpha: float = 34.0,
        sigma: float = 4.0,
        interpolation: str = "bilinear",
        fill: float = 0,
        *,
        padding_mode: str = "constant",
        mask_fill: int = 0,
        p: float = 1.0,
    ) -> None:
        who = type(self).__name__
        self.alpha = not_negative(who, "alpha", alpha)
        self.sigma = above_zero(who, "sigma", sigma)
        self._weights = gaussian(np.array([self.sigma]), int(TAPS * self.sigma + 0.5))[0]
        self.p = probability(who, p)
        self.settings = settings(who, interpolation, padding_mode, fill, mask_fill)

    def map(self, draws: Draws, size: tuple[int, int]) -> Map:
        field = None if self.alpha == 0 else draws.displacements(self.alpha, self._weights, size)
        return Map(None, size, field)


class Resize(Transform):
    """Images of another size; masks by the nearest pixel.

    Args:
        size: (height, width); one number: of the shorter side, the other keeps the proportion.
        interpolation: of images, "bilinear" or "nearest".
        antialias: where an image gets smaller, each pixel is a mean of those it covers, weighted by a
            triangle (else of the two nearest along each axis).
    """

    def __init__(self, size: Any, interpolation: str = "bilinear", antialias: bool = True) -> None:
        who = type(self).__name__
        self.size = pair_of_sizes(who, "size", size) if isinstance(size, (tuple, list)) else size
        if not isinstance(size, (tuple, list)):
            pair_of_sizes(who, "size", size)
        check_interpolation(who, interpolation)
        self.interpolation, self.antialias = interpolation, bool(antialias)

    def change(
        self, images: np.ndarray, masks: np.ndarray | None, draws: Draws
    ) -> tuple[np.ndarray, np.ndarray | None]:
        before = images.shape[2:]
        size = self.size if isinstance(self.size, tuple) else _proportional(before, self.size)
        if size == before:
            return images, masks
        masks = None if masks is None else _nearest(masks, size)
        if self.interpolation == "nearest":
            return _nearest(images, size), masks
        values = images.astype(np.float32)
        for dim, (old, new) in enumerate(zip(before, size, strict=True)):
            smaller = self.antialias and new < old
            rows = _triangle(old, new) if smaller else resample.linear(old, new, old / new, False)
            values = resample.resample(values, rows, 2 + dim)
        return np.rint(values).astype(np.uint8) if images.dtype == np.uint8 else values, masks


def _proportional(size: tuple[int, ...], shorter: int) -> tuple[int, int]:
    H, W = size
    return (shorter, shorter * W // H) if H <= W else (shorter * H // W, shorter)


def _nearest(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (
        resample.nearest(old, new, old / new, True).columns
        for old, new in zip(x.shape[2:], size, strict=True)
    )
    return np.ascontiguousarray(x[:, :, rows[:, None], columns])


def _triangle(size: int, out: int) -> resample.Rows:
    """Each output is the mean under a triangle, one output's distance wide on each side."""
    ratio = size / out
    centres = (np.arange(out) + 0.5) * ratio - 0.5
    starts = np.maximum(np.ceil(centres - ratio).astype(np.int64), 0)
    stops = np.minimum(np.floor(centres + ratio).astype(np.int64) + 1, size)
    columns = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
    counts = stops - starts
    weights = np.maximum(1 - abs(columns - np.repeat(centres, counts)) / ratio, 0)
    sums = np.add.reduceat(weights, np.concatenate([[0], np.cumsum(counts)[:-1]]))
    return resample.Rows(
        (out, size), np.concatenate([[0], np.cumsum(counts)]), columns, weights / np.repeat(sums, counts)
    )
