"""The history as a file, row by row."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import DataError, atomic_write
from .callback import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["Log"]


class Log(Callback):
    """A line for each epoch: CSV where the path ends in ".csv", else lines of JSON.

    Where a fit begins or resumes, the file is made what the history says, so that no epoch stands in it twice
    and no line is half written.

    Raises:
        DataError: the file cannot be written.
    """

    order = 1  # schedules add to the row

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._names: list[str] = []

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write_all(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        row = trainer.history.rows[-1]
        if self.path.suffix == ".csv" and [*row] != self._names:
            self._write_all(trainer)  # a new column
            return
        try:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(self._lines([row]))
        except OSError as error:
            raise DataError(f"{self.path}: not written: {error.strerror or error}") from error

    def _write_all(self, trainer: Trainer) -> None:
        self._names = trainer.history.names
        with atomic_write(self.path) as file:
            head = ",".join(self._names) + "\n" if self.path.suffix == ".csv" and self._names else ""
            file.write((head + self._lines(trainer.history.rows)).encode())

    def _lines(self, rows: Sequence[dict[str, Any]]) -> str:
        if self.path.suffix != ".csv":
            return "".join(json.dumps(row) + "\n" for row in rows)
        text = io.StringIO()
        csv.DictWriter(text, self._names, lineterminator="\n").writerows(rows)
        return text.getvalue()

    def __repr__(self) -> str:
        return f"Log({str(self.path)!r})"
