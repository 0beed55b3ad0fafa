"""Convolutions, pools, sizes of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....engine.core import Tensor
from . import operations as td
from .shapes import integers, padded
from .table import Node, Value, on_host, operator, require, tensor

CONV = {1: td.conv1d, 2: td.conv2d, 3: td.conv3d}
TRANSPOSED = {1: td.conv_transpose1d, 2: td.conv_transpose2d, 3: td.conv_transpose3d}
MAX_POOL = {1: td.max_pool1d, 2: td.max_pool2d, 3: td.max_pool3d}


def _axes(node: Node, x: Value) -> int:
    require(node, 3 <= x.ndim <= 5, f"an input of {x.ndim} dims")
    return x.ndim - 2


def settings_of(node: Node, axes: int) -> tuple[list[int], list[int]]:
    """Strides and dilations."""
    return node.get("strides", [1] * axes), node.get("dilations", [1] * axes)


def _margins(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """What is put around each axis, (before, after)."""
    axes, auto = len(sizes), node.get("auto_pad", "NOTSET")
    strides, dilations = settings_of(node, axes)
    if auto in ("NOTSET", ""):
        pads = node.get("pads", [0] * 2 * axes)
        return list(zip(pads[:axes], pads[axes:], strict=True))
    if auto == "VALID":
        return [(0, 0)] * axes
    margins = []
    for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        whole = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        less, more = whole // 2, whole - whole // 2
        margins.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return margins


def _padded(x: Tensor, margins: Sequence[tuple[int, int]], fill: float) -> Tensor:
    """With margins around its pictures."""
    return padded(x, [(0, 0), (0, 0), *margins], fill) if any(map(any, margins)) else x


@operator("Conv", trained=(1, 2))
def conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    axes = _axes(node, x)
    strides, dilations = settings_of(node, axes)
    margins = _margins(node, x.shape[2:], w.shape[2:])
    return CONV[axes](x, w, b, tuple(strides), tuple(margins), tuple(dilations), node.get("group", 1))


@operator("ConvTranspose", trained=(1, 2))
def conv_transpose(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    axes = _axes(node, x)
    strides, dilations = settings_of(node, axes)
    extra, wanted = node.get("output_padding", [0] * axes), node.get("output_shape")
    auto = node.get("auto_pad", "NOTSET")
    whole = [
        s * (n - 1) + (k - 1) * d + 1
        for n, k, s, d in zip(x.shape[2:], w.shape[2:], strides, dilations, strict=True)
    ]
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    if wanted is None:
        pads = node.get("pads", [0] * 2 * axes) if auto in ("NOTSET", "") else [0] * 2 * axes
        cuts = list(zip(pads[:axes], pads[axes:], strict=True))
    else:
        cuts = []
        for size, more, n in zip(whole, extra, wanted[-axes:], strict=True):
            cut = size + more - n
            less = cut // 2
            # SAME_UPPER cuts the odd one at the end, the other forms at the beginning
            cuts.append((less, cut - less) if auto == "SAME_UPPER" else (cut - less, less))
    y = TRANSPOSED[axes](x, w, b, tuple(strides), 0, 0, node.get("group", 1), tuple(dilations))
    return _cut(y, b, cuts, extra)


def _cut(y: Tensor, b: Tensor | None, cuts: Sequence[tuple[int, int]], extra: Sequence[int]) -> Tensor:
    """Without (before, after) of each axis, and with `extra` at its end, where there is only the bias."""
    margins = [(max(-first, 0), max(more - last, 0)) for (first, last), more in zip(cuts, extra, strict=True)]
    y = y[
        (
            slice(None),
            slice(None),
            *(
                slice(max(first, 0), n - max(last - more, 0))
                for n, (first, last), more in zip(y.shape[2:], cuts, extra, strict=True)
            ),
        )
    ]
    if not any(map(any, margins)):
        return y
    if b is None:
        return _padded(y, margins, 0.0)
    shape = (1, -1) + (1,) * (y.ndim - 2)
    return td.add(_padded(td.sub(y, b.reshape(shape)), margins, 0.0), b.reshape(shape))


# ---- Pools


Margins = list[tuple[int, int]]


def _pool_margins(node: Node, x: Tensor, kernel: Sequence[int]) -> tuple[Margins, Margins]:
    """(what windows reach around each axis, more than the margins in ceil_mode; the margins). A window that
    would begin behind the margin is dropped.
    """
    axes = _axes(node, x)
    strides, dilations = settings_of(node, axes)
    margins = _margins(node, x.shape[2:], kernel)
    around = list(margins)
    if node.get("ceil_mode", 0):
        for i, (n, k, s, d) in enumerate(zip(x.shape[2:], kernel, strides, dilations, strict=True)):
            first, last = margins[i]
            reach = n + first + last - (k - 1) * d - 1
            steps = -(-reach // s)
            steps -= steps * s >= n + first
            around[i] = first, last + max(steps * s - reach, 0)
    return around, margins


@operator("MaxPool")
def max_pool(node: Node, x: Tensor) -> Any:
    if not isinstance(x, Tensor):  # small integers are floating numbers too
        require(node, x.dtype.itemsize == 1 and len(node.outputs) == 1, f"dtype {x.dtype}")
        return on_host(max_pool(node, tensor(x.astype(np.float32)))).astype(x.dtype)
    kernel = node.get("kernel_shape")
    strides, dilations = settings_of(node, _axes(node, x))
    around, _ = _pool_margins(node, x, kernel)
    y, places = MAX_POOL[len(kernel)](
        _padded(x, around, -math.inf), tuple(kernel), tuple(strides), 0, tuple(dilations), return_indices=True
    )
    if len(node.outputs) == 1:
        return y
    sizes = [n + a + b for n, (a, b) in zip(x.shape[2:], around, strict=True)]
    coordinates = [
        c - first for c, (first, _) in zip(np.unravel_index(on_host(places), sizes), around, strict=True)
    ]
    order = coordinates, x.shape[2:]
    if node.get("storage_order", 0):
        order = coordinates[::-1], x.shape[:1:-1]
    flat = np.ravel_multi_index(tuple(order[0]), tuple(order[1]))
    planes = np.arange(x.shape[0] * x.shape[1]).reshape((*x.shape[:2],) + (1,) * len(kernel))
    return y, (planes * math.prod(x.shape[2:]) + flat).astype(np.int64)


Numbers = Sequence[int]


def _window_sums(x: Tensor, kernel: Numbers, strides: Numbers, dilations: Numbers) -> Tensor:
    """As a convolution with ones, of each plane on its own."""
    ones = tensor(np.ones((1, 1, *kernel), x.dtype), x)
    y = CONV[len(kernel)](x.reshape((-1, 1, *x.shape[2:])), ones, None, tuple(strides), 0, tuple(dilations))
    return y.reshape((*x.shape[:2], *y.shape[2:]))


@operator("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    """What ceil_mode reaches beyond the margin counts for nothing."""
    kernel = node.get("kernel_shape")
    strides, dilations = settings_of(node, _axes(node, x))
    around, margins = _pool_margins(node, x, kernel)
    beyond = [more - last for (_, more), (_, last) in zip(around, margins, strict=True)]
    counted = np.ones((1, 1, *x.shape[2:]), x.dtype)
    inner = float(bool(node.get("count_include_pad", 0)))
    counted = np.pad(counted, [(0, 0), (0, 0), *margins], constant_values=inner)
    counted = np.pad(counted, [(0, 0), (0, 0), *((0, n) for n in beyond)])
    counts = _window_sums(tensor(counted, x), kernel, strides, dilations)
    return td.div(_window_sums(_padded(x, around, 0.0), kernel, strides, dilations), counts)


@operator("LpPool")
def lp_pool(node: Node, x: Tensor) -> Tensor:
    kernel, p = node.get("kernel_shape"), node.get("p", 2)
    strides, dilations = settings_of(node, _axes(node, x))
    around, _ = _pool_margins(node, x, kernel)
    powers = td.pow(td.abs(_padded(x, around, 0.0)), float(p))
    return td.pow(_window_sums(powers, kernel, strides, dilations), 1.0 / p)


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    return td.mean(x, tuple(range(2, x.ndim)), True)


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    return td.amax(x, tuple(range(2, x.ndim)), True)


@operator("GlobalLpPool")
def global_lp_pool(node: Node, x: Tensor) -> Tensor:
    p, dims = float(node.get("p", 2)), tuple(range(2, x.ndim))
    return td.pow(td.sum(td.pow(td.abs(x), p), dims, True), 1.0 / p)


@operator("MaxUnpool", host=(1, 2))
def max_unpool(node: Node, x: Tensor, places: Any, shape: Any = None) -> Tensor:
    """Places are of the whole output as it would be without `output_shape`, which may be larger."""
    kernel, axes = node.get("kernel_shape"), _axes(node, x)
    strides = node.get("strides", [1] * axes)
    pads = node.get("pads", [0] * 2 * axes)
    sizes = [
        (n - 1) * s - pads[i] - pads[i + axes] + k
        for i, (n, s, k) in enumerate(zip(x.shape[2:], strides, kernel, strict=True))
    ]
    full = (*x.shape[:2], *sizes)
    coordinates = np.unravel_index(places.ravel(), full)
    target = full if shape is None else tuple(integers(shape))
    flat = np.ravel_multi_index(coordinates, target)
    zeros = tensor(np.zeros(math.prod(target), x.dtype), x)
    return td.scatter(zeros, 0, tensor(flat, x), x.reshape((-1,))).reshape(target)


@operator("Col2Im", host=(1, 2))
def col2im(node: Node, x: Tensor, image: Any, block: Any) -> Tensor:
    """The transpose of taking windows: each is added at its place."""
    sizes, kernel = integers(image), integers(block)
    axes = len(sizes)
    strides, dilations = settings_of(node, axes)
    pads = node.get("pads", [0] * 2 * axes)
    counts = [
        (n + pads[i] + pads[i + axes] - (k - 1) * d - 1) // s + 1
        for i, (n, k, s, d) in enumerate(zip(sizes, kernel, strides, dilations, strict=True))
    ]
    channels = x.shape[1] // math.prod(kernel)
    around = [n + pads[i] + pads[i + axes] for i, n in enumerate(sizes)]
    steps = [
        np.arange(c)[None, :] * s + np.arange(k)[:, None] * d
        for c, k, s, d in zip(counts, kernel, strides, dilations, strict=True)
    ]
    flat = np.zeros((1,) * 2 * axes, np.int64)
    for i, (step, n) in enumerate(zip(steps, around, strict=True)):
        shape = [1] * 2 * axes
        shape[i], shape[axes + i] = step.shape
        flat = flat * n + step.reshape(shape)
    rows = x.reshape((x.shape[0] * channels, -1))
    index = np.broadcast_to(flat.reshape(1, -1), rows.shape)
    zeros = tensor(np.zeros((len(rows), math.prod(around)), x.dtype), x)
    y = td.scatter_add(zeros, 1, tensor(index, x), rows).reshape((x.shape[0], channels, *around))
    return y[(slice(None), slice(None), *(slice(pads[i], pads[i] + n) for i, n in enumerate(sizes)))]


# ---- Sizes: a picture is resized axis by axis, each by a matrix of weights


@operator("Resize", host=(1, 2, 3))
def resize(node: Node, x: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None) -> Tensor:
    if node.opset < 11:
        roi, scales = None, roi
    axes = [d % x.ndim for d in node.get("axes", range(x.ndim))]
    factors, targets = [1.0] * x.ndim, list(x.shape)
    if sizes is not None and np.size(sizes):
        wanted = integers(sizes)
        ratios = [n / x.shape[d] for d, n in zip(axes, wanted, strict=True)]
        policy = node.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [ratio] * len(axes)
            wanted = [math.floor(ratio * x.shape[d] + 0.5) for d in axes]
        for d, n, ratio in zip(axes, wanted, ratios, strict=True):
            targets[d], factors[d] = n, ratio
    else:
        for d, factor in zip(axes, np.ravel(scales), strict=True):
            factors[d], targets[d] = float(factor), math.floor(x.shape[d] * float(factor))
    regions = [(0.0, 1.0)] * x.ndim
    if roi is not None and np.size(roi):
        for i, d in enumerate(axes):
            regions[d] = float(roi[i]), float(roi[i + len(axes)])
    outside: list[np.ndarray] = []
    for d in range(x.ndim):
        if targets[d] == x.shape[d] and factors[d] == 1 and _form(node) != "tf_crop_and_resize":
            continue
        matrix, beyond = _resampling(node, x.shape[d], targets[d], factors[d], regions[d])
        y = td.matmul(td.movedim(x, d, -1), tensor(matrix.T.astype(x.dtype), x))
        x = td.movedim(y, -1, d)
        outside.append(beyond.reshape([-1 if k == d else 1 for k in range(x.ndim)]))
    if _form(node) == "tf_crop_and_resize":
        beyond = np.broadcast_to(sum(outside) > 0, x.shape)
        x = td.where(tensor(np.array(beyond), x), float(node.get("extrapolation_value", 0.0)), x)
    return x


@operator("Upsample", host=(1,))
def upsample(node: Node, x: Tensor, scales: Any = None) -> Tensor:
    given = node.get("scales") if scales is None else scales
    if given is None:  # opset 1
        given = [1.0, 1.0, node.get("height_scale"), node.get("width_scale")]
    for d, factor in enumerate(np.ravel(given)):
        if factor != 1:
            n = math.floor(x.shape[d] * float(factor))
            matrix, _ = _resampling(node, x.shape[d], n, float(factor), (0.0, 1.0))
            x = td.movedim(td.matmul(td.movedim(x, d, -1), tensor(matrix.T.astype(x.dtype), x)), -1, d)
    return x


def _form(node: Node) -> str:
    """How places of the output are places of the input; before opset 11 there is one way."""
    return node.get("coordinate_transformation_mode", "half_pixel" if node.opset >= 11 else "asymmetric")


def _resampling(
    node: Node, size: int, target: int, scale: float, region: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """(weights (target, size), which places of the output lie outside of the input)."""
    places = _places(node, size, target, scale, region)
    mode, antialias = node.get("mode", "nearest"), node.get("antialias", 0) and scale < 1
    matrix = np.zeros((target, size))
    if mode == "nearest":
        chosen = np.clip(_nearest(places, node), 0, size - 1).astype(np.int64)
        matrix[np.arange(target), chosen] = 1
    else:
        wide = 1 / scale if antialias else 1.0
        reach = 1 if mode in ("linear", "bilinear") else 2
        kernel = _hat if reach == 1 else _cubic(node.get("cubic_coeff_a", -0.75))
        for i, place in enumerate(places):
            span = math.ceil(reach * wide)
            first = math.floor(place) - span + 1
            near = np.arange(first, first + 2 * span)
            shares = kernel((place - near) / wide)
            if node.get("exclude_outside", 0):
                shares = np.where((near >= 0) & (near < size), shares, 0)
            if antialias or node.get("exclude_outside", 0):
                shares = shares / shares.sum()
            np.add.at(matrix[i], np.clip(near, 0, size - 1), shares)
    return matrix, (places < 0) | (places > size - 1)


def _places(node: Node, size: int, target: int, scale: float, region: tuple[float, float]) -> np.ndarray:
    out, form = np.arange(target, dtype=np.float64), _form(node)
    if form == "half_pixel":
        return (out + 0.5) / scale - 0.5
    if form == "half_pixel_symmetric":
        adjustment = target / (scale * size)
        return size / 2 * (1 - adjustment) + (out + 0.5) / scale - 0.5
    if form == "pytorch_half_pixel":
        return (out + 0.5) / scale - 0.5 if target > 1 else np.zeros(target)
    if form == "align_corners":
        return out * (size - 1) / (scale * size - 1) if scale * size != 1 else np.zeros(target)
    if form == "asymmetric":
        return out / scale
    require(node, form == "tf_crop_and_resize", f"coordinate_transformation_mode {form!r}")
    start, end = region
    if target > 1:
        return start * (size - 1) + out * (end - start) * (size - 1) / (target - 1)
    return np.full(target, 0.5 * (start + end) * (size - 1))


def _nearest(places: np.ndarray, node: Node) -> np.ndarray:
    how = node.get("nearest_mode", "round_prefer_floor" if node.opset >= 11 else "floor")
    if how == "round_prefer_floor":
        return np.ceil(places - 0.5)
    if how == "round_prefer_ceil":
        return np.floor(places + 0.5)
    return np.floor(places) if how == "floor" else np.ceil(places)


def _hat(t: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(t), 0)


def _cubic(a: float) -> Any:
    """Keys's kernel."""

    def kernel(t: np.ndarray) -> np.ndarray:
        t = np.abs(t)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return np.where(t <= 1, near, np.where(t < 2, far, 0))

    return kernel
