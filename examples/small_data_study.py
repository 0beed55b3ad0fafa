"""The published small-data tables, redone: every cell, ten seeds, verdicts by rules that were fixed before.

    python examples/small_data_study.py --quick              every cell in a few steps: does everything work?
    python examples/small_data_study.py run a e --seeds 3    the missing runs of two tables
    python examples/small_data_study.py run --jobs 8         everything, eight processes of one thread each
    python examples/small_data_study.py choose c d f         from the trials: chosen.json
    python examples/small_data_study.py report               score, and write the page with its figures
    python examples/small_data_study.py report --readme README.md     and the table in that file
    python examples/small_data_study.py check --runs 3       run three again: the same bits?
    python examples/small_data_study.py cost                 measure short slices of every cell: cost.md

Tables: a, b (Varga, Csiszárik and Zombori), c (Ishii and Sato 2017), d (Ishii and Sato 2019), e, e-samples
(Hoffman, Roberts and Yaida), f (the best recipe for few digits), g, g-step (what the penalties do). c, d and
f have trials first (c-trials, ...), from which `choose` takes the winners.

A run that is killed, at whatever moment, costs that run alone: call again and it goes on. Predictions are
written before anything is scored. `report` looks at the official test labels once for each table and writes
the look down; where a recipe has changed since, it refuses unless it is given `--again`, and then says so.

The folder `--out` (default: small_data_study/ beside this file) holds runs/ (a line a run, predictions,
looks), README.md and the figures.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import sys
from pathlib import Path

import tinydl as td
from tinydl.files import DataError, atomic_write
from tinydl.study import Study, choose, write_json

try:
    from small_data_study import cost, page, tables
    from small_data_study.training import load
except ImportError as error:
    sys.exit(f"small_data_study: {error}: pip install '.[examples]'")

HERE = Path(__file__).parent / "small_data_study"
say = functools.partial(print, flush=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="small_data_study.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("action", nargs="?", default="all", choices=("all", "run", "choose", "report", "check", "cost"),
        help="default: run, then report")  # fmt: skip
    add("names", nargs="*", metavar="TABLE", help="default: all")
    add("--data", help="folder above mnist/ (default: TINYDL_DATA, else the cache)")
    add("--out", type=Path, help="default: small_data_study/ beside this file; with --quick results/")
    add("--quick", action="store_true", help="one seed, three steps and forty predictions of every cell")
    add("--seeds", type=int, metavar="N", help="the first N seeds of each table only")
    add("--jobs", type=int, default=1, metavar="N", help="processes (joblib), one thread each; -1: all cores")
    add("--again", action="store_true", help="allow, and write down, a second look at held-out labels")
    add("--readme", type=Path, metavar="FILE", help="report: renew the study's table in this file, too")
    add("--runs", type=int, default=3, metavar="N", help="check: how many (default %(default)s)")
    options = parser.parse_args(arguments)
    default = Path("results/small_data_study") if options.quick else HERE
    options.out = options.out or default
    return options


def checked(options: argparse.Namespace, study: Study, names: list[str]) -> int:
    """Random runs once more; 1 where one has other bits."""
    done = [(run, result) for name in names for run, result in study.results(name) if "digest" in result]
    wrong = 0
    for run, result in random.SystemRandom().sample(done, min(options.runs, len(done))):
        again = study.again(tables.runner(options.data), run)
        same = again["digest"] == result["digest"]
        here, there = (made["environment"] for made in (again, result))
        alike = all(here[key] == there[key] for key in ("numpy", "numba", "llvmlite", "vector bits"))
        wrong += not same and alike
        told = (
            "the same bits"
            if same
            else "OTHER BITS" + ("" if alike else ", made with other versions or vectors")
        )
        say(f"{run['table']}: {run['cell']}, seed {run['seed']}: {told}")
    return int(wrong > 0)


def experiment(options: argparse.Namespace) -> int:
    found = tables.tables(guess=options.quick or options.action == "cost")
    found = [tables.quick(table) for table in found] if options.quick else found
    known = [table.name for table in found]
    if unknown := [name for name in options.names if name not in known]:
        raise DataError(f"expected tables among {', '.join(known)}, got {', '.join(unknown)}")
    names, runs = options.names or known, options.out / "runs"
    study = Study(runs, found)
    if options.action in ("all", "run"):
        over = "here" if options.jobs == 1 else "processes"
        runner = tables.runner(options.data)
        study.run(runner, names, seeds=options.seeds, over=over, jobs=options.jobs, say=say)
    if options.action == "choose":
        chosen = json.loads(tables.CHOSEN.read_text(encoding="utf-8")) if tables.CHOSEN.exists() else {}
        for name in options.names:
            done, trials = study.results(f"{name}-trials"), study.tables[f"{name}-trials"]
            if len(done) < len(trials.runs()):
                raise DataError(f"choose {name}: expected {len(trials.runs())} trials, got {len(done)}")
            chosen[name] = choose(done, "validation")
        write_json(tables.CHOSEN, chosen)
        say(f"{tables.CHOSEN}: to be committed before anything of it is scored")
    if options.action in ("all", "report"):
        results = page.gather(study, names, functools.partial(load, folder=options.data), options.again)
        page.write(options.out, results, study)
        say(f"README.md and its figures are in {options.out}")
        if options.readme is not None:
            text = page.renewed(options.readme.read_text(encoding="utf-8"), page.headline(results))
            with atomic_write(options.readme, "w") as file:
                file.write(text)
    if options.action == "check":
        return checked(options, study, names)
    if options.action == "cost":
        data = functools.partial(load, folder=options.data)
        wanted = [table for table in found if table.name in names]
        spent = cost.measured(wanted, tables.runner(options.data), data, options.out / "cost.json", say)
        with atomic_write(options.out / "cost.md", "w") as file:
            file.write(cost.page(study, wanted, spent))
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        return experiment(options)
    except KeyboardInterrupt:
        print(f"small_data_study: interrupted; the next call goes on from {options.out}", file=sys.stderr)
        return 130
    except (td.TinydlError, OSError) as error:
        print(f"small_data_study: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
