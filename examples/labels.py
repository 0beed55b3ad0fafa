"""Labels: smoothed, calibrated, distilled, mixed, and wrong.

    python examples/labels.py    two minutes on two cores; --full: all of Fashion-MNIST, longer

2,000 images of Fashion-MNIST, ten classes; p = softmax(z).

    smoothing      ℓ(z, (1 − ε) y + ε / 10), ε = .1            (Szegedy et al., arXiv 1512.00567)
    calibration    Σ_bins share · |how often right − mean confidence|     (Guo et al., arXiv 1706.04599)
    distillation   (1 − α) ℓ(z, y) + α T² KL(softmax(t / T) ‖ softmax(z / T)), t of a teacher, α = .9, T = 4
                   (Hinton et al., arXiv 1503.02531)
    mixup          ℓ(z(λ x + (1 − λ) x′), λ y + (1 − λ) y′), λ ~ Beta(8, 8)   (Zhang et al., arXiv 1710.09412)

Müller, Kornblith and Hinton (arXiv 1906.02629): smoothing makes confidences true, and draws the last features
of a class together, equally far from all other classes; so it takes from a teacher what it knows about
likenesses, and students learn less from it. The features are seen on the plane through the weights (rows of
the last layer) of three classes. Mixup: nets with enough weights learn any labels by heart, mixed ones less.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import tinydl as td
from tinydl import metrics, study
from tinydl.data import Batches
from tinydl.regularizers import Distill, Mixup, Objective

SMOOTH = partial(td.cross_entropy, label_smoothing=0.1)
SHOWN = {"pullover": 2, "coat": 4, "sneaker": 7}
WRONG = (0.0, 0.2, 0.5, 0.8)


def train(
    data: Any, seed: int, steps: int, loss: Any, terms: Any = (), hidden: Any = (200, 200), lr: float = 0.05
) -> Any:
    """A net after so many minibatches of 50."""
    with td.random_from(td.Generator(seed)):
        model = td.models.MLP(hidden=hidden)
        objective = Objective(model, loss, terms)
    sgd = td.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    study.descend(objective, sgd, Batches(*data, batch_size=50, seed=seed), steps)
    return model.eval()


def logits(model: Any, x: np.ndarray) -> td.Tensor:
    with td.no_grad():
        return model(td.tensor(x))


def corrupted(y: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Labels of which a share is drawn from all ten classes."""
    random = np.random.default_rng(seed)
    return np.where(random.random(len(y)) < share, random.integers(0, 10, len(y)), y)


def projected(model: Any, x: np.ndarray) -> np.ndarray:
    """The last features of images (n, ...) on the plane through three classes' weights (n, 2)."""
    *lower, last = model
    with td.no_grad():
        h = td.tensor(x.reshape(len(x), -1))
        for layer in lower:
            h = layer(h)
    w = last.weight.numpy()[list(SHOWN.values())]
    axes, _ = np.linalg.qr((w[1:] - w[0]).T)
    return h.numpy() @ axes


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    size, steps, seeds = (60_000, 10_000, 5) if options.full else (2_000, 1_000, 5)
    if options.quick:
        size, steps, seeds = 500, 20, 2
    x, y, x_test, y_test = study.program_images(options, size, 10_000, "fashion-mnist")
    dev, test = (x_test[::2], y_test[::2]), (x_test[1::2], y_test[1::2])
    figure = Figure(figsize=(15, 9), layout="constrained")
    (reliable, hard_axes, smooth_axes), (taught, mixed, learned) = figure.subplots(2, 3)
    scores: dict[str, list[float]] = {}

    ways: dict[str, Any] = {"hard labels": (td.cross_entropy,), "smoothed": (SMOOTH,)}
    ways["mixup"] = (td.cross_entropy, lambda: [Mixup(8.0)])
    nets = {}
    for k, (name, (loss, *terms)) in enumerate(ways.items()):
        nets[name] = [train((x, y), s, steps, loss, *(make() for make in terms)) for s in range(seeds)]
        z = [logits(net, test[0]) for net in nets[name]]
        p = [td.softmax(of, 1).numpy() for of in z]
        scores[f"ECE, {name}"] = [100 * metrics.calibration_error(of, test[1]) for of in p]
        scores[f"error, {name}"] = [study.error_rate(net, *test) for net in nets[name]]
        curve = metrics.reliability_curve(np.concatenate(p), np.tile(test[1], seeds))
        label = f"{name}: off by {np.mean(scores[f'ECE, {name}']):.1f} %"
        reliable.plot(curve.probability, curve.frequency, f"C{k}o-", label=label)
        if name == "hard labels":
            T = [metrics.fit_temperature(logits(net, dev[0]).numpy(), dev[1]) for net in nets[name]]
            cooled = [td.softmax(of / t, 1).numpy() for of, t in zip(z, T, strict=True)]
            scores["ECE, hard labels / T"] = [100 * metrics.calibration_error(of, test[1]) for of in cooled]
    reliable.plot([0, 1], [0, 1], "k:")
    reliable.set(xlabel="confidence", ylabel="how often right", title="Do confidences come true?")
    for axes, name in ((hard_axes, "hard labels"), (smooth_axes, "smoothed")):
        for label, digit in SHOWN.items():
            axes.scatter(*projected(nets[name][0], test[0][test[1] == digit][:150]).T, s=8, label=label)
        axes.set(xticks=(), yticks=(), title=f"Last features, {name}")

    students: dict[str, Any] = {"alone": td.cross_entropy}
    for name in ("hard labels", "smoothed"):
        students[f"from {name}"] = name
    for k, (name, teacher) in enumerate(students.items()):
        own = scores[f"student {name}"] = []
        for s in range(seeds):
            loss = teacher if k == 0 else Distill(0.9, nets[teacher][s], T=4.0, loss=td.cross_entropy)
            own.append(study.error_rate(train((x, y), s, steps, loss, hidden=(20,), lr=0.01), *test))
        taught.plot([k] * seeds, own, f"C{k}o")
        if k:
            taught.plot([k] * seeds, scores[f"error, {teacher}"], f"C{k}^", alpha=0.5)
    taught.set_xticks(range(3), students)
    taught.set(
        ylabel="test error (%)", xlim=(-0.5, 2.5), title="Students of 20 units (dots), teachers (triangles)"
    )

    for k, name in enumerate(("hard labels", "mixup")):
        for share in WRONG:
            own = scores[f"{share:.0%} wrong, {name}"] = []
            by_heart = scores[f"{share:.0%} wrong by heart, {name}"] = []
            for s in range(seeds):
                given = corrupted(y, share, s)
                net = nets[name][s]
                if share:
                    net = train((x, given), s, steps, td.cross_entropy, [Mixup(8.0)] if k else [])
                own.append(study.error_rate(net, *test))
                if share:
                    by_heart.append(100 - study.error_rate(net, x[given != y], given[given != y]))
        means = [np.mean(scores[f"{share:.0%} wrong, {name}"]) for share in WRONG]
        mixed.plot(WRONG, means, f"C{k}o-", linewidth=2, label=name)
        means = [np.mean(scores[f"{share:.0%} wrong by heart, {name}"]) for share in WRONG[1:]]
        learned.plot(WRONG[1:], means, f"C{k}o-", linewidth=2, label=name)
    mixed.set(xlabel="share of labels drawn anew", title="Test error (%), right labels")
    learned.set(xlabel="share of labels drawn anew", title="Wrong labels learned by heart (%)")
    for axes in (reliable, hard_axes, smooth_axes, mixed, learned):
        axes.legend(fontsize=9)

    pairs = [("ECE, smoothed", "ECE, hard labels"), ("error, smoothed", "error, hard labels")]
    pairs += [
        ("student from smoothed", "student from hard labels"),
        ("student from hard labels", "student alone"),
    ]
    pairs += [(f"{share:.0%} wrong, mixup", f"{share:.0%} wrong, hard labels") for share in WRONG]
    told = {f"{a} - {b}": study.paired_difference(scores[a], scores[b]).told() for a, b in pairs}
    means = {name: float(np.mean(values)) for name, values in scores.items() if values}
    print(*(f"{name}: {value}" for name, value in (means | told).items()), sep="\n")
    return figure, {"scores": scores, "means": means, "differences": told}


def main(arguments: list[str] | None = None) -> int:
    options = study.program_options(__doc__ or "", "labels").parse_args(arguments)
    return study.run_program(experiment, options)


if __name__ == "__main__":
    sys.exit(main())
