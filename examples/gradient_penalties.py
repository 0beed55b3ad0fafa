"""Penalties on gradients by the input: two kinds of digits in the plane, and a step on the line.

    python examples/gradient_penalties.py    half a minute on two cores; --full: twice the draws, more steps

A net f of two logits z learns a class from few points. What it does between them is decided by a term beside
the mean cross-entropy ℓ:

    weight decay  θ ← (1 − ηλ)θ                        (decoupled: Loshchilov & Hutter, arXiv 1711.05101)
    DataGrad      λ · mean ‖∂ℓ/∂x‖²                    (Drucker & LeCun 1992)
    SpectReg      λ · mean ‖∂(rᵀz)/∂x‖², r ~ N(0, I)   (Varga et al., arXiv 1712.09936)
    VAT           λ · mean KL(p(x) ‖ p(x + r)), r of length ε where p moves most (Miyato, arXiv 1704.03976)

The plane: threes and eights, by their first two principal components. The line: y = [x > 0] from points that
are drawn anew in each step, where two of the penalties can be solved for all functions at once. DataGrad: by
the loss itself, ∫ ℓ + λ ℓ'² dx with ℓ(0) = log 2, so 2λ ℓ'' = 1, a parabola that ends in 0:

    p(x) = exp(−(c − |x|)² / 4λ) of the right class for |x| < c = 2 √(λ log 2), and 1 beyond.

SpectReg: f = z₁ − z₀ costs ½ f'² (z = ±½ f is the cheapest), so λ f'' = −1 / (1 + exp f) for x > 0, f(0) = 0,
f'(1) = 0. Both are dotted: where a net learns, it is these curves that it has to find.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import tinydl as td
from tinydl import nn
from tinydl.optim.lr_scheduler import CosineAnnealingLR
from tinydl.regularizers import VAT, DataGrad, Objective, SpectReg
from tinydl.study import estimate, paired_difference, program_images, program_options, run_program

STEP = 0.1  # λ of the gradient penalties on the line
# name -> decay and terms in the plane, chosen on other points than those that judge, and on the line
WAYS: dict[str, tuple[float, Any, float, Any]] = {
    "none": (0, list, 0, list),
    "weight decay": (3.0, list, 1.0, list),
    "DataGrad": (0, lambda: [DataGrad(1.0)], 0, lambda: [DataGrad(STEP)]),
    "SpectReg": (0, lambda: [SpectReg(0.1)], 0, lambda: [SpectReg(STEP)]),
    "VAT": (0, lambda: [VAT(1.0, eps=0.5)], 0, lambda: [VAT(1.0, eps=0.3)]),
}


def plane(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Threes (0) and eights (1): points (n, 2) of variance 1, and labels."""
    x, y, *_ = program_images(options, 60_000, 1)
    x, y = (of[(y == 3) | (y == 8)] for of in (x, y))
    x = x.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196)  # coarse, as the components are
    x -= x.mean(0)
    _, axes = np.linalg.eigh(x.T @ x)
    x = x @ axes[:, :-3:-1]
    return x / x.std(0), (y == 8).astype(np.int64)


def train(batches: Any, inputs: int, decay: float, terms: list[Any], seed: int) -> nn.Module:
    """On each of the batches once."""
    with td.random_from(td.Generator(seed)):
        bend = nn.Tanh if inputs == 1 else nn.ReLU  # the line asks for f''
        layers = nn.Linear(inputs, 64), bend(), nn.Linear(64, 64), bend(), nn.Linear(64, 2)
        model = nn.Sequential(*layers)
        objective = Objective(model, td.cross_entropy, terms)
    optimizer = td.optim.AdamW(model.parameters(), lr=0.01, weight_decay=decay)
    schedule = CosineAnnealingLR(optimizer, len(batches))

    @td.record
    def step(x: td.Tensor, y: td.Tensor) -> None:
        optimizer.zero_grad()
        objective(x, y).total.backward()
        optimizer.step()
        schedule.step()

    for x, y in batches:
        step(x, y)
    return model


def surface(model: nn.Module, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At points (n, d): the probability of class 1, and ‖∂f/∂x‖."""
    at = td.tensor(x.astype(np.float32)).requires_grad_()
    z = model(at)
    (slope,) = td.grad((z[:, 1] - z[:, 0]).sum(), at)
    return td.softmax(z, 1)[:, 1].detach().numpy(), np.linalg.norm(slope.numpy(), axis=1)


def solved(x: np.ndarray) -> dict[str, np.ndarray]:
    """The probability of class 1 on the line (n,), by name, of the best of all functions."""
    c = 2 * np.sqrt(STEP * np.log(2))
    right = np.exp(-(np.maximum(c - np.abs(x), 0) ** 2) / (4 * STEP))
    n = 200
    second = (np.eye(n, k=1) - 2 * np.eye(n) + np.eye(n, k=-1)) * n**2  # f(0) = 0 at the left
    second[-1, -2] *= 2  # f'(1) = 0
    f = np.zeros(n)
    for _ in range(8):  # Newton
        p = 1 / (1 + np.exp(f))
        f -= np.linalg.solve(STEP * second - np.diag(p * (1 - p)), STEP * second @ f + p)
    spect = np.interp(np.abs(x), np.linspace(0, 1, n + 1), np.r_[0, f]) * np.sign(x)
    return {"DataGrad": np.where(x > 0, right, 1 - right), "SpectReg": 1 / (1 + np.exp(-spect))}


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    draws, steps = (2, 20) if options.quick else (20, 2_000) if options.full else (10, 600)
    points, labels = plane(options)
    n = min(2_000, len(points) // 4)
    test, line = slice(-2 * n, -n), np.linspace(-1, 1, 401)
    sides = np.linspace(-3, 3, 60 if options.quick else 240)
    grid = np.stack(np.meshgrid(sides, sides), -1).reshape(-1, 2)
    best = solved(line)
    right, apart = {name: [] for name in WAYS}, {}
    figure = Figure(figsize=(15, 8.3), layout="constrained")
    rows = figure.subplots(3, len(WAYS), sharey="row", height_ratios=(1, 1, 0.75))
    jumps = np.random.default_rng(0).uniform(-1, 1, (2 * steps, 256, 1)).astype(np.float32)
    for column, (name, (decay, terms, line_decay, line_terms)) in zip(rows.T, WAYS.items(), strict=True):
        for draw in range(draws):
            own = slice(60 * draw, 60 * draw + 60)
            x, y = points[own].astype(np.float32), labels[own]
            model = train([(x, y)] * steps, 2, decay, terms(), draw)
            right[name].append(100 * float(((surface(model, points[test])[0] > 0.5) == labels[test]).mean()))
            if draw == 0:
                shown = show_plane(column[:2], sides, surface(model, grid), x, y)
        column[0].set_title(f"{name}\n{estimate(right[name]).mean:.1f} % right", fontsize=13)
        model = train([(x, (x[:, 0] > 0).astype(np.int64)) for x in jumps], 1, line_decay, line_terms(), 0)
        p, slope = surface(model, line[:, None])
        column[2].plot(line, p, color="#0072b2", linewidth=2.5, label="p(x), trained")
        if name in best:
            column[2].plot(line, best[name], "k:", linewidth=2, label="solved")
            apart[name] = float(np.abs(p - best[name]).max())
        column[2].set_xlabel(f"x    (largest |∂f/∂x| {slope.max():.0f})")
        column[2].set(yticks=(0, 0.5, 1), xticks=(-1, 0, 1))
        column[2].legend(frameon=False, loc="lower right", fontsize=9)
        column[2].spines[["top", "right"]].set_visible(False)
        print(f"{name:13} {estimate(right[name]).mean:.2f} % right", flush=True)
    figure.colorbar(shown[0], ax=rows[0], ticks=(0, 0.5, 1), label="probability of an eight")
    figure.colorbar(shown[1], ax=rows[1], label="‖∂f/∂x‖, f = z₁ − z₀")
    for axes, text in zip(rows[:, 0], ("60 threes and eights", "how fast it changes its mind", "a step")):
        axes.set_ylabel(text, fontsize=12)
    told = {name: paired_difference(right[name], right["none"]).told() for name in list(WAYS)[1:]}
    print(*(f"{name} - none: {words}" for name, words in told.items()), sep="\n")
    print("furthest from the solved curve: " + ", ".join(f"{k} {v:.3f}" for k, v in apart.items()))
    return figure, {"right": right, "differences": told, "furthest from solved": apart}


def show_plane(axes: Any, sides: Any, values: Any, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
    p, slope = (of.reshape(len(sides), -1) for of in values)
    shades = axes[0].contourf(sides, sides, p, np.linspace(0, 1, 21), cmap="RdBu_r", vmin=-0.5, vmax=1.5)
    heat = axes[1].pcolormesh(sides, sides, slope, norm=LogNorm(0.3, 300), cmap="magma", rasterized=True)
    for ax, color in zip(axes, ("black", "white"), strict=True):
        ax.contour(sides, sides, p, [0.5], colors=color, linewidths=1.4)
        for label, dot in enumerate(("#2166ac", "#b2182b")):
            ax.scatter(*x[y == label].T, s=22, color=dot, edgecolors="white", linewidths=0.8)
        ax.set(aspect="equal", xticks=(), yticks=(), xlim=(-3, 3), ylim=(-3, 3))
    return shades, heat


def main(arguments: list[str] | None = None) -> int:
    return run_program(experiment, program_options(__doc__ or "", "gradient_penalties").parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
