"""Half waves of the cosine, each begun anew."""

from __future__ import annotations

import numpy as np

from ...devices import follow
from ...engine.core import Tensor
from ...nn.parameter import Buffer
from ...ops.elementwise import where
from ...ops.functions import floor
from ...ops.reduce import amax
from ..optimizer import Optimizer
from .cosine import half_wave
from .schedule import LRScheduler

__all__ = ["CosineAnnealingWarmRestarts"]

STEPS = 1 << 53
"""As many as float64 can count."""


class CosineAnnealingWarmRestarts(LRScheduler):
    """eta_min + (base - eta_min) (1 + cos(pi t / n)) / 2, where t counts from the last restart and n is the
    length of this round: T_0, then T_mult times the one before; as
    torch.optim.lr_scheduler.CosineAnnealingWarmRestarts.

    eta_min itself is never reached: at t = n the next round begins. Loshchilov & Hutter 2016
    (arXiv 1608.03983), equation 5.

    Args:
        optimizer: whose rates are set.
        T_0: the steps of the first round.
        T_mult: a whole number.
        eta_min: the least rate.
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: T_0 or T_mult that is no whole number of at least 1.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        if T_0 < 1 or T_mult < 1 or int(T_0) != T_0 or T_mult != int(T_mult):
            raise ValueError(
                "CosineAnnealingWarmRestarts: expected T_0 and T_mult to be whole numbers of at least 1, got "
                f"{T_0} and {T_mult}"
            )
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        starts, n = [0], T_0
        while T_mult > 1 and starts[-1] + n < STEPS:
            starts.append(starts[-1] + n)
            n *= T_mult
        self._starts = Buffer(np.array(starts, np.float64))
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        if self.T_mult == 1:
            start = floor(step / self.T_0) * self.T_0
        else:
            follow([self._starts], step.device)
            start = amax(where(step >= self._starts, self._starts, 0.0))
        n = start * (self.T_mult - 1) + self.T_0  # a geometric series and its last term
        return half_wave(base, self.eta_min, (step - start) / n)
