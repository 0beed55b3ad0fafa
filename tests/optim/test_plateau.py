"""ReduceLROnPlateau: PyTorch's falls, its edges, its memory."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from catalogue.schedules import FED
from comparisons import comparison
from tinydl_kernels.machine.errors import GraphError

import tinydl as td
from tinydl.optim import SGD, lr_scheduler
from tinydl.optim.lr_scheduler import ReduceLROnPlateau
from tinydl.training import checkpoint

STEPS = 60
rows = pytest.mark.parametrize("row", FED, ids=lambda row: row.name)


def optimizer() -> SGD:
    groups = [{"params": td.nn.Parameter(np.ones(n)), "lr": base} for n, base in ((2, 0.5), (3, 3.0))]
    return SGD(groups, lr=1.0)


def rates(schedule: Any, numbers: Any, start: int = 0, stop: int = STEPS) -> list[list[float]]:
    found = []
    for t in range(start, stop):
        schedule.step(numbers(t))
        found.append(schedule.get_last_lr())
    return found


@rows
def test_as_torch(row) -> None:
    torch = pytest.importorskip("torch")
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": base} for base in (0.5, 3.0)]
    reference = row.make(torch.optim.lr_scheduler, torch.optim.SGD(groups, lr=1.0))
    with comparison():
        got = rates(row.make(lr_scheduler, optimizer()), row.numbers)
        expected = rates(reference, row.numbers)
    assert got == expected
    assert len({tuple(found) for found in got}) > 1


@rows
def test_goes_on_with_the_same_bits(row, tmp_path) -> None:
    expected = rates(row.make(lr_scheduler, optimizer()), row.numbers)
    for at in (0, 7, 23):  # 0: before there is a best
        first, second = (row.make(lr_scheduler, optimizer()) for _ in range(2))
        rates(first, row.numbers, stop=at)
        path = tmp_path / "state"
        checkpoint.save(path, schedule=first, optimizer=first.optimizer)
        checkpoint.load(path, schedule=second, optimizer=second.optimizer)
        assert rates(second, row.numbers, at) == expected[at:]


def test_a_fall_comes_after_more_than_patience_steps() -> None:
    schedule = ReduceLROnPlateau(optimizer(), patience=2)
    assert [found[0] for found in rates(schedule, lambda t: 1.0, stop=5)] == [0.5, 0.5, 0.5, 0.05, 0.05]


def test_steps_of_the_cooldown_are_not_counted() -> None:
    schedule = ReduceLROnPlateau(optimizer(), factor=0.5, patience=0, cooldown=2)
    found = [found[0] for found in rates(schedule, lambda t: 1.0, stop=6)]
    assert found == [0.5, 0.25, 0.25, 0.25, 0.125, 0.125]


def test_better_by_the_threshold_alone() -> None:
    """Exactly the bound is no better; below 0 the relative bound lies on the wrong side."""
    for options, first, then, better in (
        ({"threshold": 0.25}, 1.0, 0.75, False),
        ({"threshold": 0.25}, 1.0, 0.7499, True),
        ({"threshold": 0.25, "mode": "max"}, 1.0, 1.25, False),
        ({"threshold": 0.25, "mode": "max"}, 1.0, 1.2501, True),
        ({"threshold": 0.25, "threshold_mode": "abs"}, 1.0, 0.75, False),
        ({"threshold": 0.25, "threshold_mode": "abs", "mode": "max"}, 1.0, 1.2501, True),
        ({"threshold": 0.25}, -1.0, -0.9, True),
        ({"threshold": 0.25, "threshold_mode": "abs"}, -1.0, -0.9, False),
        ({}, 1.0, np.nan, False),
    ):
        schedule = ReduceLROnPlateau(optimizer(), **options)
        schedule.step(first)
        schedule.step(td.tensor(then, dtype=np.float64))
        assert schedule.num_bad_epochs == (not better), options
        assert schedule.best == (then if better else first)


def test_a_fall_that_is_too_small_is_left_out() -> None:
    schedule = ReduceLROnPlateau(optimizer(), factor=0.5, patience=0, min_lr=[0.4999, 1.0], eps=1e-3)
    assert rates(schedule, lambda t: 1.0, stop=3)[-1] == [0.5, 1.0]


def test_goes_on_from_a_rate_set_by_hand_and_sees_new_groups() -> None:
    opt = optimizer()
    schedule = ReduceLROnPlateau(opt, factor=0.5, patience=0)
    opt.param_groups[0]["lr"] = 8.0
    opt.add_param_group({"params": td.nn.Parameter(np.ones(4)), "lr": 2.0})
    assert rates(schedule, lambda t: 1.0, stop=2)[-1] == [4.0, 1.5, 1.0]


def test_refuses_recordings_and_compositions_by_name() -> None:
    opt = optimizer()
    schedule = ReduceLROnPlateau(opt)
    with pytest.raises(GraphError, match=r"^ReduceLROnPlateau\.step: expected a call outside"):
        td.record(lambda: schedule.step(1.0))()
    assert schedule.last_epoch == 0
    message = "expected schedules with a closed form, got ReduceLROnPlateau at 0"
    with pytest.raises(TypeError, match=f"ChainedScheduler: schedulers: {message}"):
        lr_scheduler.ChainedScheduler([schedule])
    with pytest.raises(TypeError, match=f"SequentialLR: schedulers: {message}"):
        lr_scheduler.SequentialLR(opt, [schedule], [])


def test_a_recorded_step_sees_the_fall() -> None:
    opt = optimizer()
    schedule = ReduceLROnPlateau(opt, patience=0)
    p = opt.param_groups[0]["params"][0]

    @td.record
    def step() -> None:
        opt.zero_grad()
        p.sum().backward()
        opt.step()

    moved = []
    for _ in range(4):
        before = p.numpy().copy()
        step()
        moved.append(before - p.numpy())
        schedule.step(1.0)
    np.testing.assert_allclose(moved, [[rate] * 2 for rate in (0.5, 0.5, 0.05, 0.005)], rtol=1e-5)


def test_states_of_others_are_refused() -> None:
    schedule = ReduceLROnPlateau(optimizer())
    saved = json.loads(json.dumps(schedule.state_dict()))
    for change, message in (
        ({"patience": 3}, "patience: expected 10, got 3"),
        ({"more": 1}, "expected the keys"),
    ):
        with pytest.raises(ValueError, match=rf"^ReduceLROnPlateau\.load_state_dict: {message}"):
            schedule.load_state_dict({**saved, **change})
