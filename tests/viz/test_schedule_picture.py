"""The picture of a schedule shows the rates that its steps would set, and moves nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from catalogue.schedules import ROWS

import tinydl as td
from tinydl import viz
from tinydl.optim import SGD, lr_scheduler


def optimizer() -> SGD:
    params = [td.nn.Parameter(np.ones(n)) for n in (2, 3)]
    groups = [{"params": p, "lr": lr} for p, lr in zip(params, (0.5, 3.0), strict=True)]
    return SGD(groups, lr=1.0, momentum=0.9)


def state(schedule: Any) -> Any:
    return schedule.state_dict(), schedule.optimizer.state_dict()["param_groups"]


def curves(axes: Any) -> np.ndarray:
    """(steps, groups)"""
    return np.stack([line.get_ydata() for line in axes.lines], 1)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_schedule(row: Any) -> None:
    schedule = row.make(lr_scheduler, optimizer())
    for _ in range(2):
        schedule.step()
    before = state(schedule)
    figure = viz.schedule(schedule, 20)
    assert state(schedule) == before
    rates, momenta = [], []
    for t in range(20):
        schedule.set_step(t)
        rates.append(schedule.get_last_lr())
        momenta.append([group["momentum"] for group in schedule.optimizer.param_groups])
    np.testing.assert_array_equal(curves(figure.axes[0]), rates)
    if len(figure.axes) == 2:
        np.testing.assert_array_equal(curves(figure.axes[1]), momenta)
    else:
        assert np.ptp(momenta) == 0


@pytest.mark.parametrize("kind", ["OneCycleLR", "CyclicLR"])
def test_a_cycled_momentum_has_a_panel(kind: str) -> None:
    made = {
        "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=30),
        "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.4, step_size_up=10),
    }
    above, below = viz.schedule(made[kind](optimizer()), 30).axes
    assert (above.get_ylabel(), below.get_ylabel()) == ("learning rate", "momentum")
    assert curves(above).argmax() == curves(below).argmin()
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["group 0", "group 1"]


def test_what_goes_by_metrics() -> None:
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer(), factor=0.5, patience=1)
    schedule.step(3.0)
    before = state(schedule)
    figure = viz.schedule(schedule, metrics=[2.0, 2.0, 2.0, 1.0, 2.0], log=True, title="plateau")
    assert state(schedule) == before
    expected = np.array([1, 1, 1, 0.5, 0.5])[:, None] * [0.5, 3.0]
    np.testing.assert_array_equal(curves(figure.axes[0]), expected)
    assert figure.axes[0].get_yscale() == "log"
    assert figure.get_suptitle() == "plateau"


def test_refusals() -> None:
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer())
    step = lr_scheduler.StepLR(optimizer(), 3)
    with pytest.raises(TypeError, match=r"viz.schedule: expected a schedule, got SGD"):
        viz.schedule(optimizer(), 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"ReduceLROnPlateau: expected metrics and no steps, got steps=3"):
        viz.schedule(plateau, 3)
    for given in ({}, {"steps": 3, "metrics": [1.0]}):
        with pytest.raises(TypeError, match=r"viz.schedule: StepLR: expected steps and no metrics, got"):
            viz.schedule(step, **given)  # type: ignore[arg-type]
    for schedule, given in ((plateau, {"metrics": []}), (step, {"steps": 0})):
        with pytest.raises(ValueError, match=r"viz.schedule: expected at least one step, got 0"):
            viz.schedule(schedule, **given)  # type: ignore[arg-type]
