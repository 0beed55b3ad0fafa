"""Sheets of small pictures: filters, feature maps, maps of what a network looks at, augmented images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import FigureBase
from tinydl_kernels.machine.errors import ShapeError

from ..data.transforms.contract import Transform
from .canvas import GREY, HEAT, INK, SIGNED, bare, canvas, colours, extent, picture_of, shown

__all__ = ["attribution_sheet", "augmentation_sheet", "mosaic"]


def mosaic(
    pictures: Any,
    labels: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    each: bool = False,
    cmap: str | None = None,
    title: str = "",
    figure: FigureBase | None = None,
) -> Any:
    """Pictures as tiles: filters, the maps of a layer, images that units like.

        viz.mosaic(viz.filters(model, "conv1"))
        viz.mosaic(viz.feature_maps(model, x, "conv1")[0], each=True)

    Args:
        pictures: (n, H, W) or (n, 1, H, W); (n, 3, H, W) in colours; (n, C, H, W) as a row of C tiles each.
        labels: above the tiles.
        columns: tiles in a row; about the root of their number unless said.
        each: each tile has colours of its own scale, not all of them one.
        cmap: name of a colour map of matplotlib's; unless said around 0 where values are negative, else grey.
        title: above.
        figure: a figure or subfigure to draw into; None: a new one.

    Raises:
        ShapeError: no pictures, or not a label for each.
    """
    tiles = np.asarray(pictures, np.float64)
    if tiles.ndim not in (3, 4) or not tiles.size:
        raise ShapeError(f"mosaic: expected pictures (n, H, W) or (n, C, H, W), got {tiles.shape}")
    coloured = tiles.ndim == 4 and tiles.shape[1] == 3
    if coloured:
        tiles = np.stack([picture_of(tile) for tile in tiles])
    elif tiles.ndim == 4:
        columns = columns or (tiles.shape[1] if tiles.shape[1] > 1 else None)
        tiles = tiles.reshape(-1, *tiles.shape[2:])
    if labels is not None and len(labels) != len(tiles):
        raise ShapeError(f"mosaic: expected a label for each of {len(tiles)} tiles, got {len(labels)}")
    signed = not coloured and bool(np.nanmin(tiles) < 0)
    columns = min(columns or math.ceil(math.sqrt(len(tiles))), len(tiles))
    rows = math.ceil(len(tiles) / columns)
    if each and not coloured:
        ends = [extent(tile, signed) for tile in tiles]
        tiles = np.stack([(t - low) / (high - low) for t, (low, high) in zip(tiles, ends, strict=True)])
    low, high = (0.0, 1.0) if each or coloured else extent(tiles, signed)
    height, width = tiles.shape[1:3]
    gap = max(1, round(0.08 * max(height, width)))
    step_y, step_x = height + gap + (round(0.3 * height) if labels else 0), width + gap
    size = 0.9 if labels else 0.75
    drawn = canvas(figure, size * columns + 0.2, size * rows * step_y / step_x + (0.5 if title else 0.1))
    axes = drawn.subplots()
    for k, tile in enumerate(tiles):
        top, left = (k // columns) * step_y, (k % columns) * step_x
        place = (left - 0.5, left + width - 0.5, top + height - 0.5, top - 0.5)
        axes.imshow(
            tile,
            cmap=colours(cmap or (SIGNED if signed else GREY)),
            vmin=low,
            vmax=high,
            extent=place,
            interpolation="nearest",
        )
        if labels:
            axes.text(left + width / 2, top - 0.8, labels[k], ha="center", va="bottom", fontsize=7, color=INK)
    first = -0.5 - (step_y - height - gap)
    axes.set(xlim=(-1, columns * step_x - gap), ylim=(rows * step_y + first + 0.5, first - 0.5))
    axes.set_title(title, fontsize=10)
    bare(axes)
    return drawn


def attribution_sheet(
    images: Any,
    maps: Mapping[str, Any],
    *,
    labels: Sequence[str] | None = None,
    outline: bool = True,
    title: str = "",
    figure: FigureBase | None = None,
) -> Any:
    """A row for each image: itself, then what each method says of it; red raises the score, blue lowers it,
    and maps that are never negative go from pale to dark.

        viz.attribution_sheet(x, {"saliency": viz.saliency(model, x), "Grad-CAM": viz.grad_cam(model, x,
        "conv3")})

    Args:
        images: (N, H, W) or (N, C, H, W).
        maps: method -> (N, C, H, W), whose channels are added, or (N, h, w), stretched over the image.
        labels: (N,) beside the images.
        outline: the image as a faint line over the maps.
        title: above.
        figure: a figure or subfigure to draw into; None: a new one.

    Raises:
        ShapeError: maps that are not of these images, or not a label for each.
    """
    values = np.asarray(images, np.float64)
    found = {name: np.asarray(m, np.float64) for name, m in maps.items()}
    if values.ndim not in (3, 4) or not len(values) or (labels is not None and len(labels) != len(values)):
        count = len(labels) if labels is not None else "no"
        got = f"{values.shape} and {count} labels"
        raise ShapeError(f"attribution_sheet: expected images (N, H, W) or (N, C, H, W), labelled, got {got}")
    for name, m in found.items():
        if m.ndim not in (3, 4) or len(m) != len(values):
            raise ShapeError(
                f"attribution_sheet: {name}: expected (N, C, H, W) or (N, h, w) of {len(values)} images, "
                f"got {m.shape}"
            )
    rows, columns = len(values), 1 + len(found)
    drawn = canvas(figure, 1.05 * columns, 1.05 * rows + 0.3 + (0.3 if title else 0))
    drawn.suptitle(title, fontsize=10)
    grid = drawn.subplots(rows, columns, squeeze=False)
    height, width = values.shape[-2:]
    flat = {name: m.sum(1) if m.ndim == 4 else m for name, m in found.items()}
    for n, row in enumerate(grid):
        picture = picture_of(values[n])
        shown(row[0], picture, GREY)
        if labels is not None:
            row[0].set_ylabel(labels[n], fontsize=8, color=INK)
        for axes, (name, m) in zip(row[1:], flat.items(), strict=True):
            signed = bool(np.nanmin(m) < 0)
            low, high = extent(m[n], signed) if signed else (0.0, extent(m[n], False)[1])
            axes.imshow(
                m[n],
                cmap=colours(SIGNED if signed else HEAT),
                vmin=low,
                vmax=high,
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                interpolation="nearest",
            )
            if outline and picture.ndim == 2 and np.ptp(picture) > 0:
                middle = (picture.min() + picture.max()) / 2
                axes.contour(picture, [middle], colors=INK, linewidths=0.5, alpha=0.55)
            bare(axes)
            if n == 0:
                axes.set_title(name, fontsize=8, color=INK)
    return drawn


def augmentation_sheet(
    images: np.ndarray,
    transform: Transform,
    *,
    columns: int = 8,
    seed: int = 0,
    title: str = "",
    figure: FigureBase | None = None,
) -> Any:
    """A row for each image: as it is, then as a loader with that seed gives it in its first epochs.

    Args:
        images: (N, C, H, W), what the transform takes; their numbers in the data set are 0 to N - 1.
        transform: of `tinydl.data.transforms`.
        columns: epochs.
        seed: of the loader.
        title: above.
        figure: a figure or subfigure to draw into; None: a new one.

    Raises:
        ShapeError, DtypeError: images that the transform refuses.
    """
    index = np.arange(len(images))
    epochs = [transform(images, index=index, epoch=epoch, seed=seed) for epoch in range(columns)]
    drawn = canvas(figure, 0.8 * (columns + 1.2), 0.8 * len(images) + 0.3 + (0.3 if title else 0))
    drawn.suptitle(title, fontsize=10)
    widths = [1.0, 0.15, *[1.0] * columns]
    grid = drawn.subplots(len(images), columns + 2, squeeze=False, width_ratios=widths)
    for n, row in enumerate(grid):
        ends = extent(images[n], False)
        for axes, picture in zip(row, [images[n], None, *(e[n] for e in epochs)], strict=True):
            if picture is None:
                axes.set_axis_off()
            else:
                shown(axes, picture_of(np.asarray(picture, np.float64)), GREY, ends)
    grid[0][0].set_title("as it is", fontsize=8, color=INK)
    for epoch in range(columns):
        grid[0][epoch + 2].set_title(f"epoch {epoch}", fontsize=8, color=INK)
    return drawn
