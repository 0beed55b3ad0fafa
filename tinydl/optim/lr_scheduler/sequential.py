"""One schedule after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from ...engine.core import Tensor
from ...ops.elementwise import clip, where
from ..optimizer import Optimizer
from .compound import Compound
from .schedule import LRScheduler

__all__ = ["SequentialLR"]


class SequentialLR(Compound):
    """Each schedule in its turn, counting from the milestone at which it begins; as
    torch.optim.lr_scheduler.SequentialLR.

    All of them start from the same base rates. (In PyTorch a MultiplicativeLR that is not the first goes on
    from the rate that it finds.)

        warmup = LinearLR(optimizer, start_factor=0.1, total_iters=5)
        schedule = SequentialLR(optimizer, [warmup, ExponentialLR(optimizer, 0.9)], milestones=[5])

    Args:
        optimizer: whose rates are set.
        schedulers: schedules of this optimizer; they are not stepped themselves.
        milestones: the steps at which the second, third, ... schedule begins, ascending.
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: no schedule, one of another optimizer, other than one milestone less, or milestones that
            do not ascend.
        TypeError: a part that has no closed form, as ReduceLROnPlateau.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: expected one milestone less than schedulers, got {len(milestones)} and "
                f"{len(schedulers)}"
            )
        if any(a >= b for a, b in pairwise((-1, *milestones))):
            raise ValueError(
                f"SequentialLR: milestones: expected steps in ascending order, got {list(milestones)}"
            )
        self.milestones = [int(milestone) for milestone in milestones]
        super().__init__(optimizer, schedulers, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        rate, bounds = base, pairwise([0, *self.milestones, math.inf])
        for part, (start, end) in zip(self.schedulers, bounds, strict=True):
            # every part is computed: outside of its turn at its first or last step, where it is defined
            own = part.rate(base, clip(step - start, 0, max(end - start - 1, 0)), group)
            rate = where(step >= start, own, rate)
        return rate
