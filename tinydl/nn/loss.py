"""Losses as layers."""

from __future__ import annotations

from typing import Any

from ..core import Tensor
from ..ops import losses
from ..ops.loss import cross_entropy, require_reduction, require_smoothing
from .module import Module
from .parameter import Buffer


class CrossEntropyLoss(Module):
    """Cross-entropy of logits (N, K, *) and class indices (N, *) or soft targets (N, K, *). See `tinydl.cross_entropy`."""

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        require_reduction(type(self).__name__, reduction)
        require_smoothing(type(self).__name__, label_smoothing)
        self.weight = None if weight is None else Buffer(weight)
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class NLLLoss(CrossEntropyLoss):
    """-input[n, target_n] for log-probabilities (N, K, *) and class indices (N, *). See `tinydl.nll_loss`."""

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, ignore_index, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return losses.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class MSELoss(Module):
    """(input - target)². See `tinydl.mse_loss`."""

    function: Any = staticmethod(losses.mse_loss)
    reductions: tuple[str, ...] = ()  # beyond the usual

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        require_reduction(type(self).__name__, reduction, *self.reductions)
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self.function(input, target, reduction=self.reduction)


class L1Loss(MSELoss):
    """|input - target|. See `tinydl.l1_loss`."""

    function = staticmethod(losses.l1_loss)


class SmoothL1Loss(MSELoss):
    """Quadratic below beta, linear above. See `tinydl.smooth_l1_loss`."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        if beta < 0:
            raise ValueError(f"SmoothL1Loss: expected beta of at least 0, got {beta}")
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return losses.smooth_l1_loss(input, target, self.reduction, self.beta)


class HuberLoss(MSELoss):
    """Quadratic below delta, linear above. See `tinydl.huber_loss`."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        if delta <= 0:
            raise ValueError(f"HuberLoss: expected delta above 0, got {delta}")
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return losses.huber_loss(input, target, self.reduction, self.delta)


class BCELoss(MSELoss):
    """Binary cross-entropy of probabilities. See `tinydl.binary_cross_entropy`."""

    function = staticmethod(losses.binary_cross_entropy)

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = None if weight is None else Buffer(weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self.function(input, target, weight=self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(BCELoss):
    """Binary cross-entropy of logits. See `tinydl.binary_cross_entropy_with_logits`."""

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(weight, reduction)
        self.pos_weight = None if pos_weight is None else Buffer(pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return losses.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class KLDivLoss(MSELoss):
    """Kullback-Leibler divergence from log-probabilities. See `tinydl.kl_div`."""

    reductions = ("batchmean",)

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return losses.kl_div(input, target, self.reduction, self.log_target)
