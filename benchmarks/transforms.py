"""Transforms of images beside torchvision's: `python -m benchmarks.transforms`.

    python -m benchmarks.transforms               everything
    python -m benchmarks.transforms --quick       one short round: does everything work?

Batches of 128 images of MNIST's and CIFAR's shapes, uint8, bilinear. Every image has parameters of its own:
here in one call; in torchvision, whose transforms draw once for a batch, in a loop over the images. Each side
has `--threads` threads, one unless said. The two have one process and take turns; a time is the median over
the rounds of a turn's median, with the least of all calls in parentheses, and so is the ratio of
torchvision's time to ours. Nothing is compared but the time: the random numbers differ. Without torchvision,
tinydl is measured alone. `results.json` has every number.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tinydl_kernels.cpu import threads

from tinydl.data import transforms
from tinydl.study import environment, write_json

from .report import load

BATCH = 128
SHAPES = {"28×28": (1, 28, 28), "32×32×3": (3, 32, 32)}
AFFINE: dict[str, Any] = {"degrees": 15, "translate": (0.1, 0.1), "scale": (0.9, 1.1)}
ALPHA, SIGMA = 34.0, 4.0
"""Of the elastic distortion, in pixels; torchvision counts half pixels."""
Call = Callable[[], Any]


def ours(name: str, images: np.ndarray) -> Call:
    affine = transforms.RandomAffine(**AFFINE)
    elastic = transforms.ElasticTransform(ALPHA, SIGMA)
    change = affine if name == "affine" else transforms.Compose([affine, elastic])
    index = np.arange(len(images))
    return lambda: change(images, index=index, epoch=0, seed=0)


def theirs(name: str, images: np.ndarray, count: int) -> Call | None:
    """None without torchvision, or with one that was built for another PyTorch."""
    if find_spec("torchvision") is None:
        return None
    try:
        import torch
        from torchvision.transforms import InterpolationMode, v2
    except (ImportError, OSError, RuntimeError) as error:
        print(f"torchvision: {error}", file=sys.stderr)
        return None

    torch.set_num_threads(count)
    change = v2.RandomAffine(**AFFINE, interpolation=InterpolationMode.BILINEAR)
    if name != "affine":
        change = v2.Compose([change, v2.ElasticTransform(2 * ALPHA, SIGMA)])
    batch = torch.from_numpy(images)
    return lambda: torch.stack([change(image) for image in batch])


def seconds(call: Call, about: float) -> tuple[float, float]:
    """Of one call: the median and the least of as many as take about that long."""
    call()
    found: list[float] = []
    while len(found) < 3 or sum(found) < about:
        before = time.perf_counter()
        call()
        found.append(time.perf_counter() - before)
    return statistics.median(found), min(found)


def measure(name: str, shape: str, rounds: int, about: float, count: int) -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *SHAPES[shape]), np.uint8)
    calls = {"tinydl": ours(name, images), "torchvision": theirs(name, images, count)}
    times: dict[str, list[tuple[float, float]]] = {side: [] for side, call in calls.items() if call}
    for number in range(rounds):
        for side in list(times)[:: 1 if number % 2 else -1]:
            times[side].append(seconds(calls[side], about))  # type: ignore[arg-type]
    found: dict[str, Any] = {"case": f"{name}, {shape}", "seconds": times}
    if "torchvision" in times:
        pairs = zip(times["tinydl"], times["torchvision"], strict=True)
        median = statistics.median(b[0] / a[0] for a, b in pairs)
        found["ratio"] = median, min(t[1] for t in times["torchvision"]) / min(t[1] for t in times["tinydl"])
    return found


def line(found: dict[str, Any]) -> str:
    """Microseconds of an image and the ratio: of medians, and of least times in parentheses."""
    parts = []
    for side, turns in found["seconds"].items():
        median, least = statistics.median(m for m, _ in turns), min(least for _, least in turns)
        parts.append(f"{side} {1e6 * median / BATCH:.1f} ({1e6 * least / BATCH:.1f}) µs an image")
    ratio = "; {:.1f} ({:.1f})×".format(*found["ratio"]) if "ratio" in found else ""
    return f"{found['case']}: {', '.join(parts)}{ratio}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transforms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.3, help="that a turn takes (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each side (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results/transforms"),
        help="folder of the results (default %(default)s)",
    )
    options = parser.parse_args(arguments)
    rounds, about = (1, 0.01) if options.quick else (options.rounds, options.seconds)
    threads.set_num_threads(options.threads)
    busy = load()
    measured = []
    for name in ("affine", "affine and elastic"):
        for shape in SHAPES:
            measured.append(measure(name, shape, rounds, about, options.threads))
            print(line(measured[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    about_it = {**environment(), "threads": options.threads, "load": busy}
    write_json(options.out / "results.json", {"environment": about_it, "cases": measured})
    print(f"results.json is in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
