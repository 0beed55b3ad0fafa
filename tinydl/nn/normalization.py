"""Normalization layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, no_grad
from ..ops.elementwise import add, clone, div, sub
from ..ops.norm import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    rms_norm,
    sync_batch_norm,
)
from ..ops.shape import squeeze, unsqueeze
from ..ops.update import assign, increment
from .checks import layer_dtype, require_real, require_sizes
from .extra_forward import buffers_are_frozen
from .module import Module
from .parameter import Buffer, Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
    "SyncBatchNorm",
]


class _BatchNorm(Module):
    """Normalizes each channel by the batch's statistics in training, by the running ones in evaluation.

    momentum None keeps the cumulative average of all batches. Without `track_running_stats` the batch's
    statistics serve in evaluation too. Ioffe & Szegedy, arXiv 1502.03167.
    """

    ndims: tuple[int, ...] = ()
    normalize: Any = staticmethod(batch_norm)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(self, 0, num_features=num_features)
        require_real(self, eps=eps, momentum=momentum)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.running_mean: Any = None
        self.running_var: Any = None
        self.num_batches_tracked: Any = None
        self.weight = Parameter(np.ones(num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype)) if affine and bias else None
        if track_running_stats:
            self.running_mean = Buffer(np.zeros(num_features, dtype))
            self.running_var = Buffer(np.ones(num_features, dtype))
            self.num_batches_tracked = Buffer(np.array(0, np.int64))

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in self.ndims:
            wanted = " or ".join(f"{n}-d" for n in self.ndims)
            raise ShapeError(f"{type(self).__name__}: expected {wanted} input, got {input.shape}")
        batch = self.training or not self.track_running_stats
        moves = self.training and self.track_running_stats and not buffers_are_frozen()
        if not moves:
            mean, var = (None, None) if batch else (self.running_mean, self.running_var)
            return self.normalize(input, mean, var, self.weight, self.bias, batch, self.momentum, self.eps)
        if self.momentum is not None:
            y = self.normalize(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                True,
                self.momentum,
                self.eps,
            )
            with no_grad():  # a batch that was refused does not count
                increment(self.num_batches_tracked)
            return y
        # The cumulative average: the batch's own statistics with momentum 1, then mixed
        # in with weight 1 / batches.
        new_mean, new_var = clone(self.running_mean), clone(self.running_var)
        y = self.normalize(input, new_mean, new_var, self.weight, self.bias, True, 1.0, self.eps)
        with no_grad():
            increment(self.num_batches_tracked)
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


class BatchNorm3d(_BatchNorm):
    __doc__ = f"Batch normalization of (N, C, D, H, W). {_BatchNorm.__doc__}"
    ndims = (5,)


class SyncBatchNorm(_BatchNorm):
    """Batch normalization of (N, C, *) by the statistics of the batch of all ranks, where they share one (the
    scope of a `td.distributed.Shard`); elsewhere as BatchNorm. Twice differentiable, as everything.

    Args:
        process_group: taken for PyTorch's sake; the scope says which ranks. Only None.
    """

    ndims = (2, 3, 4, 5)
    normalize: Any = staticmethod(sync_batch_norm)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        if process_group is not None:
            raise TypeError(f"SyncBatchNorm: expected process_group None, got {process_group!r}")
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias=bias)

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """The module with a SyncBatchNorm in the place of each BatchNorm in it, which has its parameters and
        buffers themselves. What is no BatchNorm is changed in place and returned.
        """
        if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
            settings = module.eps, module.momentum, module.affine, module.track_running_stats
            made = cls(module.num_features, *settings, process_group)
            made.train(module.training)
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                setattr(made, name, getattr(module, name))
            return made
        for name, child in list(module.named_children()):
            setattr(module, name, cls.convert_sync_batchnorm(child, process_group))
        return module


class _InstanceNorm(Module):
    """Normalizes each channel of each sample by its own statistics. Ulyanov et al., arXiv 1607.08022.

    With `track_running_stats` evaluation uses running statistics instead; the number of batches stays 0, as
    in PyTorch. One sample may come without N.
    """

    ndim = 0

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(self, 0, num_features=num_features)
        if momentum is None:
            raise TypeError(f"{type(self).__name__}: expected momentum a number, got None")
        require_real(self, eps=eps, momentum=momentum)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = Parameter(np.ones(num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype)) if affine and bias else None
        self.running_mean: Any = None
        self.running_var: Any = None
        self.num_batches_tracked: Any = None
        if track_running_stats:
            self.running_mean = Buffer(np.zeros(num_features, dtype))
            self.running_var = Buffer(np.ones(num_features, dtype))
            self.num_batches_tracked = Buffer(np.array(0, np.int64))

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim == self.ndim - 1:  # one sample
            return squeeze(self.forward(unsqueeze(input, 0)), 0)
        if input.ndim != self.ndim or input.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: expected {self.ndim}-d input of {self.num_features} channels, got "
                f"{input.shape}"
            )
        own = self.training or not self.track_running_stats
        moves = self.training and self.track_running_stats and not buffers_are_frozen()
        mean, var = (self.running_mean, self.running_var) if moves or not own else (None, None)
        return instance_norm(input, mean, var, self.weight, self.bias, own, self.momentum, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class InstanceNorm1d(_InstanceNorm):
    __doc__ = f"Instance normalization of (N, C, L). {_InstanceNorm.__doc__}"
    ndim = 3


class InstanceNorm2d(_InstanceNorm):
    __doc__ = f"Instance normalization of (N, C, H, W). {_InstanceNorm.__doc__}"
    ndim = 4


class InstanceNorm3d(_InstanceNorm):
    __doc__ = f"Instance normalization of (N, C, D, H, W). {_InstanceNorm.__doc__}"
    ndim = 5


class LayerNorm(Module):
    """Normalizes over the last dims, of shape `normalized_shape`. Ba et al., arXiv 1607.06450."""

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(self, normalized_shape=normalized_shape)
        require_real(self, eps=eps)
        self.normalized_shape = (
            (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        )
        self.eps = eps
        self.weight = Parameter(np.ones(self.normalized_shape, dtype)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(self.normalized_shape, dtype)) if elementwise_affine and bias else None

    def forward(self, input: Tensor) -> Tensor:
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """x / √(mean(x²) + eps) · weight over the last dims. Zhang & Sennrich, arXiv 1910.07467."""

    def __init__(
        self,
        normalized_shape: Any,
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(self, normalized_shape=normalized_shape)
        require_real(self, eps=eps)
        self.normalized_shape = (
            (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        )
        self.eps = eps
        self.weight = Parameter(np.ones(self.normalized_shape, dtype)) if elementwise_affine else None

    def forward(self, input: Tensor) -> Tensor:
        return rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(Module):
    """Normalizes groups of channels of each sample. Wu & He, arXiv 1803.08494."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(self, num_groups=num_groups, num_channels=num_channels)
        require_real(self, eps=eps)
        if num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: expected num_channels divisible by num_groups={num_groups}, got {num_channels}"
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = Parameter(np.ones(num_channels, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_channels, dtype)) if affine and bias else None

    def forward(self, input: Tensor) -> Tensor:
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"


class LocalResponseNorm(Module):
    """Divides by the mean square of neighbouring channels. Krizhevsky et al., 2012."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        require_sizes(self, size=size)
        require_real(self, alpha=alpha, beta=beta, k=k)
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        return local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
