"""The ladder: from 98.0 to 99.7 % of MNIST's test digits, one change on each rung.

    python examples/ladder.py            5,000 digits and 1,500 minibatches for each rung: two minutes
    python examples/ladder.py --full     50,000 digits and the published epochs: days on two cores
    python examples/ladder.py --quick    a few steps of each: does everything work?

Nielsen, Neural Networks and Deep Learning (2015), chapters 3 and 6. Plain SGD, w ← w - η ∂C/∂w, minibatches
of 10, C = mean cross-entropy + ½ λ Σ w² / number of minibatches, of weights, not biases (first rung: λ / 2n,
n digits). Weights start as N(0, 1/n_out), biases as N(0, 1), the softmax layer as 0 (first rung:
N(0, 1/n_in)). A rung's accuracy is that on the test digits at the epoch that was best on held-out ones:

    sigmoids          784-100-10, cross-entropy of ten sigmoids, -Σ y log a + (1 - y) log(1 - a)
    softmax           784-100-10, -log p_y
    conv, two conv    20 maps of 5 × 5, max pool 2; 40 more and a pool; then 100 units
    ReLU, shifts      max(0, z); each digit also moved by a pixel up, down, left and right: 250,000
    dropout, vote     p = ½ on the inputs of the last three layers; the majority of five such nets
    MLP               Cireşan et al., arXiv 1003.0358: no convolution, 2500-2000-1500-1000-500-10, digits
                      deformed anew each time (rotation, scale, elastic), a rate that falls to a thousandth

By default 5,000 digits, 1,500 minibatches for each rung, a fifth of the MLP's units, one run of each;
published are the best of three, and the rungs with 250,000 images took five times as many minibatches.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, NamedTuple

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.data import DataLoader, TensorDataset, mnist
from tinydl.data.transforms import Compose, ElasticTransform, Normalize, RandomAffine
from tinydl.models import ciresan
from tinydl.optim.lr_scheduler import ExponentialLR
from tinydl.study import error_rate, program_options, run_program, train
from tinydl.training import Ensemble

try:
    from matplotlib.figure import Figure
except ImportError as error:
    sys.exit(f"ladder: {error}: pip install '.[examples]'")


class Rung(NamedTuple):
    name: str
    published: float
    maps: tuple[int, ...] = (20, 40)
    hidden: tuple[int, ...] = (100,)
    unit: type[nn.Module] = nn.ReLU
    epochs: int = 60
    rate: float = 0.03
    decay: float = 0.1
    dropout: float = 0.0
    shifts: bool = True


RUNGS = [
    Rung("sigmoids", 98.04, (), unit=nn.Sigmoid, rate=0.1, decay=5.0, shifts=False),
    Rung("softmax", 97.80, (), unit=nn.Sigmoid, rate=0.1, decay=0.0, shifts=False),
    Rung("conv", 98.78, (20,), unit=nn.Sigmoid, rate=0.1, decay=0.0, shifts=False),
    Rung("two conv", 99.06, unit=nn.Sigmoid, rate=0.1, decay=0.0, shifts=False),
    Rung("ReLU", 99.23, shifts=False),
    Rung("shifts", 99.37),
    Rung("FC 300", 99.46, hidden=(300,)),
    Rung("FC 1000", 99.43, hidden=(1000,)),
    Rung("FC 100, 100", 99.43, hidden=(100, 100)),
    Rung("FC 300, 300", 99.48, hidden=(300, 300)),
    Rung("FC 1000, 1000", 99.47, hidden=(1000, 1000)),
    Rung("dropout", 99.60, hidden=(1000, 1000), epochs=40, decay=0.0, dropout=0.5),
    Rung("vote of 5", 99.67),
    Rung("MLP", 99.65, (), (2500, 2000, 1500, 1000, 500), epochs=800, rate=1e-3, decay=0.0, shifts=False),
]
LOSSES = td.cross_entropy, lambda z, y: 10 * td.binary_cross_entropy_with_logits(z, td.one_hot(y, 10).float())
FIRST, (DROPOUT, VOTE, MLP) = RUNGS[0], RUNGS[-3:]


def net(rung: Rung, full: bool) -> nn.Module:
    if rung is MLP:
        return ciresan(in_features=784, hidden=[h if full else h // 5 for h in rung.hidden])
    layers, channels, side = list[nn.Module](), 1, 28
    for maps in rung.maps:
        layers += [nn.Conv2d(channels, maps, 5), nn.MaxPool2d(2), rung.unit()]
        channels, side = maps, (side - 4) // 2
    layers, units = [*layers, nn.Flatten()], channels * side**2
    for more in rung.hidden:
        layers += [nn.Dropout(rung.dropout), nn.Linear(units, more), rung.unit()]
        units = more
    model = nn.Sequential(*layers, nn.Dropout(rung.dropout), nn.Linear(units, 10))
    for layer in model:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            fan = layer.weight.shape[rung is FIRST] * (25 / 4 if isinstance(layer, nn.Conv2d) else 1)
            softmax = rung is not FIRST and layer is model[-1]
            nn.init.normal_(layer.weight, 0.0, 0.0 if softmax else fan**-0.5)
            nn.init.normal_(layer.bias, 0.0, 0.0 if softmax else 1.0)
    return model


def climb(rung: Rung, seed: int, data: Any, options: argparse.Namespace) -> tuple[nn.Module, float]:
    """The net, and its accuracy in % on the test digits at the best epoch on the validation digits."""
    (x, y), valid, test = data
    if rung.shifts:
        moves = ((0, 2), (1, 2), (-1, 2), (1, 3), (-1, 3))
        x, y = np.concatenate([np.roll(x, by, axis) for by, axis in moves]), np.tile(y, 5)
    scale = Normalize(127.5, 127.5) if rung is MLP else Normalize(0, 255)
    deform = [RandomAffine(15, scale=(0.85, 1.15)), ElasticTransform(34, 5)] if rung is MLP else []
    loader = DataLoader(TensorDataset(x, y), 10, True, transform=Compose([*deform, scale]), seed=seed)
    epochs, steps = (rung.epochs, len(loader)) if options.full else (1, 3) if options.quick else (3, 500)
    errors = []
    with td.random_from(td.Generator(seed)):
        model = net(rung, options.full)
        decay = rung.decay / (len(x) if rung is FIRST else len(loader))
        weights = {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": decay}
        biases = {"params": [p for p in model.parameters() if p.ndim == 1]}
        optimizer = td.optim.SGD([weights, biases], lr=rung.rate if options.full or rung is not MLP else 0.1)
        falling = ExponentialLR(optimizer, 1e-3 ** (1 / (epochs * steps))) if rung is MLP else None
        for _ in range(epochs):
            train(model, optimizer, loader, steps, LOSSES[rung is FIRST], falling)
            errors.append([error_rate(model, scale(digits), labels) for digits, labels in (valid, test)])
    return model, 100 - min(errors, key=lambda both: both[0])[1]


def picture(scores: dict[str, float]) -> Figure:
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    axes, rows = figure.subplots(), range(len(RUNGS))
    ours, theirs = ([100 - score for score in own] for own in (scores.values(), [r.published for r in RUNGS]))
    axes.hlines(rows, theirs, ours, color="0.88", lw=6, zorder=0)
    for label, color, errors in (("published", "#1b7837", theirs), ("here", "#2166ac", ours)):
        axes.plot(errors, rows, "o", ms=9, color=color, label=label)
        for row, error in enumerate(errors):
            axes.annotate(f"{100 - error:.2f} %", (error, row - 0.2), ha="center", va="bottom", fontsize=8.5)
    axes.set(xscale="log", yticks=rows, yticklabels=list(scores), ylim=(len(RUNGS) - 0.5, -0.8))
    axes.set(xlabel="error on test digits (%)", title="One change on each rung: accuracy on MNIST")
    axes.grid(alpha=0.25, axis="x", which="both")
    axes.legend(loc="upper left")
    return figure


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    n, others = (50_000, 10_000) if options.full else (400, 100) if options.quick else (5_000, 3_000)
    (x, y, _), (tx, ty, _) = (mnist(split, options.data) for split in ("train", "test"))
    x, tx, ty = x[:, None], tx[:others, None], ty[:others]
    data = (x[:n], y[:n]), (x[-others:], y[-others:]), (tx, ty)
    scores: dict[str, float] = {}
    nets: list[nn.Module] = []
    for rung in RUNGS:
        if rung is VOTE:
            five = [nets[-1], *(climb(DROPOUT, seed, data, options)[0] for seed in range(1, 5))]
            scores[rung.name] = 100 - error_rate(Ensemble(five, "vote"), tx / np.float32(255), ty)
        else:
            model, scores[rung.name] = climb(rung, 0, data, options)
            nets.append(model)
        print(f"  {rung.name:14} {scores[rung.name]:6.2f} %, published {rung.published:.2f} %", flush=True)
    print("one run of each rung: differences between rungs are not shown by it")
    return picture(scores), {"accuracy": scores, "published": {rung.name: rung.published for rung in RUNGS}}


def main(arguments: list[str] | None = None) -> int:
    return run_program(experiment, program_options(__doc__ or "", "ladder").parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
