"""Residual nets: why deeper was worse, what a shortcut changes, and which kind of shortcut it takes.

    python examples/residual.py            five paired runs of 120 minibatches: two minutes
    python examples/residual.py --full     28 × 28 images, the published widths, 2,000 minibatches of 128
    python examples/residual.py --quick    a few steps of each: does everything work?

A plain block computes y = relu(F(x)) with F(x) = bn(W₂ * relu(bn(W₁ * x))), a residual one
y = relu(F(x) + s(x)) (He et al., arXiv 1512.03385, section 3). The deeper net holds the shallower one (F = 0
in the blocks between), yet a deeper plain net has the larger *training* error: degradation. Shortcuts s:

    A    the identity; every second pixel, and zeros for new channels, where the shape changes
    B    a 1 × 1 convolution with BatchNorm where the shape changes, else the identity
    C    1 × 1 convolutions with BatchNorm everywhere

With g = ∂L/∂y behind the relu, ∂L/∂x = s'ᵀg + F'ᵀg. Of plain blocks only the product of all F' is left, which
under BatchNorm grows exponentially on the way down (Yang et al., arXiv 1902.08129); with shortcuts one path
has no factors. The second panel has rms ∂L/∂W of each convolution before the first step.

Published (He et al.): CIFAR-10, plain-56 above plain-20 in training and test error (figure 6), ResNet-20
8.75 % and ResNet-56 6.97 % (table 6); ImageNet, plain-34 28.54 %, ResNet-34 with A 25.03 %, B 24.52 %,
C 24.19 % (table 3). What differs here: digits of 14 × 14, half the widths, and so few minibatches that the
picture shows how optimization begins, not where it ends.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.data import Batches, mnist, normalize
from tinydl.models import ResNet
from tinydl.optim.lr_scheduler import CosineAnnealingLR
from tinydl.study import differences, draw_runs, error_rate, program_options, run_program, train

try:
    from matplotlib.figure import Figure
except ImportError as error:
    sys.exit(f"residual: {error}: pip install '.[examples]'")

NETS = {  # name -> n of 6 n + 2 layers, shortcut, color
    "plain-20": (3, "none", "#fdae61"),
    "plain-56": (9, "none", "#d7191c"),
    "ResNet-20 A": (3, "A", "#74add1"),
    "ResNet-56 A": (9, "A", "#2c3e9e"),
    "ResNet-20 B": (3, "B", "#66bd63"),
    "ResNet-20 C": (3, "C", "#1b7837"),
}
COLORS = {name: color for name, (_, _, color) in NETS.items()}
PAIRS = [  # what is compared, in pairs of runs
    ("plain-56", "plain-20"),
    ("ResNet-56 A", "ResNet-20 A"),
    ("ResNet-20 A", "plain-20"),
    ("ResNet-56 A", "plain-56"),
    ("ResNet-20 B", "ResNet-20 A"),
    ("ResNet-20 C", "ResNet-20 A"),
]


def digits(options: argparse.Namespace) -> tuple[np.ndarray, ...]:
    """Images (n, 1, H, W) and labels to train on and to test; at half the resolution unless --full."""
    (x, y, _), (tx, ty, _) = (mnist(split, options.data) for split in ("train", "test"))
    if not options.full:
        n, tn = (500, 200) if options.quick else (20_000, 2_000)
        x, tx = (v.reshape(-1, 14, 2, 14, 2).mean((2, 4)) for v in (x[:n], tx[:tn]))
    x, tx = normalize(x[:, None], tx[:, None])
    return x, y[: len(x)], tx, ty[: len(tx)]


def gradients_by_depth(model: nn.Module, x: np.ndarray, y: np.ndarray) -> list[float]:
    """rms of ∂L/∂W of each 3 × 3 convolution, from the image to the classes."""
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    slopes = td.grad(td.cross_entropy(model(td.tensor(x)), td.tensor(y)), weights)
    return [float(g.square().mean().sqrt().item()) for g in slopes]


def one_run(name: str, run: int, data: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Losses, their mean over the last 20 minibatches, the error on test images in %, the gradients before
    the first step. The run decides start and minibatches.
    """
    (n, shortcut, _), (x, y, tx, ty) = NETS[name], data
    steps, size, widths = (2_000, 128, (16, 32, 64)) if options.full else (120, 32, (8, 16, 32))
    steps = 3 if options.quick else steps
    with td.random_from(td.Generator(run)):
        model = ResNet(n, in_channels=1, widths=widths, shortcut=shortcut)
    optimizer = td.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    schedule = CosineAnnealingLR(optimizer, steps)
    batches = Batches(x, y, batch_size=size, seed=run)
    slopes = gradients_by_depth(model, x[:size], y[:size])

    losses = train(model, optimizer, batches, steps, schedule=schedule)
    error = error_rate(model, tx, ty)
    return {"losses": losses, "loss": np.mean(losses[-20:]), "error": error, "gradients": slopes}


def picture(runs: dict[str, list[dict[str, Any]]]) -> Figure:
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1, 0.9))
    for name in list(NETS)[:4]:
        color = COLORS[name]
        losses = np.array([run["losses"] for run in runs[name]])
        width = min(9, losses.shape[1])
        smooth = np.array([np.convolve(row, np.ones(width) / width, "valid") for row in losses])
        at = np.arange(smooth.shape[1]) + width
        left.plot(at, smooth.mean(0), color=color, lw=2, label=name)
        left.fill_between(at, smooth.min(0), smooth.max(0), color=color, alpha=0.15, lw=0)
        slopes = np.array([run["gradients"] for run in runs[name]])
        middle.semilogy(1 + np.arange(slopes.shape[1]), slopes.mean(0), ".-", color=color, lw=1.5, label=name)
    left.set(xlabel="minibatch", ylabel="training loss (mean of 9; band: all runs)", yscale="log")
    left.minorticks_off()
    left.set(yticks=(0.3, 0.5, 1, 2, 4), yticklabels=("0.3", "0.5", "1", "2", "4"))
    left.set_title("Degradation: deeper is worse, without shortcuts")
    middle.set(xlabel="convolution, from the image on", ylabel="rms ∂L/∂W before the first step")
    middle.set_title("Gradients by depth")
    for axes in (left, middle):
        axes.legend(frameon=False, fontsize=9)
        axes.grid(alpha=0.25)
    draw_runs(right, {k: [run["error"] for run in own] for k, own in runs.items()}, COLORS)
    right.set(xlabel="error on test images (%)")
    right.set_title("Shortcuts: none, A, B, C")
    right.grid(alpha=0.25, axis="x", which="both")
    return figure


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    data = digits(options)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in NETS}
    for run in range(2 if options.quick else 5):
        for name, own in runs.items():
            own.append(one_run(name, run, data, options))
        print(f"  run {run}: " + ", ".join(f"{name} {own[-1]['error']:.1f} %" for name, own in runs.items()))
    found = {}
    for what in ("loss", "error"):
        print(f"{what} of the runs, differences")
        found[what] = differences({k: [run[what] for run in own] for k, own in runs.items()}, PAIRS)
    print("published: CIFAR-10: ResNet-20 8.75 %, ResNet-56 6.97 %; ImageNet: plain-34 28.54 %,")
    print("ResNet-34 with A 25.03 %, B 24.52 %, C 24.19 %")
    return picture(runs), {"runs": runs, "differences": found}


def main(arguments: list[str] | None = None) -> int:
    return run_program(experiment, program_options(__doc__ or "", "residual").parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
