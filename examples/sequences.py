"""Sequences: digits row by row, a sum over a distance, gradients that vanish or explode on their way back.

    python examples/sequences.py            five paired runs: one to two minutes
    python examples/sequences.py --full     3,000 minibatches, all digits, the adding problem over 100 steps
    python examples/sequences.py --quick    a few steps of each: does everything work?

RNN     h_t = tanh(W x_t + U h_(t-1) + b)
IRNN    the same with max(0, ·) and U = 1 at the start (Le, Jaitly & Hinton, arXiv 1504.00941)
LSTM    c_t = σ(f) c_(t-1) + σ(i) tanh(g), h_t = σ(o) tanh(c_t), (i, f, g, o) = W x_t + U h_(t-1) + b
        (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000)

∂h_T/∂h_t is a product of T - t factors diag(tanh') U: with small U it vanishes, with large U it may explode
(Pascanu, Mikolov & Bengio, arXiv 1211.5063); the way through c has the factors σ(f) alone. First panel: rms
of ∂h_T/∂x_t before training, U a random rotation times σ₁. Adding problem: T pairs of a number in [0, 1] and
a mark, one in each half; the answer is the sum of the two marked; always saying 1 has mean square 1/6.
Digits: 28 rows, one at each step; a linear layer reads the last h. Clipping: ∇ ← ∇ · min(1, c / ‖∇‖).

Published: LSTMs solve the adding problem at T = 100 after 74,000 sequences (Hochreiter & Schmidhuber, table
7), RNNs with tanh do not at T = 150 (Le et al., figure 1). What differs: T = 20, Adam, 19,200 sequences in
minibatches of 32. For digits row by row and for clipping there is no published figure to compare with.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.data import Batches, mnist
from tinydl.study import differences, draw_runs, error_rate, program_options, run_program, train

try:
    from matplotlib.figure import Figure
except ImportError as error:
    sys.exit(f"sequences: {error}: pip install '.[examples]'")

HIDDEN = 32
COLORS = {"RNN": "#d7301f", "IRNN": "#fc8d59", "LSTM": "#2166ac"}


class Reader(nn.Module):
    """A recurrent layer, and a linear one that reads its last output."""

    def __init__(self, kind: str, inputs: int, outputs: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        unit = {"nonlinearity": "relu"} if kind == "IRNN" else {}
        self.layer = (nn.LSTM if kind == "LSTM" else nn.RNN)(inputs, hidden, batch_first=True, **unit)
        self.last = nn.Linear(hidden, outputs)
        if kind == "IRNN":
            nn.init.eye_(self.layer.weight_hh_l0)

    def forward(self, x: td.Tensor) -> td.Tensor:
        return self.last(self.layer(x)[0][:, -1])


class Adding:
    """Batches of the adding problem: float32 (32, T, 2) and (32, 1)."""

    def __init__(self, steps: int, seed: int) -> None:
        self.T, self.rng = steps, np.random.default_rng(seed)

    def next_batch(self) -> tuple[np.ndarray, np.ndarray]:
        x, rows = np.zeros((32, self.T, 2), np.float32), np.arange(32)
        x[..., 0] = self.rng.random((32, self.T))
        marked = [self.rng.integers(low, low + self.T // 2, 32) for low in (0, self.T // 2)]
        for at in marked:
            x[rows, at, 1] = 1
        return x, sum(x[rows, at, :1] for at in marked)


def gradients_back(kind: str, size: float, T: int = 60) -> np.ndarray:
    """rms of ∂(r · h_T)/∂x_t, r random, for T - t = 0, 1, ...; size: σ₁ of U, or an LSTM's forget bias."""
    td.manual_seed(0)
    layer = (nn.LSTM if kind == "LSTM" else nn.RNN)(8, HIDDEN, batch_first=True)
    if kind == "RNN":
        nn.init.orthogonal_(layer.weight_hh_l0, gain=size)
    else:
        with td.no_grad():
            layer.bias_hh_l0[HIDDEN : 2 * HIDDEN] = size
    x = td.randn(32, T, 8).requires_grad_()
    h = layer(x)[0][:, -1]
    (slope,) = td.grad((h * td.randn(*h.shape)).sum(), x)
    return np.sqrt(np.square(slope.numpy()).mean((0, 2)))[::-1]


def picture(back: Any, sums: Any, errors: Any, clipped: Any) -> Figure:
    figure = Figure(figsize=(12, 8), layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2)
    for k, (name, slopes) in enumerate(back.items()):
        first.semilogy(slopes, lw=2, color=COLORS[name[: name.index(",")]], alpha=0.4 + 0.3 * (k % 3))
        first.text(len(slopes), slopes[-1], name, va="center", fontsize=9)
    first.set(xlabel="steps back, T - t", title="On the way back: rms ∂h/∂x before training", xlim=(0, 82))
    for axes, curves in ((second, sums), (fourth, clipped)):
        for (name, runs), color in zip(curves.items(), (COLORS["RNN"], COLORS["LSTM"]), strict=True):
            rows = [np.convolve(np.minimum(run, 20), np.ones(9) / 9, "valid") for run in runs]
            lines = axes.plot(np.arange(len(rows[0])) + 9, np.transpose(rows), color=color, lw=1.2, alpha=0.7)
            lines[0].set_label(name)
        axes.set(xlabel="minibatch", yscale="log")
        axes.legend(frameon=False)
    second.axhline(1 / 6, color="0.4", ls=":")
    second.set_title("The adding problem: mean square (dotted: always 1)")
    fourth.set_title("Clipping, IRNNs on digits: loss (2.3: chance)")
    fourth.set(yticks=(1, 2.3, 5), yticklabels=("1", "2.3", "5"), ylim=(1, 9))
    fourth.minorticks_off()
    draw_runs(third, errors, COLORS)
    third.set(xlabel="error on test digits (%)", title="Digits row by row")
    return figure


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    T, steps, n = (100, 3_000, 60_000) if options.full else (20, 600, 10_000)
    T, steps, n = (6, 9, 200) if options.quick else (T, steps, n)
    shorter = min(steps, 100)
    (x, y, _), (tx, ty, _) = (mnist(split, options.data) for split in ("train", "test"))
    x, y, tx, ty = x[:n] / np.float32(255), y[:n], tx[: n // 4] / np.float32(255), ty[: n // 4]
    back = {f"RNN, σ₁ = {size}": gradients_back("RNN", size) for size in (0.7, 1.0, 1.5)}
    back |= {f"LSTM, forget bias {size}": gradients_back("LSTM", size) for size in (0, 3)}
    sums: dict[str, list[Any]] = {kind: [] for kind in ("RNN", "LSTM")}
    errors: dict[str, list[float]] = {kind: [] for kind in ("RNN", "IRNN", "LSTM")}
    clipped: dict[str, list[Any]] = {"not clipped": [], "clipped, c = 1": []}
    for run in range(2 if options.quick else 5):
        td.manual_seed(run)
        for kind, own in sums.items():
            model = Reader(kind, 2, 1)
            adam = td.optim.Adam(model.parameters(), lr=0.01)
            own.append(train(model, adam, Adding(T, run), steps, td.mse_loss, clip=1.0))
        for kind, wrong in errors.items():
            model, batches = Reader(kind, 28, 10), Batches(x, y, batch_size=50, seed=run)
            train(model, td.optim.Adam(model.parameters(), lr=3e-3), batches, steps // 3, clip=1.0)
            wrong.append(error_rate(model, tx, ty))
        for clip, own in zip((None, 1.0), clipped.values(), strict=True):
            td.manual_seed(run)
            model, batches = Reader("IRNN", 28, 10), Batches(x, y, batch_size=50, seed=run)
            own.append(train(model, td.optim.SGD(model.parameters(), lr=0.1), batches, shorter, clip=clip))
        print(f"  run {run}: " + ", ".join(f"{k} {own[-1]:.1f} %" for k, own in errors.items()), flush=True)
    ends = {kind: [float(np.mean(row[-30:])) for row in own] for kind, own in sums.items()}
    print(f"adding problem, T = {T}: mean square at the end (always 1: .167), difference")
    found = {"adding": differences(ends, [("LSTM", "RNN")])}
    print("digits: error in %, differences")
    found["digits"] = differences(errors, [("LSTM", "RNN"), ("IRNN", "RNN")])
    print(f"IRNNs on digits, loss of the last 20 of {shorter} minibatches, difference")
    after = {name: [float(np.mean(row[-20:])) for row in own] for name, own in clipped.items()}
    found["clipping"] = differences(after, [tuple(after)])
    results = {"adding": ends, "digits": errors, "differences": found, "back": back}
    results |= {"curves": sums, "clipped": clipped}
    return picture(back, sums, errors, clipped), results


def main(arguments: list[str] | None = None) -> int:
    return run_program(experiment, program_options(__doc__ or "", "sequences").parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
