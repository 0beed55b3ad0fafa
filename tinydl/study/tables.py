"""A study: tables of cells, each run with several seeds, and a folder that holds what came of it."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.cpu import threads

from ..files import DataError
from .cells import read_cells, run_cells
from .looks import Looks
from .predictions import Predictions, digest
from .report import environment, plain

Settings = dict[str, Any]


class Table(NamedTuple):
    """Cells by name, all run with the same seeds.

    cells   name -> the settings of its runs, as JSON has them
    seeds   one run of each cell for each
    """

    name: str
    cells: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int]

    @property
    def recipe(self) -> str:
        """Digest of all that decides what the runs are, but the seeds."""
        text = json.dumps(plain(dict(self.cells)), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def runs(self, seeds: int | None = None) -> list[Settings]:
        """The cells of every run, seed by seed, so that a table that is not done has as many of each cell."""
        return [
            {"table": self.name, "cell": name, "seed": int(seed), **settings}
            for seed in list(self.seeds)[:seeds]
            for name, settings in self.cells.items()
        ]


class Outcome(NamedTuple):
    """What a run leaves: numbers for its line, and classes of held-out samples by the set's name."""

    numbers: Mapping[str, Any]
    classes: Mapping[str, np.ndarray] = {}
    data: str = ""  # checksum of what it was trained and tried on


class Study:
    """Runs tables of cells into a folder: ``<table>.jsonl``, a line a run, and ``<table>.npz``, what the
    networks predicted, both written before anything is scored; ``looks.jsonl``.

    Args:
        folder: made where it is not there.
        tables: in the order in which they are run.
    """

    def __init__(self, folder: str | os.PathLike[str], tables: Sequence[Table]) -> None:
        self.folder, self.tables = Path(folder), {table.name: table for table in tables}
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        train: Callable[[Settings], Outcome],
        names: Sequence[str] | None = None,
        *,
        seeds: int | None = None,
        over: str = "here",
        jobs: int = -1,
        say: Callable[[str], None] = print,
    ) -> None:
        """The runs of these tables (all) that are not in the folder yet, of the first `seeds` seeds, each on
        one thread. Killed at any moment, the next call goes on with those that are left; a run's bits depend
        on its cell alone.

        train   a function of a cell at the top of a module
        over    "here", "processes" or "ranks", as in `run_cells`
        say     gets a line of progress after each run

        Raises:
            CellError: a run has failed; the results of those before it stay.
        """
        for name in names if names is not None else self.tables:
            cells = self.tables[name].runs(seeds)
            file, progress = self.folder / f"{name}.jsonl", _Progress(name, len(cells), say)
            run_cells(_Run(train, self.folder), cells, file, over=over, jobs=jobs, progress=progress)
            Predictions(self.folder, name).pack([key_of(cell) for cell, _ in read_cells(file)])

    def again(self, train: Callable[[Settings], Outcome], run: Settings) -> dict[str, Any]:
        """The line of a run that is made anew, beside the one in the folder, which stays."""
        with tempfile.TemporaryDirectory() as folder:
            return _Run(train, Path(folder))(run)

    def results(self, name: str) -> list[tuple[Settings, dict[str, Any]]]:
        """The runs of a table that are done, as it is now, in its order."""
        done = {key_of(cell): result for cell, result in read_cells(self.folder / f"{name}.jsonl")}
        return [(run, done[key_of(run)]) for run in self.tables[name].runs() if key_of(run) in done]

    def predictions(self, name: str) -> list[tuple[Settings, dict[str, np.ndarray]]]:
        """What the runs of a table that are done have predicted, by the held-out set, uint8 (n,).

        Raises:
            DataError: predictions that are missing, or not those of the run's line.
        """
        kept, found = Predictions(self.folder, name).read(), []
        for run, result in self.results(name):
            own = kept.get(key_of(run))
            if own is None or digest(own) != result["digest"]:
                told = f"{run['cell']} {run['seed']}"
                raise DataError(f"{self.folder}/{name}: expected the predictions of {told}")
            found.append((run, own))
        return found

    def scores(
        self, name: str, labels: Mapping[str, np.ndarray], held_out: Sequence[str], again: bool = False
    ) -> dict[str, dict[str, dict[int, float]]]:
        """Accuracies in % of the runs that are done: set -> cell -> seed. A look at the labels of the sets
        `held_out` is written down first.

        Raises:
            SecondLookError: see `Looks`.
            DataError: see `predictions`; or there are fewer labels than predictions. No look is written down.
        """
        predicted = self.predictions(name)
        for _, own in predicted:
            for what, classes in own.items():
                if len(classes) > len(known := labels[what.partition(", ")[0]]):
                    raise DataError(
                        f"{name}: expected labels of the {len(classes)} samples of {what!r} that were "
                        f"predicted, got {len(known)}: are these the data of its runs?"
                    )
        runs = {f"{run['cell']} / {run['seed']}": digest(own) for run, own in predicted}
        looks = Looks(self.folder / "looks.jsonl")
        for held in held_out:
            checksum = hashlib.sha256(np.ascontiguousarray(labels[held], np.int64).tobytes()).hexdigest()[:16]
            looks.take(f"{name}: {held}", checksum, self.tables[name].recipe, runs, again)
        found: dict[str, dict[str, dict[int, float]]] = {}
        for run, own in predicted:
            for what, classes in own.items():
                right = 100 * float(np.mean(classes == labels[what.partition(", ")[0]][: len(classes)]))
                found.setdefault(what, {}).setdefault(run["cell"], {})[run["seed"]] = right
        return found


def key_of(run: Mapping[str, Any]) -> str:
    """A run's name: short, and another one for other settings."""
    text = json.dumps(plain(dict(run)), sort_keys=True)
    return f"{run['seed']}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class _Run:
    """A run of a cell, on one thread: what it predicts is in a file before its line is written."""

    def __init__(self, train: Callable[[Settings], Outcome], folder: Path) -> None:
        self.train, self.folder = train, folder

    def __call__(self, run: Settings) -> dict[str, Any]:
        wall, cpu, before = time.perf_counter(), time.process_time(), threads.get_num_threads()
        threads.set_num_threads(1)
        try:
            outcome = self.train(run)
            stamp = environment()
        finally:
            threads.set_num_threads(before)
        result: dict[str, Any] = dict(outcome.numbers)
        if outcome.classes:
            result["digest"] = Predictions(self.folder, run["table"]).write(key_of(run), **outcome.classes)
        return result | {
            "data": outcome.data,
            "seconds": round(time.perf_counter() - wall, 2),
            "cpu seconds": round(time.process_time() - cpu, 2),
            "environment": stamp,
        }


class _Progress:
    """Says after each run how many are done and about how long the others take: as long as the runs of their
    cell so far, else as the mean run.
    """

    def __init__(self, name: str, runs: int, say: Callable[[str], None]) -> None:
        self.name, self.runs, self.say = name, runs, say
        self.start, self.spent = time.monotonic(), dict[str, list[float]]()

    def __call__(self, run: Settings, result: Any, left: Sequence[Settings]) -> None:
        self.spent.setdefault(run["cell"], []).append(result["seconds"])
        everything = [x for own in self.spent.values() for x in own]
        mean = sum(everything) / len(everything)
        own = {cell: sum(spent) / len(spent) for cell, spent in self.spent.items()}
        side_by_side = max(1.0, sum(everything) / max(time.monotonic() - self.start, 1e-9))
        seconds = sum(own.get(other["cell"], mean) for other in left) / side_by_side
        self.say(
            f"{self.name}: {self.runs - len(left)} of {self.runs} runs, about "
            f"{datetime.timedelta(seconds=round(seconds))} left ({run['cell']}, seed {run['seed']}: "
            f"{result['seconds']:.0f} s)"
        )


def choose(results: Sequence[tuple[Settings, dict[str, Any]]], score: str) -> dict[str, Settings]:
    """Of the trials of each group, the settings with the best mean score over the seeds; the first of equals.

    The cells of a table of trials have a setting "group", and "trial" beside what they try.

    Raises:
        DataError: trials of one group with different numbers of seeds.
    """
    values: dict[str, dict[str, list[float]]] = {}
    settings: dict[str, Settings] = {}
    for run, result in results:
        values.setdefault(run["group"], {}).setdefault(run["cell"], []).append(result[score])
        settings[run["cell"]] = {
            name: value for name, value in run.items() if name not in ("table", "cell", "seed", "group")
        }
    chosen = {}
    for group, trials in values.items():
        if len({len(own) for own in trials.values()}) > 1:
            counts = {name: len(own) for name, own in trials.items()}
            raise DataError(f"{group}: expected as many seeds of every trial, got {counts}")
        best = max(trials, key=lambda name: sum(trials[name]))
        chosen[group] = settings[best]
    return chosen
