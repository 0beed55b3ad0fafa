"""Activation functions. At a kink and at NaN they have the derivative that PyTorch gives them. `inplace` is
taken for PyTorch's sake and has no meaning: the result is always a new tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, add
from ..engine.promotion import require_numbers, whole
from ..engine.public import public
from .elementwise import (
    abs,
    clip,
    div,
    eq,
    exp,
    gt,
    le,
    logical_and,
    lt,
    mul,
    pow,
    sigmoid,
    tanh,
    where,
)
from .functions import erf, expm1, log1p
from .random import SELU_ALPHA, SELU_SCALE
from .reduce import max
from .shape import chunk, normalize_dim, reshape

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "maxout",
    "mish",
    "prelu",
    "relu6",
    "selu",
    "silu",
    "softplus",
    "softsign",
    "threshold",
]


@public
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope · x."""
    return where(gt(input, 0.0), input, mul(input, negative_slope))


@public
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight · x; weight (1,), () or one per channel (axis 1)."""
    if weight.ndim > 1 or (
        weight.ndim and weight.shape[0] != 1 and (input.ndim < 2 or weight.shape[0] != input.shape[1])
    ):
        raise ShapeError(
            f"prelu: expected weight (1,) or (C,) for input (N, C, *), got {weight.shape} for {input.shape}"
        )
    slope = reshape(weight, () if weight.array.size == 1 else (*weight.shape, *(1,) * (input.ndim - 2)))
    positive = gt(input, 0.0)
    return where(positive, input, mul(where(positive, 0.0, input), slope))


@public
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (exp x - 1). Clevert et al., arXiv 1511.07289."""
    require_numbers("elu", input)
    return _bent(input, expm1, alpha, alpha)


@public
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """λ x where x > 0, else λ α (exp x - 1) with the fixed point's constants.
    Klambauer et al., arXiv 1706.02515.
    """
    require_numbers("selu", input)
    return mul(elu(input, SELU_ALPHA), SELU_SCALE)


@public
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (exp(x / alpha) - 1). Barron, arXiv 1704.07483."""
    require_numbers("celu", input)
    if alpha == 0:
        raise ValueError("celu: expected alpha other than 0, got 0")
    return _bent(input, lambda x: expm1(div(x, alpha)), alpha, 1.0)


def _bent(x: Tensor, curve: Callable[[Tensor], Tensor], alpha: float, slope: float) -> Tensor:
    """x where x > 0, else alpha curve(x). At 0 the derivative is `slope`, the second 0, as in PyTorch."""
    below = lt(x, 0.0)
    line = x if slope == 1 else where(eq(x, 0.0), mul(x, slope), x)
    return where(below, mul(curve(where(below, x, 0.0)), alpha), line)


@public
def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x Φ(x), exactly or ("tanh") by x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))).
    Hendrycks & Gimpel, arXiv 1606.08415.
    """
    if approximate == "none":
        return mul(mul(input, 0.5), add(erf(mul(input, 1 / math.sqrt(2))), 1.0))
    if approximate != "tanh":
        raise ValueError(f"gelu: expected approximate 'none' or 'tanh', got {approximate!r}")
    inner = mul(add(input, mul(pow(input, 3), 0.044715)), math.sqrt(2 / math.pi))
    return mul(mul(input, 0.5), add(tanh(inner), 1.0))


@public
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x · sigmoid(x), also known as swish. Elfwing et al., arXiv 1702.03118."""
    return mul(input, sigmoid(input))


@public
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, and x where beta x > threshold."""
    if beta == 0:
        raise ValueError("softplus: expected beta other than 0, got 0")
    scaled = mul(input, beta)
    above = gt(scaled, threshold)
    return where(above, input, div(log1p(exp(where(above, threshold, scaled))), beta))


@public
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(softplus(x)). Misra, arXiv 1908.08681."""
    return mul(input, tanh(softplus(input)))


@public
def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    require_numbers("softsign", input)
    return div(input, add(abs(input), 1.0))


@public
def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to [min_val, max_val]; unlike clip, with derivative 0 at the bounds. Integers stay such if
    the bounds are whole.
    """
    require_numbers("hardtanh", input)
    if min_val > max_val:
        raise ValueError(f"hardtanh: expected min_val <= max_val, got {min_val} and {max_val}")
    min_val, max_val = whole(input, min_val, max_val)
    inside = logical_and(gt(input, min_val), lt(input, max_val))
    return where(inside, input, clip(input.detach(), min_val, max_val))


@public
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    require_numbers("relu6", input)
    return hardtanh(input, 0.0, 6.0)


@public
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
    shifted = add(input, 3.0)
    inside = logical_and(gt(shifted, 0.0), lt(shifted, 6.0))
    return div(where(inside, shifted, clip(shifted.detach(), 0.0, 6.0)), 6.0)


@public
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x · hardsigmoid(x). Howard et al., arXiv 1905.02244."""
    inside = logical_and(gt(input, -3.0), lt(input, 3.0))
    middle = where(inside, input, 0.0)
    bent = div(mul(middle, add(middle, 3.0)), 6.0)
    return where(inside, bent, where(le(input, -3.0), 0.0, input))


@public
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value; NaN stays. Integers stay such if both numbers are whole."""
    threshold, value = whole(input, threshold, value)
    return where(le(input, threshold), value, input)


@public
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a · sigmoid(b) for the halves a, b of the input along `dim`. Dauphin et al., arXiv 1612.08083."""
    dim = normalize_dim("glu", dim, input.ndim)
    if not input.ndim or input.shape[dim] % 2:
        raise ShapeError(f"glu: expected an even size along dim {dim}, got {input.shape}")
    a, b = chunk(input, 2, dim)
    return mul(a, sigmoid(b))


@public
def maxout(input: Tensor, num_pieces: int, dim: int = 1) -> Tensor:
    """The largest of every `num_pieces` neighbours along `dim`, the first of equals.
    Goodfellow et al., arXiv 1302.4389.
    """
    dim = normalize_dim("maxout", dim, input.ndim)
    if not input.ndim or num_pieces < 1 or input.shape[dim] % num_pieces:
        raise ShapeError(
            f"maxout: expected a size along dim {dim} divisible by num_pieces={num_pieces}, got {input.shape}"
        )
    pieces = reshape(
        input, (*input.shape[:dim], input.shape[dim] // num_pieces, num_pieces, *input.shape[dim + 1 :])
    )
    return max(pieces, dim + 1)[0]
