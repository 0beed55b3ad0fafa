"""Initialization, in place: init.xavier_uniform_(layer.weight). Draws from `generator`, or the default one.

n_in = k² c for a k × k convolution on c channels; n_out likewise.
"""

from __future__ import annotations

import math

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Tensor, add, no_grad
from ..engine.promotion import is_scalar, require_floating
from ..engine.public import public
from ..ops.creation import full_like
from ..ops.elementwise import clip, lt, mul, sub, where
from ..ops.functions import erf
from ..ops.random import Generator, rand, rand_like, randn, randn_like
from ..ops.update import assign

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "fans",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "reset",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

FAR = 9.0  # standard deviations beyond which the normal distribution function is 0 or 1 in float64


@public
def fans(weight: Tensor, who: str = "fans") -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel)."""
    if weight.ndim < 2:
        raise ShapeError(f"{who}: expected a weight (out, in, *kernel), got {weight.shape}")
    field = math.prod(weight.shape[2:])
    return weight.shape[1] * field, weight.shape[0] * field


def _root(variance: float, fan: int) -> float:
    """√(variance / fan); 0 for an empty weight, of which nothing is drawn."""
    return math.sqrt(variance / fan) if fan else 0.0


@public
def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the standard deviation that a nonlinearity asks for, as torch.nn.init.calculate_gain."""
    gains = {"linear": 1.0, "conv2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in gains:
        raise ValueError(
            f"calculate_gain: expected one of {sorted([*gains, 'leaky_relu'])}, got {nonlinearity!r}"
        )
    return gains[nonlinearity]


@public
def constant_(tensor: Tensor, val: float) -> Tensor:
    """`val` everywhere."""
    if not is_scalar(val):
        raise TypeError(f"constant_: expected a number, got {type(val).__name__}")
    with no_grad():
        assign(tensor, val)
    return tensor


@public
def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


@public
def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


@public
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """U[a, b)."""
    require_floating("uniform_", tensor)
    if a > b:
        raise ValueError(f"uniform_: expected a <= b, got {a} and {b}")
    with no_grad():
        assign(tensor, add(mul(rand_like(tensor, generator=generator), b - a), a))
    return tensor


@public
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """N(mean, std²)."""
    require_floating("normal_", tensor)
    if std < 0:
        raise ValueError(f"normal_: expected std of at least 0, got {std}")
    with no_grad():
        assign(tensor, add(mul(randn_like(tensor, generator=generator), std), mean))
    return tensor


@public
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """N(mean, std²) given that it lies in [a, b] (these are values, not standard deviations)."""
    if not (std > 0 and a < b):
        raise ValueError(f"trunc_normal_: expected std > 0 and a < b, got std={std}, a={a}, b={b}")
    low, high = (min(max((bound - mean) / std, -FAR), FAR) for bound in (a, b))
    with no_grad():
        below, above = (_normal_cdf(full_like(tensor, z, np.float64)) for z in (low, high))
        u = rand_like(tensor, np.float64, generator)
        z = _normal_quantile(add(below, mul(u, sub(above, below))), low, high)
        assign(tensor, clip(add(mul(z, std), mean), a, b))
    return tensor


def _normal_cdf(z: Tensor) -> Tensor:
    return mul(add(erf(mul(z, math.sqrt(0.5))), 1.0), 0.5)


def _normal_quantile(u: Tensor, low: float, high: float) -> Tensor:
    """The z in [low, high] with P(Z <= z) = u, by bisection."""
    below, above = (full_like(u, z) for z in (low, high))
    for _ in range(np.finfo(np.float64).nmant):
        middle = mul(add(below, above), 0.5)
        short = lt(_normal_cdf(middle), u)
        below, above = where(short, middle, below), where(short, above, middle)
    return below


@public
def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance gain² · 2 / (n_in + n_out). Glorot & Bengio, AISTATS
    2010. Keras: glorot_uniform.
    """
    bound = gain * _root(6, sum(fans(tensor, "xavier_uniform_")))
    return uniform_(tensor, -bound, bound, generator)


@public
def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance gain² · 2 / (n_in + n_out). Glorot & Bengio, AISTATS
    2010. Keras: glorot_normal.
    """
    return normal_(tensor, 0.0, gain * _root(2, sum(fans(tensor, "xavier_normal_"))), generator)


@public
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform with variance gain² / fan. He et al., arXiv 1502.01852. Keras: he_uniform."""
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


@public
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with variance gain² / fan. He et al., arXiv 1502.01852. Keras: he_normal."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


@public
def lecun_normal_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """N(0, 1/n_in). LeCun et al., "Efficient BackProp", 1998. Keras: lecun_normal."""
    return normal_(tensor, 0.0, _root(1, fans(tensor, "lecun_normal_")[0]), generator)


@public
def lecun_uniform_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Uniform with variance 1/n_in. LeCun et al., "Efficient BackProp", 1998. Keras: lecun_uniform."""
    bound = _root(3, fans(tensor, "lecun_uniform_")[0])
    return uniform_(tensor, -bound, bound, generator)


@public
def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """gain · Q for a random Q whose rows (or columns, if those are fewer) are orthonormal;
    dims after the first are one.

    Saxe et al., arXiv 1312.6120; uniform over such Q by the signs of Mezzadri, arXiv math-ph/0609050.
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_: expected at least 2 dims, got {tensor.shape}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    # on the CPU
    drawn = randn(max(rows, columns), min(rows, columns), generator=generator, dtype=np.float64).array
    q, r = np.linalg.qr(drawn)
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    with no_grad():
        assign(tensor, constant(tensor, (gain * (q if rows >= columns else q.T)).reshape(tensor.shape)))
    return tensor


@public
def eye_(tensor: Tensor) -> Tensor:
    """The identity, for a matrix."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: expected a matrix, got {tensor.shape}")
    with no_grad():
        assign(tensor, constant(tensor, np.eye(*tensor.shape)))
    return tensor


@public
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution's weight (out, in, *kernel) that passes on as many channels (of each group) as it can."""
    if tensor.ndim not in (3, 4, 5) or groups < 1 or tensor.shape[0] % groups:
        raise ShapeError(
            f"dirac_: expected a weight (out, in, *kernel) with out divisible by {groups}, got {tensor.shape}"
        )
    weight = np.zeros(tensor.shape)
    centre = tuple(k // 2 for k in tensor.shape[2:])
    each = tensor.shape[0] // groups
    for out in range(tensor.shape[0]):
        if out % each < tensor.shape[1]:
            weight[(out, out % each, *centre)] = 1
    with no_grad():
        assign(tensor, constant(tensor, weight))
    return tensor


@public
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """N(0, std²) but for a fraction `sparsity` of each column of a matrix, which is 0. Martens, ICML 2010."""
    if tensor.ndim != 2:
        raise ShapeError(f"sparse_: expected a matrix, got {tensor.shape}")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparse_: expected sparsity in [0, 1], got {sparsity}")
    rank = rand(tensor.shape, generator=generator, dtype=np.float64).array.argsort(0).argsort(0)
    normal_(tensor, 0.0, std, generator)
    with no_grad():
        assign(tensor, where(constant(tensor, rank < math.ceil(sparsity * tensor.shape[0])), 0.0, tensor))
    return tensor


@public
def reset(weight: Tensor, bias: Tensor | None) -> None:
    """PyTorch's default for a layer: Kaiming uniform with a = √5, which is U(±1/√fan_in),
    for the weight and the bias.
    """
    bound = 1 / math.sqrt(max(fans(weight)[0], 1))
    uniform_(weight, -bound, bound)
    if bias is not None:
        uniform_(bias, -bound, bound)


def _kaiming_std(who: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{who}: expected mode 'fan_in' or 'fan_out', got {mode!r}")
    fan = fans(tensor, who)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) * _root(1, fan)
