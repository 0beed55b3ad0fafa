"""What the study costs: processor time of one run of every cell, from short slices of the real steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tinydl_kernels.cpu import threads

from small_data_study.tables import signature
from small_data_study.training import Cell, Data, fit
from tinydl.study import Table, environment, markdown_table

FEW, MORE = 20, 120  # steps of the two slices


def seconds(run: Callable[[Cell], Any], cell: Cell, data: Data) -> float:
    """Processor time of a run: a run of FEW steps with all that comes before and after, and the other steps
    by the difference of a fit of MORE and one of FEW. The first of each compiles, and does not count.
    """

    def spent(action: Callable[[Cell], Any], steps: int) -> float:
        start = time.process_time()
        action(cell | {"steps": steps})
        return time.process_time() - start

    if cell.get("kind") == "step":
        spent(run, FEW)
        return spent(run, FEW) + (cell["steps"] - FEW) * (spent(run, MORE) - spent(run, FEW)) / (MORE - FEW)
    fits = lambda own: fit(own, data)  # noqa: E731
    spent(run, FEW)
    whole, few, more = spent(run, FEW), spent(fits, FEW), spent(fits, MORE)
    return whole + (cell["steps"] - FEW) * max(0.0, more - few) / (MORE - FEW)


def measured(
    tables: Sequence[Table],
    run: Callable[[Cell], Any],
    data: Callable[[str], Data],
    say: Callable[[str], None],
) -> dict[str, dict[str, float]]:
    """Processor seconds of one run of each cell, one thread."""
    known: dict[str, float] = {}
    threads.set_num_threads(1)
    found: dict[str, dict[str, float]] = {}
    for table in tables:
        found[table.name] = {}
        for name, settings in table.cells.items():
            cell = {**settings, "table": table.name, "cell": name, "seed": int(table.seeds[0])}
            key = signature(settings)
            if key not in known:
                known[key] = seconds(run, cell, data(cell.get("data", "mnist")))
                say(f"{table.name} {name}: {known[key]:.1f} s")
            found[table.name][name] = known[key]
    return found


def page(
    tables: Sequence[Table], found: Mapping[str, Mapping[str, float]], planned: Mapping[str, str]
) -> str:
    """cost.md."""
    stamp, rows, detail, total = environment(), [], [], 0.0
    for table in tables:
        own = found.get(table.name)
        if not own:
            rows.append([table.name, "", str(len(table.seeds)), "", "", "", planned.get(table.name, "")])
            continue
        hours = sum(own.values()) * len(table.seeds) / 3600
        total += hours
        span = f"{min(own.values()):.1f} to {max(own.values()):.1f}"
        runs = len(own) * len(table.seeds)
        note = planned.get(table.name, "")
        rows.append([table.name, str(len(own)), str(len(table.seeds)), str(runs), span, f"{hours:.2f}", note])
        for name, one in own.items():
            detail.append([table.name, name, f"{one:.1f}", f"{one * len(table.seeds) / 3600:.3f}"])
    head = ["table", "cells", "seeds", "runs", "CPU s a run", "core-hours", ""]
    return f"""# What the study costs

Made by `python examples/small_data_study.py cost`. Processor time (`time.process_time`) of one thread on
{stamp["cpu"]} with vectors of {stamp["vector bits"]} bits, on a machine that others used,
so upper bounds. A run's time is that of one of {FEW} steps, predictions and measurements included, and of its
other steps by the difference of {MORE} and {FEW} steps, compilation left out; cells that differ only in
numbers which change no work were measured once.

{markdown_table(head, rows)}

In all {total:.1f} core-hours, without what waits for its trials.

## Each cell

{markdown_table(["table", "cell", "CPU s a run", "core-hours"], detail)}
"""
