"""Rates that fall as one over the steps."""

from __future__ import annotations

from ...engine.core import Tensor
from ...ops.functions import floor
from ..optimizer import Optimizer
from .schedule import LRScheduler

__all__ = ["InverseTimeLR"]


class InverseTimeLR(LRScheduler):
    """base / (1 + decay_rate step / decay_steps); with decay_steps = 1 Adagrad's lr_decay.

    Args:
        optimizer: whose rates are divided.
        decay_rate: what the divisor grows by in decay_steps steps.
        decay_steps: a number of steps.
        staircase: does the divisor grow every decay_steps steps alone, by step / decay_steps rounded down?
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: decay_rate below 0, or decay_steps not above 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        decay_rate: float,
        decay_steps: float = 1,
        staircase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if not (decay_rate >= 0 and decay_steps > 0):
            raise ValueError(
                "InverseTimeLR: expected decay_rate of at least 0 and decay_steps above 0, got "
                f"{decay_rate} and {decay_steps}"
            )
        self.decay_rate, self.decay_steps, self.staircase = decay_rate, decay_steps, staircase
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        periods = step / self.decay_steps
        return base / (1.0 + self.decay_rate * (floor(periods) if self.staircase else periods))
