"""Rectangles of the image replaced by a value."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from .contract import Draws, Transform, check_value, pair_of_sizes, probability, span

__all__ = ["Cutout", "RandomErasing"]


class _Rectangle(Transform):
    """A subclass says where: ``rectangle(draws, size)`` gives top, bottom, left, right for each sample."""

    value: float
    mask_value: int | None

    def rectangle(self, draws: Draws, size: tuple[int, int]) -> tuple[np.ndarray, ...]:
        raise NotImplementedError(f"{type(self).__name__}: expected a method rectangle(draws, size)")

    def change(
        self, images: np.ndarray, masks: np.ndarray | None, draws: Draws
    ) -> tuple[np.ndarray, np.ndarray | None]:
        H, W = images.shape[2:]
        top, bottom, left, right = (side[:, None, None, None] for side in self.rectangle(draws, (H, W)))
        i, j = np.arange(H)[:, None], np.arange(W)
        inside = (i >= top) & (i < bottom) & (j >= left) & (j < right)
        who = type(self).__name__
        check_value(who, "value", self.value, images.dtype)
        images = np.where(inside, images.dtype.type(self.value), images)
        if masks is not None and self.mask_value is not None:
            check_value(who, "mask_value", self.mask_value, masks.dtype)
            masks = np.where(inside, masks.dtype.type(self.mask_value), masks)
        return images, masks


class RandomErasing(_Rectangle):
    """A rectangle of random area and proportion, anywhere in the image (Zhong et al., AAAI 2020).

    Args:
        p: probability that a sample is changed.
        scale: (low, high) of the rectangle's part of the area.
        ratio: (low, high) of height over width; its logarithm is uniform. A side longer than the image's is
            cut to it.
        value: in the images' units.
        mask_value: the label there; None leaves masks as they are.
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: Any = (0.02, 0.33),
        ratio: Any = (0.3, 3.3),
        value: float = 0,
        *,
        mask_value: int | None = None,
    ) -> None:
        who = type(self).__name__
        self.p = probability(who, p)
        self.scale = span(who, "scale", scale, 0, 1)
        self.ratio = span(who, "ratio", ratio, 0)
        if self.ratio[0] == 0:
            raise ShapeError(f"{who}: ratio: expected numbers above 0, got {ratio}")
        self.value, self.mask_value = value, mask_value

    def rectangle(self, draws: Draws, size: tuple[int, int]) -> tuple[np.ndarray, ...]:
        area = draws.uniform(*self.scale) * (size[0] * size[1])
        ratio = np.exp(draws.uniform(*np.log(self.ratio)))
        sides = np.sqrt(area * ratio), np.sqrt(area / ratio)
        edges: list[np.ndarray] = []
        for side, whole in zip(sides, size, strict=True):
            length = np.minimum(np.rint(side).astype(np.int64), whole)
            first = np.floor(draws.uniform() * (whole - length + 1)).astype(np.int64)
            edges += [first, first + length]
        return tuple(edges)


class Cutout(_Rectangle):
    """A square whose middle is any pixel, cut at the image's edges (DeVries and Taylor, arXiv 1708.04552).

    Args:
        size: of the square; or (height, width).
        value, mask_value, p: as in RandomErasing.
    """

    def __init__(self, size: Any, value: float = 0, *, mask_value: int | None = None, p: float = 1.0) -> None:
        who = type(self).__name__
        self.size = pair_of_sizes(who, "size", size)
        self.p = probability(who, p)
        self.value, self.mask_value = value, mask_value

    def rectangle(self, draws: Draws, size: tuple[int, int]) -> tuple[np.ndarray, ...]:
        edges: list[np.ndarray] = []
        for side, whole in zip(self.size, size, strict=True):
            first = draws.integers(whole) - side // 2
            edges += [first, first + side]
        return tuple(edges)
