"""Lengths and distances that several families share: of samples, and between predictions."""

from __future__ import annotations

from collections.abc import Sequence

from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, state
from ..ops.elementwise import abs as absolute
from ..ops.elementwise import div, exp, gt, mul, sqrt, square, sub, where
from ..ops.reduce import amax, mean, sum
from ..ops.shape import reshape

__all__: list[str] = []


def batch_mean(x: Tensor, keepdim: bool = False) -> Tensor:
    """The mean over axis 0, of the rows of all ranks where they share a batch."""
    if state.shard is None:
        return mean(x, 0, keepdim)
    return div(state.shard.sum(sum(x, 0, keepdim)), batch_rows(x))


def batch_rows(x: Tensor) -> float:
    """How many rows x has, at least 1: of all ranks where they share a batch, each sample's alike."""
    shard = state.shard
    if shard is None:
        return float(max(x.shape[0], 1))
    each, odd = divmod(x.shape[0], max(shard.samples, 1))
    if odd or not each:
        raise ShapeError(
            f"expected rows of each of this rank's {shard.samples} samples of {shard.total}, got {x.shape}"
        )
    return float(shard.total * each)


def of_all(mean: Tensor) -> Tensor:
    """Of a mean over this rank's samples that over all ranks', where they share a batch: off the tape."""
    return mean if state.shard is None else state.shard.mean(mean)


def over_ranks(*tensors: Tensor) -> Sequence[Tensor]:
    """Their sums over all ranks where these share a batch; else themselves."""
    return tensors if state.shard is None else state.shard.sums(tensors)


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
