"""What the pictures share: where they are drawn, tiles, and colours of values."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure, FigureBase

GREY, SIGNED, HEAT = "gray_r", "RdBu_r", "YlOrRd"
"""Colour maps: of images, of values around 0, of values from 0 on."""
INK = "#333333"


def canvas(figure: FigureBase | None, width: float, height: float) -> Any:
    """The figure or subfigure to draw into: the one that is given, or a new one of that size in inches."""
    return Figure(figsize=(width, height), layout="constrained") if figure is None else figure


def colours(name: str) -> Colormap:
    """A colour map that leaves what is NaN blank."""
    return matplotlib.colormaps[name].with_extremes(bad=(0, 0, 0, 0))


def extent(values: np.ndarray, signed: bool) -> tuple[float, float]:
    """The values at the ends of the colours: around 0 if signed; a few of the most extreme are cut off."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    if signed:
        end = float(np.quantile(np.abs(finite), 0.998)) or float(np.abs(finite).max()) or 1.0
        return -end, end
    low, high = float(finite.min()), float(np.quantile(finite, 0.998))
    high = high if high > low else float(finite.max())
    return low, high if high > low else low + 1.0


def bare(axes: Axes) -> None:
    """No ticks, no frame."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def shown(axes: Axes, picture: np.ndarray, cmap: str, ends: tuple[float, float] | None = None) -> None:
    """A picture (H, W), or (H, W, 3) of colours in [0, 1], alone in its axes."""
    low, high = ends or extent(picture, False)
    axes.imshow(picture, cmap=colours(cmap), vmin=low, vmax=high, interpolation="nearest")
    bare(axes)


def picture_of(image: np.ndarray) -> np.ndarray:
    """(C, H, W) as (H, W), or (H, W, 3) stretched to [0, 1] if there are three channels; of other numbers of
    channels their mean.
    """
    if image.ndim == 2:
        return image
    if len(image) != 3:
        return image.mean(0)
    low, high = image.min(), image.max()
    return np.moveaxis((image - low) / (high - low if high > low else 1), 0, 2)
