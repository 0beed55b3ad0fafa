"""Limits of time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .callback import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["TimeLimit"]


class TimeLimit(Callback):
    """End the fit after the step in which so much time has passed, that of interrupted runs before a resume
    included. The epoch that is under way gets no row.

    Args:
        seconds: above 0.
    """

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"TimeLimit: seconds: expected above 0, got {seconds}")
        self.seconds = float(seconds)
        self._before, self._begin = 0.0, time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return self._before + time.monotonic() - self._begin

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._begin = time.monotonic()

    def on_batch_end(self, trainer: Trainer) -> None:
        if self.elapsed > self.seconds:
            trainer.stop(f"the time limit of {self.seconds:g} s")

    def state_dict(self) -> dict[str, Any]:
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._before = state["elapsed"]

    def __repr__(self) -> str:
        return f"TimeLimit({self.seconds:g})"
