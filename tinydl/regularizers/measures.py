"""Lengths and distances that several families share: of samples, and between predictions."""

from __future__ import annotations

from ..engine.core import Tensor
from ..ops.elementwise import abs as absolute
from ..ops.elementwise import div, exp, gt, mul, sqrt, square, sub, where
from ..ops.reduce import amax, sum
from ..ops.shape import reshape

__all__: list[str] = []


def per_sample(x: Tensor) -> Tensor:
    """(B,), the sums over all but the first dim."""
    return x if x.ndim == 1 else sum(x, tuple(range(1, x.ndim)))


def beside(x: Tensor, values: Tensor) -> Tensor:
    """values (B,) or (1,), shaped to broadcast to x (B, *)."""
    return reshape(values, (-1, *(1,) * (x.ndim - 1)))


def lengths(d: Tensor) -> Tensor:
    """(B, 1, ...): the Euclidean length of each sample of d (B, *). Squares are of what was divided by the
    largest element, so that those of small numbers do not vanish.
    """
    rows = reshape(d, (d.shape[0], -1))
    largest = amax(absolute(rows), 1, keepdim=True)
    scaled = div(rows, where(gt(largest, 0.0), largest, 1.0))
    return reshape(mul(sqrt(sum(square(scaled), 1, keepdim=True)), largest), (-1, *(1,) * (d.ndim - 1)))


def unit(g: Tensor) -> Tensor:
    """g (B, *) with each sample of Euclidean length 1, or 0 where it is 0."""
    length = lengths(g)
    return div(g, where(gt(length, 0.0), length, 1.0))


def divergences(log_p: Tensor, log_q: Tensor) -> Tensor:
    """(B,): KL(p ‖ q) = Σ p (log p − log q) of each sample, over all but axis 0."""
    terms = mul(exp(log_p), sub(log_p, log_q))
    return sum(terms, tuple(range(1, terms.ndim)))


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """mean_b KL(p_b ‖ q_b)."""
    return div(sum(divergences(log_p, log_q)), float(max(log_p.shape[0], 1)))
