"""Initialization, in place: init.xavier_uniform_(layer.weight). Draws from `generator`, or the default one.

n_in = k² c for a k × k convolution on c channels; n_out likewise.
"""

from __future__ import annotations

import math
from typing import Any

from tinydl_kernels.errors import ShapeError

from ..core import Tensor, add, no_grad
from ..ops.elementwise import mul
from ..ops.random import Generator, rand, randn
from ..ops.update import assign


def fans(weight: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel)."""
    if weight.ndim < 2:
        raise ShapeError(f"fans: expected a weight (out, in, *kernel), got {weight.shape}")
    field = math.prod(weight.shape[2:])
    return weight.shape[1] * field, weight.shape[0] * field


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the standard deviation that a nonlinearity asks for, as torch.nn.init.calculate_gain."""
    gains = {"linear": 1.0, "conv2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in gains:
        raise ValueError(f"calculate_gain: expected one of {sorted([*gains, 'leaky_relu'])}, got {nonlinearity!r}")
    return gains[nonlinearity]


def constant_(tensor: Tensor, value: float) -> Tensor:
    """`value` everywhere."""
    with no_grad():
        assign(tensor, value)
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """U[a, b)."""
    with no_grad():
        assign(tensor, add(mul(rand(tensor.shape, generator=generator, dtype=tensor.dtype), b - a), a))
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """N(mean, std²)."""
    with no_grad():
        assign(tensor, add(mul(randn(tensor.shape, generator=generator, dtype=tensor.dtype), std), mean))
    return tensor


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance gain² · 2 / (n_in + n_out). Glorot & Bengio, AISTATS 2010. Keras: glorot_uniform."""
    bound = gain * math.sqrt(6 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance gain² · 2 / (n_in + n_out). Glorot & Bengio, AISTATS 2010. Keras: glorot_normal."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor))), generator)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator | None = None
) -> Tensor:
    """Uniform with variance gain² / fan. He et al., arXiv 1502.01852. Keras: he_uniform."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator | None = None
) -> Tensor:
    """Normal with variance gain² / fan. He et al., arXiv 1502.01852. Keras: he_normal."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def lecun_normal_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """N(0, 1/n_in). LeCun et al., "Efficient BackProp", 1998. Keras: lecun_normal."""
    return normal_(tensor, 0.0, 1 / math.sqrt(fans(tensor)[0]), generator)


def reset(weight: Tensor, bias: Tensor | None) -> None:
    """PyTorch's default for a layer: Kaiming uniform with a = √5, which is U(±1/√fan_in), for the weight and the bias."""
    bound = 1 / math.sqrt(max(fans(weight)[0], 1))
    uniform_(weight, -bound, bound)
    if bias is not None:
        uniform_(bias, -bound, bound)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming: expected mode 'fan_in' or 'fan_out', got {mode!r}")
    fan: Any = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)
