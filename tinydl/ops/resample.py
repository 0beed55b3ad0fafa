"""Images in another size: a constant linear map along each axis, differentiated by its transpose."""

from __future__ import annotations

import math
from typing import Any

from tinydl_kernels import resample as kernels
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.resample import Rows

from ..engine.core import Array, Tensor, primitive
from ..engine.promotion import require_floating
from ..engine.public import public
from .shape import permute, reshape

__all__ = [
    "interpolate",
    "pixel_shuffle",
    "pixel_unshuffle",
]


@primitive(floating=True)
def _resample(x: Array, *, rows: Rows, dim: int) -> Array:
    """x with `dim` multiplied by a constant sparse matrix."""
    return kernels.resample(x, rows, dim)


_resample.rule(x=lambda g, *, rows, dim: _resample(g, rows=rows.transposed, dim=dim))

_NDIM = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5, "lanczos": 4}
_ANTIALIASED = {"bilinear": "linear", "bicubic": "cubic", "lanczos": "lanczos"}


@public
def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """(N, C, *spatial) of one to three spatial axes in another size: `size`, or `scale_factor`
    times as large, rounded down.

    size, scale_factor: a number or one per axis. mode: "nearest", "nearest-exact", "area" (means, as
    adaptive_avg_pool2d), or "linear" (N, C, W), "bilinear" and "bicubic" (N, C, H, W), "trilinear" (N, C, D,
    H, W). Positions follow from scale_factor, or from the ratio of the sizes where it is not given, or
    `recompute_scale_factor`, or an axis of (N, C, H, W) stays or doubles in mode "nearest"; with
    `align_corners` the corners' centres stay where they are, else the edges. `antialias` widens the kernels
    of "bilinear" and "bicubic" where the image shrinks, as Pillow does; "lanczos" is there only so.
    Raises ShapeError, ValueError. As torch.nn.functional.interpolate.
    """
    require_floating("interpolate", input)
    axes = input.ndim - 2
    if not 1 <= axes <= 3 or _NDIM.get(mode, input.ndim) != input.ndim:
        dims = f"{_NDIM[mode]} dims in mode {mode!r}" if mode in _NDIM else "3 to 5 dims (N, C, *spatial)"
        raise ShapeError(f"interpolate: expected input of {dims}, got {input.shape}")
    if mode not in _NDIM and mode not in ("nearest", "nearest-exact", "area"):
        raise ValueError(
            f"interpolate: expected mode one of {[*_NDIM, 'nearest', 'nearest-exact', 'area']}, got {mode!r}"
        )
    if align_corners is not None and mode not in _NDIM:
        raise ValueError(
            f"interpolate: expected align_corners in modes {list(_NDIM)} only, got it in mode {mode!r}"
        )
    if antialias and mode not in _ANTIALIASED:
        raise ValueError(
            f"interpolate: expected antialias in modes {[*_ANTIALIASED]} only, got it in {mode!r}"
        )
    if mode == "lanczos" and (not antialias or align_corners):
        raise ValueError("interpolate: expected antialias, and no align_corners, in mode 'lanczos'")
    if (size is None) is (scale_factor is None):
        raise ValueError(f"interpolate: expected either size or scale_factor, got {size} and {scale_factor}")
    sizes = input.shape[2:]
    scales = None if scale_factor is None else _each("scale_factor", scale_factor, axes)
    if scales is not None and min(scales) <= 0:
        raise ValueError(f"interpolate: expected a scale_factor above 0, got {scale_factor}")
    wanted = (
        _each("size", size, axes)
        if scales is None
        else tuple(math.floor(n * s) for n, s in zip(sizes, scales, strict=True))
    )
    if min(*sizes, *wanted) < 1:
        raise ShapeError(f"interpolate: expected sizes of at least 1, got {input.shape} to {wanted}")
    own = scales is None or bool(recompute_scale_factor) or mode == "area"
    ratios = [
        n / m if own or (axes == 2 and mode == "nearest" and m in (n, 2 * n)) else 1 / s
        for n, m, s in zip(sizes, wanted, scales or wanted, strict=True)
    ]
    still = [
        n == m and (ratio == 1 or "linear" in mode or antialias)
        for n, m, ratio in zip(sizes, wanted, ratios, strict=True)
    ]
    moving = [axis for axis in range(axes) if not still[axis]]
    # first those that shrink the most
    for axis in sorted(moving, key=lambda axis: wanted[axis] / sizes[axis]):
        n, m = sizes[axis], wanted[axis]
        ratio = ratios[axis] if not align_corners else (n - 1) / (m - 1) if m > 1 else 0.0
        if antialias:
            rows = kernels.antialiased(_ANTIALIASED[mode], n, m, ratio)
        else:
            rows = _rows(mode, n, m, ratio, bool(align_corners), input.dtype)
        input = _resample(input, rows=rows, dim=axis + 2)
    return input


def _each(name: str, setting: Any, axes: int) -> tuple[Any, ...]:
    given = (setting,) * axes if not hasattr(setting, "__len__") else tuple(setting)
    if len(given) != axes:
        raise ShapeError(f"interpolate: expected {name} a number or {axes} of them, got {setting}")
    return given


def _rows(mode: str, size: int, out: int, ratio: float, align_corners: bool, dtype: Any) -> Rows:
    """The map from one axis to another."""
    if mode == "area":
        return kernels.means(size, out)
    if mode.startswith("nearest"):
        return kernels.nearest(size, out, ratio, mode == "nearest-exact", dtype)
    if mode == "bicubic":
        return kernels.cubic(size, out, ratio, align_corners)
    return kernels.linear(size, out, ratio, align_corners)


@public
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(*, C r², H, W) to (*, C, H r, W r): channels become the pixels of r by r blocks.
    Shi et al., arXiv 1609.05158.
    """
    r = upscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-3] % (r * r):
        raise ShapeError(f"pixel_shuffle: expected (*, C·{r}², H, W), got {input.shape}")
    *batch, C, H, W = input.shape
    x = reshape(input, (math.prod(batch), C // (r * r), r, r, H, W))
    return reshape(permute(x, 0, 1, 4, 2, 5, 3), (*batch, C // (r * r), H * r, W * r))


@public
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(*, C, H r, W r) to (*, C r², H, W): the inverse of `pixel_shuffle`."""
    r = downscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-1] % r or input.shape[-2] % r:
        raise ShapeError(f"pixel_unshuffle: expected (*, C, H·{r}, W·{r}), got {input.shape}")
    *batch, C, H, W = input.shape
    x = reshape(input, (math.prod(batch), C, H // r, r, W // r, r))
    return reshape(permute(x, 0, 1, 3, 5, 2, 4), (*batch, C * r * r, H // r, W // r))
