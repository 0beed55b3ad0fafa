"""Descent: how far a step may go, when to stop, how much data a step needs, and what others make of it.

    python examples/descent.py --animation a.gif    a minute on two cores; the races as a film, too

Softmax regression on 2,000 digits, f(W) = mean ℓ + ½ μ ‖W‖², is L-smooth and μ-strongly convex, where
L = ½ λ_max(XᵀX / n) + μ (Böhning 1992). So with g = ∇f(W) (Nesterov, Introductory Lectures, 1.2.3 and 2.1.3)

    f(W − η g) ≤ f(W) − η (1 − ½ L η) ‖g‖²     every step descends, if 0 < η < 2 / L
    f(W) − f* ≤ ‖g‖² / 2μ                      so a small ‖g‖ is a reason to stop

L is a bound for all W; near the minimum the limit is 2 / λ, λ the largest curvature there. Batch, mini-batch
and stochastic descent take the mean gradient of n, 50 and 1 samples. Nine methods race on two surfaces:
Beale's function, and the saddle x² − y² from 1e-3 off its ridge, where gradient descent has |y| = 1 after
log(1000) / log(1 + 2η) steps. The cliff is that of a recurrent unit, h ← σ(w h + b) fifty times from h = ½,
and (h − .7)² (Pascanu, Mikolov, Bengio, arXiv 1211.5063, figure 6). Clipped: g ← g · min(1, c / ‖g‖).
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure

import tinydl as td
from tinydl import optim, study
from tinydl.data import Batches

MU = 0.1
RACERS: dict[str, Any] = {  # class with its options, rates on the two surfaces
    "gradient descent": (optim.SGD, 3e-3, 0.05),
    "momentum": (partial(optim.SGD, momentum=0.9), 1e-3, 0.01),
    "Nesterov": (partial(optim.SGD, momentum=0.9, nesterov=True), 1e-3, 0.01),
    "Adagrad": (optim.Adagrad, 0.3, 0.1),
    "Adadelta": (optim.Adadelta, 30.0, 5.0),
    "RMSprop": (optim.RMSprop, 0.02, 0.02),
    "Adam": (optim.Adam, 0.1, 0.05),
    "Nadam": (optim.NAdam, 0.1, 0.05),
    "Lion": (optim.Lion, 0.03, 0.02),
}
SURFACES: dict[str, Any] = {  # height, start, box (x from, to, y from, to)
    "Beale's function": (study.beale, (1.2, 1.3), (-0.3, 4.0, -1.2, 1.7)),
    "a saddle": (lambda x, y: x**2 - y**2, (1.0, 1e-3), (-1.2, 1.2, -1.2, 1.2)),
    "a cliff": (study.recurrent_cliff, (5.5, -2.2), (3.2, 6.4, -3.0, 2.4)),
}


def draw(axes: Any, name: str, paths: dict[str, np.ndarray]) -> list[Any]:
    height, start, (left, right, low, high) = SURFACES[name]
    x, y = np.meshgrid(np.linspace(left, right, 300), np.linspace(low, high, 300))
    z = height(td.tensor(x), td.tensor(y)).numpy()
    axes.contour(x, y, np.log(z - z.min() + 0.02), 30, colors="#bbbbbb", linewidths=0.6)
    axes.plot(*start, "ko", markersize=8)
    axes.set(xlim=(left, right), ylim=(low, high), xticks=(), yticks=(), title=f"{name}, from the dot")
    of = enumerate(paths.items())
    return [axes.plot(*path.T, f"C{k + (k > 6)}", linewidth=1.8, label=name)[0] for k, (name, path) in of]


def film(walks: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    figure, moved = Figure(figsize=(11, 5), layout="constrained"), []
    for axes, (name, paths) in zip(figure.subplots(1, 2), walks.items(), strict=False):
        moved += zip(draw(axes, name, paths), paths.values(), strict=True)
    figure.axes[0].legend(fontsize=8)
    frame = lambda k: [line.set_data(*points[: 3 * k + 1].T) for line, points in moved]  # noqa: E731
    FuncAnimation(figure, frame, len(moved[0][1]) // 3).save(path, PillowWriter(fps=15), dpi=80)


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    n, steps, passes, orders = (2_000, 1_000, 30, 20) if options.full else (2_000, 300, 8, 5)
    if options.quick:
        n, steps, passes, orders = 200, 20, 1, 2
    x, y, *_ = study.program_images(options, n, 1)
    x = np.c_[x.reshape(n, -1), np.ones(n)].astype(np.float64)
    W, L = td.nn.Parameter(np.zeros((785, 10))), 0.5 * np.linalg.eigvalsh(x.T @ x / n)[-1] + MU

    def f(W: td.Tensor, x: Any = x, y: Any = y) -> td.Tensor:
        return td.cross_entropy(td.tensor(x) @ W, td.tensor(y)) + 0.5 * MU * W.square().sum()

    def closure(x: Any = x, y: Any = y) -> td.Tensor:
        W.grad, value = None, f(W, x, y)
        value.backward()
        return value

    @td.record
    def step(x: td.Tensor, y: td.Tensor, rate: td.Tensor) -> tuple[td.Tensor, td.Tensor]:
        value = closure(x, y)
        with td.no_grad():
            W.sub_(rate * W.grad)
        return value, W.grad.square().sum()

    optim.LBFGS([W], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe").step(closure)
    least, v = f(W).item(), td.randn(785, 10, dtype=np.float64)
    for _ in range(5 if options.quick else 50):  # power iteration
        _, v = td.hvp(f, W, v / v.norm())
    top = v.norm().item()
    figure = Figure(figsize=(15, 9), layout="constrained")
    (rate_axes, stop_axes, data_axes), below = figure.subplots(2, 3)
    rates = {"1 / L": 1 / L, "1.9 / L": 1.9 / L, "1.9 / λ": 1.9 / top, "2.1 / λ": 2.1 / top}
    curves = {}
    for name, rate in rates.items():
        td.nn.init.zeros_(W)
        found = [[of.item() for of in step(x, y, td.tensor(rate))] for _ in range(steps)]
        curves[name] = np.array(found) - [least, 0]
        rate_axes.plot(curves[name][:, 0], linewidth=2, label=f"η = {name}")
    rate_axes.set(yscale="log", xlabel="steps", title=f"f − f*: L = {L:.0f}, λ = {top:.0f}")
    (gap, square), rate = curves["1.9 / L"].T, rates["1.9 / L"]
    fall, promised, bound = gap[:-1] - gap[1:], rate * (1 - L * rate / 2) * square[:-1], square / (2 * MU)
    stop = min(int(np.argmax(np.r_[bound, 0] < 0.1)), steps - 1)
    lines = {"‖g‖² / 2μ": bound, "f − f*, below it": gap, "descent of a step": fall}
    lines["promised: η (1 − ½ L η) ‖g‖²"] = promised
    for (label, line), form in zip(lines.items(), ("k", "C1", "C4", "C4:"), strict=True):
        stop_axes.plot(line, form, linewidth=2, label=label)
    stop_axes.axvline(stop, color="#999999", label="stop: f − f* must be below .1")
    stop_axes.set(yscale="log", xlabel="steps of η = 1.9 / L", title="What a gradient promises")
    ways = {"batch": (n, 1 / top), "mini-batches of 50": (50, 0.02), "single samples": (1, 1e-3)}
    gaps: dict[str, list[list[float]]] = {name: [[] for _ in range(orders)] for name in ways}
    for (name, (size, rate)), color in zip(ways.items(), ("C2", "C0", "C3"), strict=True):
        for order, own in enumerate(gaps[name]):
            batches = Batches(x, y, batch_size=size, seed=order)
            td.nn.init.zeros_(W)
            for _ in range(passes):
                for batch in batches:
                    step(*batch, td.tensor(rate))
                own.append(f(W).item() - least)
            data_axes.plot(range(1, passes + 1), own, f"{color}.-", label="" if order else name)
    data_axes.set(yscale="log", xlabel="passes over the digits", title=f"f − f* in {orders} orders")
    walks: dict[str, dict[str, np.ndarray]] = {name: {} for name in SURFACES}
    for racer, (kind, *own_rates) in RACERS.items():
        for (name, (height, start, _)), lr in zip(SURFACES.items(), own_rates, strict=False):
            walks[name][racer] = study.walk(height, start, partial(kind, lr=lr), 20 if options.quick else 200)
    cliff = study.recurrent_cliff
    for racer, clip in {"as it is": np.inf, "clipped at .2": 0.2}.items():
        walks["a cliff"][racer] = study.walk(cliff, (5.5, -2.2), partial(optim.SGD, lr=1.0), 150, clip)
    for axes, paths in zip(below, walks.items(), strict=True):
        draw(axes, *paths)
    for axes in figure.axes:
        axes.legend(fontsize=9)
    if options.animation:
        film(walks, options.animation)
    first = [[own[0] for own in runs] for runs in gaps.values()]
    results = {
        "f - f* after a pass: batch, mini-batches, single samples": np.mean(first, 1).tolist(),
        "both less that of batch": [study.paired_difference(own, first[0]).told() for own in first[1:]],
        "least descent / promise": float((fall / promised).min()),
        "f - f* at the stop": float(gap[stop]),
        "off the saddle": {k: int(np.argmax(np.abs(w[:, 1]) > 1)) for k, w in walks["a saddle"].items()},
        "cliff": [cliff(*map(td.tensor, w[-1])).item() for w in walks["a cliff"].values()],
    }
    print(*(f"{name}: {value}" for name, value in results.items()), sep="\n")
    return figure, results | {"L": L, "curvature": top, "gaps": gaps}


def main(arguments: list[str] | None = None) -> int:
    parser = study.program_options(__doc__ or "", "descent")
    parser.add_argument("--animation", type=Path, metavar="GIF", help="the two surfaces as a film")
    return study.run_program(experiment, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
