"""Several schedules at once."""

from __future__ import annotations

from collections.abc import Sequence

from ...engine.core import Tensor
from ..optimizer import Optimizer
from .compound import Compound
from .schedule import LRScheduler

__all__ = ["ChainedScheduler"]


class ChainedScheduler(Compound):
    """The base rate times the factors of all schedules; as torch.optim.lr_scheduler.ChainedScheduler.

    The rate of each is the base of the next: for schedules that multiply it, a CosineAnnealingLR to 0 among
    them, that is the product of their factors at every step. (PyTorch's goes from rate to rate; after T_max
    steps its cosine leaves the product.) What a schedule adds, as an eta_min above 0, the next ones multiply.

    Args:
        schedulers: schedules of one optimizer; they are not stepped themselves.
        optimizer: that optimizer, where it is not to be taken from the first schedule.

    Raises:
        ValueError: no schedule, or schedules of several optimizers.
        TypeError: a part that has no closed form, as ReduceLROnPlateau.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        if not schedulers:
            raise ValueError("ChainedScheduler: expected schedulers, got none")
        super().__init__(optimizer or schedulers[0].optimizer, schedulers)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        for part in self.schedulers:
            base = part.rate(base, step, group)
        return base
