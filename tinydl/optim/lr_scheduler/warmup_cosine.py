"""A line up, then half a wave of the cosine down."""

from __future__ import annotations

from ...engine.core import Tensor
from ...ops.elementwise import clip, where
from ..optimizer import Optimizer
from .cosine import half_wave
from .schedule import LRScheduler

__all__ = ["WarmupCosineLR"]


class WarmupCosineLR(LRScheduler):
    """From start_factor base along a line to the base rate in warmup_steps, then along half a wave of the
    cosine to eta_min at total_steps, where it stays.

    Warm-up: Goyal et al. 2017 (arXiv 1706.02677), section 2.2; cosine: Loshchilov & Hutter 2016
    (arXiv 1608.03983).

    Args:
        optimizer: whose rates are set.
        warmup_steps: a number of steps, 0 for none.
        total_steps: the warm-up counts too.
        start_factor: of the first step; 1 / warmup_steps unless said, so that no step has a rate of 0.
        eta_min: the last rate.
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: warmup_steps below 0 or not below total_steps, or a start_factor out of [0, 1].
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        total_steps: int,
        start_factor: float | None = None,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                "WarmupCosineLR: expected 0 <= warmup_steps < total_steps, got "
                f"{warmup_steps} and {total_steps}"
            )
        if start_factor is None:
            start_factor = 1 / max(warmup_steps, 1)
        if not 0 <= start_factor <= 1:
            raise ValueError(f"WarmupCosineLR: start_factor: expected a part in [0, 1], got {start_factor}")
        self.warmup_steps, self.total_steps = warmup_steps, total_steps
        self.start_factor, self.eta_min = start_factor, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        slope = (1 - self.start_factor) / max(self.warmup_steps, 1)
        rising = base * (self.start_factor + step * slope)
        q = clip((step - self.warmup_steps) / (self.total_steps - self.warmup_steps), 0.0, 1.0)
        return where(step < self.warmup_steps, rising, half_wave(base, self.eta_min, q))
