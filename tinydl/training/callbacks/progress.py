"""A bar for those who watch."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from .callback import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["Progress"]


class Progress(Callback):
    """A bar of epochs with the last row's numbers: tqdm's, in a terminal or a notebook; nothing at all in log
    files and pipes, or without tqdm.
    """

    order = 1

    def __init__(self) -> None:
        self._bar: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        tqdm = _tqdm()
        if tqdm is not None:
            total, done = trainer.epochs * trainer.batches, trainer.epoch * trainer.batches
            self._bar = tqdm(total=total, initial=done + trainer.tally.batches, unit="batch", leave=False)

    def on_batch_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.n = trainer.epoch * trainer.batches + trainer.tally.batches
            self._bar.update(0)

    def on_epoch_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            row = trainer.history.rows[-1]
            numbers = [
                f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, (int, float))
            ]
            self._bar.set_postfix_str(", ".join(numbers))

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _tqdm() -> Any:
    """tqdm's class for where we are; None where nobody watches."""
    notebook = "ipykernel" in sys.modules
    if not notebook and not (sys.stderr is not None and sys.stderr.isatty()):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of notebooks without widgets
            from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm
