"""Penalties on what the model puts out, without a derivative of it, and losses that take cross-entropy's
place.

Probabilities come from log-softmax over axis 1; positions (B, m, *) count by their sum. Label smoothing is
an argument of `td.cross_entropy`: (1 - ε) times the loss plus ε times KL(uniform ‖ p) + log m.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Tensor, add, cast
from ..ops.elementwise import div, exp, mul, neg, pow, sqrt, square
from ..ops.functions import expm1
from ..ops.indexing import one_hot
from ..ops.random import Generator
from ..ops.reduce import logsumexp, sum
from ..ops.shape import movedim, reshape
from ..ops.softmax import cross_entropy, log_softmax, reduced, require_reduction
from .contract import Penalty, Weight
from .gradients import TINY
from .passes import Pass

__all__ = ["ConfidencePenalty", "EntropyMin", "FocalLoss", "LogitNormLoss", "ZLoss"]


def _require_logits(who: str, logits: Tensor) -> None:
    if logits.ndim < 2:
        raise ShapeError(f"{who}: expected logits (B, m, *), got {logits.shape}")


def _per_sample(total: Tensor, seen: Pass) -> Tensor:
    return div(total, float(max(seen.samples, 1)))


class ConfidencePenalty(Penalty):
    """β · mean_b Σ_k p_bk log p_bk of p = softmax of the logits (B, m): minus the mean entropy, in [-log m,
    0].

    Positions (B, m, *) count by their sum. Pereyra et al., arXiv 1701.06548. A code that sums over batches of
    B instead has a β of B times less.
    """

    def __call__(self, seen: Pass) -> Tensor:
        _require_logits("ConfidencePenalty", seen.logits)
        log_p = seen.log_probabilities
        return _per_sample(sum(mul(exp(log_p), log_p)), seen)


class EntropyMin(Penalty):
    """λ · mean_b H(p_b), the entropy of p = softmax of the logits (B, m), in [0, log m]: what
    `ConfidencePenalty` makes large, made small. Grandvalet and Bengio, NIPS 2004.

    on       "x": the objective's own pass; else what the objective was given under that name
             (`objective(x, y, unlabeled=u)`), in an extra pass with random numbers of the term's
    """

    def __init__(
        self,
        weight: Weight,
        on: str = "x",
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.on = on

    def __call__(self, seen: Pass) -> Tensor:
        if self.on != "x":
            if self.on not in seen.given:
                raise ValueError(
                    f"{self.name}: expected {self.on}= of the objective's call, got {[*seen.given]}"
                )
            seen = seen.again(seen.given[self.on], draws="own", generator=self.generator)
        _require_logits("EntropyMin", seen.logits)
        log_p = seen.log_probabilities
        return _per_sample(neg(sum(mul(exp(log_p), log_p))), seen)


class ZLoss(Penalty):
    """λ · mean_b (log Σ_k exp z_bk)² of the logits z (B, m): keeps softmax's normalizer near 1.

    Chowdhery et al. (PaLM), arXiv 2204.02311.
    """

    def __init__(
        self,
        weight: Weight = 1e-4,
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)

    def __call__(self, seen: Pass) -> Tensor:
        _require_logits("ZLoss", seen.logits)
        return _per_sample(sum(square(logsumexp(seen.logits, 1))), seen)


# Losses in cross-entropy's place
# ------------------------------------------------------------------------------------------------------------


class FocalLoss:
    """-Σ_k α_k t_k (1 - p_k)^γ log p_k of logits (N, m, *): `Objective(model, FocalLoss())`.

    Lin et al., arXiv 1708.02002. With γ 0 and no α it is `td.cross_entropy`, bit for bit. 1 - p comes from
    expm1 of log p, so that it keeps its digits where p is near 1.

    Args:
        gamma: at least 0.
        alpha: a weight for each class; the paper's .25 is (.75, .25) of two.
    """

    def __init__(self, gamma: float = 2.0, alpha: Sequence[float] | None = None) -> None:
        if not 0 <= gamma < math.inf:
            raise ValueError(f"FocalLoss: expected gamma of at least 0, got {gamma!r}")
        self.gamma, self.alpha = float(gamma), None if alpha is None else np.asarray(alpha, np.float64)

    def __call__(self, logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        """target: classes (N, *) or probabilities (N, m, *); reduction as in `td.cross_entropy`."""
        if self.gamma == 0 and self.alpha is None:
            return cross_entropy(logits, target, reduction=reduction)
        require_reduction("FocalLoss", reduction)
        _require_logits("FocalLoss", logits)
        log_p = log_softmax(logits, 1)
        hot = target if target.dtype.kind == "f" else movedim(one_hot(target, logits.shape[1]), -1, 1)
        if hot.shape != logits.shape:
            raise ShapeError(f"FocalLoss: expected a target for logits {logits.shape}, got {target.shape}")
        weights = cast(hot, dtype=logits.dtype)
        if self.alpha is not None:
            if self.alpha.shape != logits.shape[1:2]:
                wanted = logits.shape[1:2]
                raise ShapeError(f"FocalLoss: expected an alpha per class {wanted}, got {self.alpha.shape}")
            alpha = constant(logits, self.alpha.astype(logits.dtype))
            weights = mul(weights, reshape(alpha, (1, -1, *(1,) * (logits.ndim - 2))))
        # Above 0, so that a power below 1 has a derivative where p is 1.
        rest = add(neg(expm1(log_p)), TINY)
        losses = neg(sum(mul(weights, mul(pow(rest, self.gamma), log_p)), 1))
        return reduced("FocalLoss", losses, reduction)

    def __repr__(self) -> str:
        return f"FocalLoss({self.gamma})"


class LogitNormLoss:
    """Cross-entropy of z/(τ(‖z‖ + 1e-7)) for logits z (N, m, *), the norm over the classes:
    `Objective(model, LogitNormLoss())`. Its derivative is orthogonal to z: it cannot make logits long.

    Wei et al., arXiv 2205.09310. The norm is √(Σ z² + 1e-16), which has a derivative at 0.
    """

    def __init__(self, tau: float = 0.04) -> None:
        if not 0 < tau < math.inf:
            raise ValueError(f"LogitNormLoss: expected tau above 0, got {tau!r}")
        self.tau = float(tau)

    def __call__(self, logits: Tensor, target: Any, reduction: str = "mean") -> Tensor:
        """target and reduction as in `td.cross_entropy`."""
        _require_logits("LogitNormLoss", logits)
        norm = sqrt(add(sum(square(logits), 1, keepdim=True), TINY))
        return cross_entropy(div(logits, mul(add(norm, 1e-7), self.tau)), target, reduction=reduction)

    def __repr__(self) -> str:
        return f"LogitNormLoss({self.tau})"
