"""The start: how large the first weights are decides what a net can learn, and so do its units and its loss.

    python examples/initialization.py    a minute on two cores; --full: ten times the minibatches

n_in and n_out are the numbers of a layer's inputs and outputs, z = W a + b what it puts into its activation.

    N(0, 1)        Var z = Σ a², which for a digit is about 100: sigmoids are saturated, σ′ ≈ 0
    N(0, 1/n_in)   Var z = mean a²                           (LeCun et al., Efficient BackProp, 1998)
    Xavier         2 / (n_in + n_out), for activations that are linear about 0   (Glorot & Bengio 2010)
    He             2 / n_in, as a ReLU lets half of the variance through         (He et al. 1502.01852)

The variance of activations goes forward as ∏ n_in Var W E[φ′²], that of gradients backward as ∏ n_out Var W
E[φ′²]: a factor other than 1 is taken to the power of the depth. A loss of squares, ½ (σ(z) − y)², has the
slope (σ − y) σ′ by z, small where the unit is most wrong; cross-entropy has (σ − y) (Nielsen, Neural Networks
and Deep Learning, chapter 3, whose single neuron this is: input 1, target 0, rate .15).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import tinydl as td
from tinydl import nn, study
from tinydl.data import Batches
from tinydl.nn import init
from tinydl.regularizers import Objective

DEPTH, WIDTH, GOAL = 30, 200, 0.3
STARTS: dict[str, Any] = {
    "N(0, 1)": init.normal_,
    "N(0, 1/n)": init.lecun_normal_,
    "Xavier": init.xavier_normal_,
    "He": lambda W: init.kaiming_normal_(W, nonlinearity="relu"),
}
DEEP = [("sigmoid", "Xavier"), ("tanh", "N(0, 1)"), ("tanh", "Xavier"), ("relu", "Xavier"), ("relu", "He")]
RACE = {"sigmoid": ("Xavier", 0.3, 1.0, 3.0), "relu": ("He", 0.03, 0.1, 0.3)}  # with their rates


def net(hidden: list[int], activation: str, start: str, seed: int) -> td.models.MLP:
    with td.random_from(td.Generator(seed)):
        model = td.models.MLP(hidden=hidden, activation=activation)
        for p in model.parameters():
            STARTS[start](p) if p.ndim > 1 else init.zeros_(p)
    return model


def squares(z: td.Tensor, y: td.Tensor, reduction: str) -> td.Tensor:
    return 0.5 * (td.sigmoid(z) - td.one_hot(y, 10)).square().sum(1)


def entropies(z: td.Tensor, y: td.Tensor, reduction: str) -> td.Tensor:
    return td.binary_cross_entropy_with_logits(z, td.one_hot(y, 10).float(), reduction="none").sum(1)


def by_depth(x: np.ndarray, y: np.ndarray, activation: str, start: str) -> tuple[np.ndarray, np.ndarray]:
    """For each hidden layer: the standard deviation of z, and the length of ∂ℓ/∂z of a sample."""
    h, zs = td.tensor(x).requires_grad_(), []
    for layer in net([WIDTH] * DEPTH, activation, start, 0):
        h = layer(h)
        if isinstance(layer, nn.Linear):
            zs.append(h)
    slopes = td.grad(td.cross_entropy(h, td.tensor(y), reduction="sum"), zs[:-1])
    lengths = [float(np.sqrt(np.square(g.numpy().astype(np.float64)).sum(1)).mean()) for g in slopes]
    return np.array([z.detach().numpy().std() for z in zs[:-1]]), np.array(lengths)


def train(model: Any, loss: Any, rate: float, data: Any, seed: int, steps: int) -> tuple[Any, list[float]]:
    """Plain gradient descent: the loss of each minibatch, and the test error (%) after each fifth."""
    objective, sgd = Objective(model, loss), td.optim.SGD(model.parameters(), lr=rate)
    batches, losses, errors = Batches(*data[:2], batch_size=20, seed=seed), [], []
    for _ in range(5):
        losses.append(study.descend(objective, sgd, batches, steps // 5))
        errors.append(study.error_rate(model, *data[2:]))
    return np.concatenate(losses), errors


def neuron(squared: bool, start: float) -> list[float]:
    """Its outputs."""
    w, outputs = start, []  # b is w
    for _ in range(300):
        a = 1 / (1 + np.exp(-2 * w))
        w -= 0.15 * a * (a * (1 - a) if squared else 1)
        outputs.append(a)
    return outputs


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    size, steps, seeds = (1_000, 60, 2) if options.quick else (10_000, 10_000 if options.full else 1_500, 5)
    data = study.program_images(options, size, 5_000)
    x = data[0].reshape(size, -1)
    figure, results = Figure(figsize=(15, 9), layout="constrained"), {}
    (first, forward, backward), (race, one, digits) = figure.subplots(2, 3)

    pixels = td.tensor((x - x.min()) / np.ptp(x))
    for start in ("N(0, 1)", "N(0, 1/n)"):
        z = (pixels @ net([WIDTH], "sigmoid", start, 0)[0].weight.T).detach().numpy()
        off = results[f"saturated: {start}"] = float((np.abs(z) > 4).mean())
        first.hist(z.ravel(), np.linspace(-30, 30, 121), alpha=0.7, label=f"{start}: {off:.0%} saturated")
    first.axvspan(-4, 4, color="#009e73", alpha=0.1)
    first.set(yscale="log", xlabel="z = W x of digits x", title="Sigmoids have a slope in the green band")
    for activation, start in DEEP:
        name, both = f"{activation}, {start}", by_depth(x[:200], data[1][:200], activation, start)
        forward.plot(both[0], "o-", markersize=3, label=name)
        backward.plot(np.maximum(both[1], 1e-25), "o-", markersize=3, label=name)
        results[f"first layer / last: {name}"] = [float(of[0] / of[-1]) for of in both]
    forward.set(yscale="log", xlabel="layer", title="Standard deviation of z")
    backward.set(yscale="log", xlabel="layer", title="Length of ∂ℓ/∂z")

    counts = {}
    for k, (activation, (start, *rates)) in enumerate(RACE.items()):
        tried = []
        for rate in rates:
            nets = [net([100, 100], activation, start, seed) for seed in range(seeds)]
            runs = [train(n, td.cross_entropy, rate, data, s, steps)[0] for s, n in enumerate(nets)]
            means = [np.r_[np.convolve(losses, np.ones(50) / 50, "valid"), 0] for losses in runs]
            tried.append([int(np.argmax(mean < GOAL)) + 49 for mean in means])  # all, if it never is
            form = f"C{k}{('-', '--', ':')[len(tried) - 1]}"
            race.plot(np.mean(means, 0)[:-1], form, label=f"{activation}, {rate:g}")
        counts[activation] = results[f"minibatches: {activation}"] = min(tried, key=np.mean)
    race.axhline(GOAL, color="black", linestyle=":")
    race.set(yscale="log", xlabel="minibatches of 20", title="Loss of two layers, at three rates")

    for k, (name, loss, rate) in enumerate((("squares", squares, 3.0), ("cross-entropy", entropies, 0.5))):
        for begin, form in ((0.75, "--"), (2.0, "-")):
            one.plot(
                neuron(name == "squares", begin), f"C{k}{form}", linewidth=2, label=f"{name}, w = b = {begin}"
            )
        for start, form in (("N(0, 1)", "-"), ("N(0, 1/n)", "--")):
            nets = [net([100], "sigmoid", start, seed) for seed in range(seeds)]
            errors = [train(n, loss, rate, data, s, 2 * steps)[1] for s, n in enumerate(nets)]
            ends = results[f"{name}, {start}"] = [own[-1] for own in errors]
            at = np.arange(1, 6) * 2 * steps // 5
            digits.plot(at, np.mean(errors, 0), f"C{k}o{form}", label=f"{name}, {start}: {np.mean(ends):.1f}")
    one.set(xlabel="steps", title="Output of a neuron that shall be 0")
    digits.set(yscale="log", xlabel="minibatches of 20", title="Test error (%) of 100 sigmoids")
    for axes in figure.axes:
        axes.legend(fontsize=9)
    told = [(f"{loss}, N(0, 1)", f"{loss}, N(0, 1/n)") for loss in ("squares", "cross-entropy")]
    told += [(f"squares, {start}", f"cross-entropy, {start}") for start in ("N(0, 1)", "N(0, 1/n)")]
    told += [("minibatches: sigmoid", "minibatches: relu")]
    results |= {f"{a} - {b}": study.paired_difference(results[a], results[b]).told() for a, b in told}
    print(*(f"{name}: {value}" for name, value in results.items()), sep="\n")
    return figure, results


def main(arguments: list[str] | None = None) -> int:
    return study.run_program(
        experiment, study.program_options(__doc__ or "", "initialization").parse_args(arguments)
    )


if __name__ == "__main__":
    sys.exit(main())
