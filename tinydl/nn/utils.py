"""Parameters as one vector, weight normalization, population statistics, linear
layers as convolutions and back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, no_grad
from ..engine.promotion import require_one_dtype
from ..engine.public import public
from ..ops.elementwise import div, mul, sqrt, square
from ..ops.random import Generator, random_from
from ..ops.reduce import sum
from ..ops.shape import cat, reshape
from ..ops.update import assign
from .convolution import Conv2d
from .linear import Linear
from .module import Module
from .normalization import _BatchNorm
from .parameter import Parameter


@public
def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of the parameters one after another, on the tape."""
    taken = list(parameters)
    if not taken:
        raise ShapeError("parameters_to_vector: expected at least one parameter, got none")
    require_one_dtype("parameters_to_vector", *(p.dtype for p in taken))
    return cat([reshape(p, -1) for p in taken])


@public
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write the elements of `vec` into the parameters, in their order. Nothing is
    written unless the counts agree.
    """
    targets = list(parameters)
    ends = np.cumsum([0, *(p.array.size for p in targets)])
    if vec.shape != (ends[-1],):
        raise ShapeError(f"vector_to_parameters: expected a vector of {ends[-1]} elements, got {vec.shape}")
    with no_grad():
        for p, start, end in zip(targets, ends, ends[1:], strict=False):
            assign(p, reshape(vec[int(start) : int(end)], p.shape))


# Weight normalization
# -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _WeightNorm:
    """g v / ‖v‖, with a norm for each index of `dim` (None or -1: one for all)."""

    name: str
    dim: int | None

    def length(self, v: Tensor) -> Tensor:
        if self.dim in (None, -1):
            return sqrt(sum(square(v)))
        return sqrt(sum(square(v), tuple(d for d in range(v.ndim) if d != self.dim), keepdim=True))

    def __call__(self, module: Module) -> Tensor:
        v = getattr(module, f"{self.name}_v")
        return mul(v, div(getattr(module, f"{self.name}_g"), self.length(v)))


@public
def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Split a parameter into its length `<name>_g` and its direction `<name>_v`: w = g v / ‖v‖,
    computed whenever w is read.

    `dim` keeps a length for each of its indices; None, and as in PyTorch -1, is one length for all. The names
    are those of torch.nn.utils.weight_norm. Salimans & Kingma, arXiv 1602.07868. Returns the module.
    """
    _require("weight_norm", Module, module)
    w = module._parameters.get(name)
    if w is None:
        known = ", ".join(key for key, p in module._parameters.items() if p is not None) or "none"
        raise ValueError(
            f"weight_norm: expected a parameter of {type(module).__name__} ({known}), got {name!r}"
        )
    if dim is not None and not -1 <= dim < w.ndim:
        raise ShapeError(
            f"weight_norm: expected dim in [-1, {w.ndim - 1}] or None for {name} {w.shape}, got {dim}"
        )
    norm = _WeightNorm(name, dim)
    with no_grad():
        length = norm.length(w)
    delattr(module, name)
    module.register_parameter(f"{name}_g", Parameter(length))
    module.register_parameter(f"{name}_v", Parameter(w.detach()))
    module.register_computed(name, norm)
    return module


@public
def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Make the parameter one again, with the value that it has now. Returns the module."""
    norm = module._computed.get(name)
    if not isinstance(norm, _WeightNorm):
        raise ValueError(f"remove_weight_norm: expected a parameter under weight_norm, got {name!r}")
    w = Parameter(norm(module).detach())
    for each in (name, f"{name}_g", f"{name}_v"):
        delattr(module, each)
    module.register_parameter(name, w)
    return module


# Population statistics
# ----------------------------------------------------------------------------------------------------


@public
def update_bn(loader: Iterable[Any], model: Module, generator: Generator | None = None) -> None:
    """Estimate the running statistics of every BatchNorm anew, from the batches of `loader`
    with the parameters as they are.

    The mean of the batch means and of the unbiased batch variances, n/(n-1) times the biased ones: the
    population statistics of Ioffe & Szegedy, arXiv 1502.03167, algorithm 2. A batch is the input of the
    model, or a tuple or list that begins with it. The model runs in training mode; what dropout draws comes
    from `generator` if one is given.
    """
    _require("update_bn", Module, model)
    modes = [(module, module.training) for module in model.modules()]
    tracked = [m for m, _ in modes if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [m.momentum for m in tracked]
    try:
        with no_grad(), random_from(generator):
            for m in tracked:
                m.momentum = None  # the cumulative average
                for buffer, value in ((m.running_mean, 0), (m.running_var, 1), (m.num_batches_tracked, 0)):
                    assign(buffer, value)
            model.train()
            for batch in loader if tracked else ():
                model(batch[0] if isinstance(batch, (tuple, list)) else batch)
    finally:
        for m, momentum in zip(tracked, momenta, strict=True):
            m.momentum = momentum
        for module, training in modes:
            module.training = training


# Linear layers as convolutions
# --------------------------------------------------------------------------------------------


@public
def linear_to_conv(linear: Linear, input_shape: tuple[int, int, int]) -> Conv2d:
    """The convolution that does on (N, C, H, W) what `linear` does on its flattened
    dims; input_shape is (C, H, W).

    On a larger image it gives the outputs at every place: a network whose linear layers are all
    converted (the later ones with (features, 1, 1)) runs on images of any size. The weights are copied.
    Long et al., arXiv 1411.4038.
    """
    _require("linear_to_conv", Linear, linear)
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
    _require("conv_to_linear", Conv2d, conv)
    if conv.groups != 1:
        raise ValueError(f"conv_to_linear: expected groups=1, got {conv.groups}")
    linear = Linear(
        math.prod(conv.weight.shape[1:]), conv.out_channels, conv.bias is not None, conv.weight.dtype
    )
    return _copied(conv, linear)


def _require(who: str, kind: type, value: Any) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{who}: expected a {kind.__name__}, got {type(value).__name__}")


def _copied(source: Any, target: Any) -> Any:
    with no_grad():
        assign(target.weight, reshape(source.weight.detach(), target.weight.shape))
        if source.bias is not None:
            assign(target.bias, source.bias.detach())
    return target
