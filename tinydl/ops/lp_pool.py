"""Norms of windows: power-average pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels.machine.window import Window

from ..devices import constant
from ..engine.core import Tensor
from ..engine.public import public
from .elementwise import div, eq, mul, pow, where
from .reduce import sum
from .shape import reshape
from .spatial import batched, require_planes
from .statistics import scale_of
from .unfold import _unfold

__all__ = [
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
]


def _lp(
    who: str, axes: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool
) -> Tensor:
    """Windows as columns, divided by their largest element: powers and sums overflow only where the result
    does.
    """
    require_norm_type(who, norm_type)

    def run(x: Tensor) -> Tensor:
        require_planes(who, x, axes)
        window = Window.pool(who, x.shape, kernel_size, stride, 0, 1, ceil_mode, axes)
        taps = math.prod(window.kernel)
        columns = reshape(_unfold(x, window=window), *x.shape[:2], taps, math.prod(window.out))
        inside = _inside(window)
        if norm_type < 0 and not inside.all():  # what is beyond the input is no element
            columns = where(constant(x, inside), columns, math.inf)
        scale = scale_of(columns, norm_type, (2,))
        sums = sum(pow(div(columns, scale), norm_type), 2, keepdim=True)
        if not inside.all():
            sums = mul(sums, constant(x, (taps / inside.sum(0, keepdims=True)).astype(x.dtype)))
        none = eq(sums, 0.0)
        length = where(none, 0.0, pow(where(none, 1.0, sums), 1 / norm_type))
        return reshape(mul(length, scale), *x.shape[:2], *window.out)

    return batched(axes, run, input)


def _inside(window: Window) -> np.ndarray:
    """(taps, windows): does a tap lie in the input? All do but in `ceil_mode`."""
    inside = np.ones((1, 1), bool)
    for kernel, met in zip(window.kernel, window.counts(False), strict=True):
        along = np.arange(kernel)[:, None] < met
        inside = (inside[:, None, :, None] & along[None, :, None, :]).reshape(
            len(inside) * kernel, inside.shape[1] * len(met)
        )
    return inside


def require_norm_type(who: str, norm_type: float) -> None:
    """A ValueError unless the type of norm is finite and not 0."""
    if not (norm_type and math.isfinite(norm_type)):
        raise ValueError(f"{who}: expected a finite norm_type other than 0, got {norm_type}")


@public
def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """(Σ x^p)^(1/p) over each window of (N, C, W), p = norm_type.

    As `lp_pool2d` and torch.nn.functional.lp_pool1d.
    """
    return _lp("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


@public
def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """(Σ x^p)^(1/p) over each window of (N, C, H, W), p = norm_type.

    A sum of 0 gives 0, with derivative 0. In `ceil_mode` a partial window counts as its mean times the whole
    kernel, as in PyTorch. N may be missing. As torch.nn.functional.lp_pool2d.
    """
    return _lp("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


@public
def lp_pool3d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """(Σ x^p)^(1/p) over each window of (N, C, D, H, W), p = norm_type.

    As `lp_pool2d` and torch.nn.functional.lp_pool3d.
    """
    return _lp("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)
