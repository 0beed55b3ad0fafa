"""A race of optimizers: along a valley, off a saddle, and on 2,000 handwritten digits.

    python examples/optimizers.py            about a minute on two cores
    python examples/optimizers.py --quick    a few steps of each: does everything work?

The valley is Rosenbrock's, whose floor is flat and bent. The saddle is (x² - y²) / 2 + y⁴ / 4, from a start
a thousandth off its ridge: gradient descent first goes to the saddle itself, where the gradient is nearly 0,
while methods that divide by the size of gradients leave it at once. The digits are learned by a LeNet, in
the same minibatches from the same weights. Rates are constant, those of TABLE: on the surfaces such that the
paths can be followed by eye; on the digits out of a grid by factors of about 3 the ones with the least error
on 2,000 development digits after 400 minibatches. One run each: what is a percent apart there is not told
apart (wilson.py asks that question).
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinydl as td
from tinydl import optim, study
from tinydl.data import Batches, mnist, normalize, subset
from tinydl.models import LeNet
from tinydl.study import environment, write_json

try:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    from tinydl import viz
except ImportError as error:
    sys.exit(f"optimizers: {error}: pip install '.[examples]'")

SIZE, DEV, BATCH_SIZE, POINTS = 2_000, 2_000, 50, 10
WOLFE = {"line_search_fn": "strong_wolfe", "max_iter": 1, "max_eval": 25}


class Racer(NamedTuple):
    """A class, what it is told everywhere, and its rates; None where it does not start."""

    kind: Any
    options: dict[str, Any]
    valley: float | None
    saddle: float | None
    digits: float | None


TABLE = {
    "SGD": Racer(optim.SGD, {}, 3e-3, 0.1, 0.1),
    "momentum .9": Racer(optim.SGD, {"momentum": 0.9}, 1e-3, 0.1, 0.03),
    "Adagrad": Racer(optim.Adagrad, {}, 0.3, 0.3, 0.03),
    "RMSprop": Racer(optim.RMSprop, {}, 0.01, 0.03, 3e-3),
    "Adam": Racer(optim.Adam, {}, 0.1, 0.1, 1e-3),
    "Lion": Racer(optim.Lion, {}, 0.01, 0.03, 3e-4),
    "LAMB": Racer(optim.LAMB, {"weight_decay": 0.0}, 0.01, 0.03, 0.01),
    "Muon + Adam": Racer(optim.Muon, {"weight_decay": 0.0}, None, None, 0.01),
    "Prodigy": Racer(optim.Prodigy, {}, None, None, 3.0),
    "L-BFGS": Racer(optim.LBFGS, WOLFE, 1.0, 1.0, None),
}


# ---- two surfaces


class Surface(NamedTuple):
    height: Callable[[Any, Any], Any]  # of (x, y), numbers or tensors
    start: tuple[float, float]
    box: tuple[float, float, float, float]  # x from, to, y from, to
    minima: list[tuple[float, float]]


SURFACES = {
    "valley": Surface(
        lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2, (-1.2, 1.0), (-1.6, 1.6, -0.6, 1.8), [(1.0, 1.0)]
    ),
    "saddle": Surface(
        lambda x, y: (x**2 - y**2) / 2 + y**4 / 4,
        (-1.5, 1e-3),
        (-1.8, 1.0, -1.4, 1.4),
        [(0.0, 1.0), (0.0, -1.0)],
    ),
}


def walk(racer: Racer, surface: Surface, rate: float, steps: int) -> np.ndarray:
    """The points (steps + 1, 2) from the start on."""
    make = functools.partial(racer.kind, lr=rate, **racer.options)
    return study.walk(surface.height, surface.start, make, steps)


def arrival(surface: Surface, points: np.ndarray) -> int | None:
    """The first step after which a minimum is nearer than .05; None if there is none."""
    away = np.min([np.hypot(*(points - m).T) for m in surface.minima], axis=0)
    return int(np.argmax(away < 0.05)) if (away < 0.05).any() else None


# ---- the digits


class Digits(NamedTuple):
    batches: Callable[[], Batches]
    dev: tuple[np.ndarray, np.ndarray]
    source: str


def load_digits(folder: str | None) -> Digits:
    """2,000 of MNIST's training digits to learn from, 2,000 of its test digits to look at; normalized."""
    train, dev = mnist("train", folder), mnist("test", folder)
    chosen = subset(0, min(SIZE, len(train.labels)), len(train.labels))
    inputs = normalize(train.images[chosen])[0][:, None]
    labels = train.labels[chosen]
    held = normalize(dev.images[:DEV])[0][:, None], dev.labels[:DEV]
    return Digits(lambda: Batches(inputs, labels, batch_size=BATCH_SIZE, seed=0), held, train.source)


def optimizers(racer: Racer, model: td.nn.Module) -> list[Any]:
    """One for all parameters; beside Muon, which takes matrices alone, Adam for the others."""
    params = list(model.parameters())
    if racer.kind is not optim.Muon:
        return [racer.kind(params, lr=racer.digits, **racer.options)]
    muon = racer.kind([p for p in params if p.ndim > 1], lr=racer.digits, **racer.options)
    return [muon, optim.Adam([p for p in params if p.ndim <= 1], lr=3e-3)]


def learn(racer: Racer, digits: Digits, steps: int) -> tuple[list[list[float]], float]:
    """The curve, rows of (minibatches, mean training loss since the row before, dev error %); seconds in
    steps.
    """
    with td.random_from(td.Generator(0)):
        model = LeNet("none")
    chosen, batches = optimizers(racer, model), digits.batches()

    @td.record
    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        for optimizer in chosen:
            optimizer.zero_grad()
        loss = td.cross_entropy(model(x), y)
        loss.backward()
        for optimizer in chosen:
            optimizer.step()
        return loss

    @td.record
    def logits(x: td.Tensor) -> td.Tensor:
        return model(x)

    def error() -> float:
        images, labels = digits.dev
        with td.no_grad():
            found = [logits(images[i : i + 500]).numpy().argmax(1) for i in range(0, len(images), 500)]
        return 100 * float(np.mean(np.concatenate(found) != labels))

    step(*batches.next_batch())  # compiles; the clock starts after it
    curve, losses, seconds = [], [], 0.0
    points = {max(2, steps * (k + 1) // POINTS) for k in range(POINTS)}
    for done in range(2, max(2, steps) + 1):
        before = time.perf_counter()
        losses.append(step(*batches.next_batch()).item())
        seconds += time.perf_counter() - before
        if done in points:
            curve.append([done, float(np.mean(losses)), error()])
            losses = []
    return curve, seconds / max(1, steps - 1)


# ---- what is shown


def picture(walks: dict[str, dict[str, np.ndarray]], curves: dict[str, list[list[float]]]) -> Figure:
    figure = Figure(figsize=(12, 10), layout="constrained")
    (valley, saddle), (loss, wrong) = figure.subplots(2, 2)
    colors = dict(zip(TABLE, colormaps["tab10"].colors, strict=False))
    for axes, (name, surface) in zip((valley, saddle), SURFACES.items(), strict=True):
        left, right, low, high = surface.box
        x, y = np.meshgrid(np.linspace(left, right, 200), np.linspace(low, high, 200))
        z = surface.height(x, y)
        above = np.log(z - z.min() + 1e-2)
        axes.contour(x, y, above, levels=24, colors="#999999", linewidths=0.5)
        for racer, points in walks[name].items():
            axes.plot(*points.T, color=colors[racer], label=racer, linewidth=1.2, marker=".", markersize=2)
        axes.plot(*zip(*surface.minima, strict=True), "k*", markersize=12, zorder=5)
        axes.plot(*surface.start, "ko", markersize=6, zorder=5)
        axes.set(xlim=(left, right), ylim=(low, high), title=f"{name}: {len(points) - 1} steps from the dot")
    for axes, column, label in ((loss, 1, "training cross-entropy"), (wrong, 2, "development error (%)")):
        for racer, curve in curves.items():
            rows = np.array(curve)
            shown = np.where(rows[:, column] > 0, rows[:, column], np.nan)
            axes.plot(rows[:, 0], shown, color=colors[racer], label=racer, linewidth=1.2)
        axes.set(yscale="log", xlabel=f"minibatches of {BATCH_SIZE}", ylabel=label)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.grid(alpha=0.25)
    loss.set_title(f"LeNet on {SIZE:,} digits")
    handles = {
        h.get_label(): h for axes in (valley, loss) for h in axes.get_lines() if h.get_label() in TABLE
    }
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=5, frameon=False)
    for axes in (valley, saddle, loss, wrong):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def race(options: argparse.Namespace) -> None:
    walked, steps = (20, 10) if options.quick else (options.walk, options.steps)
    digits = load_digits(options.data)
    print(f"Data: {digits.source}.\n")
    print("steps until a minimum is nearer than .05; after them the digits, rates in parentheses\n")
    print(f"{'':12} {'valley':>14} {'saddle':>14}   {'loss':>7} {'dev error':>10} {'ms a step':>10}")
    walks: dict[str, dict[str, np.ndarray]] = {name: {} for name in SURFACES}
    curves: dict[str, list[list[float]]] = {}
    table: dict[str, dict[str, Any]] = {}
    for name, racer in TABLE.items():
        own: dict[str, Any] = {}
        cells = []
        for place, surface in SURFACES.items():
            rate = getattr(racer, place)
            if rate is not None:
                walks[place][name] = walk(racer, surface, rate, walked)
                own[place] = arrival(surface, walks[place][name])
                there = "-" if own[place] is None else str(own[place])
            cells.append("" if rate is None else f"{there} ({rate:g})")
        text = f"{name:12} {cells[0]:>14} {cells[1]:>14}"
        if racer.digits is not None:
            curves[name], seconds = learn(racer, digits, steps)
            _, own["loss"], own["dev_error"] = curves[name][-1]
            own["ms"] = 1e3 * seconds
            text += f"   {own['loss']:7.4f} {own['dev_error']:8.2f} % {own['ms']:10.2f}   ({racer.digits:g})"
        print(text, flush=True)
        table[name] = own
    options.out.mkdir(parents=True, exist_ok=True)
    viz.save(picture(walks, curves), options.out / "optimizers.png", dpi=110)
    found = {"environment": environment(), "digits": digits.source, "table": table, "curves": curves}
    write_json(options.out / "results.json", found)
    print(f"\noptimizers.png and results.json are in {options.out}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder above mnist/ (default: TINYDL_DATA, the cache, the mirrors)")
    parser.add_argument("--walk", type=int, default=300, help="steps on the surfaces (default %(default)s)")
    parser.add_argument("--steps", type=int, default=400, help="minibatches (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few steps of each")
    parser.add_argument("--out", type=Path, default=Path("results/optimizers"), help="folder of the results")
    options = parser.parse_args(arguments)
    if options.walk < 1 or options.steps < 2:
        parser.error(f"expected 1 step and 2 minibatches or more, got {options.walk} and {options.steps}")
    try:
        race(options)
    except (td.TinydlError, OSError) as error:
        print(f"optimizers: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
