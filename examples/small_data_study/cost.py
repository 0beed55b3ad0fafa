"""What the study costs: processor time of one run of every cell, from short slices of the real steps."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tinydl_kernels.cpu import threads

from small_data_study.tables import signature
from small_data_study.training import Cell, Data, fit
from tinydl.study import Study, Table, environment, markdown_table, write_json

FEW, MORE = 20, 220  # steps of the two slices
SIZE = 2_000  # digits; of cells of several sizes that nearest to it is measured


class Cost(NamedTuple):
    """Processor seconds of a run."""

    few: float  # of one with FEW steps, predictions and measurements included
    step: float  # of each other step

    def of(self, steps: int) -> float:
        return self.few + (steps - FEW) * self.step


def seconds(run: Callable[[Cell], Any], cell: Cell, data: Data) -> Cost:
    """By a run of FEW steps, and the difference of a fit of MORE and one of FEW. The first of each compiles,
    and does not count.
    """

    def spent(action: Callable[[Cell], Any], steps: int) -> float:
        start = time.process_time()
        action(cell | {"steps": steps})
        return time.process_time() - start

    steps_alone = run if cell.get("kind") == "step" else lambda own: fit(own, data)
    spent(run, FEW)
    whole, few, more = spent(run, FEW), spent(steps_alone, FEW), spent(steps_alone, MORE)
    return Cost(whole, max(0.0, more - few) / (MORE - FEW))


def measured(
    tables: Sequence[Table],
    run: Callable[[Cell], Any],
    data: Callable[[str], Data],
    file: Path,
    say: Callable[[str], None],
) -> dict[str, dict[str, float]]:
    """Processor seconds of one run of each cell, one thread. What the file has is not measured again."""
    known = {
        key: Cost(*pair) for key, pair in (json.loads(file.read_text()) if file.exists() else {}).items()
    }
    samples: dict[str, Cell] = {}
    for table in tables:
        for name, settings in table.cells.items():
            cell = {**settings, "table": table.name, "cell": name, "seed": int(table.seeds[0])}
            key = _work(settings)
            if key not in samples or _distance(cell) < _distance(samples[key]):
                samples[key] = cell
    threads.set_num_threads(1)
    for key, cell in samples.items():
        if key not in known:
            known[key] = seconds(run, cell, data(cell.get("data", "mnist")))
            write_json(file, {name: list(map(float, cost)) for name, cost in known.items()})
            say(f"{cell['table']} {cell['cell']}: {known[key].of(cell['steps']):.1f} s")
    return {
        table.name: {name: known[_work(cell)].of(cell["steps"]) for name, cell in table.cells.items()}
        for table in tables
    }


def _work(cell: Mapping[str, Any]) -> str:
    return signature({**cell, "size": 0, "steps": 0})


def _distance(cell: Mapping[str, Any]) -> float:
    size = cell.get("size", SIZE)
    return math.inf if size is None else abs(math.log(size / SIZE))


def page(study: Study, tables: Sequence[Table], found: Mapping[str, Mapping[str, float]]) -> str:
    """cost.md; beside the slices what the runs that are done took."""
    stamp, rows, detail, total = environment(), [], [], 0.0
    for table in tables:
        own = found[table.name]
        if not own:
            continue
        hours = sum(own.values()) * len(table.seeds) / 3600
        total += hours
        span = f"{min(own.values()):.1f} to {max(own.values()):.1f}"
        runs = len(own) * len(table.seeds)
        done = [result["cpu seconds"] for _, result in study.results(table.name)]
        real = f"{min(done):.1f} to {max(done):.1f} ({len(done)} runs)" if done else ""
        rows.append([table.name, str(len(own)), str(len(table.seeds)), str(runs), span, f"{hours:.2f}", real])
        for name, one in own.items():
            detail.append([table.name, name, f"{one:.1f}", f"{one * len(table.seeds) / 3600:.3f}"])
    head = ["table", "cells", "seeds", "runs", "CPU s a run", "core-hours", "CPU s a run, of those done"]
    return f"""# What the study costs

Made by `python examples/small_data_study.py cost`. Processor time (`time.process_time`) of one thread on
{stamp["cpu"]} with vectors of {stamp["vector bits"]} bits, on a machine whose cores and
caches others used, so that it varies: the last column is what real runs took. A run's time is that of one
of {FEW} steps, predictions and measurements included, and of its other steps by the difference of {MORE} and
{FEW} steps, compilation left out. Cells that differ only in numbers which change no work, sizes among them,
were measured once, at the size nearest to {SIZE:,}; in c, d and f the first trials stand for the winners as
long as there are none.

{markdown_table(head, rows)}

In all {total:.1f} core-hours.

## Each cell

{markdown_table(["table", "cell", "CPU s a run", "core-hours"], detail)}
"""
