"""The schedule-free optimizers' two points: y while training, x for evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl.optim import ScheduleFreeAdamW, ScheduleFreeSGD

KINDS: list[tuple[Any, dict[str, Any]]] = [(ScheduleFreeSGD, {"lr": 0.1}), (ScheduleFreeAdamW, {"lr": 0.1})]


def parameters() -> list[td.nn.Parameter]:
    random = np.random.default_rng(0)
    return [td.nn.Parameter(random.standard_normal(shape)) for shape in ((3, 2), (4,))]


def give(params: list[td.nn.Parameter], seed: int) -> None:
    random = np.random.default_rng(seed)
    for p in params:
        p.grad = td.tensor(random.standard_normal(p.shape))


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_x_is_the_mean_of_z(kind: Any, options: dict[str, Any]) -> None:
    """At a constant rate; and the way to x and back changes nothing but the last bits."""
    params = parameters()
    optimizer = kind(params, **options)
    points = []
    for i in range(12):
        give(params, i)
        optimizer.step()
        points.append([optimizer.state[p]["z"].numpy().copy() for p in params])
    y = [p.numpy().copy() for p in params]
    optimizer.eval()
    optimizer.eval()
    for p, zs in zip(params, zip(*points, strict=True), strict=True):
        np.testing.assert_allclose(p.numpy(), np.mean(zs, 0), rtol=1e-12, atol=1e-13)
    optimizer.train()
    for p, was in zip(params, y, strict=True):
        np.testing.assert_allclose(p.numpy(), was, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_parameters_that_have_not_begun_stay(kind: Any, options: dict[str, Any]) -> None:
    params = parameters()
    optimizer = kind(params, **options)
    give(params, 0)
    params[1].grad = None
    before = params[1].numpy().copy()
    optimizer.step()
    optimizer.eval()
    np.testing.assert_array_equal(params[1].numpy(), before)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_step_needs_train(kind: Any, options: dict[str, Any]) -> None:
    """What a state says of that is loaded."""
    params = parameters()
    optimizer = kind(params, **options)
    give(params, 0)
    optimizer.step()
    optimizer.eval()
    other = kind([td.nn.Parameter(p) for p in params], **options)
    other.load_state_dict(optimizer.state_dict())
    for each in (optimizer, other):
        give([p for group in each.param_groups for p in group["params"]], 1)
        with pytest.raises(RuntimeError, match=r"ScheduleFree.*: expected train\(\) before a step"):
            each.step()
        each.train()
        each.step()
    for p, q in zip(params, other.param_groups[0]["params"], strict=True):
        assert p.numpy().tobytes() == q.numpy().tobytes()
