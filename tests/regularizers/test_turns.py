"""Terms that choose a layer for each pass: a recording for each; the generator says whose turn it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import nn, optim
from tinydl.regularizers import AdversarialFeatures, ManifoldMixup, Objective

LAYERS = ("0", "1", "2")
TERMS: dict[str, Callable[..., Any]] = {
    "ManifoldMixup": lambda **more: ManifoldMixup(2.0, LAYERS, **more),
    "AdversarialFeatures": lambda **more: AdversarialFeatures(0.5, LAYERS, 0.3, **more),
}


def network() -> Any:
    td.manual_seed(5)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))


def batches(n: int) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    return [(td.tensor(rng.standard_normal((7, 4))), td.tensor(rng.integers(0, 3, 7))) for _ in range(n)]


def steps(name: str, wrap: Callable[..., Any], sam: bool = False) -> tuple[list[float], Any, Any]:
    """Losses of 16 steps, the parameters, and the step."""
    model = network().double()
    objective = Objective(model, td.cross_entropy, [TERMS[name]()])
    optimizer: Any = optim.SGD(model.parameters(), lr=0.1)
    optimizer = optim.SAM(optimizer) if sam else optimizer

    def step(x: Any, y: Any) -> Any:
        def closure() -> Any:
            optimizer.zero_grad()
            total = objective(x, y, due=("adversarial_features",) if "Features" in name else ()).total
            total.backward()
            return total

        total = optimizer.step(closure) if sam else closure()
        if not sam:
            optimizer.step()
        return total

    run = wrap(step)
    losses = []
    for x, y in batches(16):
        losses.append(run(x, y).item())
        objective.after(optimizer)
    return losses, [p.detach().numpy().copy() for p in model.parameters()], run


@pytest.mark.parametrize("sam", [False, True], ids=["plain", "SAM"])
@pytest.mark.parametrize("name", TERMS)
def test_a_recording_for_each_layer(name: str, sam: bool) -> None:
    """The bits of eager steps; SAM's second pass has the layer of its first."""
    eager, weights, _ = steps(name, lambda step: step, sam)
    recorded, others, run = steps(name, td.record, sam)
    assert eager == recorded
    for p, q in zip(weights, others, strict=True):
        np.testing.assert_array_equal(p, q)
    assert sum(map(len, run.recordings.values())) == len(LAYERS)


@pytest.mark.parametrize("name", TERMS)
def test_one_draw_in_a_step(name: str) -> None:
    """Two passes in a step, or another draw before it, would leave nobody to say whose turn it is."""
    (x, y), generator = batches(1)[0], td.Generator(3)
    objective = Objective(network().double(), td.cross_entropy, [TERMS[name](generator=generator)])
    due = ("adversarial_features",) if "Features" in name else ()

    def twice() -> None:
        objective(x, y, due=due)
        objective(x, y, due=due)

    def another() -> None:
        td.rand(3, generator=generator)
        objective(x, y, due=due)

    for step in (twice, another):
        with pytest.raises(td.GraphError, match=f"{name}: expected one draw of 0, 1, 2 in a recorded step"):
            td.record(step)()
