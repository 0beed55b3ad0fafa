"""Penalties on what the model puts out, without a derivative of it."""

from __future__ import annotations

from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from ..ops.elementwise import div, exp, mul
from ..ops.reduce import sum
from .contract import Penalty
from .passes import Pass

__all__ = ["ConfidencePenalty"]


class ConfidencePenalty(Penalty):
    """β · mean_b Σ_k p_bk log p_bk of p = softmax of the logits (B, m): minus the mean entropy, in [-log m,
    0].

    Positions (B, m, *) count by their sum. Pereyra et al., arXiv 1701.06548. A code that sums over batches of
    B instead has a β of B times less.
    """

    def __call__(self, seen: Pass) -> Tensor:
        if seen.logits.ndim < 2:
            raise ShapeError(f"ConfidencePenalty: expected logits (B, m, *), got {seen.logits.shape}")
        log_p = seen.log_probabilities
        return div(sum(mul(exp(log_p), log_p)), float(max(log_p.shape[0], 1)))
