"""Every row of the catalogue on "cuda", a stand-in: a recorded step is a graph that asks nothing of the host,
with the values of the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from catalogue.penalties import PenaltyRow
from test_penalty_rows import ROWS, B, D, mlp
from tinydl_kernels import emulator

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    DisturbLabel,
    DropBlock,
    DropConnect,
    DropPath,
    FocalLoss,
    GroupLassoProx,
    InputNoise,
    L1Prox,
    MaxNorm,
    MinibatchDiscrimination,
    Objective,
    mc_dropout,
    measured_ratios,
    spectral_norm,
)

pytestmark = [
    pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable())),
    pytest.mark.usefixtures("gpu"),
]


def answers(row: PenaltyRow, device: str, wrap: Callable[[Any], Any], steps: int) -> list[np.ndarray]:
    """Values of the penalty over steps, then the parameters. What the term holds is made on the CPU."""
    model = mlp(row.outputs).float()
    objective = Objective(model, td.cross_entropy, [row.of(model, 0.05)])
    model.to(device)
    optimizer = td.optim.SGD([*model.parameters(), *objective.parameters()], 0.05)
    given: dict[str, Any] = {}

    def step(x: td.Tensor, y: td.Tensor) -> Any:
        optimizer.zero_grad()
        terms = objective(x, y, **given)
        terms.total.backward()
        optimizer.step()
        objective.after(optimizer)
        return terms.penalties[0]

    play, found = wrap(step), []
    for i in range(steps):
        r = np.random.default_rng(i)
        x, y = r.standard_normal((B, D)).astype("f4"), r.integers(0, row.outputs, B)
        x, y = td.tensor(x).to(device), td.tensor(y).to(device)
        if not given:  # a replay reads what the recorded step found
            given.update({name: value.to(device) for name, value in row.given(x).items()})
        found.append(play(x, y))
        assert found[-1].device == device
    return [t.detach().to("cpu").numpy() for t in (*found, *model.parameters())]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_recorded_step_on_the_device_has_the_values_of_the_cpu(row: PenaltyRow) -> None:
    expected = answers(row, "cpu", lambda step: step, 3)
    found = answers(row, "cuda", td.record, 3)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def noisy() -> nn.Module:
    td.manual_seed(1)
    return nn.Sequential(
        *(spectral_norm(nn.Conv2d(1, 3, 2)), DropBlock(0.3, 2), nn.Tanh(), nn.Flatten(), DropConnect(12, 6)),
        *(DropPath(0.3), MinibatchDiscrimination(6, 2, 2), nn.Linear(8, 3)),
    )


def test_layers_of_noise_and_terms_without_a_value() -> None:
    """The same random numbers on both, so the same steps."""
    found = []
    for device, wrap in (("cpu", lambda step: step), ("cuda", td.record)):
        model = noisy().to(device)
        terms = [
            InputNoise(0.1),
            DisturbLabel(0.3, classes=3),
            MaxNorm(1.0),
            L1Prox(0.01),
            GroupLassoProx(0.01),
        ]
        td.manual_seed(3)
        objective = Objective(model, FocalLoss(2.0, [0.2, 0.3, 0.5]), terms)
        optimizer = td.optim.SGD(model.parameters(), 0.1)

        def step(x: td.Tensor, y: td.Tensor, objective: Any = objective, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            total = objective(x, y).total
            total.backward()
            optimizer.step()
            objective.after(optimizer)
            return total

        play, r = wrap(step), np.random.default_rng(0)
        x = td.tensor(r.standard_normal((6, 1, 3, 3)).astype("f4")).to(device)
        y = td.tensor(r.integers(0, 3, 6)).to(device)
        answers = [play(x, y) for _ in range(3)]
        answers += [*model.parameters(), mc_dropout(model, x, 3).entropy]
        found.append([t.detach().to("cpu").numpy() for t in answers])
        found[-1].append(np.array([*measured_ratios(model, td.cross_entropy, [(x, y)]).values()]))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
