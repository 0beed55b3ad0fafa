"""Rates that are constant between given steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ...engine.core import Tensor
from ...ops.elementwise import where
from ..optimizer import Optimizer
from .schedule import LRScheduler

__all__ = ["PiecewiseConstant"]


class PiecewiseConstant(LRScheduler):
    """The rate of each group times factors[i] from step boundaries[i] on, and the base
    rate before the first of them.

        schedule = PiecewiseConstant(optimizer, boundaries=(n // 2, 3 * n // 4), factors=(0.1, 0.01))
        for _ in range(n):
            ...
            optimizer.step()
            schedule.step()

    Args:
        optimizer: whose rates are multiplied.
        boundaries: numbers of steps, ascending.
        factors: as many, of the base, not of the rate before.
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: boundaries that do not ascend, or factors of another number or below 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        boundaries: Sequence[int],
        factors: Sequence[float],
        last_epoch: int = -1,
    ) -> None:
        who = type(self).__name__
        if any(a >= b for a, b in pairwise((-1, *boundaries))):
            raise ValueError(f"{who}: boundaries: expected steps in ascending order, got {list(boundaries)}")
        if len(factors) != len(boundaries) or not all(factor >= 0 for factor in factors):
            raise ValueError(
                f"{who}: factors: expected {len(boundaries)} numbers of at least 0, got {list(factors)}"
            )
        self.boundaries = [int(boundary) for boundary in boundaries]
        self.factors = [1.0, *map(float, factors)]
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        rate = base
        for boundary, factor in zip(self.boundaries, self.factors[1:], strict=True):
            rate = where(step >= boundary, base * factor, rate)
        return rate
