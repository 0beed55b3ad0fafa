"""Convolution: one trilinear form T(x, w, g) = Σ g · x · w. Its three partial gradients are three primitives, and each is
differentiated by the other two, so every order of derivative costs a convolution again."""

from __future__ import annotations

from typing import Any

from tinydl_kernels import conv as kernels
from tinydl_kernels.errors import ShapeError
from tinydl_kernels.window import Window

from ..core import Array, Tensor, primitive
from .reduce import _sum


@primitive(floating=True)
def _conv(x: Array, w: Array, b: Array, *, window: Window) -> Array:
    return kernels.forward(x, w, b, window)


@primitive(floating=True)
def _conv_dx(g: Array, w: Array, *, window: Window) -> Array:
    return kernels.grad_input(g, w, window)


@primitive(floating=True)
def _conv_dw(x: Array, g: Array, *, window: Window) -> Array:
    return kernels.grad_weight(x, g, window)


_conv.rule(
    x=lambda g, w, *, window: _conv_dx(g, w, window=window),
    w=lambda g, x, *, window: _conv_dw(x, g, window=window),
    b=lambda g: _sum(g, dims=(0, *range(2, g.ndim))),
)
_conv_dx.rule(
    g=lambda h, w, *, window: _conv(h, w, None, window=window),
    w=lambda h, g, *, window: _conv_dw(h, g, window=window),
)
_conv_dw.rule(
    x=lambda h, g, *, window: _conv_dx(g, h, window=window),
    g=lambda h, x, *, window: _conv(x, h, None, window=window),
)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation: input (N, C, H, W), weight (O, C/groups, KH, KW), bias (O,) give (N, O, OH, OW).

    stride, dilation: an int or one an axis; padding: an int, one an axis, ((top, bottom), (left, right)), "same" or "valid".
    Raises ShapeError where the shapes do not fit. As torch.nn.functional.conv2d.
    """
    window = Window.conv("conv2d", input.shape, weight.shape, stride, padding, dilation, groups)
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"conv2d: expected bias {weight.shape[:1]}, got {bias.shape}")
    return _conv(input, weight, bias, window=window)
