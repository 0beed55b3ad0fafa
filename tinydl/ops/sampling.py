"""Draws of classes, and softmax with such a draw inside."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Tensor, add
from ..engine.promotion import require_floating
from ..engine.public import public
from .choices import searchsorted
from .elementwise import clip, div, log, lt, mul, neg, sub, to_dtype, where
from .indexing import scatter
from .random import Generator, rand
from .reduce import argmax
from .scan import cumsum
from .shape import narrow, normalize_dim
from .softmax import softmax
from .sort import topk

__all__ = [
    "gumbel_softmax",
    "multinomial",
]


def _gumbel(like: Tensor, generator: Generator | None) -> Tensor:
    """-log(-log u) for uniform u: log p plus it is largest at k with probability p_k."""
    u = rand(like.shape, generator=generator, dtype=like.dtype, device=like.device)
    return neg(log(neg(log(clip(u, min=float(np.finfo(like.dtype).tiny))))))


@public
def gumbel_softmax(
    logits: Tensor,
    tau: float = 1.0,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    generator: Generator | None = None,
) -> Tensor:
    """softmax((logits + Gumbel noise) / tau) along `dim`; with `hard` the class that it chooses, as 0 and 1,
    with the gradient of the soft one. `eps` is PyTorch's and has no meaning. Jang et al., arXiv 1611.01144.
    """
    require_floating("gumbel_softmax", logits)
    if not tau > 0:
        raise ValueError(f"gumbel_softmax: expected tau above 0, got {tau}")
    dim = normalize_dim("gumbel_softmax", dim, logits.ndim)
    soft = softmax(div(add(logits, _gumbel(logits, generator)), tau), dim)
    if not hard:
        return soft
    nothing = constant(logits, np.zeros(logits.shape, logits.dtype))
    chosen = scatter(nothing, dim, argmax(soft.detach(), dim, keepdim=True), 1.0)
    return add(sub(chosen, soft.detach()), soft)


@public
def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Classes (*, num_samples), int64, drawn with probabilities in proportion to the weights (K,) or (N, K);
    none twice in a row without `replacement`. A class of weight 0 is never drawn.
    """
    require_floating("multinomial", input)
    if input.ndim not in (1, 2) or not input.shape[-1] or num_samples < 1:
        raise ShapeError(
            f"multinomial: expected weights (K,) or (N, K) and at least one sample, got {input.shape} and "
            f"{num_samples}"
        )
    weights = to_dtype(input.detach(), np.float64)
    if weights.device == "cpu":  # a look costs nothing
        values = weights.array
        least = 1 if replacement else num_samples
        if not ((values >= 0) & np.isfinite(values)).all() or ((values > 0).sum(-1) < least).any():
            raise ValueError(
                f"multinomial: expected finite weights of at least 0, of which {least} are above it"
            )
    if not replacement:
        keys = add(log(weights), _gumbel(weights, generator))
        return topk(keys, num_samples)[1]
    sums = cumsum(weights, -1)
    total = narrow(sums, -1, input.shape[-1] - 1, 1)
    shape = (*input.shape[:-1], num_samples)
    at = mul(rand(shape, generator=generator, dtype=np.float64, device=input.device), total)
    return searchsorted(sums, where(lt(at, total), at, 0.0), right=True)
