"""Matrix products."""

from __future__ import annotations

from typing import Any

from tinydl_kernels import matmul as kernels
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Array, Tensor, primitive, sum_to
from ..engine.promotion import require_floating
from ..engine.public import public
from .elementwise import mul
from .shape import flatten, reshape, transpose, unsqueeze

__all__ = [
    "bilinear",
    "linear",
    "matmul",
]


@primitive
def _matmul(a: Array, b: Array, *, ta: bool = False, tb: bool = False) -> Array:
    """A B over the last two axes, with A = aᵀ if ta and B = bᵀ if tb; the leading axes broadcast."""
    return kernels.matmul(a, b, ta, tb)


@primitive(floating=True)
def _linear(x: Array, w: Array, b: Array) -> Array:
    """x wᵀ + b for x (N, in), w (out, in), b (out,)."""
    return kernels.linear(x, w, b)


def _like(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    return g if g.shape == shape else sum_to(g, shape=shape)


# For Y = A B: dA = G Bᵀ and dB = Aᵀ G, or their transposes where the operand came transposed.
_matmul.rule(
    a=lambda g, b, a_shape, *, ta, tb: _like(
        _matmul(b, g, ta=tb, tb=True) if ta else _matmul(g, b, tb=not tb), a_shape
    ),
    b=lambda g, a, b_shape, *, ta, tb: _like(
        _matmul(g, a, ta=True, tb=ta) if tb else _matmul(a, g, ta=not ta), b_shape
    ),
)


_linear.rule(
    x=lambda g, w: _matmul(g, w),
    w=lambda g, x: _matmul(g, x, ta=True),
    b=lambda g, b_shape: sum_to(g, shape=b_shape),
)


@public
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product a @ b, as numpy.matmul and torch.matmul: vectors are rows on the
    left and columns on the right.
    """
    if not (input.ndim and other.ndim) or input.shape[-1] != other.shape[-2 if other.ndim > 1 else 0]:
        raise ShapeError(f"matmul: expected inner sizes that agree, got {input.shape} @ {other.shape}")
    left = unsqueeze(input, 0) if input.ndim == 1 else input
    right = unsqueeze(other, 1) if other.ndim == 1 else other
    batch = zip(reversed(left.shape[:-2]), reversed(right.shape[:-2]), strict=False)
    if any(m != n and 1 not in (m, n) for m, n in batch):
        raise ShapeError(f"matmul: expected leading sizes that broadcast, got {input.shape} @ {other.shape}")
    if right.ndim == 2 and left.ndim > 2:  # one product instead of a batch of them
        y = reshape(_product(flatten(left, 0, -2), right), (*left.shape[:-1], right.shape[-1]))
    else:
        y = _product(left, right)
    shape = (*y.shape[:-2], *y.shape[-2:-1][: input.ndim > 1], *y.shape[-1:][: other.ndim > 1])
    return y if y.shape == shape else reshape(y, shape)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """A B; an operand that is the transpose of a contiguous array is not copied."""
    ta, tb = _turned(a), _turned(b)
    return _matmul(transpose(a, -1, -2) if ta else a, transpose(b, -1, -2) if tb else b, ta=ta, tb=tb)


def _turned(x: Any) -> bool:
    return (
        isinstance(x, Tensor)
        and not x.array.flags.c_contiguous
        and x.array.swapaxes(-1, -2).flags.c_contiguous
    )


@public
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input weightᵀ + bias: (*, in) and (out, in), (out,) give (*, out)."""
    if (
        not input.ndim
        or weight.ndim != 2
        or input.shape[-1] != weight.shape[1]
        or (bias is not None and bias.shape != weight.shape[:1])
    ):
        got = f"input {input.shape}, weight {weight.shape}" + ("" if bias is None else f", bias {bias.shape}")
        raise ShapeError(f"linear: expected input (*, in), weight (out, in), bias (out,), got {got}")
    require_floating("linear", input, weight, bias)
    rows = input if input.ndim == 2 else flatten(input, 0, -2) if input.ndim > 2 else unsqueeze(input, 0)
    y = _matmul(rows, weight, tb=True) if bias is None else _linear(rows, weight, bias)
    return y if input.ndim == 2 else reshape(y, (*input.shape[:-1], weight.shape[0]))


@public
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """out_o = input1ᵀ weight_o input2 + bias_o: (*, in1), (*, in2) and (out, in1,
    in2), (out,) give (*, out).
    """
    sizes = (input1.shape[-1:], input2.shape[-1:])
    if (
        weight.ndim != 3
        or sizes != (weight.shape[1:2], weight.shape[2:])
        or input1.shape[:-1] != input2.shape[:-1]
    ):
        got = f"input1 {input1.shape}, input2 {input2.shape}, weight {weight.shape}"
        raise ShapeError(
            f"bilinear: expected input1 (*, in1), input2 (*, in2), weight (out, in1, in2), got {got}"
        )
    require_floating("bilinear", input1, input2, weight, bias)
    pairs = mul(unsqueeze(input1, -1), unsqueeze(input2, -2))
    return linear(flatten(pairs, -2), flatten(weight, 1), bias)
