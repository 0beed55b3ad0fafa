"""Optimizers with states of unusual shapes or levels go on from a file with the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import optim
from tinydl.training import checkpoint

CASES: list[tuple[Any, dict[str, Any]]] = [
    (optim.Adafactor, {}),
    (optim.ASGD, {}),
    (optim.DAdaptAdam, {}),
    (optim.DAdaptSGD, {}),
    (optim.LARS, {"momentum": 0.9}),
    (optim.LBFGS, {"max_iter": 3, "line_search_fn": "strong_wolfe"}),
    (optim.NAdam, {}),
    (optim.Prodigy, {}),
    (optim.Rprop, {}),
    (optim.ScheduleFreeAdamW, {}),
    (optim.Shampoo, {"every": 2}),
    (optim.SOAP, {"every": 2}),
]


def made(kind: Any, options: dict[str, Any]) -> tuple[list[td.nn.Parameter], optim.Optimizer]:
    random = np.random.default_rng(0)
    params = [td.nn.Parameter(random.standard_normal(shape)) for shape in ((3, 2), (2, 2))]
    return params, kind(params, **options)


def step(params: list[td.nn.Parameter], optimizer: optim.Optimizer, i: int) -> None:
    def closure() -> td.Tensor:
        optimizer.zero_grad()
        a, b = params
        loss = a.square().square().sum() + (b - 1.0).square().sum() * (i + 1)
        loss.backward()
        return loss

    optimizer.step(closure)


@pytest.mark.parametrize(("kind", "options"), CASES, ids=lambda x: getattr(x, "__name__", ""))
def test_goes_on_from_a_file(kind: Any, options: dict[str, Any], tmp_path: Path) -> None:
    first, one = made(kind, options)
    for i in range(3):
        step(first, one, i)
    checkpoint.save(tmp_path / "c", params=first, optimizer=one)
    second, two = made(kind, options)
    checkpoint.load(tmp_path / "c", params=second, optimizer=two)
    for i in range(3, 6):
        for params, optimizer in ((first, one), (second, two)):
            step(params, optimizer, i)
    assert [p.numpy().tobytes() for p in first] == [p.numpy().tobytes() for p in second]
