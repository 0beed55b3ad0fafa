"""Learning rates that change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from .callback import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["Schedule"]


class Schedule(Callback):
    """Step a schedule of the learning rate. The rate of each epoch's last step is the history's "lr".

    Args:
        scheduler: of `td.optim.lr_scheduler`, made for the trainer's optimizer; a plateau's is fed the
            monitor.
        per: "step", inside of the recorded step where the schedule records, or "epoch".
        monitor: a column of the history, for `ReduceLROnPlateau`.

    Raises:
        TypeError: no schedule.
        ValueError: an unknown `per`; a plateau's schedule per step, or without a monitor.
    """

    def __init__(self, scheduler: Any, per: str = "epoch", monitor: str | None = None) -> None:
        plateau = isinstance(scheduler, ReduceLROnPlateau)
        if not plateau and not isinstance(scheduler, LRScheduler):
            raise TypeError(f"Schedule: expected a schedule, got {type(scheduler).__name__}")
        if per not in ("step", "epoch"):
            raise ValueError(f"Schedule: per: expected 'step' or 'epoch', got {per!r}")
        if plateau != (monitor is not None) or (plateau and per == "step"):
            raise ValueError("Schedule: expected a monitor, and per='epoch', for ReduceLROnPlateau alone")
        self.scheduler, self.per, self.monitor = scheduler, per, monitor

    def on_update(self, trainer: Trainer) -> None:
        if self.per == "step" and self.scheduler.records:
            self.scheduler.step()

    def on_batch_end(self, trainer: Trainer) -> None:
        if self.per == "step" and not self.scheduler.records:
            self.scheduler.step()

    def on_epoch_end(self, trainer: Trainer) -> None:
        row = trainer.history.rows[-1]
        row["lr"] = self.scheduler.get_last_lr()[0]
        if self.monitor is not None:
            if not isinstance(row.get(self.monitor), (int, float)):
                raise ValueError(f"Schedule: monitor: expected one of {', '.join(row)}, got {self.monitor!r}")
            self.scheduler.step(row[self.monitor])
        elif self.per == "epoch":
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state)
