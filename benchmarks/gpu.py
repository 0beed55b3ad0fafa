"""tinydl beside PyTorch on one GPU: `python -m benchmarks.gpu`.

    python -m benchmarks.gpu                      everything
    python -m benchmarks.gpu --match "LeNet"      cases whose names match an expression
    python -m benchmarks.gpu --quick              a small case of each kind: does everything work?
    python -m benchmarks.gpu --list               the cases

Convolutions: each case of the CPU's table, forward and both gradients, without TF32 on either
side and again with it on both.
Steps: the paper's LeNet (batch 50), ResNet-20 and ResNet-18 on 32×32 images (batch 128), plain and with
DataGrad; tinydl eager and recorded (one CUDA graph), PyTorch eager and under torch.cuda.graph. Last Theano's
LeNet, on the CPU and on the GPU, beside the minutes that were published for it.

The two have one process and take turns: in each round every contender is timed once, over as many calls as
`--seconds` take, from one wait for the GPU to the next. A ratio is the median over the rounds of PyTorch's
time by ours. Results are compared. Without a GPU it says so and stops; without PyTorch it measures tinydl
alone. `results.json` has every number.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tinydl_kernels.machine import device
from tinydl_kernels.machine.errors import DeviceError

import tinydl as td
from tinydl.study import write_json

from . import cases, report, with_tinydl
from .cases import CASES, PENALTIES, Case, Step

TORCH = find_spec("torch") is not None
if TORCH:
    import torch

    from . import with_torch

PRECISIONS = {"highest": "float32", "high": "TF32"}
STEPS = ("lenet", "resnet20", "resnet18")
PUBLISHED = {"cpu": 380.28, "cuda": 32.52}
"""Minutes of Theano's LeNet, 200 epochs: deeplearning.net's tutorial, on the processor and the GPU of 2012.
"""
THEANO_BATCH, THEANO_STEPS = 500, 200 * 50_000 // 500
Call = Callable[[], Any]


def gpu_cases() -> Iterator[Case]:
    """Convolutions as on the CPU; steps without the penalty that PyTorch's graph cannot draw for."""
    yield from (case for case in CASES.values() if case.family == "conv")
    for model in STEPS:
        for penalty in ("plain", "datagrad"):
            name = f"{cases.MODELS[model].title}, {penalty}"
            yield Case(
                "steps", name, "step", Step(model, penalty), checks=3, tolerance=5e-2, quick=model == "lenet"
            )


def ours(case: Case) -> dict[str, Call]:
    """tinydl's contenders, on arrays of the GPU."""
    data = {
        name: a if isinstance(a, dict) else td.tensor(a, device="cuda").array
        for name, a in cases.data(case).items()
    }
    return {
        f"tinydl {mode}".strip(): call
        for mode, call in getattr(with_tinydl, case.operation)(case, data).items()
    }


def theirs(case: Case) -> dict[str, Call]:
    """PyTorch's contenders; a step also as a graph."""
    if not TORCH or not torch.cuda.is_available():
        return {}
    data = {
        name: a if isinstance(a, dict) else torch.tensor(a, device="cuda")
        for name, a in cases.data(case).items()
    }
    if case.operation != "step":
        return {"PyTorch": getattr(with_torch, case.operation)(case, data)[""]}
    graph = graphed(with_torch.training_step(case, data, None, capturable=True))
    return {"PyTorch eager": with_torch.training_step(case, data, None), "PyTorch graph": graph}


def graphed(step: Call) -> Call:
    """A step as PyTorch's CUDA graph: warmed up on another stream, captured, replayed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()

    def replay() -> Any:
        graph.replay()
        return results

    return replay


def on_host(result: Any) -> list[np.ndarray]:
    """What a call returned, as NumPy arrays."""
    parts = result if isinstance(result, (tuple, list)) else [result]
    parts = [
        part.array if isinstance(part, td.Tensor) else part.detach() if hasattr(part, "detach") else part
        for part in parts
    ]
    return [part.get() if hasattr(part, "get") else part.cpu().numpy() for part in parts]


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1e-30))


def seconds(call: Call, about: float) -> float:
    """Of one call, over so many that it takes about as long as asked."""
    td.cuda.synchronize()
    before, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - before < about:
        call()
        count += 1
    td.cuda.synchronize()
    return (time.perf_counter() - before) / count


def precision(name: str) -> None:
    """float32 products as they are, or by tensor cores: for both sides."""
    td.set_float32_matmul_precision(name)
    if TORCH:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "high"


def measure(case: Case, rounds: int, about: float) -> dict[str, Any]:
    """The times of every contender, a value a round, and how far the first calls are apart."""
    calls = {**ours(case), **theirs(case)}
    results = {
        label: on_host(call()) for label, call in calls.items() if case.checks and "graph" not in label
    }
    first = next(iter(results.values()))
    errors = {label: max(map(apart, found, first)) for label, found in results.items()}
    for call in calls.values():
        seconds(call, 0.0)
    times: dict[str, list[float]] = {label: [] for label in calls}
    labels = list(calls)
    for number in range(rounds):
        for label in labels[number % len(labels) :] + labels[: number % len(labels)]:
            times[label].append(seconds(calls[label], about))
    return {"case": case.name, "work": case.work, "seconds": times, "errors": errors}


def line(found: dict[str, Any]) -> str:
    """A case on one line: medians, rates and the ratios to PyTorch."""
    medians = {label: statistics.median(values) for label, values in found["seconds"].items()}
    rate = (
        f", {found['work'] / medians['tinydl'] / 1e12:.2f} T/s"
        if found["work"] and "tinydl" in medians
        else ""
    )
    parts = [f"{label} {1e6 * value:.0f} µs" for label, value in medians.items()]
    ratios = [f"{r:.2f}× {theirs} by {ours}" for ours, theirs, r in pairs(found)]
    worst = max(found["errors"].values(), default=0.0)
    return (
        f"{found['case']} [{found['precision']}]: {', '.join(parts)}{rate}; {', '.join(ratios)} (differ by "
        f"{worst:.1e})"
    )


def pairs(found: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """(ours, theirs, the median over the rounds of their time by ours)."""
    for own, mine in found["seconds"].items():
        for other, their in found["seconds"].items():
            if own.startswith("tinydl") and not other.startswith("tinydl"):
                yield own, other, statistics.median(b / a for a, b in zip(mine, their, strict=True))


def theano(target: str) -> Call:
    """A recorded step of Theano's LeNet: tanh behind the poolings, SGD at rate 0.1, minibatches of 500."""
    nn = td.nn
    layers = (
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Tanh(),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Tanh(),
    )
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(800, 500), nn.Tanh(), nn.Linear(500, 10)).to(
        target
    )
    optimizer = td.optim.SGD(model.parameters(), lr=0.1)

    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        loss = td.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    recorded = td.record(step)
    x, y = td.randn(THEANO_BATCH, 1, 28, 28, device=target), td.randint(0, 10, (THEANO_BATCH,), device=target)
    return lambda: recorded(x, y)


def minutes_of_theano(about: float) -> dict[str, float]:
    """What 200 epochs of 50,000 images take on each device, by the time of a step."""
    found = {}
    for target in PUBLISHED:
        step = theano(target)
        for _ in range(3):
            step()
        found[target] = seconds(step, about) * THEANO_STEPS / 60
        print(
            f"Theano's LeNet, 200 epochs on {target}: {found[target]:.2f} minutes ({PUBLISHED[target]} were "
            "published)"
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--match", default="", metavar="REGEX", help="cases in whose names it is found, in capitals or not"
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="that a turn takes, about (default %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="one short round of small cases")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument(
        "--out", type=Path, default=Path("results/gpu"), help="folder of the results (default %(default)s)"
    )
    options = parser.parse_args(arguments)
    chosen = [case for case in gpu_cases() if re.search(options.match, case.name, re.IGNORECASE)]
    chosen = [case for case in chosen if case.quick or not options.quick]
    if options.list:
        print("\n".join(f"{case.family:8} {case.name}" for case in chosen))
        return 0
    try:
        cupy = device.cupy()
    except DeviceError as error:
        print(f"benchmarks.gpu: nothing was measured: {error}", file=sys.stderr)
        return 0
    if not TORCH or not torch.cuda.is_available():
        print("PyTorch, or a GPU for it, is absent: tinydl is measured alone")
    rounds, about = (1, 0.02) if options.quick else (options.rounds, options.seconds)
    measured = []
    for case in chosen:
        for name, title in PRECISIONS.items():
            precision(name)
            found = {"precision": title, **measure(replace(case, checks=min(case.checks, 1)), rounds, about)}
            measured.append(found)
            print(line(found), flush=True)
    precision("highest")
    minutes = {} if options.match else minutes_of_theano(about)
    for title in PRECISIONS.values():
        ratios = [r for f in measured if f["precision"] == title for own, _, r in pairs(f) if own == "tinydl"]
        if ratios:
            mean = report.geometric_mean(ratios)
            print(
                f"convolutions [{title}]: {mean:.2f}× PyTorch in the geometric mean, the worst "
                f"{min(ratios):.2f}×"
            )
    versions = {"tinydl": td.__version__, "cupy": cupy.__version__} | (
        {"torch": torch.__version__} if TORCH else {}
    )
    about_it = {
        "gpu": device.described(cupy),
        "versions": versions,
        "penalties": PENALTIES,
        "published_minutes": PUBLISHED,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "results.json", {**about_it, "cases": measured, "minutes": minutes})
    print(f"results.json is in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
