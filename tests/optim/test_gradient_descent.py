"""Gradient descent: what theory promises of it, on losses whose constants are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import GraphError

import tinydl as td
from tinydl.optim import GradientDescent

SCALES = np.geomspace(0.1, 10.0, 6)
"""A quadratic with L = 10 and mu = 0.1."""
L, MU = 10.0, 0.1


def quadratic(x: td.nn.Parameter) -> Callable[[], td.Tensor]:
    scales = td.tensor(SCALES)

    def closure() -> td.Tensor:
        x.grad = None
        loss = (scales * x.square()).sum() / 2
        loss.backward()
        return loss

    return closure


def start() -> td.nn.Parameter:
    return td.nn.Parameter(np.random.default_rng(0).standard_normal(6))


def test_the_best_rate_contracts_as_fast_as_theory_says() -> None:
    x = start()
    before = x.numpy().copy()
    optimizer = GradientDescent([x], 2 / (L + MU), eps=0.0)
    for _ in range(40):
        optimizer.step(quadratic(x))
    factor = (L / MU - 1) / (L / MU + 1)
    np.testing.assert_allclose(x.numpy(), (1 - 2 / (L + MU) * SCALES) ** 40 * before, rtol=1e-10)
    assert np.linalg.norm(x.numpy()) <= factor**40 * np.linalg.norm(before)


@pytest.mark.parametrize("rate", [0.3 / L, 1 / L])
def test_the_loss_falls_as_promised(rate: float) -> None:
    """And it stops before the step at the first gradient of at most eps, within the bound on its steps."""
    x = start()
    report = GradientDescent([x], rate, eps=0.05, max_steps=10**4).minimize(quadratic(x))
    assert report.converged
    assert all(report.fell())
    assert report.norms[-1] <= 0.05 < min(report.norms[:-1])
    assert len(report.promised) <= 2 * report.losses[0] / (rate * 0.05**2)
    np.testing.assert_allclose(np.linalg.norm(SCALES * x.numpy()), report.norms[-1], rtol=1e-12)
    np.testing.assert_allclose(report.promised, rate / 2 * np.square(report.norms[:-1]), rtol=1e-12)


def test_the_loss_climbs_beyond_two_over_l() -> None:
    x = start()
    report = GradientDescent([x], 2.2 / L, max_steps=60).minimize(quadratic(x))
    assert not report.converged
    assert len(report.promised) == 60
    assert report.losses[-1] > report.losses[0]
    assert not report.fell()[-1]


def test_the_rate_is_halved_until_the_loss_falls() -> None:
    x = start()
    optimizer = GradientDescent([x], 64.0, eps=1e-4, max_steps=10**4, halve=True)
    report = optimizer.minimize(quadratic(x))
    assert report.converged
    assert all(report.fell())
    assert 0.5 / L < optimizer.param_groups[0]["lr"] < 64.0


def test_chunks_and_groups() -> None:
    """The gradient over chunks is that of all data; each group has a rate of its own."""
    random = np.random.default_rng(1)
    data, target = random.standard_normal((12, 3)), random.standard_normal(12)
    w, b = td.nn.Parameter(np.zeros(3)), td.nn.Parameter(np.zeros(()))
    optimizer = GradientDescent([{"params": [w]}, {"params": [b], "lr": 0.05}], 0.1)

    def closure() -> Any:
        optimizer.zero_grad()
        total = 0.0
        for chunk in (slice(0, 5), slice(5, 12)):
            error = td.tensor(data[chunk]) @ w + b - td.tensor(target[chunk])
            loss = error.square().sum() / 12
            loss.backward()
            total += loss.item()
        return total

    optimizer.step(closure)
    np.testing.assert_allclose(w.numpy(), 0.1 * 2 / 12 * data.T @ target, rtol=1e-12)
    np.testing.assert_allclose(b.numpy(), 0.05 * 2 / 12 * target.sum(), rtol=1e-12)


def test_refusals() -> None:
    x = start()
    optimizer = GradientDescent([x])
    with pytest.raises(TypeError, match=r"GradientDescent.step: expected a closure, got None"):
        optimizer.step()
    with pytest.raises(GraphError, match=r"GradientDescent.step: expected a call outside a recorded step"):
        td.record(lambda: optimizer.step(quadratic(x)))()
    with pytest.raises(ValueError, match=r"GradientDescent.step: expected a finite loss, got nan"):
        optimizer.step(lambda: float("nan"))
    for name in ("lr", "eps", "max_steps"):
        with pytest.raises(ValueError, match=f"GradientDescent: {name}: expected at least 0, got -1"):
            GradientDescent([x], **{name: -1})
