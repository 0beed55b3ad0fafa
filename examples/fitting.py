"""Fitting: too much, too little and right, and how weights, units and layers are kept in check.

    python examples/fitting.py    two minutes on two cores; --full: more digits, longer

1,000 digits, fully connected nets. L2 adds ½ λ Σ w² to the loss: w ← (1 − η λ) w − η ∂ℓ/∂w; L1 takes
w ← sign(w) max(0, |w| − η λ) after a step: weights end at 0. Early stopping takes the weights at which the
loss of 2,500 other digits was least. Dropout with p = ½ of n units trains 2ⁿ nets with common weights; for a
softmax over these units the renormalized geometric mean of their predictions is that of the whole net,

    ∏ softmax(2 W (m∘h) + b)^(1/2ⁿ) ∝ softmax(W h + b)   over all masks m   (Hinton et al., arXiv 1207.0580).

BatchNorm puts γ (x − mean) / std + β between a layer and its activation (Ioffe & Szegedy, arXiv 1502.03167).
BN(a x) = BN(x), so W and a W are one layer, and ∂ℓ/∂(a W) = (1/a) ∂ℓ/∂W: rates and the scale of the start
matter less. What it does to the landscape: how far the loss moves along the gradient, between ½ and 4 times
the step (Santurkar et al., arXiv 1805.11604, figure 4a).
"""

from __future__ import annotations

import argparse
import itertools
import sys
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import tinydl as td
from tinydl import nn, study
from tinydl.data import Batches
from tinydl.regularizers import L2, L1Prox, Objective

DECAYS = (0.0, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)
RATES, SCALES, UNITS = (0.01, 0.1, 1.0, 3.0), (0.3, 1.0, 3.0), 10


def normed(scale: float, batchnorm: bool) -> nn.Sequential:
    """Three hidden layers; the weights of the start are `scale` times He's."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (784, 100, 100):
        layers += [nn.Linear(inputs, 100), *[nn.BatchNorm1d(100)] * batchnorm, nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(100, 10))
    for p in model.parameters():
        if p.ndim > 1:
            nn.init.kaiming_normal_(p, nonlinearity="relu")
            p.data = p.data * scale
    return model


def fit(seed: int, make: Any, data: Any, steps: int, lr: float, terms: Any = (), parts: int = 1) -> Any:
    """The net, and its losses on each set of digits after each of the parts."""
    with td.random_from(td.Generator(seed)):
        model = make()
        objective = Objective(model, td.cross_entropy, terms)
    sgd = td.optim.SGD(model.parameters(), lr=lr)
    batches, losses = Batches(*data["train"], batch_size=50, seed=seed), []
    for _ in range(parts):
        study.descend(objective, sgd, batches, steps // parts)
        model.eval()
        losses.append([td.cross_entropy(model(td.tensor(a)), td.tensor(b)).item() for a, b in data.values()])
    return model, np.array(losses)


def moved(model: nn.Module, data: Any, steps: int, rate: float = 0.1) -> np.ndarray:
    """After each step, the least and the largest loss along its gradient."""
    batches, found = Batches(*data["train"], batch_size=50, seed=0), []
    for _ in range(steps):
        x, y = map(td.tensor, batches.next_batch())
        grads = td.grad(td.cross_entropy(model(x), y), list(model.parameters()))
        seen = []
        with td.no_grad():
            for before, now in itertools.pairwise((0, 0.5, 1, 2, 3, 4, 1)):
                for p, g in zip(model.parameters(), grads, strict=True):
                    p.sub_(rate * (now - before) * g)
                seen.append(td.cross_entropy(model(x), y).item())
        found.append([min(seen), max(seen)])
    return np.array(found)


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    long = 5 if options.full else 1
    size, steps, seeds = (200, 20, 2) if options.quick else (1_000 * long, 600 * long, 5)
    x, y, x_test, y_test = study.program_images(options, size, 5_000)
    data = {"train": (x, y), "dev": (x_test[::2], y_test[::2]), "test": (x_test[1::2], y_test[1::2])}
    figure = Figure(figsize=(15, 9), layout="constrained")
    (decayed, weights, stopped), (dropped, rated, landscape) = figure.subplots(2, 3)
    mlp = partial(td.models.MLP, hidden=[100])
    results: dict[str, Any] = {}

    losses, errors = np.zeros((len(DECAYS), seeds, 3)), np.zeros((len(DECAYS), seeds))
    for k, seed in np.ndindex(errors.shape):
        model, (losses[k, seed],) = fit(seed, mlp, data, steps, 0.1, [L2(DECAYS[k])])
        errors[k, seed] = study.error_rate(model, *data["test"])
    best = int(losses[..., 1].mean(1).argmin())
    at = [3e-4, *DECAYS[1:]]
    decayed.plot(at, losses[..., 2].mean(1), "o-", linewidth=2, label="test loss")
    decayed.plot(at, losses[..., 0].mean(1), "o:", linewidth=2, label="loss on its own")
    decayed.axvline(at[best], color="#999999", label="the best for other digits")
    decayed.set(
        xscale="log", yscale="log", xlabel="λ of L2 (leftmost: 0)", title="Over-fit, right, over-regularized"
    )
    results["test error: L2 0, the best"] = [float(errors[k].mean()) for k in (0, best)]
    results["test error, best L2 - none"] = study.paired_difference(errors[best], errors[0]).told()
    results["test loss, best L2 - none"] = study.paired_difference(losses[best, :, 2], losses[0, :, 2]).told()
    for name, terms in {"none": [], "L2 .01": [L2(0.01)], "L1 .001": [L1Prox(1e-3)]}.items():
        w = fit(0, mlp, data, steps, 0.1, terms)[0][0].weight.numpy().ravel()
        zero = results[f"weights below 1e-4, {name}"] = float((np.abs(w) < 1e-4).mean())
        label, bins = f"{name}: {zero:.0%} zero", np.linspace(-0.15, 0.15, 62)
        weights.hist(w, bins, histtype="step", linewidth=2, label=label)
    weights.set(yscale="log", xlabel="weight of the first layer", title="What L1 and L2 do to weights")
    runs = np.array([fit(s, mlp, data, steps, 0.1, parts=10)[1] for s in range(seeds)])
    at, stop = np.arange(1, 11) * steps // 10, runs[..., 1].mean(0).argmin()
    stopped.plot(at, runs[..., 1].mean(0), "o-", linewidth=2, label="loss on other digits")
    stopped.plot(at, runs[..., 0].mean(0), "o:", linewidth=2, label="loss on its own")
    stopped.axvline(at[stop], color="#999999", label="stop here")
    stopped.set(yscale="log", xlabel="minibatches of 50", title="Early stopping")
    results["test loss, end - stop"] = study.paired_difference(runs[:, -1, 2], runs[:, stop, 2]).told()
    model, _ = fit(0, partial(td.models.MLP, hidden=[UNITS], dropout=0.5), data, 2 * steps, 0.1)
    h = np.maximum(data["test"][0].reshape(-1, 784) @ model[0].weight.numpy().T + model[0].bias.numpy(), 0)
    masks = np.array(list(itertools.product((0, 2), repeat=UNITS)), np.float32)
    z = np.stack([h * mask @ model[3].weight.numpy().T + model[3].bias.numpy() for mask in masks])
    log_p = z - np.log(np.exp(z).sum(2, keepdims=True))
    single = 100 * (z.argmax(2) != data["test"][1]).mean(1)
    dropped.hist(single, 40, color="#56b4e9", label=f"{len(masks):,} nets, each alone")
    for name, mean in (("geometric", log_p.mean(0)), ("arithmetic", np.exp(log_p).mean(0))):
        error = 100 * float((mean.argmax(1) != data["test"][1]).mean())
        dropped.axvline(error, color=f"C{len(name) % 3 + 1}", label=f"their {name} mean: {error:.1f} %")
        results[f"dropout, {name} mean"] = error
    apart = td.log_softmax(model(td.tensor(data["test"][0])), 1).detach().numpy() - log_p.mean(0)
    results["dropout, geometric mean - whole net"] = float(np.abs(apart - apart[:, :1]).max())
    dropped.set(xlabel="test error (%)", title=f"Dropout of {UNITS} units")
    ends, spread = {}, {}
    for k, name in enumerate(("without", "BatchNorm")):
        ends[name] = np.zeros((len(SCALES), len(RATES), seeds))
        for i, j, seed in np.ndindex(ends[name].shape):
            model, _ = fit(seed, partial(normed, SCALES[i], k == 1), data, steps // 3, RATES[j])
            ends[name][i, j, seed] = study.error_rate(model, *data["test"])
        for scale, own, form in zip(SCALES, ends[name].mean(2), ("o:", "o-", "o--"), strict=True):
            rated.plot(RATES, own, f"C{k}{form}", label=f"{name}, start × {scale:g}")
        with td.random_from(td.Generator(0)):
            low, high = np.maximum(moved(normed(1.0, k == 1), data, steps // 3), 1e-6).T
        landscape.fill_between(range(len(low)), low, high, alpha=0.5, color=f"C{k}", label=name)
        results[f"largest / least loss along a step, {name}"] = float(np.median(high / low))
        spread[name] = np.ptp(ends[name][:, 1], axis=0)
        ends[name] = ends[name][1, ends[name][1].mean(1).argmin()]
    rated.set(xscale="log", xlabel="rate", title="Test error (%): rates and starts")
    landscape.set(yscale="log", xlabel="step", title="Loss along the gradient, ½ to 4 steps")
    for name, of in {"at its best rate": ends, "spread over starts at rate .1": spread}.items():
        found = study.paired_difference(of["BatchNorm"], of["without"])
        results[f"BatchNorm - without, {name}"] = found.told()
    layer, v = nn.BatchNorm1d(784, 1e-12, dtype=np.float64), td.tensor(x.reshape(len(x), -1) + np.float64(0))
    results["largest |BN(7 x) - BN(x)|"] = (layer(7 * v) - layer(v)).abs().max().item()
    _ = [axes.legend(fontsize=9) for axes in figure.axes]
    print(*(f"{name}: {value}" for name, value in results.items()), sep="\n")
    return figure, results


def main(arguments: list[str] | None = None) -> int:
    options = study.program_options(__doc__ or "", "fitting").parse_args(arguments)
    return study.run_program(experiment, options)


if __name__ == "__main__":
    sys.exit(main())
