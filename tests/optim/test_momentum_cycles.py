"""CyclicLR and OneCycleLR: the momentum goes the other way, in recorded steps too."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl.optim import SGD, Adam, lr_scheduler

CYCLES = {
    "CyclicLR": lambda lr, o: lr.CyclicLR(o, 0.1, 0.7, 5, 8, mode="triangular2"),
    "CyclicLR of groups": lambda lr, o: lr.CyclicLR(o, [0.1], [0.7], 5, max_momentum=[0.95]),
    "OneCycleLR": lambda lr, o: lr.OneCycleLR(o, 0.7, 41, base_momentum=0.7),
    "OneCycleLR in three phases": lambda lr, o: lr.OneCycleLR(o, 0.7, 41, three_phase=True),
}
cycles = pytest.mark.parametrize("make", CYCLES.values(), ids=CYCLES)
optimizers = pytest.mark.parametrize(
    ("name", "options"), [("SGD", {"momentum": 0.5}), ("SGD", {}), ("Adam", {})]
)


def momentum(optimizer: Any) -> float:
    group = optimizer.param_groups[0]
    return group["betas"][0] if "betas" in group else group["momentum"]


@cycles
@optimizers
def test_as_torch(make, name, options) -> None:
    torch = pytest.importorskip("torch")
    ours = getattr(td.optim, name)([td.nn.Parameter(np.ones(2))], lr=1.0, **options)
    theirs = getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(2))], lr=1.0, **options)
    schedule, reference = make(lr_scheduler, ours), make(torch.optim.lr_scheduler, theirs)
    for _ in range(40):
        np.testing.assert_allclose(momentum(ours), momentum(theirs), rtol=1e-13)
        np.testing.assert_allclose(schedule.get_last_lr(), reference.get_last_lr(), rtol=1e-12)
        schedule.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # their optimizer has not stepped
            reference.step()


@cycles
@optimizers
def test_a_recorded_step_follows(make, name, options) -> None:
    def train(wrap: Any) -> list[Any]:
        p = td.nn.Parameter(np.ones(2))
        optimizer = getattr(td.optim, name)([p], lr=1.0, **options)
        schedule = make(lr_scheduler, optimizer)

        def step() -> None:
            optimizer.zero_grad()
            p.square().sum().backward()
            optimizer.step()
            schedule.step()

        step, seen = wrap(step), []
        for _ in range(12):
            step()
            seen.append((p.numpy().tolist(), momentum(optimizer)))
        return seen

    assert train(td.record) == train(lambda step: step)


def test_what_is_refused() -> None:
    p = td.nn.Parameter(np.ones(2))
    with pytest.raises(ValueError, match="CyclicLR: max_momentum: expected one for each group, got 0"):
        lr_scheduler.CyclicLR(SGD([p], lr=1.0), 0.1, 0.7, max_momentum=[])
    optimizer = Adam([p], lr=1.0)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, 10)
    with pytest.raises(ValueError, match="expected cycle_momentum=False in a part, got True at 0"):
        lr_scheduler.ChainedScheduler([schedule])
