"""Pictures read at any places."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ....engine.core import Tensor
from ....ops.grids import read_at
from . import operations as td
from .shapes import integers
from .table import Node, Value, operator, require, tensor
from .windows import settings_of

MODES = {"linear": "bilinear", "cubic": "bicubic"}
"""PyTorch's words, which ONNX had until opset 20."""


@operator("GridSample")
def grid_sample(node: Node, x: Tensor, grid: Tensor) -> Tensor:
    mode = node.get("mode", "linear")
    mode = MODES.get(mode, mode)
    require(node, x.ndim == 4 or (x.ndim == 5 and mode != "bicubic"), f"{mode} of {x.ndim - 2} axes")
    return td.grid_sample(
        x, grid, mode, node.get("padding_mode", "zeros"), bool(node.get("align_corners", 0))
    )


@operator("AffineGrid", host=(1,))
def affine_grid(node: Node, theta: Tensor, size: Any) -> Tensor:
    return td.affine_grid(theta, integers(size), bool(node.get("align_corners", 0)))


@operator("DeformConv", trained=(1, 3))
def deform_conv(
    node: Node, x: Tensor, w: Tensor, offset: Tensor, bias: Value = None, mask: Value = None
) -> Tensor:
    """A convolution whose taps are moved by offsets (N, groups of them · K · 2, OH, OW), each y before x."""
    require(node, x.ndim == 4, f"an input of {x.ndim} dims")
    (n, channels, *sizes), (out, _, *kernel), plane = x.shape, w.shape, offset.shape[2:]
    strides, dilations = settings_of(node, 2)
    parts, groups = node.get("offset_group", 1), node.get("group", 1)
    taps, spots = math.prod(kernel), math.prod(plane)
    pads = node.get("pads", [0] * 4)
    rows, columns = (
        np.arange(size)[None, :] * s + np.arange(k)[:, None] * d - pad
        for size, k, s, d, pad in zip(plane, kernel, strides, dilations, pads[:2], strict=True)
    )
    still = np.broadcast_arrays(rows[:, None, :, None], columns[None, :, None, :])
    moved = offset.reshape((n * parts, taps, 2, spots))
    places = [
        td.add(moved[:, :, i], tensor(line.reshape(taps, spots).astype(x.dtype), x)).reshape((n * parts, -1))
        for i, line in enumerate(still)
    ]
    read = read_at(x.reshape((n * parts, -1, *sizes)), places)
    if mask is not None:
        read = td.mul(read, mask.reshape((n * parts, 1, -1)))
    windows = read.reshape((n, groups, channels // groups * taps, spots))
    y = td.matmul(w.reshape((groups, out // groups, -1)), windows).reshape((n, out, *plane))
    return y if bias is None else td.add(y, bias.reshape((1, -1, 1, 1)))


@operator("RoiAlign", host=(1, 2))
def roi_align(node: Node, x: Tensor, regions: Any, batch: Any) -> Tensor:
    """The mean of values read between the pixels of each bin; or the largest of what their four neighbours
    add to them, as ONNX has it. Regions are constants.
    """
    usual = "half_pixel" if node.opset >= 16 else "output_half_pixel"
    half = node.get("coordinate_transformation_mode", usual) == "half_pixel"
    bins = node.get("output_height", 1), node.get("output_width", 1)
    found = []
    for region, i in zip(regions * node.get("spatial_scale", 1.0) - 0.5 * half, batch, strict=True):
        matrices = []
        for first, last, count, pixels in zip(region[1::-1], region[:1:-1], bins, x.shape[2:], strict=True):
            size = last - first if half else max(last - first, 1.0)
            each = node.get("sampling_ratio", 0) or math.ceil(size / count)
            places = first + (np.arange(count * each) + 0.5) * size / (count * each)
            matrices.append([tensor(m.astype(x.dtype), x) for m in _neighbours(places, pixels)])
        parts = [
            td.matmul(td.matmul(rows, x[int(i)]), td.transpose(columns, 0, 1))
            for rows, columns in itertools.product(*matrices)
        ]
        if node.get("mode", "avg") == "avg":
            y = td.add(td.add(parts[0], parts[1]), td.add(parts[2], parts[3]))
            found.append(td.mean(_in_bins(y, bins), (2, 4)))
        else:
            found.append(td.amax(_in_bins(td.amax(td.stack(parts), 0), bins), (2, 4)))
    return td.stack(found) if found else tensor(np.zeros((0, x.shape[1], *bins), x.dtype), x)


def _in_bins(y: Tensor, bins: tuple[int, int]) -> Tensor:
    height, width = bins
    return y.reshape((y.shape[0], height, y.shape[1] // height, width, y.shape[2] // width))


def _neighbours(places: np.ndarray, pixels: int) -> list[np.ndarray]:
    """The shares (places, pixels) of the pixel before a place, and of the one behind it. Places outside are
    moved to the border, but those more than one pixel outside count as 0.
    """
    inside, rows = (places >= -1) & (places <= pixels), np.arange(len(places))
    places = np.clip(places, 0, pixels - 1)
    before = places.astype(np.int64)
    after = places - before
    matrices = []
    for at, share in ((before, 1 - after), (np.minimum(before + 1, pixels - 1), after)):
        matrices.append(np.zeros((len(places), pixels)))
        matrices[-1][rows, at] = share * inside
    return matrices


@operator("NonMaxSuppression", arrays=True, host=(0, 1, 2, 3, 4))
def non_max_suppression(
    node: Node, boxes: Any, scores: Any, most: Any = None, overlap: Any = None, least: Any = None
) -> Value:
    """(number of the batch, class, box) of those that overlap none of a higher score by more than a share."""
    count = 0 if most is None else int(np.ravel(most)[0])
    share = 0.0 if overlap is None else float(np.ravel(overlap)[0])
    first, last = boxes[..., :2], boxes[..., 2:]
    if node.get("center_point_box", 0):
        first, last = first - last / 2, first + last / 2
    low, high = np.minimum(first, last), np.maximum(first, last)
    floor = -math.inf if least is None else float(np.ravel(least)[0])
    chosen = []
    for n, kind in np.ndindex(*scores.shape[:2]):
        own = scores[n, kind]
        order = [i for i in np.argsort(-own, kind="stable") if own[i] > floor]
        kept: list[int] = []
        for i in order:
            if len(kept) < count and not any(_shared(low[n], high[n], i, k) > share for k in kept):
                kept.append(int(i))
        chosen += [(n, kind, i) for i in kept]
    return np.array(chosen, np.int64).reshape(-1, 3)


def _shared(low: np.ndarray, high: np.ndarray, i: int, k: int) -> float:
    """The intersection of two boxes in their union."""
    common = np.maximum(np.minimum(high[i], high[k]) - np.maximum(low[i], low[k]), 0).prod()
    areas = [(high[j] - low[j]).prod() for j in (i, k)]
    union = sum(areas) - common
    return float(common / union) if min(areas) > 0 and union > 0 else 0.0
