"""Checkpoints written as a fit goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .callback import Callback, Monitor

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["ModelCheckpoint"]

LAST = "last.safetensors"


class ModelCheckpoint(Callback):
    """Write the whole state of the fit into a folder: "last.safetensors" after every epoch, and the best
    ones. `fit(..., resume=checkpoints.last)` goes on from there, with the same bits.

    Args:
        folder: made if it is not there; its "best-*.safetensors" belong to this callback.
        monitor: a column of the history for the best ones; None: keep the last one only.
        save_top_k: how many of the best to keep.
        mode: as in `EarlyStopping`.
        every_n_steps: write the last one after so many steps too, within epochs.
        every_n_minutes: and when so much time has passed.

    Attributes:
        last: the path of the last one, whether it is there or not.
        best: [value, epoch] of those kept, the best first.
    """

    order = 2  # it holds what the other callbacks make of the epoch

    def __init__(
        self,
        folder: str | os.PathLike[str],
        monitor: str | None = None,
        save_top_k: int = 1,
        mode: str | None = None,
        every_n_steps: int | None = None,
        every_n_minutes: float | None = None,
    ) -> None:
        for name, value in (("save_top_k", save_top_k), ("every_n_steps", every_n_steps)):
            if value is not None and value < 1:
                raise ValueError(f"ModelCheckpoint: {name}: expected at least 1, got {value}")
        if every_n_minutes is not None and not every_n_minutes > 0:
            raise ValueError(f"ModelCheckpoint: every_n_minutes: expected above 0, got {every_n_minutes}")
        self.folder = Path(folder)
        self.monitor = None if monitor is None else Monitor("ModelCheckpoint", monitor, mode)
        self.save_top_k, self.every_n_steps, self.every_n_minutes = save_top_k, every_n_steps, every_n_minutes
        self.best: list[list[float]] = []
        self._written = 0.0

    @property
    def last(self) -> Path:
        return self.folder / LAST

    def path(self, epoch: int) -> Path:
        """Of one of the best."""
        return self.folder / f"best-{epoch:04d}.safetensors"

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self.monitor is not None:
            self.monitor.begin(trainer)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._written = time.monotonic()

    def on_batch_end(self, trainer: Trainer) -> None:
        by_steps = self.every_n_steps is not None and trainer.steps % self.every_n_steps == 0
        late = (
            self.every_n_minutes is not None and time.monotonic() - self._written > 60 * self.every_n_minutes
        )
        if by_steps or late:
            self._write(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        if self.monitor is not None:
            value = self.monitor.value(trainer)
            kept = [value, trainer.epoch]
            others = [other for other in self.best if other[1] != trainer.epoch]
            place = next((i for i, o in enumerate(others) if self.monitor.better(value, o[0])), len(others))
            self.best = [*others[:place], kept, *others[place:]][: self.save_top_k]
            if kept in self.best:
                trainer.save(self.path(trainer.epoch))
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        trainer.save(self.last)
        self._written = time.monotonic()
        if self.monitor is not None:  # what the file just written no longer names
            kept = {self.path(int(epoch)) for _, epoch in self.best}
            for path in self.folder.glob("best-*.safetensors"):
                if path not in kept:
                    path.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        return {"best": [list(pair) for pair in self.best]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = [list(pair) for pair in state["best"]]
