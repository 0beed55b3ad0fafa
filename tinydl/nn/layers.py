"""Layers. Names, arguments, defaults and initialization are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels.errors import ShapeError

from ..core import Tensor, no_grad
from ..ops.conv import conv2d
from ..ops.elementwise import add, clone, div, relu, sigmoid, sub, tanh
from ..ops.linalg import linear
from ..ops.loss import cross_entropy, log_softmax, softmax
from ..ops.norm import batch_norm
from ..ops.pool import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from ..ops.random import Generator, dropout
from ..ops.shape import flatten
from ..ops.update import assign, increment
from . import init
from .forward import buffers_are_frozen
from .module import Module
from .parameter import Buffer, Parameter


class Sequential(Module):
    """Modules one after another; indexable, with names "0", "1", ... or those of a dict."""

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        named = modules[0].items() if len(modules) == 1 and isinstance(modules[0], dict) else enumerate(modules)
        for name, module in named:
            self.add_module(str(name), module)

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Any:
        return iter(self._modules.values())

    def __getitem__(self, index: int | slice) -> Any:
        chosen = list(self._modules.values())[index]
        return Sequential(*chosen) if isinstance(index, slice) else chosen


class Identity(Module):
    """The input itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Linear(Module):
    """x weightᵀ + bias: (*, in_features) to (*, out_features). weight (out, in), bias (out,); both U(±1/√in)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = np.float32) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(np.empty((out_features, in_features), dtype))
        self.bias = Parameter(np.empty(out_features, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        _reset(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)

    def flops(self, x: Tensor, y: Tensor) -> int:
        """Floating-point operations of one forward."""
        return 2 * y.array.size * self.in_features

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


class Conv2d(Module):
    """Cross-correlation of (N, C, H, W). weight (O, C/groups, KH, KW), bias (O,); both U(±1/√fan_in), fan_in = C/groups·KH·KW.

    padding: an int, one an axis, ((top, bottom), (left, right)), "same" or "valid".
    """

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
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"Conv2d: expected channels divisible by groups={groups}, got {in_channels} and {out_channels}")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.weight = Parameter(np.empty((out_channels, in_channels // groups, *kernel), dtype))
        self.bias = Parameter(np.empty(out_channels, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        _reset(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def flops(self, x: Tensor, y: Tensor) -> int:
        """Floating-point operations of one forward."""
        return 2 * y.array.size * math.prod(self.weight.shape[1:])

    def extra_repr(self) -> str:
        plain = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        changed = [f"{name}={getattr(self, name)}" for name, default in plain.items() if getattr(self, name) != default]
        changed += [] if self.bias is not None else ["bias=False"]
        return ", ".join([f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}", *changed])


def _reset(weight: Parameter, bias: Parameter | None) -> None:
    """PyTorch's default: Kaiming uniform with a = √5, which is U(±1/√fan_in)."""
    bound = 1 / math.sqrt(max(init.fans(weight)[0], 1))
    init.uniform_(weight, -bound, bound)
    if bias is not None:
        init.uniform_(bias, -bound, bound)


class MaxPool2d(Module):
    """The largest value of each window of (N, C, H, W)."""

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
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Tensor) -> Any:
        return max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride or self.kernel_size}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of each window of (N, C, H, W)."""

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride or self.kernel_size}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Mean pooling of (N, C, H, W) to a given size."""

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _BatchNorm(Module):
    """Normalizes each channel by the batch's statistics in training, by the running ones in evaluation.

    momentum None keeps the cumulative average of all batches. Without `track_running_stats` the batch's statistics serve in
    evaluation too. Ioffe & Szegedy, arXiv 1502.03167.
    """

    ndims: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.running_mean: Any = None
        self.running_var: Any = None
        self.num_batches_tracked: Any = None
        self.weight = Parameter(np.ones(num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype)) if affine else None
        if track_running_stats:
            self.running_mean = Buffer(np.zeros(num_features, dtype))
            self.running_var = Buffer(np.ones(num_features, dtype))
            self.num_batches_tracked = Buffer(np.array(0, np.int64))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in self.ndims:
            wanted = " or ".join(f"{n}-d" for n in self.ndims)
            raise ShapeError(f"{type(self).__name__}: expected {wanted} input, got {x.shape}")
        batch = self.training or not self.track_running_stats
        moves = self.training and self.track_running_stats and not buffers_are_frozen()
        if not moves:
            mean, var = (None, None) if batch else (self.running_mean, self.running_var)
            return batch_norm(x, mean, var, self.weight, self.bias, batch, self.momentum, self.eps)
        with no_grad():
            increment(self.num_batches_tracked)
        if self.momentum is not None:
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, True, self.momentum, self.eps)
        # The cumulative average: the batch's own statistics with momentum 1, then mixed in with weight 1 / batches.
        new_mean, new_var = clone(self.running_mean), clone(self.running_var)
        y = batch_norm(x, new_mean, new_var, self.weight, self.bias, True, 1.0, self.eps)
        with no_grad():
            for running, new in ((self.running_mean, new_mean), (self.running_var, new_var)):
                assign(running, add(running, div(sub(new, running), self.num_batches_tracked)))
        return y

    def extra_repr(self) -> str:
        tracked = f"momentum={self.momentum}" if self.track_running_stats else "track_running_stats=False"
        return f"{self.num_features}, eps={self.eps}, {tracked}" + ("" if self.affine else ", affine=False")


class BatchNorm1d(_BatchNorm):
    __doc__ = f"Batch normalization of (N, C) or (N, C, L). {_BatchNorm.__doc__}"
    ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = f"Batch normalization of (N, C, H, W). {_BatchNorm.__doc__}"
    ndims = (4,)


class Dropout(Module):
    """In training, zero each element with probability p and scale the others by 1/(1 - p). Draws from `generator` if given."""

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: expected a probability in [0, 1], got {p}")
        self.p, self.generator = p, generator

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Flatten(Module):
    """The dims from start_dim to end_dim as one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return flatten(x, self.start_dim, self.end_dim)


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


class Tanh(Module):
    """tanh x."""

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class Softmax(Module):
    """exp(x), normalized to sum 1 along `dim`."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return softmax(x, self.dim)


class LogSoftmax(Softmax):
    """log softmax(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return log_softmax(x, self.dim)


class CrossEntropyLoss(Module):
    """Cross-entropy of logits (N, K, *) and class indices (N, *) or soft targets (N, K, *). See `tinydl.cross_entropy`."""

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = None if weight is None else Buffer(weight)
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(x, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)
