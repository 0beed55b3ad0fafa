"""Windows of images: anywhere, in the middle, of random size and shape.

Maps of the plane as those of geometric.py; a window is the last of the maps that are sampled at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from .contract import Draws, pair_of_sizes, span
from .warping import Geometric, Map, identities, settings

__all__ = ["CenterCrop", "RandomCrop", "RandomResizedCrop"]

TRIES = 10
"""Windows that are drawn before the largest one in the middle is taken."""


class RandomCrop(Geometric):
    """A window of `size`, anywhere in the image and its padding, each place as likely as another.

    Args:
        size: h or (h, w) of the window.
        padding: around the image: all sides, (left and right, top and bottom), or (left, top, right, bottom).
        fill, padding_mode, mask_fill: as in RandomAffine.

    Raises:
        ShapeError: at a call, if the window is larger than the padded image.
    """

    last = True

    def __init__(
        self,
        size: Any,
        padding: Any = 0,
        fill: float = 0,
        padding_mode: str = "constant",
        *,
        mask_fill: int = 0,
    ) -> None:
        who = type(self).__name__
        self.size = pair_of_sizes(who, "size", size)
        sides = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * 4
        self.padding = sides * 2 if len(sides) == 2 else sides
        if len(self.padding) != 4 or not all(
            isinstance(k, (int, np.integer)) and k >= 0 for k in self.padding
        ):
            raise ShapeError(f"{who}: padding: expected 1, 2 or 4 whole numbers, 0 or more, got {padding}")
        self.settings = settings(who, None, padding_mode, fill, mask_fill)

    def map(self, draws: Draws, size: tuple[int, int]) -> Map:
        left, top, right, bottom = self.padding
        rest = size[0] + top + bottom - self.size[0], size[1] + left + right - self.size[1]
        if min(rest) < 0:
            most = size[0] + top + bottom, size[1] + left + right
            raise ShapeError(f"RandomCrop: size: expected at most {most}, padding included, got {self.size}")
        matrices = identities(draws.samples)
        matrices[:, 1, 2] = draws.integers(rest[0] + 1) - top
        matrices[:, 0, 2] = draws.integers(rest[1] + 1) - left
        return Map(matrices, self.size)


class CenterCrop(Geometric):
    """The window of `size` in the middle of the image; what is outside of it, if it is larger, is `fill`.

    Args:
        size: h or (h, w) of the window.
        fill, padding_mode, mask_fill: as in RandomAffine.
    """

    last = True

    def __init__(
        self, size: Any, *, fill: float = 0, padding_mode: str = "constant", mask_fill: int = 0
    ) -> None:
        who = type(self).__name__
        self.size = pair_of_sizes(who, "size", size)
        self.settings = settings(who, None, padding_mode, fill, mask_fill)

    def map(self, draws: Draws, size: tuple[int, int]) -> Map:
        matrices = identities(draws.samples)
        matrices[:, 1, 2], matrices[:, 0, 2] = (round((k - own) / 2) for k, own in zip(size, self.size))
        return Map(matrices, self.size)


class RandomResizedCrop(Geometric):
    """A window of random area and shape, resized to `size` (Szegedy et al., arXiv 1409.4842).

    The area is uniform, the logarithm of width / height is uniform; windows that do not fit are drawn again,
    and after ten the largest of an allowed shape is taken from the middle. Windows need not begin at whole
    pixels (torchvision's do), and where one is larger than `size` pixels are not averaged.

    Args:
        size: h or (h, w) of the result.
        scale: (low, high), of the image's area, above 0 and up to 1.
        ratio: (low, high) of width / height, above 0.
        interpolation, mask_fill: as in RandomAffine. padding_mode, fill: of what a window's outermost half
            pixel may see; by default the edge.
    """

    last = True

    def __init__(
        self,
        size: Any,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
        *,
        fill: float = 0,
        padding_mode: str = "edge",
        mask_fill: int = 0,
    ) -> None:
        who = type(self).__name__
        self.size = pair_of_sizes(who, "size", size)
        self.scale, self.ratio = span(who, "scale", scale, 0, 1), span(who, "ratio", ratio, 0)
        if self.scale[0] == 0 or self.ratio[0] == 0:
            got = f"{scale} and {ratio}"
            raise ShapeError(f"{who}: scale and ratio: expected numbers above 0, got {got}")
        self.settings = settings(who, interpolation, padding_mode, fill, mask_fill)

    def map(self, draws: Draws, size: tuple[int, int]) -> Map:
        (H, W), (h, w) = size, self.size
        height, width = self._largest(size)
        heights, widths = np.full(draws.samples, height), np.full(draws.samples, width)
        open_yet = np.ones(draws.samples, bool)
        for _ in range(TRIES):
            area = H * W * draws.uniform(*self.scale)
            shape = np.exp(draws.uniform(*np.log(self.ratio)))
            tall, wide = np.sqrt(area / shape), np.sqrt(area * shape)
            fits = open_yet & (tall <= H) & (wide <= W)
            heights[fits], widths[fits] = tall[fits], wide[fits]
            open_yet &= ~fits
        share_y, share_x = draws.uniform(), draws.uniform()
        top = np.where(open_yet, 0.5, share_y) * (H - heights)
        left = np.where(open_yet, 0.5, share_x) * (W - widths)
        matrices = identities(draws.samples)
        # edges of windows to edges of results: pixel k has its centre at k + 1/2
        for axis, start, length, own in ((0, left, widths, w), (1, top, heights, h)):
            matrices[:, axis, axis] = length / own
            matrices[:, axis, 2] = start + 0.5 * length / own - 0.5
        return Map(matrices, self.size)

    def _largest(self, size: tuple[int, int]) -> tuple[float, float]:
        """Height and width of the largest window of an allowed shape."""
        H, W = size
        shape = min(max(W / H, self.ratio[0]), self.ratio[1])
        return float(min(H, W / shape)), float(min(W, H * shape))
