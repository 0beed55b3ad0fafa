"""Learning curves of several methods, and the images that they get wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from tinydl_kernels.machine.errors import ShapeError

from ..files import atomic_write

# Okabe & Ito: for every eye
COLORS = ("#555555", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
RIGHT, WRONG = "#00805a", "#c0392b"


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = 150) -> None:
    """Write the figure, whole or not at all, in the format that the name ends in (png, pdf, svg).

    Raises:
        DataError: the file cannot be written.
    """
    with atomic_write(path) as file:
        figure.savefig(file, format=Path(path).suffix.lstrip(".") or "png", dpi=dpi)


def learning_curves(
    steps: Sequence[int] | np.ndarray, panels: Mapping[str, Mapping[str, np.ndarray]], title: str = ""
) -> Figure:
    """Mean over runs ± its standard error against the step, a panel for each
    quantity, on a logarithmic scale.

    Args:
        steps: (points,) at which the quantities were taken.
        panels: label of the quantity -> method -> values (runs, points), e.g. losses or error rates; what is
            not positive is off the scale and left out.
        title: above the panels.
    """
    figure = Figure(figsize=(5.4 * len(panels), 4.2), layout="constrained")
    figure.suptitle(title)
    for axes, (label, methods) in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True
    ):
        for color, (name, runs) in zip(_colors(len(methods)), methods.items(), strict=True):
            values = np.asarray(runs, np.float64)
            if values.ndim != 2 or values.shape[1] != len(steps):
                raise ShapeError(
                    f"learning_curves: {label}, {name}: expected (runs, {len(steps)}), got {values.shape}"
                )
            values = np.where(values > 0, values, np.nan)
            mean = values.mean(0)
            axes.plot(steps, mean, color=color, label=name, marker="o", markersize=3)
            if len(values) > 1:
                error = values.std(0, ddof=1) / np.sqrt(len(values))
                low = np.maximum(mean - error, np.where(mean > 0, mean, 1) * 1e-2)  # stays on the scale
                axes.fill_between(steps, low, mean + error, color=color, alpha=0.2, linewidth=0)
        axes.set(xlabel="minibatches", ylabel=label, yscale="log")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 4.0, 5.0, 7.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


def misclassified(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    columns: int = 8,
    title: str = "",
) -> Figure:
    """Two rows of images that most networks get wrong, two rows of others on which the methods differ most.

    Above each image stands its class, under it what each network of each method takes it for: green where
    that is right, red and bold where it is not.

    Args:
        images: (n, H, W), grey.
        labels: integers (n,).
        predictions: method -> classes (runs, n), integers.
        columns: images in a row.
        title: above the rows.
    """
    votes = {name: np.asarray(classes) for name, classes in predictions.items()}
    for name, classes in votes.items():
        if (
            images.ndim != 3
            or labels.shape != (len(images),)
            or classes.ndim != 2
            or classes.shape[1:] != labels.shape
        ):
            raise ShapeError(
                f"misclassified: {name}: expected images (n, H, W), labels (n,) and classes (runs, n), "
                f"got {images.shape}, {labels.shape} and {classes.shape}"
            )
    missed = np.stack([(classes != labels).mean(0) for classes in votes.values()])  # (methods, n)
    hardest = _largest(missed.mean(0), 2 * columns)
    differing = np.ptp(missed, axis=0)
    differing[hardest] = 0
    groups = {
        "Missed by most networks": hardest,
        "Where the methods differ most": _largest(differing, 2 * columns),
    }

    side, gap, line, heading = 1.0, 0.3, 0.14, 0.35  # inches: a picture, between pictures, a line of text
    row = side + line * len(votes) + gap
    width, height = columns * (side + gap) + gap, 2 * heading + 4 * row + 2 * gap
    figure = Figure(figsize=(width, height))
    figure.text(gap / width, 1 - 0.5 * gap / height, title, va="top", fontsize=12)
    top = height - 2 * gap
    for text, chosen in groups.items():
        figure.text(
            gap / width,
            top / height,
            text if len(chosen) else f"{text}: none",
            va="top",
            fontsize=10,
            style="italic",
        )
        for k, i in enumerate(chosen):
            x, y = gap + (k % columns) * (side + gap), top - heading - (k // columns) * row - side
            axes = figure.add_axes((x / width, y / height, side / width, side / height))
            _tile(
                axes,
                images[i],
                int(labels[i]),
                {name: classes[:, i] for name, classes in votes.items()},
                line / side,
            )
        top -= heading + 2 * row
    return figure


def _tile(axes: Axes, image: np.ndarray, label: int, votes: Mapping[str, np.ndarray], line: float) -> None:
    axes.imshow(image, cmap="gray_r", interpolation="nearest", aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(str(label), fontsize=9, pad=2)

    def write(
        x: float, row: int, text: str, color: str, weight: str, align: Literal["left", "right"]
    ) -> None:
        y = -0.02 - line * row
        axes.text(
            x, y, text, color=color, weight=weight, ha=align, va="top", fontsize=6.5, transform=axes.transAxes
        )

    for row, (color, (name, classes)) in enumerate(zip(_colors(len(votes)), votes.items(), strict=True)):
        write(0.0, row, name, color, "normal", "left")
        spacing = min(0.09, 0.55 / len(classes))
        for k, vote in enumerate(classes[::-1]):
            right = vote == label
            write(
                1.0 - spacing * k,
                row,
                str(vote),
                RIGHT if right else WRONG,
                "normal" if right else "bold",
                "right",
            )


def _largest(score: np.ndarray, count: int) -> np.ndarray:
    """Indices of the largest scores above 0, first come first among equals."""
    order = np.argsort(-score, kind="stable")[:count]
    return order[score[order] > 0]


def _colors(count: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(count)]
