"""Held-out labels that a table of runs is scored against once, by predictions that were written before."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinydl_kernels.machine.errors import TinydlError

from ..files import DataError


class SecondLookError(TinydlError, RuntimeError):
    """Held-out labels were about to be looked at again, by another recipe or other predictions."""


class Looks:
    """The looks of tables of runs at held-out labels, a line of JSON each.

        looks = Looks("looks.jsonl")
        looks.take("table c", labels_checksum, recipe, {"seed 0": digest, ...})     # then score

    A look belongs to a table and its recipe. More runs of the same recipe (further seeds) go on with it; a
    changed recipe, or other predictions of a run that was scored, would be a second look, which is refused,
    or written down as one. (`td.data.ScoreOnce` guards one model's test set, and warns.)

    Args:
        file: where looks are written down before anything is scored; its folder must exist.

    Raises:
        DataError: a file that cannot be read or holds something else.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = Path(file)
        self.rows()

    def rows(self) -> list[dict[str, Any]]:
        """All looks, oldest first."""
        if not self.file.exists():
            return []
        found = []
        for number, line in enumerate(self.file.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                row = json.loads(line)
                found.append(
                    {name: row[name] for name in ("table", "labels", "recipe", "again", "time", "runs")}
                )
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(f"{self.file}: line {number}: expected a look, got {line[:50]!r}") from error
        return found

    def take(
        self, table: str, labels: str, recipe: str, runs: Mapping[str, str], again: bool = False
    ) -> dict[str, Any] | None:
        """Look: write down what is new, or refuse.

        Args:
            table: its name.
            labels: checksum of the held-out labels.
            recipe: digest of everything that decides what the table's runs are, but their seeds.
            runs: digests of the predictions of each run that is scored.
            again: take a second look, and say so in the file.

        Returns:
            The new row of the file; None where everything was seen before.

        Raises:
            SecondLookError: another recipe, or other predictions, and not `again`.
        """
        before = [row for row in self.rows() if row["table"] == table and row["labels"] == labels]
        seen = {key: digest for row in before for key, digest in row["runs"].items()}
        new = {key: digest for key, digest in runs.items() if seen.get(key) != digest}
        recipes = {row["recipe"] for row in before}
        if before and recipe not in recipes:
            told = f"its recipe {recipe} was another when it was scored ({', '.join(sorted(recipes))})"
        elif changed := sorted(key for key in new if key in seen):
            told = f"{len(changed)} runs have other predictions than those scored, {changed[0]} the first"
        else:
            told = ""
        if told and not again:
            raise SecondLookError(f"{table}: {told}: a second look takes --again, and is written down as one")
        if not new and not told:
            return None
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        row = {
            "table": table,
            "labels": labels,
            "recipe": recipe,
            "again": bool(told),
            "time": now,
            "runs": new,
        }
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        with open(self.file, "ab", buffering=0) as file:  # one write: looks of two processes do not mix
            file.write(line)
            os.fsync(file.fileno())
        return row

    def report(self) -> str:
        """How often each table looked, a line each, and which looks were second ones."""
        lines = []
        for table in dict.fromkeys(row["table"] for row in self.rows()):
            rows = [row for row in self.rows() if row["table"] == table]
            again = sum(row["again"] for row in rows)
            lines.append(
                f"{table}: {sum(len(row['runs']) for row in rows)} runs, first look {rows[0]['time']}, "
                + (f"SECOND LOOKS: {again}" if again else "no second look")
            )
        return "\n".join(lines)
