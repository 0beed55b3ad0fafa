"""Adaptive against plain methods on 2,000 handwritten digits: which of Wilson's findings hold here?

    python examples/wilson.py            tuning, then 5 seeds: some minutes on two cores
    python examples/wilson.py --quick    a few steps of each: does everything work?

Wilson, Roelofs, Stern, Srebro & Recht, The marginal value of adaptive gradient methods in machine learning
(arXiv 1705.08292), found on larger problems that

    1. adaptive methods generalize worse than plain ones;
    2. even where they reach the same training loss or a lower one;
    3. they are faster at first on the training data, but soon come to a halt on the development data;
    4. Adam, which is said to need no tuning, gains from a tuned rate and decay.

Here SGD and SGD with momentum are the plain methods, Adagrad, RMSprop and Adam the adaptive ones. Each has
its rate chosen out of the same number of rates, by factors of about 3, with and without a fall to 0 along a
cosine, by the error on development digits of one network that is not used again. Then networks of several
seeds are scored on test digits: those of one seed share their digits, initial weights and minibatches, so
differences are taken in pairs. A finding holds, or its opposite does, where the mean difference is beyond two
standard errors of at least three pairs; else it is undecided.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinydl as td
from tinydl import optim
from tinydl.data import Batches, mnist, normalize, subset
from tinydl.models import LeNet
from tinydl.optim.lr_scheduler import CosineAnnealingLR
from tinydl.study import Estimate, environment, estimate, write_json

try:
    from tinydl import viz
except ImportError as error:
    sys.exit(f"wilson: {error}: pip install '.[examples]'")

SIZE, BATCH_SIZE, POINTS = 2_000, 50, 10
TUNING = 1_000
"""The seed of the networks that rates are chosen by."""
GRIDS: dict[str, tuple[Any, dict[str, Any], tuple[float, ...]]] = {
    "SGD": (optim.SGD, {}, (0.01, 0.03, 0.1, 0.3, 1.0)),
    "momentum": (optim.SGD, {"momentum": 0.9}, (1e-3, 3e-3, 0.01, 0.03, 0.1)),
    "Adagrad": (optim.Adagrad, {}, (1e-3, 3e-3, 0.01, 0.03, 0.1)),
    "RMSprop": (optim.RMSprop, {}, (1e-4, 3e-4, 1e-3, 3e-3, 0.01)),
    "Adam": (optim.Adam, {}, (3e-4, 1e-3, 3e-3, 0.01, 0.03)),
}
PLAIN, ADAPTIVE = ("SGD", "momentum"), ("Adagrad", "RMSprop", "Adam")
DEFAULT = "Adam as it comes"


class Setting(NamedTuple):
    method: str  # of GRIDS
    lr: float
    falls: bool  # along a cosine, to 0 at the end


class Digits(NamedTuple):
    images: np.ndarray  # float32 (n, 1, 28, 28)
    labels: np.ndarray


class Scores(NamedTuple):
    """Of one network. A row of `curve` is (minibatches, mean training loss since the row before, dev error
    %).
    """

    curve: list[list[float]]
    loss: float  # over the training digits at the end
    dev: float  # errors, %
    test: float

    @property
    def early(self) -> float:
        """The mean training loss of the first tenth."""
        return self.curve[0][1]

    @property
    def late_gain(self) -> float:
        """By how much the dev error fell in the second half."""
        return self.curve[len(self.curve) // 2 - 1][2] - self.dev


def load_digits(folder: str | None) -> tuple[Any, Digits, Digits, str]:
    """The images to draw from; development and test digits; where they are from. MNIST's test images are to
    develop on, the last as many of its training images to test on.
    """
    train, official = mnist("train", folder), mnist("test", folder)
    held = len(train.labels) - len(official.labels)
    pool = train.images[:held], train.labels[:held]
    dev = Digits(normalize(official.images)[0][:, None], official.labels)
    return pool, dev, Digits(normalize(train.images[held:])[0][:, None], train.labels[held:]), train.source


def train(
    setting: Setting, seed: int, pool: Any, dev: Digits, test: Digits, steps: int, points: int = POINTS
) -> Scores:
    """One LeNet on one seed's digits."""
    images, labels = pool
    chosen = subset(seed, min(SIZE, len(labels)), len(labels))
    own = Digits(normalize(images[chosen])[0][:, None], labels[chosen])
    with td.random_from(td.Generator(seed)):
        model = LeNet("none")
    kind, options, _ = GRIDS[setting.method]
    optimizer = kind(model.parameters(), lr=setting.lr, **options)
    schedule = CosineAnnealingLR(optimizer, steps) if setting.falls else None
    batches = Batches(*own, batch_size=BATCH_SIZE, seed=seed)

    @td.record
    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        loss = td.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        return loss

    @td.record
    def logits(x: td.Tensor) -> td.Tensor:
        return model(x)

    def outputs(digits: Digits) -> np.ndarray:
        with td.no_grad():
            parts = [
                logits(digits.images[i : i + 500]).numpy().copy() for i in range(0, len(digits.labels), 500)
            ]
        return np.concatenate(parts)

    def error(digits: Digits) -> float:
        return 100 * float(np.mean(outputs(digits).argmax(1) != digits.labels))

    curve, losses = [], []
    marks = {steps * (k + 1) // points for k in range(points)}
    for done in range(1, steps + 1):
        losses.append(step(*batches.next_batch()).item())
        if done in marks:
            curve.append([done, float(np.mean(losses)), error(dev)])
            losses = []
    loss = td.cross_entropy(td.tensor(outputs(own)), td.tensor(own.labels)).item()
    return Scores(curve, loss, curve[-1][2], error(test))


def tune(method: str, rates: Sequence[float], score: Callable[[Setting], float]) -> tuple[Setting, float]:
    """The setting with the least development error, and that; the first among equals."""
    grid = [Setting(method, lr, falls) for falls, lr in itertools.product((False, True), rates)]
    errors = [score(setting) for setting in grid]
    best = int(np.argmin(errors))
    return grid[best], errors[best]


# ---- the findings


class Finding(NamedTuple):
    claim: str
    numbers: dict[str, Estimate]  # each above 0 where it speaks for the claim
    verdict: str


def judged(claim: str, numbers: dict[str, Estimate]) -> Finding:
    """It holds where all numbers say so; its opposite where all say that."""
    sides = {np.sign(x.mean) if x.beyond(errors=2.0, least=3) else 0 for x in numbers.values()}
    verdict = {(1,): "holds", (-1,): "the opposite holds"}.get(tuple(sides), "undecided")
    return Finding(claim, numbers, verdict)


def findings(runs: Mapping[str, Sequence[Scores]], plain: str) -> list[Finding]:
    """What the runs (method -> one per seed) say of the four findings; `plain` is the better plain method."""

    def mean(methods: Sequence[str], what: Callable[[Scores], float]) -> np.ndarray:
        """Of each seed, over methods."""
        return np.mean([[what(run) for run in runs[name]] for name in methods], 0)

    def test(run: Scores) -> float:
        return run.test

    gap = estimate(mean(ADAPTIVE, test) - mean(PLAIN, test))
    first = judged("adaptive methods generalize worse", {"test error, adaptive - plain": gap})
    as_low = [
        name
        for name in ADAPTIVE
        if np.mean([run.loss for run in runs[name]]) <= np.mean([run.loss for run in runs[plain]])
    ]
    claim = f"also where their training loss is as low as that of {plain}"
    if as_low:
        names = ", ".join(as_low)
        numbers = {f"test error, {names} - {plain}": estimate(mean(as_low, test) - mean([plain], test))}
        second = judged(claim, numbers)
    else:
        second = Finding(claim, {}, "not put to the test: none is as low")
    faster = estimate(mean(PLAIN, lambda run: run.early) - mean(ADAPTIVE, lambda run: run.early))
    halts = estimate(mean(PLAIN, lambda run: run.late_gain) - mean(ADAPTIVE, lambda run: run.late_gain))
    third = judged(
        "they are faster at first, then halt on development data",
        {
            "training loss of the first tenth, plain - adaptive": faster,
            "fall of the dev error in the second half, plain - adaptive": halts,
        },
    )
    tuned = estimate(mean([DEFAULT], test) - mean(["Adam"], test))
    fourth = judged("Adam gains from tuning", {"test error, as it comes - tuned": tuned})
    return [first, second, third, fourth]


def experiment(options: argparse.Namespace) -> None:
    seeds, steps = (2, 10) if options.quick else (options.seeds, options.steps)
    pool, dev, test, source = load_digits(options.data)
    print(f"Data: {source}.")
    print(f"LeNet on {min(SIZE, len(pool[1])):,} digits, {steps:,} minibatches of {BATCH_SIZE}.\n")
    print("chosen by the development error of one network:")
    settings: dict[str, Setting] = {}
    errors: dict[str, float] = {}
    for method, (_, _, rates) in GRIDS.items():
        settings[method], errors[method] = tune(
            method,
            rates[1:3] if options.quick else rates,
            lambda setting: train(setting, TUNING, pool, dev, test, steps, points=1).dev,
        )
        end = " (an end of the grid)" if settings[method].lr in (rates[0], rates[-1]) else ""
        way = "falling to 0" if settings[method].falls else "constant"
        print(
            f"  {method:16} rate {settings[method].lr:<6g} {way:12} {errors[method]:5.2f} %{end}", flush=True
        )
    settings[DEFAULT] = Setting("Adam", 1e-3, False)
    plain = min(PLAIN, key=errors.__getitem__)

    runs: dict[str, list[Scores]] = {name: [] for name in settings}
    print("\ntest error (%) of each network")
    for seed in range(seeds):
        for name, setting in settings.items():
            runs[name].append(train(setting, seed, pool, dev, test, steps))
        scores = ", ".join(f"{name} {own[-1].test:.2f}" for name, own in runs.items())
        print(f"  seed {seed}: {scores}", flush=True)
    print(
        f"\nmeans over {seeds} seeds ± standard error\n{'':18} {'training loss':>18} {'test error (%)':>16}"
    )
    for name, own in runs.items():
        loss, wrong = (estimate([getattr(run, what) for run in own]) for what in ("loss", "test"))
        print(f"{name:18} {loss.mean:9.5f} ± {loss.error:.5f} {wrong.mean:8.2f} ± {wrong.error:.2f}")
    found = findings(runs, plain)
    print("\nWilson's findings, in paired differences")
    for number, finding in enumerate(found, 1):
        print(f"  {number}. {finding.claim}: {finding.verdict}")
        for what, x in finding.numbers.items():
            print(f"       {what}: {x.mean:+.3f} ± {x.error:.3f}")

    options.out.mkdir(parents=True, exist_ok=True)
    curves = {name: np.array([run.curve for run in own]) for name, own in runs.items()}
    labels = {1: "training cross-entropy", 2: "development error (%)"}
    panels = {label: {name: curve[:, :, k] for name, curve in curves.items()} for k, label in labels.items()}
    points = curves[plain][0, :, 0]
    title = f"LeNet on {SIZE:,} digits, tuned rates, {seeds} seeds"
    viz.save(viz.learning_curves(points, panels, title), options.out / "wilson.png")
    results = {"environment": environment(), "digits": source, "settings": settings, "tuned": errors}
    write_json(options.out / "results.json", {**results, "findings": found, "runs": runs})
    print(f"\nwilson.png and results.json are in {options.out}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder above mnist/ (default: TINYDL_DATA, the cache, the mirrors)")
    parser.add_argument("--steps", type=int, default=600, help="minibatches (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="pairs (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few steps of each")
    parser.add_argument("--out", type=Path, default=Path("results/wilson"), help="folder of the results")
    options = parser.parse_args(arguments)
    if options.steps < POINTS or options.seeds < 1:
        parser.error(
            f"expected {POINTS} minibatches and 1 seed or more, got {options.steps} and {options.seeds}"
        )
    try:
        experiment(options)
    except (td.TinydlError, OSError) as error:
        print(f"wilson: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
