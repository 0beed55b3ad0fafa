"""The history as a picture that grows."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import atomic_write
from .callback import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["LivePlot"]


class LivePlot(Callback):
    """Draw `History.plot` after every epoch: into a file, which is whole at any moment, or below the cell of
    a notebook. Needs matplotlib.

    Args:
        path: of the picture (png, pdf, svg by its name); None: the notebook's output.
        names: of the panels, by default all.
        every: epochs between pictures.

    Raises:
        ValueError: `every` below 1, or no path outside of a notebook.
        ImportError: no matplotlib.
        DataError: the file cannot be written.
    """

    order = 1  # schedules add to the row

    def __init__(self, path: str | os.PathLike[str] | None = None, *names: str, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"LivePlot: every: expected at least 1, got {every}")
        if path is None and "ipykernel" not in sys.modules:
            raise ValueError("LivePlot: path: expected a file, since this is no notebook, got None")
        self.path = None if path is None else Path(path)
        self.names, self.every = names, every
        self._place: Any = None  # of the notebook's picture

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, trainer: Trainer) -> None:
        if trainer.epoch % self.every == 0:
            self._draw(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        if trainer.history.rows and trainer.epoch % self.every:
            self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        figure = trainer.history.plot(*self.names)
        if self.path is not None:
            with atomic_write(self.path) as file:
                figure.savefig(file, format=self.path.suffix.lstrip(".") or "png", dpi=100)
        elif self._place is None:
            self._place = sys.modules["IPython"].display.display(figure, display_id=True)
        else:
            self._place.update(figure)
