"""What schedules made of schedules share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..optimizer import Optimizer
from .schedule import LRScheduler

__all__: list[str] = []


class Compound(LRScheduler):
    """Base of schedules made of schedules, the parts. It counts for all of them, so a part is never stepped
    itself. It records if all of its parts do.
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], last_epoch: int = -1) -> None:
        who = type(self).__name__
        for i, part in enumerate(schedulers):
            if not isinstance(part, LRScheduler):
                raise TypeError(
                    f"{who}: schedulers: expected schedules with a closed form, got "
                    f"{type(part).__name__} at {i}"
                )
            if part.optimizer is not optimizer:
                raise ValueError(f"{who}: schedulers: expected one optimizer, got another one's at {i}")
            if getattr(part, "cycle_momentum", False):
                raise ValueError(
                    f"{who}: schedulers: expected cycle_momentum=False in a part, got True at {i}"
                )
        self.schedulers = list(schedulers)
        self.records = all(part.records for part in schedulers)
        super().__init__(optimizer, last_epoch)

    def settings(self) -> dict[str, Any]:
        parts = [{"name": type(part).__name__, **part.settings()} for part in self.schedulers]
        return {**super().settings(), "schedulers": parts}
