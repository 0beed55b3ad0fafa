"""A cookbook of penalties: ten recipes on two moons, and what some of them do to a decision surface.

    python examples/penalties.py

Each recipe is a function of a dozen lines that trains a small net on 40 noisy points and says how right it is
on 2,000 others. `train` is the loop that most of them share: it records the step. The picture shows, for no
penalty and for four, the probability of a class over the plane, and below it the length of the derivative of
the logits' difference by the point: how fast the net changes its mind there.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.data.datasets import two_moons
from tinydl.files import DataError
from tinydl.regularizers import (
    R1,
    VAT,
    AdversarialTraining,
    ConfidencePenalty,
    DataGrad,
    GeneratorLoss,
    L1Prox,
    Logistic,
    MaxNorm,
    MeanTeacher,
    Mixup,
    Objective,
    Penalty,
    SpectReg,
    attack,
    layerwise_groups,
    measured_ratios,
)

try:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    from tinydl import viz
except ImportError as error:
    sys.exit(f"penalties: {error}: pip install '.[examples]'")

STEPS = 1500


def points(n: int, seed: int, noise: float = 0.22) -> tuple[td.Tensor, td.Tensor]:
    x, y = two_moons(n, noise=noise, seed=seed)[np.arange(n)]
    return td.tensor(x), td.tensor(y)


X, Y = points(40, 1)
UNLABELED, _ = points(200, 2)
TEST, LABELS = points(2000, 3)
MOONS, _ = points(400, 4, noise=0.0)


def net(seed: int = 0, outputs: int = 2) -> nn.Module:
    td.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs))


def accuracy(model: nn.Module, x: td.Tensor = TEST) -> float:
    """The part of the test points whose class is right, at x."""
    with td.no_grad():
        return float((model(x).argmax(1) == LABELS).float().mean().item())


def near_a_moon(x: td.Tensor) -> float:
    """The part of points (n, 2) within .2 of where a moon would be without noise."""
    squares = (x.unsqueeze(1) - MOONS).square().sum(2)
    return float((squares.amin(1) < 0.04).float().mean().item())


def stepper(objective: Objective, optimizer: Any) -> Callable[..., Any]:
    """A recorded step. `due` names the penalties whose turn it is, `given` is for terms that ask for it, and
    `after` is for those that follow a step.
    """

    @td.record
    def step(x: td.Tensor, y: Any, due: Any, names: Any, *values: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        terms = objective(x, y, due=due, **dict(zip(names, values, strict=True)))
        terms.total.backward()
        optimizer.step()
        objective.after(optimizer)
        return terms.total

    return lambda x, y, due, **given: step(x, y, due, tuple(given), *given.values())


def train(objective: Objective, optimizer: Any, **given: td.Tensor) -> None:
    """`STEPS` steps, each on all points."""
    step = stepper(objective, optimizer)
    for i in range(STEPS):
        step(X, Y, objective.due(i), **given)


# The recipes
# ------------------------------------------------------------------------------------------------------------


def in_a_plain_loop() -> float:
    """Two lines: the objective, and its call. DataGrad: small derivatives of the losses by the input."""
    model = net()
    objective = Objective(model, td.cross_entropy, [DataGrad(0.02)])
    optimizer = td.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(STEPS // 5):
        optimizer.zero_grad()
        terms = objective(X, Y)
        terms.total.backward()
        optimizer.step()
    return accuracy(model)


def rising_and_lazy() -> float:
    """A weight that rises with the steps, and a penalty on every fourth step with four times its weight."""
    model = net()
    rising = lambda step: 0.1 * td.minimum(step / 300, 1)  # noqa: E731
    terms = [ConfidencePenalty(rising), SpectReg(0.003, every=4)]
    train(Objective(model, td.cross_entropy, terms), td.optim.Adam(model.parameters(), lr=0.01))
    return accuracy(model)


def unlabeled_points() -> float:
    """VAT on points without labels: predictions stay what they are in the direction that moves them most."""
    model = net()
    objective = Objective(model, td.cross_entropy, [VAT(1.0, eps=0.3, on="unlabeled")])
    train(objective, td.optim.Adam(model.parameters(), lr=0.01), unlabeled=UNLABELED)
    return accuracy(model)


def mixed_points() -> float:
    """Mixup, with the first class counted twice; a penalty after it sees the mixed points and losses."""
    model = net()
    objective = Objective(model, td.cross_entropy, [Mixup(0.5), DataGrad(0.005)])
    optimizer = td.optim.Adam(model.parameters(), lr=0.01)
    train(objective, optimizer, class_weights=td.tensor([2.0, 1.0]))
    return accuracy(model)


def a_teacher() -> float:
    """A decayed mean of the weights teaches, on noisy copies of the points, and is used in the end."""
    model = nn.Sequential(nn.GaussianNoise(0.2), net())
    teacher = MeanTeacher(lambda step: 8 * td.minimum(step / 500, 1), model, decay=0.99)
    train(Objective(model, td.cross_entropy, [teacher]), td.optim.Adam(model.parameters(), lr=0.01))
    return accuracy(teacher.teacher.eval())


def after_the_step() -> float:
    """Weights that are exactly zero, by the proximal step of L1, and rows no longer than 2."""
    model = net()
    objective = Objective(model, td.cross_entropy, [L1Prox(0.01), MaxNorm(2.0)])
    train(objective, td.optim.Adam(model.parameters(), lr=0.01))
    zeros = float((model[2].weight == 0).float().mean().item())
    print(f"    {zeros:.0%} of the middle layer's weights are zero")
    return accuracy(model)


def a_decay_for_each_layer() -> float:
    """Ratios that are measured before training; one number is left to choose."""
    model = net()
    ratios = measured_ratios(model, td.cross_entropy, [(X, Y)])
    optimizer = td.optim.AdamW(layerwise_groups(model, 0.5, ratios), lr=0.01)
    train(Objective(model, td.cross_entropy), optimizer)
    print("   ", ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    return accuracy(model)


def under_attack() -> float:
    """Trained on the worst points within .15, and told how right it is when the test points are moved so."""
    model = net()
    worst = lambda *given: attack.pgd(*given, eps=0.15, steps=3)  # noqa: E731
    train(
        Objective(model, AdversarialTraining(td.cross_entropy, worst)),
        td.optim.Adam(model.parameters(), lr=0.01),
    )
    print(f"    attacked: {accuracy(model, attack.pgd(model, TEST, LABELS, eps=0.15)):.3f}")
    return accuracy(model)


def critic_and_generator() -> float:
    """A critic with R1 on every fourth step, and its generator: how many of its points are near a moon."""
    critic, maker, adam = net(0, 1), net(1), functools.partial(td.optim.Adam, lr=0.002, betas=(0.5, 0.9))
    judge = Objective(critic, Logistic(), [R1(0.1, every=4)])
    judged = stepper(judge, adam(critic.parameters()))
    made = stepper(Objective(maker, GeneratorLoss(critic, Logistic())), adam(maker.parameters()))
    for i in range(2 * STEPS):
        z = td.randn(200, 2)
        judged(MOONS, None, judge.due(i), fake=maker(z).detach())
        made(z, None, ())
    return near_a_moon(maker(td.randn(500, 2)))


def of_ones_own() -> float:
    """A penalty is a class with a value: here ‖∂f/∂x‖² of the difference f of the logits."""

    class Sides(Penalty):
        follows = True

        def __call__(self, seen: Any) -> td.Tensor:
            return seen.slopes(seen.logits[:, 0] - seen.logits[:, 1]).square().sum() / seen.samples

    model = net()
    train(Objective(model, td.cross_entropy, [Sides(0.002)]), td.optim.Adam(model.parameters(), lr=0.01))
    return accuracy(model)


RECIPES: dict[str, Callable[[], float]] = {
    recipe.__name__.replace("_", " "): recipe
    for recipe in (
        *(in_a_plain_loop, rising_and_lazy, unlabeled_points, mixed_points, a_teacher, after_the_step),
        *(a_decay_for_each_layer, under_attack, critic_and_generator, of_ones_own),
    )
}


# The picture
# ------------------------------------------------------------------------------------------------------------

SHOWN: dict[str, tuple[float, Callable[[], list[Penalty]]]] = {
    "none": (0.0, list),
    "weight decay": (0.2, list),
    "DataGrad": (0.0, lambda: [DataGrad(0.2)]),
    "SpectReg": (0.0, lambda: [SpectReg(0.003)]),
    "VAT": (0.0, lambda: [VAT(1.0, eps=0.3)]),
}
"""Title -> AdamW's weight decay, and the terms."""


def trained(decay: float, terms: list[Penalty]) -> nn.Module:
    model = net()
    optimizer = td.optim.AdamW(model.parameters(), lr=0.01, weight_decay=decay)
    train(Objective(model, td.cross_entropy, terms), optimizer)
    return model


def surface(model: nn.Module, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At each point (n, 2): the probability of the second class, and ‖∂f/∂x‖ of f, the logits' difference."""
    at = td.tensor(x).requires_grad_()
    z = model(at)
    (slope,) = td.grad((z[:, 1] - z[:, 0]).sum(), at)
    return td.softmax(z, 1)[:, 1].detach().numpy(), np.linalg.norm(slope.numpy(), axis=1)


def picture(size: int = 220) -> Figure:
    """A column for each of `SHOWN`: the surface, and the lengths of its derivatives on one scale for all."""
    sides = np.linspace(-1.8, 2.8, size, dtype=np.float32), np.linspace(-1.5, 2.0, size, dtype=np.float32)
    plane = np.stack(np.meshgrid(*sides), -1)
    figure = Figure(figsize=(2.9 * len(SHOWN) + 0.9, 4.9), layout="constrained")
    rows = figure.subplots(2, len(SHOWN), sharex=True, sharey=True)
    for (upper, lower), (title, (decay, terms)) in zip(rows.T, SHOWN.items(), strict=True):
        model = trained(decay, terms())
        p, slope = (of.reshape(size, size) for of in surface(model, plane.reshape(-1, 2)))
        shades = upper.contourf(*sides, p, np.linspace(0, 1, 21), cmap="RdBu_r", vmin=-0.6, vmax=1.6)
        upper.contour(*sides, p, [0.1, 0.9], colors="black", linewidths=0.6, linestyles="dotted")
        upper.contour(*sides, p, [0.5], colors="black", linewidths=1.2)
        heat = lower.pcolormesh(*sides, slope, norm=LogNorm(1, 100), cmap="magma", rasterized=True)
        lower.contour(*sides, p, [0.5], colors="white", linewidths=1)
        upper.set_title(f"{title}\n{accuracy(model):.1%} right", fontsize=11)
        lower.set_title(f"mean at the test points {surface(model, TEST.numpy())[1].mean():.1f}", fontsize=9)
        for axes in (upper, lower):
            for label, color in ((0, "#2166ac"), (1, "#b2182b")):
                own = X.numpy()[Y.numpy() == label]
                axes.scatter(*own.T, s=18, color=color, edgecolors="white", linewidths=0.8)
            axes.set(aspect="equal", xticks=(), yticks=())
    figure.colorbar(shades, ax=rows[0], ticks=(0, 0.5, 1), label="probability of red\n(dotted: .1 and .9)")
    figure.colorbar(heat, ax=rows[1], label="‖∂f/∂x‖, f the logits' difference")
    return figure


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="penalties", description="Ten recipes and a picture of penalties.")
    parser.add_argument("--out", type=Path, default=Path("results/penalties"), help="folder of the picture")
    out = parser.parse_args(arguments).out
    for title, recipe in RECIPES.items():
        print(f"{title:24} {recipe():.3f}   {(recipe.__doc__ or '').splitlines()[0]}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        viz.save(picture(), out / "penalties.png")
    except (DataError, OSError) as error:
        print(f"penalties: {error}", file=sys.stderr)
        return 1
    print(f"penalties.png is in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
