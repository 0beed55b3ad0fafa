"""What the programs of `examples/` share: their options, where results go, errors in one line."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.core import no_grad
from ..files import DataError, atomic_write
from ..nn.module import Module
from ..nn.utils.gradients import clip_grad_norm_
from ..ops.creation import tensor
from ..ops.softmax import cross_entropy
from ..record.recorder import record
from ..regularizers.passes import in_mode
from .report import environment, write_json
from .statistics import Estimate, estimate, paired_difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE, THUMBNAIL = 1_200, 320  # pixels across


def program_options(description: str, name: str) -> argparse.ArgumentParser:
    """A parser with the options of every program: --data, --quick, --full, --out, --thumbnail.

    Args:
        description: the program's docstring; shown as it is by --help.
        name: of the program; its picture, and the folder under ``results/`` where it lands.
    """
    parser = argparse.ArgumentParser(
        prog=f"{name}.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of the data sets (default: TINYDL_DATA, else the cache)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="a few steps of each: does everything work?")
    length.add_argument("--full", action="store_true", help="the long schedule")
    parser.add_argument("--out", type=Path, default=Path("results") / name, help="(default %(default)s)")
    parser.add_argument("--thumbnail", type=Path, metavar="PNG", help="write a small copy of the picture too")
    parser.set_defaults(program=name)
    return parser


def run_program(
    experiment: Callable[[argparse.Namespace], tuple[Figure, dict[str, Any]]], options: argparse.Namespace
) -> int:
    """Run `experiment(options)`; its figure and its numbers land in `options.out`, whole or not at all.

    Args:
        experiment: gives a figure (written as ``<name>.png``) and what ``results.json`` holds, beside the
            environment and the seconds that it took.
        options: of a parser that `program_options` made.

    Returns:
        0, or 1 after an error that a user can mend (data, files), told in one line.
    """
    start = time.perf_counter()
    picture = options.out / f"{options.program}.png"
    try:
        figure, results = experiment(options)
        seconds = time.perf_counter() - start
        options.out.mkdir(parents=True, exist_ok=True)
        for path, width in ((picture, PICTURE), (options.thumbnail, THUMBNAIL)):
            if path is not None:
                with atomic_write(path) as file:
                    figure.savefig(file, format="png", dpi=width / figure.get_figwidth())
        write_json(options.out / "results.json", {"environment": environment(), "seconds": seconds} | results)
    except (DataError, OSError) as error:
        print(f"{options.program}: {error}", file=sys.stderr)
        return 1
    print(f"{picture} and results.json beside it; {seconds:.0f} s")
    return 0


def train(
    model: Module,
    optimizer: Any,
    batches: Any,
    steps: int,
    loss: Callable[[Any, Any], Any] = cross_entropy,
    schedule: Any = None,
    clip: float | None = None,
) -> np.ndarray:
    """The plain loop, recorded: so many steps on ``batches.next_batch()``, one of the schedule after each;
    the gradient's norm at most `clip`.

    Returns:
        The loss of each minibatch before its step, float64 (steps,).
    """

    @record
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        found = loss(model(x), y)
        found.backward()
        if clip is not None:
            clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        return found

    model.train()
    return np.array([step(*batches.next_batch()).item() for _ in range(steps)], np.float64)


def error_rate(model: Module, images: np.ndarray, labels: np.ndarray, batch_size: int = 500) -> float:
    """The part of the images, in %, whose largest output is not that of the label; in evaluation mode.

    Args:
        model: gives (n, classes).
        images, labels: (n, ...) as the model takes them, and whole numbers (n,).
        batch_size: of the passes.
    """
    with no_grad(), in_mode(model, "eval"):
        wrong = [
            model(tensor(images[i : i + batch_size])).argmax(1).numpy() != labels[i : i + batch_size]
            for i in range(0, len(labels), batch_size)
        ]
    return 100 * float(np.concatenate(wrong).mean())


def differences(
    values: Mapping[str, Sequence[float]], pairs: Iterable[tuple[str, str]]
) -> dict[str, Estimate]:
    """The paired difference a - b of each pair of names, told in a line each (see `Estimate.told`).

    Args:
        values: name -> a value for each run, the same runs for all.
        pairs: (a, b).

    Returns:
        "a - b" -> the difference.
    """
    found = {f"{a} - {b}": paired_difference(values[a], values[b]) for a, b in pairs}
    width = max(map(len, found), default=0)
    for name, difference in found.items():
        print(f"  {name:{width}}  {difference.told()}")
    return found


def draw_runs(axes: Axes, values: Mapping[str, Sequence[float]], colors: Mapping[str, Any] = {}) -> None:
    """A row for each name, from above: a dot for each run, a bar and a number at their mean."""
    for row, (name, own) in enumerate(values.items()):
        color, mean = colors.get(name, "#2166ac"), estimate(own).mean
        axes.plot(own, [row] * len(own), "o", ms=6, color=color, alpha=0.5, mew=0)
        axes.plot([mean, mean], [row - 0.3, row + 0.3], color=color, lw=3)
        axes.annotate(f"{mean:.3g}", (mean, row - 0.32), ha="center", va="bottom", fontsize=9)
    axes.set(yticks=range(len(values)), yticklabels=list(values), ylim=(len(values) - 0.5, -0.8))
    axes.grid(alpha=0.25, axis="x", which="both")
