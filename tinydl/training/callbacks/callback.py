"""What a callback is: an object with some of the points at which a Trainer calls it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from ...engine.core import Tensor

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["Callback"]


class Callback:
    """Base of all callbacks. Each point is given the trainer, whose attributes say where it stands; its
    `stop(reason)` ends the fit.

    Two points lie inside of the recorded step, `on_gradients` and `on_update`: there, operations on tensors
    are recorded and Python runs once. A callback that has state has `state_dict` and `load_state_dict` and
    is saved in every checkpoint.

    Attributes:
        order: callbacks of a higher number are called after those of a lower one.
    """

    order: int = 0

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step; in a fit that resumes, after the state was loaded."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Before an epoch's first step, and not again where a fit resumes within it."""

    def on_gradients(self, trainer: Trainer) -> Mapping[str, Tensor] | None:
        """Inside of the step, between backward pass and update. Returns tensors () to log, by name."""
        return None

    def on_update(self, trainer: Trainer) -> None:
        """Inside of the step, after the update."""

    def on_batch_end(self, trainer: Trainer) -> None:
        """After a step: `trainer.found` is what it returned, on `trainer.batch`."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """After an epoch and its validation: `trainer.history.rows[-1]` is new."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """At the end, whatever brought it about."""

    def evaluating(self, trainer: Trainer) -> AbstractContextManager[Any]:
        """The scope in which the model is validated."""
        return nullcontext()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Monitor:
    """Is a number better than the best so far? NaN never is.

    Args:
        who: for messages.
        name: of a column of the history.
        mode: "min" or "max"; None: "min" for what is called a loss or total, else an error.
        min_delta: by how much it must be better.
    """

    def __init__(self, who: str, name: str, mode: str | None, min_delta: float = 0.0) -> None:
        if mode is None and name.endswith(("loss", "total")):
            mode = "min"
        if mode not in ("min", "max"):
            raise ValueError(f"{who}: mode: expected 'min' or 'max' for {name!r}, got {mode!r}")
        if not min_delta >= 0:
            raise ValueError(f"{who}: min_delta: expected at least 0, got {min_delta}")
        self.who, self.name, self.mode, self.min_delta = who, name, mode, float(min_delta)
        self.worst = np.inf if mode == "min" else -np.inf

    def better(self, value: float, best: float) -> bool:
        ahead = best - value if self.mode == "min" else value - best
        return bool(ahead > self.min_delta)

    def begin(self, trainer: Trainer) -> None:
        """Refuse a fit that will not measure it, before its first step."""
        if self.name.startswith("val_") and trainer.validation is None:
            raise ValueError(
                f"{self.who}: monitor: expected a fit with validation data for {self.name!r}, got none"
            )

    def value(self, trainer: Trainer) -> float:
        """Of the last epoch."""
        row = trainer.history.rows[-1]
        found = row.get(self.name)
        if not isinstance(found, (int, float)):
            numbers = [name for name, value in row.items() if isinstance(value, (int, float))]
            raise ValueError(f"{self.who}: monitor: expected one of {', '.join(numbers)}, got {self.name!r}")
        return float(found)
