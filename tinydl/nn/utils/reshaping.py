"""Linear layers as convolutions, and back."""

from __future__ import annotations

import math
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

from ...engine.core import no_grad
from ...engine.public import public
from ...ops.shape import reshape
from ...ops.update import assign
from ..checks import require_instance
from ..convolution import Conv2d
from ..linear import Linear

__all__ = ["conv_to_linear", "linear_to_conv"]


@public
def linear_to_conv(linear: Linear, input_shape: tuple[int, int, int]) -> Conv2d:
    """The convolution that does on (N, C, H, W) what `linear` does on its flattened
    dims; input_shape is (C, H, W).

    On a larger image it gives the outputs at every place: a network whose linear layers are all
    converted (the later ones with (features, 1, 1)) runs on images of any size. The weights are copied.
    Long et al., arXiv 1411.4038.
    """
    require_instance("linear_to_conv", Linear, linear)
    channels, *kernel = input_shape
    if math.prod(input_shape) != linear.in_features:
        raise ShapeError(
            f"linear_to_conv: expected (C, H, W) of {linear.in_features} elements, got {tuple(input_shape)}"
        )
    conv = Conv2d(
        channels, linear.out_features, tuple(kernel), bias=linear.bias is not None, dtype=linear.weight.dtype
    )
    return _copied(linear, conv)


@public
def conv_to_linear(conv: Conv2d) -> Linear:
    """The linear layer on (C, H, W), flattened, of a convolution whose kernel is as large as
    its input. Weights are copied.
    """
    require_instance("conv_to_linear", Conv2d, conv)
    if conv.groups != 1:
        raise ValueError(f"conv_to_linear: expected groups=1, got {conv.groups}")
    linear = Linear(
        math.prod(conv.weight.shape[1:]), conv.out_channels, conv.bias is not None, conv.weight.dtype
    )
    return _copied(conv, linear)


def _copied(source: Any, target: Any) -> Any:
    with no_grad():
        assign(target.weight, reshape(source.weight.detach(), target.weight.shape))
        if source.bias is not None:
            assign(target.bias, source.bias.detach())
    return target
