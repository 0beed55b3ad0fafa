"""Classes: which are taken for which, and where samples lie in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import FigureBase
from tinydl_kernels.machine.errors import ShapeError

from .. import metrics
from .canvas import INK, bare, canvas
from .experiment import WRONG

__all__ = ["confusion_matrix", "embedding_map"]


def confusion_matrix(
    prediction: Any,
    target: Any,
    classes: Sequence[str] | None = None,
    *,
    title: str = "",
    figure: FigureBase | None = None,
) -> Any:
    """How many samples of each class (rows) were taken for which (columns): blue where that is right, orange
    where it is not, darker for a larger part of the row. Zeros are left blank.

    Args:
        prediction, target: as in `tinydl.metrics.confusion_matrix`, which counts and raises the errors.
        classes: their names; their numbers unless said.
        title: above; the accuracy unless said.
        figure: a figure or subfigure to draw into; None: a new one.

    Raises:
        ShapeError: not a name for each class.
    """
    count = None if classes is None else len(classes)
    counts = np.asarray(metrics.confusion_matrix(prediction, target, num_classes=count))
    if counts.ndim != 2:
        raise ShapeError(f"confusion_matrix: expected one label for each sample, got counts {counts.shape}")
    names = [str(k) for k in range(len(counts))] if classes is None else [str(name) for name in classes]
    totals = counts.sum(1, keepdims=True)
    part = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    right = np.eye(len(counts), dtype=bool)
    blue, orange = (matplotlib.colormaps[name] for name in ("Blues", "Oranges"))
    # few errors of a class are to be seen beside its many hits
    shade = np.where(right[..., None], blue(0.75 * part), orange(0.9 * np.sqrt(part)))
    shade[counts == 0] = 1.0
    size = 0.42 * len(counts) + 1.0
    drawn = canvas(figure, size, size)
    axes = drawn.subplots()
    axes.imshow(shade)
    digits = max(len(str(counts.max(initial=0))), 1)
    font = max(5.0, min(9.0, 26 / digits))
    for i, j in np.argwhere(counts):
        dark = part[i, j] > (0.65 if i == j else 0.45)
        axes.text(
            j, i, str(counts[i, j]), ha="center", va="center", fontsize=font, color="w" if dark else INK
        )
    ticks = range(len(names))
    axes.set(xlabel="taken for", ylabel="class", xticks=ticks, yticks=ticks)
    axes.set_xticklabels(names, rotation=90 if max(map(len, names), default=0) > 3 else 0)
    axes.set_yticklabels(names)
    axes.tick_params(length=0, labelsize=8)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    total = counts.sum()
    axes.set_title(title or f"{np.trace(counts)} of {total} right", fontsize=10)
    return drawn


def embedding_map(
    points: Any,
    labels: Any,
    classes: Sequence[str] | None = None,
    *,
    wrong: Any = None,
    title: str = "",
    figure: FigureBase | None = None,
) -> Any:
    """Samples as points in two dimensions (of `tsne`, say) in the colours of their classes, whose names
    stand at the medians.

    Args:
        points: (N, 2).
        labels: integers (N,).
        classes: their names; their numbers unless said.
        wrong: bool (N,), samples to be marked with a cross.
        title: above.
        figure: a figure or subfigure to draw into; None: a new one.

    Raises:
        ShapeError: arrays that do not fit together.
    """
    places, kinds = np.asarray(points, np.float64), np.asarray(labels)
    marked = np.zeros(len(kinds), bool) if wrong is None else np.asarray(wrong, bool)
    if places.shape != (len(kinds), 2) or marked.shape != kinds.shape or kinds.dtype.kind not in "iu":
        got = f"{places.shape}, {kinds.dtype} {kinds.shape} and {marked.shape}"
        raise ShapeError(f"embedding_map: expected points (N, 2), whole labels and wrong (N,), got {got}")
    drawn = canvas(figure, 4.6, 4.4)
    axes = drawn.subplots()
    palette = matplotlib.colormaps["tab10" if kinds.max(initial=0) < 10 else "tab20"]
    axes.scatter(*places.T, s=7, c=[palette(int(k) % palette.N) for k in kinds], linewidths=0, alpha=0.75)
    axes.scatter(*places[marked].T, s=26, c=WRONG, marker="x", linewidths=1.1)
    for k in np.unique(kinds):
        x, y = np.median(places[kinds == k], 0)
        name = str(k) if classes is None else str(classes[k])
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
        axes.text(x, y, name, ha="center", va="center", weight="bold", fontsize=9, color=INK, bbox=box)
    axes.set_title(title, fontsize=10)
    axes.set_aspect("equal", adjustable="datalim")
    bare(axes)
    return drawn
