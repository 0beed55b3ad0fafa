"""A smaller rate for the first steps."""

from __future__ import annotations

from ...engine.core import Tensor
from ...ops.elementwise import where
from ..optimizer import Optimizer
from .schedule import LRScheduler

__all__ = ["ConstantLR"]


class ConstantLR(LRScheduler):
    """The base rate times factor for the first total_iters steps, then the base rate; as
    torch.optim.lr_scheduler.ConstantLR.

    With total_iters = 0 it is the base rate at once (PyTorch keeps the factor for ever), and a factor of 0
    ends as any other (PyTorch divides by it).

    Args:
        optimizer: whose rates are multiplied.
        factor: of the first steps, in [0, 1].
        total_iters: a number of steps.
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: a factor out of its range, or total_iters below 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= factor <= 1 or total_iters < 0:
            raise ValueError(
                "ConstantLR: expected factor in [0, 1] and total_iters of at least 0, got "
                f"{factor} and {total_iters}"
            )
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        return where(step < self.total_iters, base * self.factor, base)
