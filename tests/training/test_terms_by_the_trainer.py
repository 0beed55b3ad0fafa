"""Every penalty of the catalogue is trained by the Trainer as by a plain loop, to the bit."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import catalogue
import numpy as np
import pytest
from catalogue.penalties import PenaltyRow

import tinydl as td
from tinydl import nn
from tinydl.data import DataLoader, TensorDataset
from tinydl.regularizers import Objective
from tinydl.training import Trainer

ROWS: list[PenaltyRow] = [
    row
    for found in pkgutil.iter_modules(catalogue.__path__)
    if found.name.startswith("penalties")
    for row in importlib.import_module(f"catalogue.{found.name}").ROWS
]
BATCH = 5


def loader(outputs: int) -> DataLoader:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((3 * BATCH, 4)), random.integers(0, outputs, 3 * BATCH)
    return DataLoader(TensorDataset(x, y), BATCH, seed=0)


def made(row: PenaltyRow) -> tuple[Any, Any, Any]:
    td.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, row.outputs)).double()
    penalty = row.of(model, 0.1)
    return model, penalty, td.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def weights(model: nn.Module) -> list[list[float]]:
    return [p.reshape(-1).tolist() for p in model.parameters()]


@pytest.mark.filterwarnings("ignore:Trainer. its steps are not recorded", "ignore:.*critic whose samples")
@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if not row.given(td.zeros(BATCH, 4, dtype="float64"))],
    ids=lambda row: row.name,
)
def test_the_trainer_does_what_a_plain_loop_does(row: PenaltyRow) -> None:
    model, penalty, optimizer = made(row)
    objective = Objective(model, td.cross_entropy, [penalty])
    for i, (x, y) in enumerate(loader(row.outputs)):
        optimizer.zero_grad()
        objective(x, y, due=objective.due(i)).backward()
        optimizer.step()
        objective.after(optimizer)
    expected = weights(model)

    model, penalty, optimizer = made(row)
    trainer = Trainer(model, td.cross_entropy, optimizer, terms=[penalty], progress=False, record=row.records)
    history = trainer.fit(loader(row.outputs))
    assert weights(model) == expected
    assert {"loss", "total", penalty.name} <= set(history.rows[0])
