"""Rates along a line."""

from __future__ import annotations

from ...engine.core import Tensor
from ...ops.elementwise import where
from ..optimizer import Optimizer
from .schedule import LRScheduler

__all__ = ["LinearLR"]


class LinearLR(LRScheduler):
    """The base rate times a factor that goes from start_factor to end_factor in total_iters steps and stays
    there; as torch.optim.lr_scheduler.LinearLR.

    With total_iters = 0 the factor is end_factor at once (PyTorch keeps start_factor for ever).

    Args:
        optimizer: whose rates are multiplied.
        start_factor: the factor of the first step, in (0, 1].
        end_factor: the factor after total_iters steps, in [0, 1].
        total_iters: a number of steps.
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: a factor out of its range, or total_iters below 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not (0 < start_factor <= 1 and 0 <= end_factor <= 1):
            raise ValueError(
                "LinearLR: expected start_factor in (0, 1] and end_factor in [0, 1], got "
                f"{start_factor} and {end_factor}"
            )
        if total_iters < 0:
            raise ValueError(f"LinearLR: expected total_iters of at least 0, got {total_iters}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        slope = (self.end_factor - self.start_factor) / max(self.total_iters, 1)
        return base * where(step < self.total_iters, self.start_factor + step * slope, self.end_factor)
