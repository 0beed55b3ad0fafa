"""Rates that fall by a factor at every step."""

from __future__ import annotations

from ...engine.core import Tensor
from ...ops.elementwise import pow
from ..optimizer import Optimizer
from .schedule import LRScheduler

__all__ = ["ExponentialLR"]


class ExponentialLR(LRScheduler):
    """base gamma^step; as torch.optim.lr_scheduler.ExponentialLR.

    Args:
        optimizer: whose rates are multiplied.
        gamma: the factor of each step.
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: gamma below 0.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        if not gamma >= 0:
            raise ValueError(f"ExponentialLR: expected gamma of at least 0, got {gamma}")
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        return base * pow(self.gamma, step)
