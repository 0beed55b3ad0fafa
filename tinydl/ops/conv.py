"""Convolution: one trilinear form T(x, w, g) = Σ g · x · w. Its three partial gradients are three
primitives, and each is differentiated by the other two, so every order of derivative costs a convolution
again. The transposed convolution is one of them. Sizes of each axis are `Window.out`; Dumoulin & Visin,
arXiv 1603.07285, draw them.
"""

from __future__ import annotations

from typing import Any

from tinydl_kernels import conv as kernels
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.window import Window

from ..engine.core import Array, Tensor, add, primitive
from ..engine.promotion import require_floating
from ..engine.public import public
from .reduce import _sum
from .shape import reshape
from .spatial import batched

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]


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


def _plain(
    who: str,
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    def run(x: Tensor) -> Tensor:
        window = Window.conv(who, x.shape, weight.shape, stride, padding, dilation, groups, axes)
        _require_bias(who, bias, weight.shape[0])
        require_floating(who, x, weight, bias)
        return _conv(x, weight, bias, window=window)

    return batched(axes, run, input)


def _transposed(
    who: str,
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    def run(x: Tensor) -> Tensor:
        window = Window.transposed(
            who, x.shape, weight.shape, stride, padding, output_padding, dilation, groups, axes
        )
        _require_bias(who, bias, weight.shape[1] * groups)
        require_floating(who, x, weight, bias)
        y = _conv_dx(x, weight, window=window)
        return y if bias is None else add(y, reshape(bias, (-1, *(1,) * axes)))

    return batched(axes, run, input)


def _require_bias(who: str, bias: Tensor | None, channels: int) -> None:
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(f"{who}: expected bias {(channels,)}, got {bias.shape}")


@public
def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation: input (N, C, W), weight (O, C/groups, KW), bias (O,) give (N, O, OW).

    Settings as in `conv2d`, N may be missing. As torch.nn.functional.conv1d.
    """
    return _plain("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


@public
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

    stride, dilation: an int or one per axis; padding: an int, one per axis, ((top, bottom), (left,
    right)), "same" or "valid". N may be missing. Raises ShapeError where the shapes do not fit.
    As torch.nn.functional.conv2d.
    """
    return _plain("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@public
def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation: input (N, C, D, H, W), weight (O, C/groups, KD, KH, KW), bias
    (O,) give (N, O, OD, OH, OW).

    Settings as in `conv2d`, N may be missing. As torch.nn.functional.conv3d.
    """
    return _plain("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


@public
def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of `conv1d`: input (N, C, W), weight (C, O/groups, KW), bias (O,) give (N, O, OW).

    Settings as in `conv_transpose2d`, N may be missing. As torch.nn.functional.conv_transpose1d.
    """
    return _transposed(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@public
def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of `conv2d`: input (N, C, H, W), weight (C, O/groups, KH, KW),
    bias (O,) give (N, O, OH, OW).

    OH = (H - 1) stride - 2 padding + dilation (KH - 1) + 1 + output_padding, and OW likewise.
    stride, padding, output_padding,
    dilation: an int or one per axis; padding crops, and may also be ((top, bottom), (left, right));
    output_padding adds to the lower and right end, by less than the stride or the dilation. N may be missing.
    Raises ShapeError where the shapes do not fit. As torch.nn.functional.conv_transpose2d.
    """
    return _transposed(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@public
def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of `conv3d`: input (N, C, D, H, W), weight (C, O/groups, KD, KH, KW), bias
    (O,) give (N, O, OD, OH, OW).

    Settings as in `conv_transpose2d`, N may be missing. As torch.nn.functional.conv_transpose3d.
    """
    return _transposed(
        "conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )
