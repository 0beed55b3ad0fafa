"""Critics: none, R1, spectral normalization, mixup; and a hundred labels with many digits that have none.

    python examples/generative.py            five paired runs: two minutes
    python examples/generative.py --full     20,000 minibatches, wider nets
    python examples/generative.py --quick    a few steps of each: does everything work?

A critic D tells digits x from G(z), z ~ N(0, 1); G learns to pass (Goodfellow et al., arXiv 1406.2661):

    D     mean softplus(-D(x)) + mean softplus(D(G(z)))        G     mean softplus(-D(G(z)))

    R1         + γ/2 · mean ‖∂D/∂x‖² at the digits, a double backpropagation (Mescheder et al., 1801.04406)
    spectral   each W of D is W / σ₁(W), so that D is 1-Lipschitz (Miyato et al., 1802.05957)
    mixup      D sees λx + (1 - λ) G(z), λ ~ Beta(.2, .2), and is to say λ (Zhang et al., 1710.09412)

Measured: the Fréchet distance of a LeNet's logits, mean μ and covariance C, on 2,000 test digits and on as
many samples: ‖μ - μ'‖² + tr(C + C' - 2 (C C')^½).

Semi-supervised (Salimans et al., 1606.03498): D has a logit for each class and says D(x) = Z / (Z + 1) with
Z = Σ exp logit. Its loss: cross-entropy of 100 labeled digits - ½ lse(x) + ½ softplus(lse(x)) of others
+ ½ softplus(lse(G(z))), lse = log Z; that of G: ‖mean f(x) - mean f(G(z))‖², f the last features.

Published: 93 ± 6.5 errors of 10,000 with 100 labels (Salimans et al.). CIFAR-10, distances in an Inception
net: 29.3 with spectral normalization, 40.2 with WGAN-GP (Miyato et al., table 2). What differs: two hidden
layers of 256, 300 minibatches, and a LeNet's distance, which cannot be put beside an Inception net's.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.data import Batches, mnist, n_per_class
from tinydl.models import LeNet
from tinydl.regularizers import R1, Logistic, Objective, SemiSupervised, mixed_with_fakes, spectral_norm
from tinydl.study import differences, draw_runs, error_rate, program_options, run_program, train

try:
    from matplotlib.figure import Figure
except ImportError as error:
    sys.exit(f"generative: {error}: pip install '.[examples]'")

WAYS = ("nothing", "R1", "spectral", "mixup")
ALONE, BOTH = "100 labels", "and digits without"
NOISE, SIZE = 32, 64


def maker(width: int) -> nn.Sequential:
    """z (n, 32) to digits (n, 784), 0 to 1."""
    wide = (nn.Linear(NOISE, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))
    return nn.Sequential(*wide, nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 784), nn.Sigmoid())


def critic(width: int, outputs: int, wrap: Any = None) -> nn.Sequential:
    """Its features, and a linear layer; `wrap` is done to the linear layers."""
    layers = [nn.Linear(784, width), nn.Linear(width, width), nn.Linear(width, outputs)]
    first, second, last = map(wrap, layers) if wrap else layers
    return nn.Sequential(nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2)), last)


def adversaries(way: str, D: nn.Sequential, batches: Any, steps: int, width: int) -> nn.Sequential:
    """The generator after so many steps of both. In a batch: digits, then labeled ones and their labels."""
    G = maker(width)
    loss = SemiSupervised() if way == BOTH else Logistic()
    judge = Objective(D, loss, [R1(1.0)] if way == "R1" else [])
    of_G, of_D = (td.optim.Adam(m.parameters(), lr=1e-3, betas=(0.5, 0.99)) for m in (G, D))

    @td.record
    def step(x: td.Tensor, labeled: td.Tensor | None = None, y: td.Tensor | None = None) -> None:
        fake = G(td.randn(SIZE, NOISE))
        of_D.zero_grad()
        if way == "mixup":
            mixed, share = mixed_with_fakes(x, fake.detach(), 0.2)
            td.binary_cross_entropy_with_logits(D(mixed)[:, 0], share).backward()
        elif way == BOTH:
            judge(labeled, y, unlabeled=x, fake=fake.detach()).total.backward()
        else:
            judge(x, None, fake=fake.detach()).total.backward()
        of_D.step()
        of_G.zero_grad()
        apart = D[0](x).mean(0).detach() - D[0](fake).mean(0)
        (apart.square().sum() if way == BOTH else td.softplus(-D(fake)).mean()).backward()
        of_G.step()

    for _ in range(steps):
        step(*(part for own in batches for part in own.next_batch()))
    return G.eval()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of two normal distributions with the means and covariances of rows (n, features)."""
    C, D = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.linalg.eigvals(C @ D).astype(complex)).real.sum()  # the trace of (C D)^½
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(C + D) - 2 * root)


def picture(samples: dict[str, np.ndarray], distances: Any, errors: Any) -> Figure:
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.6, 1))
    for axes, (way, x) in zip(left.subplots(2, 2).flat, samples.items(), strict=True):
        axes.imshow(x[:40].reshape(5, 8, 28, 28).swapaxes(1, 2).reshape(140, 224), cmap="gray_r")
        axes.set(title=way, xticks=(), yticks=())
    upper, lower = right.subplots(2, 1, height_ratios=(2, 1))
    draw_runs(upper, distances)
    upper.set(title="Fréchet distance of samples to digits")
    draw_runs(lower, errors)
    lower.set(xlabel="error on test digits (%)", title="A critic that classifies")
    return figure


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    sizes = (20_000, 1_024, 60_000) if options.full else (300, 256, 20_000)
    steps, width, n = (3, 64, 60_000) if options.quick else sizes
    (x, y, _), (tx, ty, _) = (mnist(split, options.data) for split in ("train", "test"))
    x, tx, y, ty = x[:n] / np.float32(255), tx[:2000] / np.float32(255), y[:n], ty[:2000]
    flat, tflat = x.reshape(-1, 784), tx.reshape(-1, 784)
    td.manual_seed(0)
    lenet = LeNet()
    train(lenet, td.optim.Adam(lenet.parameters()), Batches(x[:, None], y, batch_size=50), max(steps, 20))
    lenet.eval()
    distances: dict[str, list[float]] = {way: [] for way in WAYS}
    errors: dict[str, list[float]] = {ALONE: [], BOTH: []}
    samples = {}
    with td.no_grad():
        seen = lenet(td.tensor(tx[:, None])).numpy()
    for run in range(2 if options.quick else 5):
        some = n_per_class(y, 10, order=np.random.default_rng(run).permutation(len(y)))
        for way, own in (distances | errors).items():
            td.manual_seed(run)
            batches = [Batches(flat, batch_size=SIZE, seed=run)]
            D = critic(width, 1 if way in distances else 10, spectral_norm if way == "spectral" else None)
            if way in errors:
                batches.append(Batches(flat[some], y[some], batch_size=50, seed=run))
            if way == ALONE:
                train(D, td.optim.Adam(D.parameters()), batches[1], steps)
            else:
                G = adversaries(way, D, batches, steps, width)
            if way in errors:
                own.append(error_rate(D, tflat, ty))
                continue
            with td.no_grad():
                made = G(td.randn(2_000, NOISE))
                own.append(frechet(seen, lenet(made.reshape(-1, 1, 28, 28)).numpy()))
            samples[way] = made.numpy()
        told = [f"{name} {own[-1]:.2f}" for name, own in (distances | errors).items()]
        print(f"  run {run}: " + ", ".join(told), flush=True)
    print("Fréchet distance, differences")
    found = {"distance": differences(distances, [(way, "nothing") for way in WAYS[1:]])}
    print("100 labels, error in %, difference")
    found["error"] = differences(errors, [(BOTH, ALONE)])
    print("published: .93 ± .065 % with 100 labels and all digits (Salimans et al.)")
    return picture(samples, distances, errors), {"distance": distances, "error": errors, "found": found}


def main(arguments: list[str] | None = None) -> int:
    return run_program(experiment, program_options(__doc__ or "", "generative").parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
