"""Every optimizer's step, in time and in passes over memory: `python -m benchmarks.optimizers`.

    python -m benchmarks.optimizers               everything, some minutes
    python -m benchmarks.optimizers adam lamb     those whose names begin so
    python -m benchmarks.optimizers --quick       one short round on LeNet's parameters: does everything work?

A step is recorded and updates all parameters of LeNet (61,706 numbers) or of ResNet-18 (11.7 million), in
float32, from gradients that stay. Beside it steps PyTorch's class of the name, as it comes and fused where it
has that. What a step has to move at least is known: each array that is read once, each that is written once,
in each of the two passes of a formula with sums (LARS, LAMB, Prodigy, ...). `x bytes` is the step's time over
the time in which a copy moves as many bytes, measured in the same round. Muon, Shampoo and SOAP multiply
matrices: their cost is given in products, the unit being the time of X Xᵀ for each parameter X of more than
one dim, float32, its shorter side as rows; `x own` is the step's time over that of all products which the
step makes (eigenvectors and factorizations are not among them). All products are tinydl's.

`idle` is the time of a step once all gradients have long been 0, over that of a step at work: above 1 there
would be numbers that a processor is slow with.

All have one process and take turns, on `--threads` threads each; a time is the median over the rounds of a
round's median, a ratio the median of the rounds' ratios. `results.json` has every number. Run it on an idle
machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.cpu import threads

import tinydl as td
from tinydl import nn, optim
from tinydl.optim.axes import gram, turned
from tinydl.study import environment, write_json

from . import machine
from .cases import CASES
from .report import load
from .transforms import seconds

SHAPES = {
    "LeNet": CASES["Adam, LeNet's 61,706 parameters"].settings.shapes,
    "ResNet-18": CASES["Adam, ResNet-18's 11,689,512 parameters"].settings.shapes,
}
Call = Callable[[], Any]


class Entry(NamedTuple):
    """What is measured: a class with options."""

    options: dict[str, Any] = {}  # noqa: RUF012  nobody writes it
    eager: bool = False  # a recorded step refuses it


CLOSURES = {"GradientDescent", "LBFGS"}  # whose steps are as many evaluations as they need
VARIANTS = {
    "SGD": Entry({"lr": 1e-3}),
    "SGD momentum": Entry({"lr": 1e-3, "momentum": 0.9}),
    "RMSprop centered": Entry({"centered": True, "momentum": 0.9}),
    "Adam amsgrad": Entry({"amsgrad": True}),
    "LARS": Entry({"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4}),
    "Shampoo": Entry({"every": 10}, eager=True),
    "SOAP": Entry(eager=True),
}
"""By the class's name; then what tells them apart."""


def _optimizers() -> dict[str, Entry]:
    """All of `tinydl.optim`, as they come or as `VARIANTS` has them, by name."""
    kinds = {name: getattr(optim, name) for name in optim.__all__}
    plain = {
        name: Entry()
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, optim.Optimizer) and kind is not optim.Optimizer
    }
    return dict(sorted((name, e) for name, e in (plain | VARIANTS).items() if name not in CLOSURES))


OPTIMIZERS = _optimizers()
MATRICES = ("Muon", "Shampoo", "SOAP")


class Ours:
    """A step of tinydl, and what it has to do at least."""

    def __init__(self, name: str, shapes: Sequence[tuple[int, ...]]) -> None:
        entry, kind, random = OPTIMIZERS[name], name.split()[0], np.random.default_rng(0)
        shapes = [shape for shape in shapes if len(shape) > 1] if kind == "Muon" else shapes
        self.params = [nn.Parameter(random.standard_normal(shape, np.float32)) for shape in shapes]
        self.grads = [td.tensor(random.standard_normal(shape, np.float32)) for shape in shapes]
        self.optimizer = getattr(optim, kind)(self.params, **entry.options)
        self.step: Call = self.update if entry.eager else td.record(self.update)
        (rule,) = self.optimizer.rules()
        passes = [each.elements for each in rule.passes]
        arrays = sum(len(elements.loaded) + len(elements.stores) for elements in passes)
        self.bytes = 4 * arrays * sum(p.array.size for p in self.params)

    def update(self) -> None:
        """Gradients come inside of a recording, as those of a backward pass: others would be copied."""
        for p, g in zip(self.params, self.grads, strict=True):
            p.grad = g
        self.optimizer.step()

    def rest(self) -> None:
        """Let all gradients be 0, as if they had been for long: what decays is at the end of its range."""
        for g in self.grads:
            g.array[...] = 0
        tiny = np.finfo(np.float32).tiny
        for p in self.params:
            for x in self.optimizer.state[p].values():
                if x.dtype == np.float32:
                    x.array[...] = tiny * (1 + 1e-6)
        for _ in range(5):
            self.step()

    def wide(self) -> list[td.Tensor]:
        """The parameters of more than one dim as matrices, the shorter side as rows."""
        matrices = [p.detach().reshape(len(p), -1) for p in self.params if p.ndim > 1]
        return [(x.T if x.shape[0] > x.shape[1] else x).contiguous() for x in matrices]

    def one_product(self) -> Call:
        """Each of these times its transpose."""
        matrices = self.wide()

        def call() -> None:
            for x in matrices:
                x @ x.T

        return call

    def products(self, name: str) -> Call:
        """The products of a step alone."""
        matrices = [p.detach() for p in self.params if p.ndim > 1]
        if name == "Muon":
            return _iterations(self.wide())
        if name == "SOAP":  # which turns two tensors into its bases, and one back
            return _turns(matrices, 3)
        return _turns([p.detach() for p in self.params], 1)


def _iterations(matrices: list[td.Tensor]) -> Call:
    """Newton and Schulz's, five for each matrix."""

    def call() -> None:
        for x in matrices:
            for _ in range(5):
                square = x @ x.T
                square @ square @ x

    return call


def _turns(tensors: list[td.Tensor], times: int) -> Call:
    """A moment along every axis, and so many turns."""
    doubled = [x.to(dtype=np.float64) for x in tensors]
    roots = [[td.tensor(np.eye(n)) for n in x.shape] for x in doubled]

    def call() -> None:
        for x, own in zip(doubled, roots, strict=True):
            for axis, root in enumerate(own):
                gram(x, axis)
                for _ in range(times):
                    turned(x, axis, root)

    return call


def theirs(name: str, shapes: Sequence[tuple[int, ...]]) -> dict[str, Call]:
    """PyTorch's steps, where it is installed and has the class."""
    if find_spec("torch") is None:
        return {}
    import torch

    kind, options = getattr(torch.optim, name.split()[0], None), OPTIMIZERS[name].options
    if kind is None or name == "Muon":  # whose products are in bfloat16
        return {}
    calls: dict[str, Call] = {}
    for mode, more in {"PyTorch": {}, "PyTorch fused": {"fused": True}}.items():
        params = [torch.randn(shape, requires_grad=True) for shape in shapes]
        for p in params:
            p.grad = torch.randn(p.shape)
        try:
            calls[mode] = kind(params, **options, **more).step
        except TypeError:
            continue
    return calls


def measure(name: str, model: str, rounds: int, about: float) -> dict[str, Any]:
    """All contenders of a case by turns."""
    own, copy = Ours(name, SHAPES[model]), machine.copy()
    calls = {"tinydl": own.step, **theirs(name, SHAPES[model]), "copy": copy.call}
    if name in MATRICES:
        calls |= {"own products": own.products(name), "one product": own.one_product()}
    times: dict[str, list[float]] = {who: [] for who in calls}
    for number in range(rounds):
        for who in list(calls)[:: 1 if number % 2 else -1]:
            times[who].append(seconds(calls[who], about)[0])
    found: dict[str, Any] = {"optimizer": name, "parameters": model, "bytes": own.bytes, "seconds": times}
    per_byte = [t / copy.work for t in times["copy"]]
    found["x bytes"] = _median(t / (own.bytes * b) for t, b in zip(times["tinydl"], per_byte, strict=True))
    for who in times.keys() - {"tinydl", "copy"}:
        pairs = zip(times["tinydl"], times[who], strict=True)
        found[f"x {who}"] = _median(a / b for a, b in pairs)
    busy, idle = statistics.median(times["tinydl"]), []
    if not OPTIMIZERS[name].eager:
        own.rest()
        idle = [seconds(own.step, about)[0] for _ in range(rounds)]
        found["idle"] = statistics.median(idle) / busy
    return found


def _median(values: Any) -> float:
    return float(statistics.median(values))


def line(found: dict[str, Any]) -> str:
    ms = 1e3 * statistics.median(found["seconds"]["tinydl"])
    cells = [f"{found['optimizer']:18} {found['parameters']:9} {ms:9.3f} ms"]
    if found["optimizer"] in MATRICES:
        cells.append(f"{found['x one product']:5.1f} products, {found['x own products']:.2f} x own")
    else:
        cells.append(f"{found['x bytes']:5.2f} x bytes   ")
    if "idle" in found:
        cells.append(f"idle {found['idle']:.2f}")
    cells += [f"{found[f'x {who}']:.2f} x {who}" for who in found["seconds"] if who.startswith("PyTorch")]
    return "  ".join(cells)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.optimizers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="beginnings of names, in capitals or not (default: all)")
    add("--models", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="MODEL", help="%(choices)s")
    add("--rounds", type=int, default=5, help="turns of each contender (default %(default)s)")
    add("--seconds", type=float, default=0.2, help="that a turn takes (default %(default)s)")
    add("--threads", type=int, default=threads.get_num_threads(), help="of each side (default %(default)s)")
    add("--quick", action="store_true", help="one short round on LeNet's parameters")
    add("--out", type=Path, default=Path("results/optimizer_steps"), help="folder of the results")
    options = parser.parse_args(arguments)
    names = [
        name
        for name in OPTIMIZERS
        if not options.names or any(name.lower().startswith(x.lower()) for x in options.names)
    ]
    if not names or options.rounds < 1 or options.threads < 1:
        parser.error(f"expected names out of {', '.join(OPTIMIZERS)}, and one round and thread or more")
    rounds, about = (1, 0.01) if options.quick else (options.rounds, options.seconds)
    threads.set_num_threads(options.threads)
    if find_spec("torch") is not None:
        import torch

        torch.set_num_threads(options.threads)
    busy, measured = load(), []
    for model in ["LeNet"] if options.quick else options.models:
        for name in names:
            measured.append(measure(name, model, rounds, about))
            print(line(measured[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    about_it = {**environment(), "threads": options.threads, "load": busy}
    write_json(options.out / "results.json", {"environment": about_it, "cases": measured})
    print(f"results.json is in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
