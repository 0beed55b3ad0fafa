"""Rates along a power of the steps that are left."""

from __future__ import annotations

from ...engine.core import Tensor
from ...ops.elementwise import minimum, pow
from ..optimizer import Optimizer
from .schedule import LRScheduler

__all__ = ["PolynomialLR"]


class PolynomialLR(LRScheduler):
    """base (1 - min(step, total_iters) / total_iters)^power; as torch.optim.lr_scheduler.PolynomialLR.

    Args:
        optimizer: whose rates are multiplied.
        total_iters: the steps until the rate is 0.
        power: of the part that is left.
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: total_iters below 1, or a power that is not above 0.
    """

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        if total_iters < 1 or not power > 0:
            raise ValueError(
                "PolynomialLR: expected total_iters of at least 1 and power above 0, got "
                f"{total_iters} and {power}"
            )
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        return base * pow(1.0 - minimum(step, float(self.total_iters)) / self.total_iters, self.power)
