"""Stop where a loss is no number any more, and say in which layer it began."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tinydl_kernels.machine.errors import TinydlError

from ...debug import AnomalyError, detect_anomaly
from ...devices import on_host
from ..checkpoint import Snapshot
from .callback import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["DivergedError", "NaNGuard"]


class DivergedError(TinydlError, ArithmeticError):
    """A training step gave NaN or Inf. The message names the step, the operation and its layer."""


class NaNGuard(Callback):
    """Raise DivergedError at the first step whose total is NaN or Inf.

    What went wrong is then found by going back: the state of the last copy is restored, the steps since then
    are taken again, eagerly, under `td.debug.detect_anomaly`, which names operation and layer. The model is
    left as it was before the step that failed. On a GPU the host waits for each step's loss.

    Args:
        every: steps between copies of the state, whose batches are kept. A copy costs about as much as an
            update.
    """

    def __init__(self, every: int = 50) -> None:
        if every < 1:
            raise ValueError(f"NaNGuard: every: expected at least 1, got {every}")
        self.every = every
        self._copy: Any = None
        self._steps: list[Any] = []

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._renew(trainer)

    def on_epoch_begin(self, trainer: Trainer) -> None:
        self._renew(trainer)  # rates and frozen layers may have changed

    def on_batch_end(self, trainer: Trainer) -> None:
        self._steps.append(trainer.taken)
        if not math.isfinite(float(on_host(trainer.found["total"]))):
            raise self._found(trainer)
        if len(self._steps) >= self.every:
            self._renew(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        self._copy, self._steps = None, []

    def _renew(self, trainer: Trainer) -> None:
        self._copy = Snapshot(**trainer.trained())
        self._steps = []

    def _found(self, trainer: Trainer) -> DivergedError:
        where = f"NaNGuard: step {trainer.steps}"
        for inf in (False, True):  # NaN tells more: an infinity may be meant
            self._copy.restore()
            for step in self._steps[:-1]:
                trainer.again(step)
            before = Snapshot(**trainer.trained())
            try:
                with detect_anomaly(inf=inf):
                    trainer.again(self._steps[-1])
            except AnomalyError as error:
                before.restore()
                return DivergedError(f"{where}: {error}")
        before.restore()
        return DivergedError(f"{where}: expected a finite total, got one that no operation accounts for")
