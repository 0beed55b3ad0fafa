"""Pooling layers. Each kind is a class, each number of axes a class of two lines;
all take inputs without N too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from ..ops import lp_pool, pool
from ..ops.reduce import mean
from ..ops.shape import flatten
from .checks import require_sizes
from .module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "GlobalAvgPool2d",
    "GlobalMaxPool2d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


class _Pool(Module):
    """A function of x with the settings that `names` lists, by which it prints."""

    function: ClassVar[Callable[..., Any]]
    names: ClassVar[tuple[str, ...]] = ("kernel_size", "stride", "padding")

    def extra_repr(self) -> str:
        values = {name: getattr(self, name) for name in self.names}
        if "stride" in values and values["stride"] is None:
            values["stride"] = values["kernel_size"]
        return ", ".join(f"{name}={value}" for name, value in values.items())


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        require_sizes(self, kernel_size=kernel_size, stride=stride, dilation=dilation)
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        settings = (
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )
        return type(self).function(input, *settings)


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        require_sizes(self, kernel_size=kernel_size, stride=stride)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad, self.divisor_override = (
            ceil_mode,
            count_include_pad,
            divisor_override,
        )

    def forward(self, input: Tensor) -> Tensor:
        settings = (self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)
        return type(self).function(input, *settings, self.divisor_override)


class _LPPool(_Pool):
    names = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(
        self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        require_sizes(self, kernel_size=kernel_size, stride=stride)
        lp_pool.require_norm_type(type(self).__name__, norm_type)
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = (
            norm_type,
            kernel_size,
            stride,
            ceil_mode,
        )

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)


class _MaxUnpool(_Pool):
    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        require_sizes(self, kernel_size=kernel_size, stride=stride)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        return type(self).function(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class _AdaptiveAvgPool(_Pool):
    names = ("output_size",)

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        require_sizes(self, output_size=output_size)
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.output_size)


class _AdaptiveMaxPool(_Pool):
    names = ("output_size",)

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        require_sizes(self, output_size=output_size)
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Tensor) -> Any:
        return type(self).function(input, self.output_size, self.return_indices)


class MaxPool1d(_MaxPool):
    """The largest value of each window of (N, C, W); `return_indices` gives its place too."""

    function = pool.max_pool1d


class MaxPool2d(_MaxPool):
    """The largest value of each window of (N, C, H, W); `return_indices` gives its place too."""

    function = pool.max_pool2d


class MaxPool3d(_MaxPool):
    """The largest value of each window of (N, C, D, H, W); `return_indices` gives its place too."""

    function = pool.max_pool3d


class AvgPool1d(_AvgPool):
    """The mean of each window of (N, C, W). Without `divisor_override`, as in PyTorch."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)

    def forward(self, input: Tensor) -> Tensor:
        return pool.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )


class AvgPool2d(_AvgPool):
    """The mean of each window of (N, C, H, W)."""

    function = pool.avg_pool2d


class AvgPool3d(_AvgPool):
    """The mean of each window of (N, C, D, H, W)."""

    function = pool.avg_pool3d


class LPPool1d(_LPPool):
    """(Σ x^p)^(1/p) over each window of (N, C, W), p = norm_type."""

    function = lp_pool.lp_pool1d


class LPPool2d(_LPPool):
    """(Σ x^p)^(1/p) over each window of (N, C, H, W), p = norm_type."""

    function = lp_pool.lp_pool2d


class LPPool3d(_LPPool):
    """(Σ x^p)^(1/p) over each window of (N, C, D, H, W), p = norm_type."""

    function = lp_pool.lp_pool3d


class MaxUnpool1d(_MaxUnpool):
    """Zeros with the values of (N, C, W) at the indices that `MaxPool1d` gave."""

    function = pool.max_unpool1d


class MaxUnpool2d(_MaxUnpool):
    """Zeros with the values of (N, C, H, W) at the indices that `MaxPool2d` gave."""

    function = pool.max_unpool2d


class MaxUnpool3d(_MaxUnpool):
    """Zeros with the values of (N, C, D, H, W) at the indices that `MaxPool3d` gave."""

    function = pool.max_unpool3d


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Mean pooling of (N, C, W) to `output_size`."""

    function = pool.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Mean pooling of (N, C, H, W) to `output_size`."""

    function = pool.adaptive_avg_pool2d


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Mean pooling of (N, C, D, H, W) to `output_size`."""

    function = pool.adaptive_avg_pool3d


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Max pooling of (N, C, W) to `output_size`."""

    function = pool.adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Max pooling of (N, C, H, W) to `output_size`."""

    function = pool.adaptive_max_pool2d


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Max pooling of (N, C, D, H, W) to `output_size`."""

    function = pool.adaptive_max_pool3d


class GlobalAvgPool2d(Module):
    """The mean of each plane: (N, C, H, W) to (N, C), or with `keepdim` to (N, C, 1, 1).
    Keras: GlobalAveragePooling2D.
    """

    def __init__(self, keepdim: bool = False) -> None:
        super().__init__()
        self.keepdim = keepdim

    def forward(self, input: Tensor) -> Tensor:
        _require_plane(self, input)
        return mean(input, (-2, -1), self.keepdim)


class GlobalMaxPool2d(Module):
    """The largest value of each plane: (N, C, H, W) to (N, C), or with `keepdim` to (N, C, 1,
    1). Keras: GlobalMaxPooling2D.
    """

    def __init__(self, keepdim: bool = False) -> None:
        super().__init__()
        self.keepdim = keepdim

    def forward(self, input: Tensor) -> Tensor:
        _require_plane(self, input)
        y = pool.adaptive_max_pool2d(input, 1)
        return y if self.keepdim else flatten(y, -3, -1)


def _require_plane(layer: Module, input: Tensor) -> None:
    if input.ndim not in (3, 4):
        raise ShapeError(
            f"{type(layer).__name__}: expected input (N, C, H, W) or (C, H, W), got {input.shape}"
        )
