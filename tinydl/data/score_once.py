"""Held-out samples that count for one look."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

from ..files import DataError, one_line
from .datasets.dataset import Dataset

__all__ = ["HeldOutWarning", "ScoreOnce"]


class HeldOutWarning(UserWarning):
    """A held-out set was looked at again: its scores no longer tell how a model does on new samples."""


class ScoreOnce:
    """A test set that may be looked at once, and that tells how often it was.

        held_out = ScoreOnce(digits, "looks.jsonl")
        test = held_out.look("the model of the best validation AUC")
        print(held_out.report())

    Whoever chooses between models by their test scores fits the test set, and the score of the chosen one is
    too good. So each look is written down with its reason before the samples are given; a second one is not
    refused but warned of, and stays in the report. A look counts for the samples, not for the object: with a
    file it is known by the data set's checksum in later runs too.

    Args:
        dataset: what is held out.
        file: where looks are written down, a line of JSON each, after those that are there; its folder must
            exist. None: they are known to this object alone.

    Attributes:
        looks: the reasons of all looks at these samples, oldest first.

    Raises:
        DataError: a file that cannot be read or written, or holds something else.
    """

    def __init__(self, dataset: Dataset, file: str | os.PathLike[str] | None = None) -> None:
        self._dataset, self.name = dataset, dataset.name
        self.file = None if file is None else Path(file)
        self._own: list[str] = []
        self._read()

    @property
    def looks(self) -> list[str]:
        return self._read() if self.file is not None else list(self._own)

    def look(self, why: str) -> Dataset:
        """The samples. `why` stands in the report: which model is scored, and what comes of it.

        Raises:
            ShapeError: no reason.
            DataError: the look cannot be written down.
        """
        why = one_line(why)
        if not why:
            raise ShapeError("ScoreOnce.look: why: expected a reason, got none")
        before = self.looks
        if self.file is None:
            self._own.append(why)
        else:
            self._write({"checksum": self._dataset.checksum, "name": self.name, "why": why})
        if before:
            warnings.warn(
                f"ScoreOnce: {self.name} was looked at {_times(len(before))} before (first: {before[0]}): "
                "this score is not one of unseen samples",
                HeldOutWarning,
                stacklevel=2,
            )
        return self._dataset

    def report(self) -> str:
        """How often, and why: for the page that has the scores."""
        looks = self.looks
        if not looks:
            return f"{self.name}: held out, not looked at yet"
        if len(looks) == 1:
            return f"{self.name}: held out, looked at once: {looks[0]}"
        reasons = "".join(f"\n    {number}. {why}" for number, why in enumerate(looks, start=1))
        return (
            f"{self.name}: held out, but looked at {_times(len(looks))}; scores after the first look are "
            f"too good if anything was chosen by it:{reasons}"
        )

    def __len__(self) -> int:
        return len(self._dataset)

    def __repr__(self) -> str:
        return f"ScoreOnce({self.name}, {len(self)} samples, looked at {_times(len(self.looks))})"

    def _read(self) -> list[str]:
        """The looks in the file at samples like these."""
        if self.file is None or not self.file.exists():
            return []
        found = []
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise DataError(f"{self.file}: not read: {error}") from error
        for number, line in enumerate(lines, start=1):
            try:
                look = json.loads(line)
                known, why = look["checksum"], str(look["why"])
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(f"{self.file}: line {number}: expected a look, got {line[:50]!r}") from error
            if known == self._dataset.checksum:
                found.append(why)
        return found

    def _write(self, look: Mapping[str, Any]) -> None:
        """One line at the end, in one write: looks of two processes do not mix."""
        line = (json.dumps(look, ensure_ascii=False) + "\n").encode()
        try:
            with open(self.file, "ab", buffering=0) as file:  # type: ignore[arg-type]
                file.write(line)
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f"{self.file}: not written: {error.strerror or error}") from error


def _times(count: int) -> str:
    return "never" if count == 0 else "once" if count == 1 else f"{count} times"
