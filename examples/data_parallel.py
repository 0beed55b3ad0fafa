"""The network of small_data_mnist.py trained by several processes, and what that gains.

    mpiexec -n 2 python examples/data_parallel.py           two ranks, one thread each

LeNet with dropout and DataGrad (double backpropagation) on minibatches of 50 digits, of which each rank has
its rows. Three things are shown:

    the same curve   of the ranks and of one process, in float64 (to 1e-12) and float32 (to rounding)
    efficiency       n ranks of one thread against one rank of n threads, by turns
    on paper         seconds of a step of LeNet and ResNet-20 for 2 to 64 ranks:
                     compute / n + α log2 n + β bytes, with α and β of this machine's all-reduce

Times mean something on an idle machine alone.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tinydl_kernels.cpu import threads

import tinydl as td
from tinydl.data import DataLoader, TensorDataset, mnist, normalize, subset
from tinydl.distributed import DataParallel, Group, serial, world
from tinydl.models import LeNet, resnet20
from tinydl.optim import Adam, decay_groups
from tinydl.regularizers import DataGrad, Objective
from tinydl.study import environment, write_json

BATCH_SIZE, SIZE, WEIGHT, DECAY, RATE = 50, 2_000, 5.0, 5e-4, 1e-3
RANKS = (2, 4, 8, 16, 32, 64)
ALLOWED = {"float64": 1e-12, "float32": 1e-3}
"""Relative deviations of a loss. Rounding grows from step to step: in float32 from 1e-7."""


class Training:
    """The job, by the ranks of a group."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, group: Group) -> None:
        td.manual_seed(0)
        model = LeNet("dropout")
        model = model.double() if images.dtype == np.float64 else model
        self.model, self.group = DataParallel(model, group), group
        self.objective = Objective(model, td.cross_entropy, [DataGrad(WEIGHT)])
        self.optimizer = Adam(decay_groups(model, DECAY), lr=RATE)
        data = TensorDataset(images, labels)
        self.loader = DataLoader(data, BATCH_SIZE, shuffle=True, drop_last=True, seed=0, group=group)
        self.record = td.record(self.step)

    def step(self, x: td.Tensor, y: td.Tensor) -> td.Tensor:
        self.optimizer.zero_grad()
        terms = self.objective(x, y)
        terms.total.backward()
        self.model.average_gradients()
        self.optimizer.step()
        return terms.total

    def run(self, steps: int) -> list[float]:
        """The losses, penalty included, of all ranks' samples."""
        totals = []
        for _ in range(steps):
            x, y = self.loader.next_batch()
            with self.group.shard(x.shape[0]):
                totals.append(self.record(x, y))
        return [self.group.all_reduce(total).item() for total in totals]


def same_curve(images: np.ndarray, labels: np.ndarray, group: Group, steps: int) -> dict[str, Any]:
    """The losses of the ranks and of one process, in both precisions, and how far they are apart."""
    found = {}
    for dtype in ("float64", "float32"):
        digits = images.astype(dtype)
        together = Training(digits, labels, group).run(steps)
        alone = group.exchange(Training(digits, labels, serial()).run(steps) if group.rank == 0 else None)[0]
        apart = np.abs(np.subtract(together, alone)) / np.abs(alone)
        found[dtype] = {"ranks": together, "one process": alone, "apart": float(apart.max())}
    return found


def median_times(turns: dict[str, Callable[[], None]], group: Group, rounds: int) -> dict[str, list[float]]:
    """Seconds of each, in turn, from barrier to barrier: the same on all ranks."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, turn in turns.items():
            group.barrier()
            begun = time.perf_counter()
            turn()
            group.barrier()
            if number:  # the first records, and compiles
                times[name].append(time.perf_counter() - begun)
    return {name: group.exchange(seconds)[0] for name, seconds in times.items()}


def efficiency(
    images: np.ndarray, labels: np.ndarray, group: Group, steps: int, rounds: int
) -> dict[str, Any]:
    """n ranks of one thread against rank 0 with n threads, while the others sleep."""
    together = Training(images, labels, group)
    alone = Training(images, labels, serial())

    def by_one() -> None:
        if group.rank == 0:
            threads.set_num_threads(group.size)
            alone.run(steps)
            threads.set_num_threads(1)

    turns = {"ranks": lambda: together.run(steps), "one process": by_one}
    times = median_times(turns, group, rounds)  # type: ignore[arg-type]
    seconds = {name: float(np.median(each)) / steps for name, each in times.items()}
    ratios = np.divide(times["one process"], times["ranks"])
    return {
        "ranks": group.size,
        "seconds a step": seconds,
        "times": times,
        "efficiency": float(np.median(ratios)),
        "least": float(ratios.min()),
        "most": float(ratios.max()),
        "of the best turns": min(times["one process"]) / min(times["ranks"]),
    }


def message(group: Group, rounds: int) -> tuple[float, float]:
    """(α, β) of an all-reduce of this many ranks: α log2 n + β bytes seconds, from a short and a long one."""
    numbers = (64, 1 << 18)
    vectors = {str(n): td.ones(n) for n in numbers}
    turns = {
        name: (lambda x=x: [group.all_reduce(x) for _ in range(20)])  # type: ignore[misc]
        for name, x in vectors.items()
    }
    times = median_times(turns, group, rounds)  # type: ignore[arg-type]
    short, long = (min(times[str(n)]) / 20 for n in numbers)
    beta = (long - short) / (4 * (numbers[1] - numbers[0]))
    return max(short - beta * 4 * numbers[0], 0.0) / math.log2(max(group.size, 2)), max(beta, 0.0)


def one_step(model: Any, x: np.ndarray, y: np.ndarray, rounds: int) -> tuple[float, int]:
    """(seconds of a recorded step with DataGrad on one thread, bytes of its gradients)."""
    objective = Objective(model, td.cross_entropy, [DataGrad(WEIGHT)])
    optimizer = Adam(model.parameters(), lr=RATE)

    @td.record
    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        terms = objective(x, y)
        terms.total.backward()
        optimizer.step()
        return terms.loss

    times = []
    for number in range(rounds + 2):
        begun = time.perf_counter()
        step(td.tensor(x), td.tensor(y)).item()
        if number > 1:
            times.append(time.perf_counter() - begun)
    return float(np.median(times)), sum(4 * math.prod(p.shape) for p in model.parameters())


def on_paper(group: Group, alpha: float, beta: float, quick: bool) -> dict[str, Any]:
    """For each network a step's seconds on one rank, and what is expected of more."""
    random = np.random.default_rng(0)
    side, batch = (8, 4) if quick else (32, 128)
    networks: dict[str, Callable[[], tuple[float, int]]] = {
        "LeNet, batch 50": lambda: one_step(
            LeNet("dropout"),
            random.normal(size=(50, 1, 28, 28)).astype(np.float32),
            random.integers(0, 10, 50),
            3 if quick else 50,
        ),
        f"ResNet-20, batch {batch}": lambda: one_step(
            resnet20(),
            random.normal(size=(batch, 3, side, side)).astype(np.float32),
            random.integers(0, 10, batch),
            1 if quick else 3,
        ),
    }
    found = {}
    for name, network in networks.items():
        compute, size = group.exchange(network() if group.rank == 0 else None)[0]
        rows = {}
        for n in RANKS:
            seconds = compute / n + alpha * math.log2(n) + beta * size
            rows[n] = {"seconds": seconds, "speedup": compute / seconds, "efficiency": compute / seconds / n}
        found[name] = {"compute": compute, "bytes": size, "ranks": rows}
    return found


def report(found: dict[str, Any]) -> str:
    lines = []
    for dtype, curve in found["curves"].items():
        lines.append(
            f"{dtype}: loss {curve['ranks'][0]:.4f} to {curve['ranks'][-1]:.4f} in {len(curve['ranks'])} "
            f"steps, at most {curve['apart']:.1e} from one process"
        )
    speed = found["efficiency"]
    together, alone = (1000 * seconds for seconds in speed["seconds a step"].values())
    n = speed["ranks"]
    lines += [
        f"{n} ranks of one thread: {together:.2f} ms a step; one rank of {n} threads: {alone:.2f} ms",
        f"efficiency: {speed['efficiency']:.2f} ({speed['least']:.2f} to {speed['most']:.2f}), of the best "
        f"turns {speed['of the best turns']:.2f}",
        f"all-reduce: α {1e6 * found['alpha']:.1f} µs, β {1e9 * found['beta']:.3f} ns a byte",
        "",
        f"{'ms (efficiency) of ranks':24}" + "".join(f"{n:>15}" for n in (1, *RANKS)),
    ]
    for name, network in found["on paper"].items():
        cells = [f"{1000 * network['compute']:.2f}"]
        cells += [
            f"{1000 * row['seconds']:.2f} ({row['efficiency']:.2f})" for row in network["ranks"].values()
        ]
        lines.append(f"{name:24}" + "".join(f"{cell:>15}" for cell in cells))
    return "\n".join(lines)


def experiment(options: argparse.Namespace, group: Group) -> dict[str, Any]:
    source = group.first(lambda: mnist("train", options.data).source)  # one downloads, the others wait
    pool = mnist("train", options.data)
    chosen = subset(0, min(SIZE, len(pool.labels)), len(pool.labels))
    images = normalize(pool.images[chosen], dtype=np.float64)[0][:, None]
    labels = pool.labels[chosen].astype(np.int64)
    steps, rounds = (3, 2) if options.quick else (options.steps, options.rounds)
    found: dict[str, Any] = {"digits": source, "ranks": group.size, "environment": environment()}
    threads.set_num_threads(1)
    found["curves"] = same_curve(images, labels, group, steps)
    found["efficiency"] = efficiency(images.astype(np.float32), labels, group, steps, rounds)
    found["alpha"], found["beta"] = message(group, rounds)
    found["on paper"] = on_paper(group, found["alpha"], found["beta"], options.quick)
    return found


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", metavar="FOLDER", help="above mnist/ (default: TINYDL_DATA, the cache, a download)")
    add("--steps", type=int, default=40, help="minibatches of a curve and of a turn (default %(default)s)")
    add("--rounds", type=int, default=15, help="turns of each (default %(default)s)")
    add("--quick", action="store_true", help="a few steps of each, to see that it runs")
    add("--backend", choices=("cpu", "reference"), default="cpu", help="compiled kernels, or NumPy's")
    add("--out", type=Path, default=Path("results/data_parallel"), help="folder of results.json")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    group = world()
    try:
        with td.backend(options.backend):
            found = experiment(options, group)
    except (td.TinydlError, OSError) as error:
        print(f"data_parallel: rank {group.rank}: {error}", file=sys.stderr)
        return 1
    if group.rank == 0:
        options.out.mkdir(parents=True, exist_ok=True)
        write_json(options.out / "results.json", found)
        print(f"{group.size} ranks, digits: {found['digits']}")
        print(report(found))
    apart = {dtype: curve["apart"] for dtype, curve in found["curves"].items()}
    return int(any(apart[dtype] > ALLOWED[dtype] for dtype in apart))


if __name__ == "__main__":
    sys.exit(main())
