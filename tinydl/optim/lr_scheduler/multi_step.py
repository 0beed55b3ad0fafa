"""Rates that fall by a factor at milestones."""

from __future__ import annotations

from collections.abc import Sequence

from ..optimizer import Optimizer
from .piecewise import PiecewiseConstant

__all__ = ["MultiStepLR"]


class MultiStepLR(PiecewiseConstant):
    """base gamma^k, where k of the milestones are reached; as torch.optim.lr_scheduler.MultiStepLR.

    Args:
        optimizer: whose rates are multiplied.
        milestones: numbers of steps, in any order; one that stands twice counts twice.
        gamma: the factor of each.
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: a milestone or gamma below 0.
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        if any(milestone < 0 for milestone in milestones) or not gamma >= 0:
            raise ValueError(
                "MultiStepLR: expected milestones and gamma of at least 0, got "
                f"{list(milestones)} and {gamma}"
            )
        boundaries = sorted(set(milestones))
        reached = [sum(milestone <= boundary for milestone in milestones) for boundary in boundaries]
        super().__init__(optimizer, boundaries, [gamma**k for k in reached], last_epoch)
