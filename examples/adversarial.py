"""Adversaries: digits that look right and are read wrong, nets that are trained on them, and who else errs.

    python examples/adversarial.py    two minutes on two cores; --full: more digits, longer

For a digit x of the class y, in units of a pixel's range; FGSM and PGD stay within [0, 1]:

    nearest   the smallest ‖r‖₂ for which x + r is another class: DeepFool (Moosavi-Dezfooli, 1511.04599)
    FGSM      x + ε · sign(∂ℓ/∂x)                                  (Goodfellow et al., arXiv 1412.6572)
    PGD       x ← P(x + η · sign(∂ℓ/∂x)), P into the box of ±ε     (Madry et al., arXiv 1706.06083)

Trained against FGSM: ½ ℓ(x) + ½ ℓ(x_FGSM); against PGD: ℓ(x_PGD) alone; in both cases the adversaries are of
the net as it is. Adversaries transfer (Szegedy et al., arXiv 1312.6199): nets with another start, of another
shape, or that have learned from other digits often misread them too.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import tinydl as td
from tinydl import study
from tinydl.data import Batches
from tinydl.regularizers import AdversarialTraining, Objective, attack

EPS, RADII = 0.1, (0.0, 0.03, 0.06, 0.1, 0.15, 0.25)
# title -> seed of the start beside the run's, hidden units, which half of the digits, trained against
NETS: dict[str, tuple[int, tuple[int, ...], int, str]] = {
    "a net": (0, (200, 200), 0, ""),
    "another start": (100, (200, 200), 0, ""),
    "other digits": (100, (200, 200), 1, ""),
    "another shape": (100, (100, 100, 100), 0, ""),
    "against FGSM": (0, (200, 200), 0, "FGSM"),
    "against PGD": (0, (200, 200), 0, "PGD"),
}
JUDGED = ("a net", "against FGSM", "against PGD")


def train(seed: int, row: Any, halves: Any, steps: int, attacks: Any) -> Any:
    start, hidden, half, against = row
    loss: Any = td.cross_entropy
    if against:
        loss = AdversarialTraining(loss, partial(attacks[against], eps=EPS), 0.5 if against == "FGSM" else 0)
    with td.random_from(td.Generator(seed + start)):
        model = td.models.MLP(hidden=hidden)
        objective = Objective(model, loss)
    sgd = td.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    study.descend(objective, sgd, Batches(*halves[half], batch_size=50, seed=seed), steps)
    return model.eval()


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    size, steps, seeds, tested = (30_000, 6_000, 5, 2_000) if options.full else (5_000, 500, 5, 400)
    if options.quick:
        size, steps, seeds, tested = 500, 10, 2, 50
    x, y, x_test, y_test = study.program_images(options, 2 * size, tested)
    halves = [(x[:size], y[:size]), (x[size:], y[size:])]
    images, labels = td.tensor(x_test), td.tensor(y_test)
    unit, bounds = float(np.ptp(x)), (float(x.min()), float(x.max()))

    def fgsm(model: Any, x: td.Tensor, y: Any, eps: float) -> td.Tensor:
        return attack.fgsm(model, x, y, eps * unit, bounds=bounds)

    def pgd(model: Any, x: td.Tensor, y: Any, eps: float, steps: int = 3) -> td.Tensor:
        return attack.pgd(model, x, y, eps * unit, steps=steps, bounds=bounds)

    attacks = {"FGSM": fgsm, "PGD": pgd}
    tests: dict[str, Any] = {"FGSM": fgsm, "PGD": partial(pgd, steps=10)}
    wrong: dict[str, Any] = {f"{net}, {way}": [] for net in JUDGED for way in tests}
    away: dict[str, list[float]] = {name: [] for name in JUDGED}
    transfer = np.zeros((seeds, len(NETS), len(NETS)))
    for seed in range(seeds):
        with td.random_from(td.Generator(seed)):
            nets = {name: train(seed, row, halves, steps, attacks) for name, row in NETS.items()}
            for k, (name, net) in enumerate(nets.items()):
                if name in JUDGED:
                    for way, make in tests.items():
                        moved = [make(net, images, labels, eps=eps).numpy() for eps in RADII]
                        wrong[f"{name}, {way}"].append([study.error_rate(net, of, y_test) for of in moved])
                    nearest = attack.deepfool(net, images[: tested // 8])
                    away[name].append(float(np.median(nearest.distance.numpy())) / unit)
                made = fgsm(net, images, labels, EPS).numpy()
                transfer[seed, k] = [study.error_rate(other, made, y_test) for other in nets.values()]
        if seed == 0:
            shown = nets
        print(f"{seed + 1} of {seeds} runs", flush=True)

    figure = Figure(figsize=(15, 9), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    few, means, of = images[:4], {k: np.mean(v, 0) for k, v in wrong.items()}, shown["a net"]
    columns = {"digit": few, "nearest": attack.deepfool(of, few).x}
    columns |= {f"{way}, ε = {EPS}": make(of, few, labels[:4], eps=EPS) for way, make in tests.items()}
    for axes, (title, made) in zip(left.subplots(4, 4).T, columns.items(), strict=True):
        read = of(made).numpy().argmax(1)
        for row, (ax, image) in enumerate(zip(axes, made.numpy()[:, 0], strict=True)):
            ax.imshow(image, cmap="gray_r", vmin=bounds[0], vmax=bounds[1])
            ax.set(xticks=(), yticks=(), title=title if row == 0 else "")
            ax.set_xlabel(f"read as {read[row]}", color="C2" if read[row] == y_test[row] else "C3")
    places = right.subplot_mosaic([["curves", "distances"], ["matrix", "matrix"]], height_ratios=(1, 1.2))
    curves, distances, matrix = (places[name] for name in ("curves", "distances", "matrix"))
    for k, name in enumerate(JUDGED):
        for way, form in (("FGSM", "--"), ("PGD", "-")):
            curves.plot(RADII, means[f"{name}, {way}"], f"C{k}{form}", linewidth=2, label=f"{name}: {way}")
    curves.axvline(EPS, color="#999999", linewidth=0.8)
    curves.legend(fontsize=8)
    curves.set(xlabel="ε, trained against .1", title="Error (%) under attack")
    distances.barh(JUDGED, [np.mean(own) for own in away.values()], color=["C0", "C1", "C2"])
    distances.invert_yaxis()
    distances.set_title("Distance to the nearest adversary")
    mean = transfer.mean(0)
    matrix.imshow(mean, cmap="OrRd", vmin=0, vmax=100, aspect="auto")
    for i, j in np.ndindex(mean.shape):
        matrix.text(
            j, i, f"{mean[i, j]:.0f}", ha="center", va="center", color="w" if mean[i, j] > 60 else "k"
        )
    matrix.set_xticks(range(len(NETS)), NETS, fontsize=9)
    matrix.set_yticks(range(len(NETS)), NETS, fontsize=9)
    matrix.set(xlabel="read by", ylabel="made for", title=f"Error (%) on FGSM's digits, ε = {EPS}")

    at = RADII.index(EPS)
    ends = {name: [run[at] for run in runs] for name, runs in wrong.items()}
    pairs = [("a net, PGD", f"{name}, PGD") for name in ("against FGSM", "against PGD")]
    pairs += [("against FGSM, PGD", "against PGD, PGD"), ("a net, PGD", "a net, FGSM")]
    told = {f"{a} - {b}": study.paired_difference(ends[a], ends[b]).told() for a, b in pairs}
    clean = [run[0] for run in wrong["a net, FGSM"]]
    for k, name in ((1, "another start"), (2, "other digits"), (4, "against FGSM")):
        told[f"{name} on a net's adversaries - clean"] = study.paired_difference(
            transfer[:, 0, k], clean
        ).told()
    results = {"error at ε .1": {name: float(np.mean(own)) for name, own in ends.items()}}
    results["error at ε 0 and .25"] = {name: (float(of[0]), float(of[-1])) for name, of in means.items()}
    results["distance"] = {name: float(np.mean(own)) for name, own in away.items()}
    print(*(f"{name}: {value}" for name, value in (results | told).items()), sep="\n")
    return figure, results | {"differences": told, "transfer": mean.tolist()}


def main(arguments: list[str] | None = None) -> int:
    options = study.program_options(__doc__ or "", "adversarial").parse_args(arguments)
    return study.run_program(experiment, options)


if __name__ == "__main__":
    sys.exit(main())
