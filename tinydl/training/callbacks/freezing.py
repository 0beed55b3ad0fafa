"""Layers that learn from some epoch on, or up to it."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .callback import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["Freeze"]


class Freeze(Callback):
    """Keep parameters as they are for some epochs: `Freeze("features.*", until=3)` trains the rest alone for
    three epochs, then everything. Recorded steps are recorded anew where it changes.

    Args:
        names: patterns of parameters' dotted names, with * and ?; or of modules' names, whose parameters all
            are meant.
        at: frozen after so many epochs.
        until: thawed after so many epochs; None: never.

    Raises:
        ValueError: epochs out of order, or a pattern that no name fits.
    """

    def __init__(self, *names: str, at: int = 0, until: int | None = None) -> None:
        if not names or at < 0 or (until is not None and until <= at):
            raise ValueError(
                f"Freeze: expected names, at >= 0 and until > at, got {names}, at={at}, until={until}"
            )
        self.names: Sequence[str] = names
        self.at, self.until = at, until

    def on_fit_begin(self, trainer: Trainer) -> None:
        named = dict(trainer.model.named_parameters())
        for pattern in self.names:
            if not any(self._meant(name, pattern) for name in named):
                raise ValueError(f"Freeze: expected names out of {', '.join(named)}, got {pattern!r}")
        self._apply(trainer)

    def on_epoch_begin(self, trainer: Trainer) -> None:
        self._apply(trainer)

    def _apply(self, trainer: Trainer) -> None:
        if trainer.epoch < self.at:
            return
        frozen = self.until is None or trainer.epoch < self.until
        for name, p in trainer.model.named_parameters():
            if any(self._meant(name, pattern) for pattern in self.names):
                p.requires_grad_(not frozen)
                if frozen:
                    p.grad = None  # or an optimizer goes on with the last one

    @staticmethod
    def _meant(name: str, pattern: str) -> bool:
        return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")

    def __repr__(self) -> str:
        return f"Freeze({', '.join(map(repr, self.names))}, at={self.at}, until={self.until})"
