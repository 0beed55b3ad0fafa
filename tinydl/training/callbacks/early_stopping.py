"""Stop when it no longer gets better, and keep the best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..checkpoint import restore, state_of
from .callback import Callback, Monitor

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """End the fit after `patience` epochs in a row that were no better than the best; whatever ends it, a
    callback, the last epoch, Ctrl-C or an error, the model then has the weights of the best epoch.

    Where weights are averaged for evaluation, the averages are what was good, and what is kept.

    Args:
        monitor: a column of the history.
        patience: epochs that are put up with; None: never stop, only keep the best.
        min_delta: what counts as better.
        mode: "min" or "max"; by default "min" for losses, and to be said for all else.
        restore_best: give the model the best weights at the end.

    Attributes:
        best, best_epoch: the best value and its epoch, counted from 1 (0: none yet).
        waited: epochs since then.

    Raises:
        ValueError: a monitor that is not measured, a mode that is needed, options out of range.
    """

    order = 1
    state_grows = True  # (checkpoint.py)

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int | None = 10,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = True,
    ) -> None:
        if patience is not None and patience < 0:
            raise ValueError(f"EarlyStopping: patience: expected at least 0 or None, got {patience}")
        self.monitor = Monitor("EarlyStopping", monitor, mode, min_delta)
        self.patience, self.restore_best = patience, restore_best
        self.best, self.best_epoch, self.waited = float(self.monitor.worst), 0, 0
        self._weights: Any = {}

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.monitor.begin(trainer)
        self._stop(trainer)  # a fit that was over when it was killed

    def on_epoch_end(self, trainer: Trainer) -> None:
        value = self.monitor.value(trainer)
        if self.monitor.better(value, self.best):
            self.best, self.best_epoch, self.waited = value, trainer.epoch, 0
            if self.restore_best:
                with trainer.evaluating():
                    self._weights = state_of(trainer.model)
            return
        self.waited += 1
        self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if self.patience is not None and self.waited > self.patience:
            trainer.stop(f"{self.monitor.name} no better than in epoch {self.best_epoch}")

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._weights:
            restore(trainer.model, self._weights)

    def state_dict(self) -> dict[str, Any]:
        found = {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}
        return {**found, "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]
        self._weights = state["weights"]
