"""Rates along a half wave of the cosine."""

from __future__ import annotations

import math

from ...engine.core import Tensor
from ...ops.functions import cos
from ..optimizer import Optimizer
from .schedule import LRScheduler

__all__ = ["CosineAnnealingLR"]


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base - eta_min) (1 + cos(pi step / T_max)) / 2; as
    torch.optim.lr_scheduler.CosineAnnealingLR.

    After T_max steps the rate rises again, with period 2 T_max. Loshchilov & Hutter 2016 (arXiv 1608.03983),
    equation 5, without restarts.

    Args:
        optimizer: whose rates are set.
        T_max: the steps from the base rate to eta_min.
        eta_min: the least rate.
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: T_max not above 0.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: float, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        if not T_max > 0:
            raise ValueError(f"CosineAnnealingLR: expected T_max above 0, got {T_max}")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        return half_wave(base, self.eta_min, step / self.T_max)


def half_wave(start: Tensor | float, end: Tensor | float, q: Tensor) -> Tensor:
    """From start at q = 0 to end at q = 1."""
    return end + (start - end) * (1.0 + cos(q * math.pi)) / 2.0
