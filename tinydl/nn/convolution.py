"""Convolutions. Each number of axes is a class of two lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.window import Window, per_axis

from ..engine.core import Tensor
from ..ops import conv
from ..ops.padding import pad
from ..ops.unfold import fold, locally_connected2d, unfold
from . import init
from .checks import layer_dtype, require_sizes
from .module import Module
from .parameter import Parameter

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Fold",
    "LocallyConnected2d",
    "Unfold",
]

PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}
"""Our names of the ways to pad -> those of `tinydl.pad`."""


class _Convolution(Module):
    """What plain and transposed convolutions share: settings, parameters, and how they print."""

    axes: ClassVar[int]
    function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        groups: int,
        bias: bool,
        transposed: bool,
        dtype: Any,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(
            self, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size, groups=groups
        )
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{type(self).__name__}: expected channels divisible by groups={groups}, got {in_channels} "
                f"and {out_channels}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = per_axis(type(self).__name__, "kernel_size", kernel_size, self.axes)
        first, second = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = Parameter(np.empty((first, second // groups, *self.kernel_size), dtype))
        self.bias = Parameter(np.empty(out_channels, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.reset(self.weight, self.bias)

    def extra_repr(self) -> str:
        plain = {
            "stride": 1,
            "padding": 0,
            "output_padding": 0,
            "dilation": 1,
            "groups": 1,
            "padding_mode": "zeros",
        }
        shown = [(name, getattr(self, name, default)) for name, default in plain.items()]
        changed = [f"{name}={value!r}" for name, value in shown if value != plain[name]]
        changed += [] if self.bias is not None else ["bias=False"]
        return ", ".join(
            [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}", *changed]
        )


class _Conv(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, groups, bias, False, dtype)
        if padding_mode not in PADDING_MODES:
            raise ValueError(
                f"{type(self).__name__}: expected padding_mode one of {[*PADDING_MODES]}, got "
                f"{padding_mode!r}"
            )
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(
                f"{type(self).__name__}: expected padding sizes, 'same' or 'valid', got {padding!r}"
            )
        require_sizes(self, stride=stride, dilation=dilation)
        self.stride, self.padding, self.dilation, self.padding_mode = stride, padding, dilation, padding_mode

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = self._padded(input), 0
        return type(self).function(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def _padded(self, x: Tensor) -> Tensor:
        """x with the pads that the window asks for, in the mode of the layer."""
        name, shape = type(self).__name__, x.shape if x.ndim != self.axes + 1 else (1, *x.shape)
        window = Window.conv(
            name, shape, self.weight.shape, self.stride, self.padding, self.dilation, self.groups, self.axes
        )
        sides = [
            side for pair in zip(reversed(window.low), reversed(window.high), strict=True) for side in pair
        ]
        return pad(x, sides, PADDING_MODES[self.padding_mode])

    def flops(self, x: Tensor, y: Tensor) -> int:
        """Floating-point operations of one forward."""
        return 2 * y.array.size * math.prod(self.weight.shape[1:])


class Conv1d(_Conv):
    """Cross-correlation of (N, C, W). weight (O, C/groups, KW); everything else as in `Conv2d`."""

    axes, function = 1, conv.conv1d


class Conv2d(_Conv):
    """Cross-correlation of (N, C, H, W) or (C, H, W). weight (O, C/groups, KH, KW), bias (O,), both
    U(±1/√fan_in) with fan_in = C/groups·KH·KW.

    padding: an int, one per axis, ((top, bottom), (left, right)), "same" or "valid"; padding_mode: "zeros",
    or the mirror image ("reflect"), the edge ("replicate") or the other end ("circular").
    """

    axes, function = 2, conv.conv2d


class Conv3d(_Conv):
    """Cross-correlation of (N, C, D, H, W). weight (O, C/groups, KD, KH, KW); everything
    else as in `Conv2d`.
    """

    axes, function = 3, conv.conv3d


class _ConvTranspose(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        dtype: Any = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, groups, bias, True, dtype)
        if padding_mode != "zeros":
            raise ValueError(
                f"{type(self).__name__}: expected padding_mode 'zeros', got {padding_mode!r}: a transposed "
                "convolution has no other"
            )
        self.padding_mode = padding_mode
        require_sizes(self, stride=stride, dilation=dilation)
        require_sizes(self, 0, output_padding=output_padding)
        self.stride, self.padding, self.output_padding, self.dilation = (
            stride,
            padding,
            output_padding,
            dilation,
        )

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        more = (
            self.output_padding
            if output_size is None
            else self._output_padding(input, tuple(output_size)[-self.axes :])
        )
        return type(self).function(
            input, self.weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation
        )

    def _output_padding(self, x: Tensor, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """What makes the output `wanted` in size, which can be up to a stride above the least."""
        name, shape = type(self).__name__, x.shape if x.ndim != self.axes + 1 else (1, *x.shape)
        least = Window.transposed(
            name,
            shape,
            self.weight.shape,
            self.stride,
            self.padding,
            0,
            self.dilation,
            self.groups,
            self.axes,
        )
        if len(wanted) != self.axes or any(
            not 0 <= m - n < s for m, n, s in zip(wanted, least.input, least.stride, strict=True)
        ):
            raise ShapeError(
                f"{name}: expected output_size of {least.input} or up to a stride {least.stride} above, got "
                f"{wanted}"
            )
        return tuple(m - n for m, n in zip(wanted, least.input, strict=True))

    def flops(self, x: Tensor, y: Tensor) -> int:
        """Floating-point operations of one forward."""
        return 2 * x.array.size * math.prod(self.weight.shape[1:])


class ConvTranspose1d(_ConvTranspose):
    """The transpose of `Conv1d`: (N, C, W) to (N, O, OW). weight (C, O/groups, KW); everything
    else as in `ConvTranspose2d`.
    """

    axes, function = 1, conv.conv_transpose1d


class ConvTranspose2d(_ConvTranspose):
    """The transpose of `Conv2d`: (N, C, H, W) or (C, H, W) to OH = (H - 1) stride - 2 padding + dilation (KH
    - 1) + 1 + output_padding, OW likewise. Called with an `output_size` it chooses the output_padding.

    weight (C, O/groups, KH, KW), bias (O,), both U(±1/√fan) with PyTorch's fan = O/groups·KH·KW.
    """

    axes, function = 2, conv.conv_transpose2d


class ConvTranspose3d(_ConvTranspose):
    """The transpose of `Conv3d`: (N, C, D, H, W) to (N, O, OD, OH, OW). weight (C, O/groups, KD, KH, KW);
    everything else as in `ConvTranspose2d`.
    """

    axes, function = 3, conv.conv_transpose3d


class LocallyConnected2d(Module):
    """A convolution of (N, C, H, W), H and W given, with weights of its own at each
    position. Keras: LocallyConnected2D.

    weight (OH, OW, O, C·KH·KW), bias (O, OH, OW); both U(±1/√fan_in), fan_in = C·KH·KW.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: Any,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(self, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
        name = type(self).__name__
        size, kernel = (
            per_axis(name, "input_size", input_size, 2),
            per_axis(name, "kernel_size", kernel_size, 2),
        )
        window = Window.conv(
            name, (1, in_channels, *size), (1, in_channels, *kernel), stride, padding, dilation
        )
        self.in_channels, self.out_channels, self.input_size, self.kernel_size = (
            in_channels,
            out_channels,
            size,
            kernel,
        )
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = Parameter(np.empty((*window.out, out_channels, in_channels * math.prod(kernel)), dtype))
        self.bias = Parameter(np.empty((out_channels, *window.out), dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        bound = 1 / math.sqrt(self.weight.shape[-1])
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        settings = (self.kernel_size, self.stride, self.padding, self.dilation)
        return locally_connected2d(input, self.weight, self.bias, *settings)

    def flops(self, x: Tensor, y: Tensor) -> int:
        """Floating-point operations of one forward."""
        return 2 * y.array.size * self.weight.shape[-1]

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, input_size={self.input_size}, "
            f"kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}"
        )


class Unfold(Module):
    """The windows of (N, C, H, W) as columns (N, C·KH·KW, L)."""

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__()
        require_sizes(self, kernel_size=kernel_size, dilation=dilation, stride=stride)
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Unfold):
    """The transpose of `Unfold`: columns (N, C·KH·KW, L), added up in (N, C, *output_size)."""

    def __init__(
        self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        require_sizes(self, output_size=output_size)
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"
