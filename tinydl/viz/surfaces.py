"""The loss on a plane through the weights."""

from __future__ import annotations

from typing import Any

import matplotlib.patheffects
import numpy as np
from matplotlib.figure import FigureBase
from tinydl_kernels.machine.errors import ShapeError

from ..inspection.landscape import LossSurface
from .canvas import INK, canvas

__all__ = ["loss_contours"]


def loss_contours(
    surface: LossSurface, *, levels: int = 16, title: str = "", figure: FigureBase | None = None
) -> Any:
    """Contours of a `loss_surface`, each as many times higher than the one before; the weights are the
    cross in the middle, whose loss stands beside it.

    Args:
        levels: how many contours.
        title: above.
        figure: a figure or subfigure to draw into; None: a new one.

    Raises:
        ShapeError: a surface of fewer than 2 × 2 points, or without a finite loss.
    """
    loss = np.asarray(surface.loss, np.float64)
    finite = loss[np.isfinite(loss)]
    if min(loss.shape) < 2 or not finite.size:
        got = f"{loss.shape}, {finite.size} of them finite"
        raise ShapeError(f"loss_contours: expected losses of 2 × 2 points or more, got {got}")
    # logarithms of what is above the lowest, which itself may be 0 or negative
    low, high = finite.min(), finite.max()
    floor = max(1e-3 * (high - low), 1e-12)
    height = np.log10(np.where(np.isfinite(loss), loss, high) - low + floor)
    steps = np.linspace(height.min(), max(height.max(), height.min() + 1e-9), levels)
    drawn = canvas(figure, 4.4, 4.0)
    axes = drawn.subplots()
    axes.contourf(surface.a, surface.b, height, steps, cmap="YlGnBu_r", alpha=0.85)
    lines = axes.contour(
        surface.a, surface.b, height, steps[1::2], colors=INK, linewidths=0.5, linestyles="solid", alpha=0.7
    )
    told = {level: f"{10**level + low - floor:.3g}" for level in lines.levels}
    axes.clabel(lines, lines.levels[::2], fmt=told, fontsize=7)
    centre = float(loss[len(loss) // 2, loss.shape[1] // 2])
    halo = [matplotlib.patheffects.withStroke(linewidth=2, foreground="white")]
    axes.plot(0, 0, marker="+", color="#d55e00", markersize=11, markeredgewidth=2, path_effects=halo)
    axes.annotate(
        f"{centre:.3g}",
        (0, 0),
        xytext=(6, 6),
        textcoords="offset points",
        fontsize=8,
        color="#a04000",
        path_effects=halo,
    )
    axes.set(xlabel="first direction", ylabel="second direction")
    axes.tick_params(labelsize=7)
    axes.set_title(title, fontsize=10)
    axes.set_aspect("equal")
    return drawn
