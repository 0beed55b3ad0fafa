"""Schedules: rates at every step, inside and outside of a recording, and going on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from comparisons import comparison

import tinydl as td
from tinydl.optim import SGD, MultiStepLR, PiecewiseConstant
from tinydl.optim.lr_scheduler import OneCycleLR
from tinydl.training import checkpoint


def optimizer(**options) -> SGD:
    return SGD(
        [{"params": td.nn.Parameter(np.ones(2))}, {"params": td.nn.Parameter(np.ones(3)), "lr": 3.0}],
        lr=0.5,
        **options,
    )


def rates(schedule, steps: int) -> list[list[float]]:
    found = [schedule.get_last_lr()]
    for _ in range(steps):
        schedule.step()
        found.append(schedule.get_last_lr())
    return found


def test_half_and_three_quarters() -> None:
    n = 8
    got = rates(PiecewiseConstant(optimizer(), (n // 2, 3 * n // 4), (0.1, 0.01)), n)
    factors = [1.0] * 4 + [0.1] * 2 + [0.01] * 3
    assert got == [[0.5 * factor, 3.0 * factor] for factor in factors]


def test_from_the_first_step_on() -> None:
    assert rates(PiecewiseConstant(optimizer(), (0,), (0.5,)), 1) == [[0.25, 1.5]] * 2
    assert rates(PiecewiseConstant(optimizer(), (), ()), 1) == [[0.5, 3.0]] * 2


def test_milestones_as_torch() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.5)
    reference, expected = torch.optim.lr_scheduler.MultiStepLR(theirs, [2, 5, 6], gamma=0.3), [0.5]
    with comparison():
        for _ in range(8):
            theirs.step()
            reference.step()
            expected.append(reference.get_last_lr()[0])
        got = [rate for rate, _ in rates(MultiStepLR(optimizer(), [2, 5, 6], gamma=0.3), 8)]
    np.testing.assert_allclose(got, expected, rtol=1e-14)


@pytest.mark.parametrize("inside", [True, False])
def test_a_recorded_step_follows(inside) -> None:
    def train(wrap) -> list[np.ndarray]:
        opt = optimizer(momentum=0.9)
        schedule = PiecewiseConstant(opt, (2, 4), (0.1, 0.01))
        params = [p for group in opt.param_groups for p in group["params"]]

        def step():
            opt.zero_grad()
            sum(p.square().sum() for p in params).backward()
            opt.step()
            if inside:
                schedule.step()

        step, seen = wrap(step), []
        for _ in range(6):
            step()
            if not inside:
                schedule.step()
            seen += [np.array(schedule.get_last_lr()), *(p.numpy().copy() for p in params)]
        return seen

    for a, b in zip(train(lambda step: step), train(td.record), strict=True):
        np.testing.assert_array_equal(a, b)


def test_goes_on() -> None:
    first = PiecewiseConstant(optimizer(), (2, 4), (0.1, 0.01))
    expected = rates(first, 6)
    first = PiecewiseConstant(optimizer(), (2, 4), (0.1, 0.01))
    rates(first, 3)
    saved = json.loads(json.dumps(first.state_dict()))
    opt = optimizer()
    second = PiecewiseConstant(opt, (2, 4), (0.1, 0.01))
    opt.param_groups[0]["lr"] = 7.0
    second.load_state_dict(saved)
    assert rates(second, 3) == expected[3:]


def test_errors() -> None:
    opt = optimizer()
    for boundaries in ((4, 2), (2, 2), (-1,)):
        with pytest.raises(
            ValueError, match="PiecewiseConstant: boundaries: expected steps in ascending order"
        ):
            PiecewiseConstant(opt, boundaries, (0.1,) * len(boundaries))
    for factors in ((0.1,), (0.1, -0.1)):
        with pytest.raises(ValueError, match="PiecewiseConstant: factors: expected 2 numbers of at least 0"):
            PiecewiseConstant(opt, (1, 2), factors)
    schedule = PiecewiseConstant(opt, (1, 2), (0.1, 0.01))
    saved = schedule.state_dict()
    for change, message in (
        ({"factors": [1.0, 0.5, 0.25]}, "factors: expected"),
        ({"base_lrs": [1.0]}, "expected 2 groups, got 1"),
        ({"more": 1}, "expected the keys"),
    ):
        with pytest.raises(ValueError, match=f"PiecewiseConstant.load_state_dict: {message}"):
            schedule.load_state_dict({**saved, **change})


def test_a_group_that_was_added_later() -> None:
    opt = optimizer()
    schedule = PiecewiseConstant(opt, (2,), (0.1,))
    schedule.step()
    opt.add_param_group({"params": td.nn.Parameter(np.ones(4)), "lr": 5.0})
    assert rates(schedule, 2) == [[0.5, 3.0, 5.0], [0.5 * 0.1, 3.0 * 0.1, 5.0 * 0.1], [0.05, 3.0 * 0.1, 0.5]]
    assert schedule.base_lrs == [group["initial_lr"] for group in opt.param_groups] == [0.5, 3.0, 5.0]
    other = optimizer()
    other.add_param_group({"params": td.nn.Parameter(np.ones(4)), "lr": 1.0})
    again = PiecewiseConstant(other, (2,), (0.1,))
    again.load_state_dict(schedule.state_dict())
    assert again.get_last_lr() == schedule.get_last_lr()


def test_a_rate_set_by_hand_holds_until_the_next_step() -> None:
    opt = optimizer()
    schedule = PiecewiseConstant(opt, (2,), (0.1,))
    opt.param_groups[0]["lr"] = 9.0
    assert schedule.get_last_lr() == [9.0, 3.0]
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 3.0]


def test_begins_from_the_initial_rate() -> None:
    opt = optimizer()
    rates(PiecewiseConstant(opt, (2,), (0.1,)), 3)
    saved, again = opt.state_dict(), optimizer()
    with pytest.raises(KeyError, match="PiecewiseConstant: expected 'initial_lr' in every group"):
        PiecewiseConstant(again, (2,), (0.1,), last_epoch=2)
    again.load_state_dict(saved)
    schedule = PiecewiseConstant(again, (2,), (0.1,), last_epoch=2)
    assert (schedule.last_epoch, schedule.base_lrs) == (3, [0.5, 3.0])
    assert schedule.get_last_lr() == [0.5 * 0.1, 3.0 * 0.1]


def test_a_state_of_the_first_format() -> None:
    opt = optimizer()
    schedule = PiecewiseConstant(opt, (2, 4), (0.1, 0.01))
    saved = {"count": 3, "base_lrs": [0.25, 1.0], "boundaries": [2, 4], "factors": [1.0, 0.1, 0.01]}
    schedule.load_state_dict(saved)
    assert schedule.get_last_lr() == [0.25 * 0.1, 1.0 * 0.1]
    assert schedule.state_dict() == saved


def test_the_default_dtype_is_of_no_matter() -> None:
    """A rate is float64 from the base to the optimizer: 1 / 3 has more digits than float32."""
    schedule = PiecewiseConstant(optimizer(), (0,), (1 / 3,))
    assert schedule.get_last_lr() == [0.5 * (1 / 3), 3.0 * (1 / 3)]


def test_misuse() -> None:
    with pytest.raises(TypeError, match="PiecewiseConstant: expected an optimizer, got list"):
        PiecewiseConstant([], (1,), (0.1,))
    schedule = PiecewiseConstant(optimizer(), (1,), (0.1,))
    with pytest.raises(ValueError, match=r"PiecewiseConstant\.set_step: expected a number of steps"):
        schedule.set_step(-1)
    assert repr(schedule) == "PiecewiseConstant(boundaries=[1], factors=[1.0, 0.1])"


def test_one_cycle_takes_the_place_of_what_was_there() -> None:
    opt = optimizer()
    schedule = OneCycleLR(opt, [0.5, 1.0], 10)
    assert schedule.base_lrs == [group["initial_lr"] for group in opt.param_groups] == [0.5 / 25, 1.0 / 25]
    last = rates(schedule, 9)[-1]
    np.testing.assert_allclose(last, [0.5 / 25e4, 1.0 / 25e4], rtol=1e-12)
    assert rates(schedule, 3) == [last] * 4


def test_rates_for_fewer_groups_than_there_are() -> None:
    opt = optimizer()
    schedule = OneCycleLR(opt, [0.5, 1.0], 10)
    opt.add_param_group({"params": td.nn.Parameter(np.ones(4))})
    with pytest.raises(
        ValueError, match=r"OneCycleLR: max_lr: expected one for each group, got 2 and a group 2"
    ):
        schedule.step()


@pytest.mark.parametrize("with_schedule", [(False, True), (True, False)])
def test_a_checkpoint_from_before_there_was_a_schedule(with_schedule, tmp_path) -> None:
    """And one from with a schedule, for an optimizer that has none."""
    first, second = optimizer(momentum=0.9), optimizer(momentum=0.9)
    for opt, wanted in zip((first, second), with_schedule, strict=True):
        if wanted:
            PiecewiseConstant(opt, (2,), (0.1,))
    first.param_groups[0]["lr"] = 0.125
    checkpoint.save(tmp_path / "state", optimizer=first)
    checkpoint.load(tmp_path / "state", optimizer=second)
    assert [group.buffer("lr").item() for group in second.param_groups] == [0.125, 3.0]


def test_settings_that_numpy_counted(tmp_path) -> None:
    schedule = OneCycleLR(optimizer(), 0.5, np.int64(12), pct_start=np.float64(0.25))
    checkpoint.save(tmp_path / "state", schedule=schedule)
    again = OneCycleLR(optimizer(), 0.5, 12, pct_start=0.25)
    checkpoint.load(tmp_path / "state", schedule=again)
