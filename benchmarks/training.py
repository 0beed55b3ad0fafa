"""What the training kit costs: `python -m benchmarks.training`.

    python -m benchmarks.training               everything
    python -m benchmarks.training --quick       one short round: does everything work?

Epochs of the paper's LeNet on 2,000 pictures of 28×28 (random ones: time does not depend on what they show),
batches of 50, Adam, without and with DataGrad. Four contenders take turns, an epoch each, in an order that
rotates: the bare loop (`td.record`, `Batches`, nothing else); the Trainer with accuracy, loss and history;
the Trainer that shifts, turns and distorts its pictures, on its own thread and on another one. Ratios are
taken to the bare loop's epoch of the same round, and their median over the rounds is printed, with that of
the least times in parentheses. On a machine with other work, `--cpu --threads 1` counts the processor's time
instead of the clock's. `results.json` has every number.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tinydl_kernels.cpu import threads

import tinydl as td
from tinydl.data import Batches, DataLoader, TensorDataset, transforms
from tinydl.metrics import Accuracy
from tinydl.models import LeNet
from tinydl.optim import Adam
from tinydl.regularizers import DataGrad, Objective
from tinydl.study import environment, write_json
from tinydl.training import Trainer

from .report import load

SAMPLES, BATCH = 2_000, 50
TERMS: dict[str, Callable[[], list[Any]]] = {"plain": list, "DataGrad": lambda: [DataGrad(50.0)]}
Epoch = Callable[[], Any]


def pictures(samples: int) -> TensorDataset:
    random = np.random.default_rng(0)
    return TensorDataset(random.normal(size=(samples, 1, 28, 28)).astype(np.float32), np.arange(samples) % 10)


def bare(terms: list[Any], data: TensorDataset) -> Epoch:
    """The loop of the README, and nothing more."""
    td.manual_seed(0)
    model = LeNet()
    optimizer, objective = Adam(model.parameters(), lr=1e-3), Objective(model, td.cross_entropy, terms)
    batches = Batches(*data.arrays, batch_size=BATCH)

    @td.record
    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        found = objective(x, y)
        found.total.backward()
        optimizer.step()
        return found.loss

    def epoch() -> None:
        for x, y in batches:
            step(x, y)

    return epoch


def trained(terms: list[Any], data: TensorDataset, augmented: bool = False, workers: int = 0) -> Epoch:
    """A Trainer's epoch, metrics on."""
    td.manual_seed(0)
    model = LeNet()
    trainer = Trainer(
        model, td.cross_entropy, Adam(model.parameters(), lr=1e-3), terms=terms, metrics=[Accuracy()]
    )
    change = transforms.Compose(
        [transforms.RandomAffine(10, (0.1, 0.1)), transforms.ElasticTransform(34.0, 4.0)]
    )
    loader = DataLoader(
        data, BATCH, shuffle=True, transform=change if augmented else None, num_workers=workers
    )
    return lambda: trainer.fit(loader, epochs=trainer.epoch + 1)


def contenders(terms: Callable[[], list[Any]], samples: int) -> dict[str, Epoch]:
    data = pictures(samples)
    return {
        "bare loop": bare(terms(), data),
        "Trainer": trained(terms(), data),
        "Trainer, augmented": trained(terms(), data, True),
        "Trainer, augmented, a worker": trained(terms(), data, True, 1),
    }


def measure(name: str, rounds: int, samples: int, clock: Callable[[], float]) -> dict[str, Any]:
    sides = contenders(TERMS[name], samples)
    for epoch in sides.values():
        epoch()
        epoch()  # the first is recorded, the second makes jobs of it
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        turn = list(sides)
        for side in turn[number % len(turn) :] + turn[: number % len(turn)]:
            before = clock()
            sides[side]()
            times[side].append(clock() - before)
    ratios = {
        side: (
            statistics.median(a / b for a, b in zip(mine, times["bare loop"], strict=True)),
            min(mine) / min(times["bare loop"]),
        )
        for side, mine in times.items()
    }
    return {"case": name, "seconds": times, "ratios": ratios}


def lines(found: dict[str, Any]) -> str:
    """Milliseconds of an epoch and the ratio to the bare loop: of medians, and of least times in
    parentheses.
    """
    return "\n".join(
        f"{found['case']:9} {side:29} {1e3 * statistics.median(times):7.1f} ({1e3 * min(times):.1f}) ms"
        + "  {:.3f} ({:.3f})".format(*found["ratios"][side])
        for side, times in found["seconds"].items()
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=25, help="epochs of each (default %(default)s)")
    parser.add_argument("--threads", type=int, help="of the kernels (default: processors)")
    parser.add_argument("--cpu", action="store_true", help="count the processor's time")
    parser.add_argument("--quick", action="store_true", help="one round of two batches")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results/training"),
        help="folder of the results (default %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.threads is not None:
        threads.set_num_threads(options.threads)
    clock = time.process_time if options.cpu else time.perf_counter
    busy, measured = load(), []
    rounds, samples = (1, 2 * BATCH) if options.quick else (options.rounds, SAMPLES)
    for name in TERMS:
        measured.append(measure(name, rounds, samples, clock))
        print(lines(measured[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    about = {**environment(), "load": busy, "clock": clock.__name__, "samples": samples, "batch": BATCH}
    write_json(options.out / "results.json", {"environment": about, "cases": measured})
    print(f"results.json is in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
