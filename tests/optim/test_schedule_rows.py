"""Every schedule of the catalogue: its closed form, PyTorch's values, recordings, resuming, jumping."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from catalogue.schedule_row import Schedule
from catalogue.schedules import FED, ROWS
from comparisons import comparison
from tinydl_kernels import emulator
from tinydl_kernels.machine.errors import GraphError

import tinydl as td
from tinydl.optim import SGD, lr_scheduler

BASES = (0.5, 3.0)


def optimizer(device: str = "cpu") -> SGD:
    params = [td.nn.Parameter(td.ones(n, device=device)) for n in (2, 3)]
    groups = [{"params": p, "lr": base} for p, base in zip(params, BASES, strict=True)]
    return SGD(groups, lr=1.0, momentum=0.9)


def made(row: Schedule, device: str = "cpu") -> Any:
    return row.make(lr_scheduler, optimizer(device))


def rates(schedule: Any, steps: int, step: Callable[[], Any] | None = None) -> list[list[float]]:
    found = [schedule.get_last_lr()]
    for _ in range(steps):
        (step or schedule.step)()
        found.append(schedule.get_last_lr())
    return found


def of(rows: list[Schedule]) -> Any:
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


RECORDED = [row for row in ROWS if row.records]


@pytest.mark.tiny
def test_every_schedule_has_a_row_and_every_row_a_schedule() -> None:
    rows = [*ROWS, *FED]
    assert {row.name.split()[0] for row in rows} == set(lr_scheduler.__all__) - {"LRScheduler"}
    assert len({row.name for row in rows}) == len(rows)


@of(ROWS)
def test_closed_form(row) -> None:
    expected = [[row.expected(base, t) for base in BASES] for t in range(row.steps + 1)]
    np.testing.assert_allclose(rates(made(row), row.steps), expected, rtol=1e-12, atol=1e-15)


@of([row for row in ROWS if row.torch])
def test_as_torch(row) -> None:
    torch = pytest.importorskip("torch")
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": base} for base in BASES]
    theirs = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their sequences warn of their own calls
        reference = row.make(torch.optim.lr_scheduler, theirs)
        theirs.step()
        with comparison():
            expected = rates(reference, row.steps)
            found = rates(made(row), row.steps)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", sorted({row.name.split()[0] for row in (*ROWS, *FED) if row.torch}))
def test_arguments_as_torch(name) -> None:
    """The same names, order and defaults."""
    theirs = pytest.importorskip("torch").optim.lr_scheduler

    def arguments(of: Any) -> list[tuple[str, Any]]:
        found = inspect.signature(getattr(of, name)).parameters.values()
        return [(p.name, p.default) for p in found]

    assert arguments(lr_scheduler) == arguments(theirs)


@of(RECORDED)
def test_recorded_alone(row) -> None:
    schedule = made(row)
    assert rates(schedule, row.steps, td.record(schedule.step)) == rates(made(row), row.steps)


@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
@of(RECORDED)
def test_on_a_gpu(row, gpu) -> None:
    """The schedule follows the rates, which are where the parameters are."""
    schedules = [made(row, "cuda"), made(row, "cuda")]
    for schedule in schedules:
        for group in schedule.optimizer.param_groups:
            group["params"][0].sum().backward()
        schedule.optimizer.step()
    schedule, other = schedules
    found = rates(schedule, 12)
    assert {base.device for base in (schedule.count, *schedule.bases)} == {"cuda"}
    np.testing.assert_allclose(found, rates(made(row), 12), rtol=1e-14, atol=1e-16)
    assert rates(other, 12, td.record(other.step)) == found


@of(RECORDED)
@pytest.mark.parametrize("inside", [True, False])
def test_a_recorded_step_follows(row, inside) -> None:
    def train(wrap: Callable[[Any], Any]) -> list[np.ndarray]:
        schedule = made(row)
        params = [p for group in schedule.optimizer.param_groups for p in group["params"]]

        def step() -> None:
            schedule.optimizer.zero_grad()
            sum(p.square().sum() for p in params).backward()
            schedule.optimizer.step()
            if inside:
                schedule.step()

        step, seen = wrap(step), []
        for _ in range(8):
            step()
            if not inside:
                schedule.step()
            seen += [np.array(schedule.get_last_lr()), *(p.numpy().copy() for p in params)]
        return seen

    for a, b in zip(train(lambda step: step), train(td.record), strict=True):
        np.testing.assert_array_equal(a, b)


@of([row for row in ROWS if not row.records])
def test_refuses_recording_by_name(row) -> None:
    schedule = made(row)
    before = schedule.state_dict(), schedule.get_last_lr()
    with pytest.raises(GraphError, match=f"^{row.name.split()[0]}.step: expected a call outside a recorded"):
        td.record(schedule.step)()
    assert (schedule.state_dict(), schedule.get_last_lr()) == before


@of(ROWS)
def test_goes_on_with_the_same_bits(row) -> None:
    expected = rates(made(row), row.steps)
    at = int(np.random.default_rng(sum(map(ord, row.name))).integers(1, row.steps))
    first = made(row)
    rates(first, at)
    saved = json.loads(json.dumps(first.state_dict()))
    second = made(row)
    second.optimizer.param_groups[0]["lr"] = 7.0
    second.load_state_dict(saved)
    assert rates(second, row.steps - at) == expected[at:]


@of(ROWS)
def test_setting_the_step_sets_the_rate(row) -> None:
    expected, schedule = rates(made(row), row.steps), made(row)
    for t in (row.steps, 3, 0, row.steps // 2):
        schedule.set_step(t)
        assert (schedule.get_last_lr(), schedule.last_epoch) == (expected[t], t)
    schedule.step()
    assert schedule.get_last_lr() == expected[row.steps // 2 + 1]


@of(RECORDED)
def test_a_replay_sees_a_step_that_was_set(row) -> None:
    expected, schedule = rates(made(row), row.steps), made(row)
    step = td.record(schedule.step)
    rates(schedule, 3, step)
    schedule.set_step(row.steps // 2)
    step()
    assert schedule.get_last_lr() == expected[row.steps // 2 + 1]


REFUSALS = [
    (row.name.split()[0], error, message, make)
    for row in (*ROWS, *FED)
    for error, refused in ((ValueError, row.bad), (TypeError, row.mistyped))
    for message, make in refused.items()
]


@pytest.mark.parametrize(("name", "error", "message", "make"), REFUSALS)
def test_bad_arguments(name, error, message, make) -> None:
    with pytest.raises(error, match=f"^{re.escape(f'{name}: {message}')}"):
        make(lr_scheduler, optimizer())


@pytest.mark.tiny
def test_every_class_refuses_something() -> None:
    assert {row.name.split()[0] for row in (*ROWS, *FED)} == {name for name, *_ in REFUSALS}
