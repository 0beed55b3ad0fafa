"""Rates that fall by a factor every few steps."""

from __future__ import annotations

from ...engine.core import Tensor
from ...ops.elementwise import pow
from ...ops.functions import floor
from ..optimizer import Optimizer
from .schedule import LRScheduler

__all__ = ["StepLR"]


class StepLR(LRScheduler):
    """base gamma^⌊step / step_size⌋; as torch.optim.lr_scheduler.StepLR.

    Args:
        optimizer: whose rates are multiplied.
        step_size: the steps between two falls.
        gamma: the factor of each.
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: step_size below 1, or gamma below 0.
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        if step_size < 1 or not gamma >= 0:
            raise ValueError(
                "StepLR: expected step_size of at least 1 and gamma of at least 0, got "
                f"{step_size} and {gamma}"
            )
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        return base * pow(self.gamma, floor(step / self.step_size))
