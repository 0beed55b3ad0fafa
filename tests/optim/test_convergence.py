"""Every optimizer finds minima, in at most the steps that its oracle takes at the same rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from catalogue.optimizers import ROWS, Row
from problems import MOST, PROBLEMS, Problem, Step, steps_to

import tinydl as td

SOLVING = [row for row in ROWS if row.solves]
solving = pytest.mark.parametrize("row", SOLVING, ids=lambda row: row.kind)
problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


def ours(row: Row, problem: Problem) -> Step:
    p = td.nn.Parameter(problem.start)
    optimizer = getattr(td.optim, row.kind)([p], **row.solves)

    def step(x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        p.grad = td.tensor(gradient)
        optimizer.step()
        return p.numpy().copy()

    return step


def oracle(row: Row) -> Step:
    update, own = row.oracle(row.solves), {"group": {"step": 0}}

    def step(x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        own["group"]["step"] += 1
        return update([x], [gradient], [own])[0] if row.joint else update(x, gradient, own)

    return step


def pytorch(row: Row, problem: Problem) -> Step:
    torch = pytest.importorskip("torch")
    p = torch.nn.Parameter(torch.tensor(problem.start))
    optimizer = getattr(torch.optim, row.kind)([p], **row.solves)

    def step(x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        p.grad = torch.tensor(gradient)
        optimizer.step()
        return p.detach().numpy().copy()

    return step


def test_every_optimizer_has_a_row_that_solves() -> None:
    assert [row.kind for row in SOLVING] == list(dict.fromkeys(row.kind for row in ROWS))


@solving
@problem
def test_in_the_oracle_s_steps(row: Row, problem: Problem) -> None:
    wanted = steps_to(problem, oracle(row))
    assert wanted < MOST
    assert steps_to(problem, ours(row, problem)) <= wanted


@pytest.mark.parametrize("row", [row for row in SOLVING if row.torch], ids=lambda row: row.kind)
@problem
def test_in_torch_s_steps(row: Row, problem: Problem, double: None) -> None:
    wanted = steps_to(problem, pytorch(row, problem))
    assert wanted < MOST
    assert steps_to(problem, ours(row, problem)) <= wanted


@problem
def test_gradient_descent(problem: Problem) -> None:
    """In the steps of x - lr g, and no more evaluations than steps and one."""
    rate, random, calls = 1e-3, np.random.default_rng(1), 0
    p = td.nn.Parameter(problem.start)
    optimizer = td.optim.GradientDescent([p], rate)

    def closure() -> float:
        nonlocal calls
        calls += 1
        value, gradient = problem.loss(p.numpy())
        noise = problem.noise * random.standard_normal(p.shape) if problem.noise else 0.0
        p.grad = td.tensor(gradient + noise)
        return value

    def step(x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        optimizer.step(closure)
        return p.numpy().copy()

    wanted = steps_to(problem, lambda x, gradient: x - rate * gradient)
    assert wanted < MOST
    assert steps_to(problem, step) == calls <= wanted


@pytest.mark.parametrize("name", ["quadratic", "Rosenbrock"])
def test_lbfgs(name: str) -> None:
    """With its line search: in at most PyTorch's evaluations."""
    torch = pytest.importorskip("torch")
    problem = PROBLEMS[name]
    goal = problem.close * problem.loss(problem.start)[0]

    def evaluations(kind: Any, p: Any, made: Any) -> int:
        values: list[float] = []

        def closure() -> Any:
            value, gradient = problem.loss(p.detach().numpy())
            values.append(value)
            p.grad = made(gradient)
            return made(np.float64(value))

        optimizer = kind([p], line_search_fn="strong_wolfe")
        while min(values, default=np.inf) > goal and len(values) < MOST:
            optimizer.step(closure)
        return next(count for count, value in enumerate(values) if value <= goal)

    wanted = evaluations(torch.optim.LBFGS, torch.nn.Parameter(torch.tensor(problem.start)), torch.tensor)
    assert evaluations(td.optim.LBFGS, td.nn.Parameter(problem.start), td.tensor) <= wanted < 100


def test_sgd_is_unbiased() -> None:
    """The mean of the steps that single samples ask for is the step of all of them."""
    random = np.random.default_rng(0)
    inputs, targets, start = (random.standard_normal(shape) for shape in ((12, 3), (12, 2), (3, 2)))

    def moved(part: Any) -> np.ndarray:
        w = td.nn.Parameter(start)
        optimizer = td.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.2)
        td.nn.functional.mse_loss((td.tensor(inputs[part]) @ w).tanh(), td.tensor(targets[part])).backward()
        optimizer.step()
        return w.numpy() - start

    mean = np.mean([moved(slice(i, i + 1)) for i in range(12)], axis=0)
    np.testing.assert_allclose(mean, moved(slice(None)), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_adam_s_steps_are_about_the_rate(scale: float) -> None:
    """Whatever the size of the gradients: never more than the bound of its paper (section 2.1), about the
    rate while they keep their sign, and less where that is in doubt.
    """
    rate, random = 0.01, np.random.default_rng(0)
    steady, noisy = scale * random.uniform(1.0, 1.5, (400, 50)), scale * random.standard_normal((400, 50))
    sizes = []
    for gradients in (steady, noisy):
        p = td.nn.Parameter(np.zeros(50))
        optimizer = td.optim.Adam([p], lr=rate)
        points = [p.numpy().copy()]
        for g in gradients:
            p.grad = td.tensor(g)
            optimizer.step()
            points.append(p.numpy().copy())
        sizes.append(abs(np.diff(points, axis=0)))
        assert sizes[-1].max() <= rate * (1 - 0.9) / np.sqrt(1 - 0.999)
    np.testing.assert_allclose(sizes[0], rate, rtol=0.15)
    assert sizes[1][100:].mean() < 0.4 * rate
