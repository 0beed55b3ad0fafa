"""What theory says of single steps: closed forms that share nothing with the oracles of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import optim

RATE = 0.1
RANDOM = np.random.default_rng(0)
START, GRADIENT = RANDOM.standard_normal((4, 3)), RANDOM.standard_normal((4, 3))


def moved(kind: Any, steps: int = 1, **options: Any) -> np.ndarray:
    """By how much each of `steps` steps with the same gradient moves a parameter: (steps, 4, 3)."""
    p = td.nn.Parameter(START)
    optimizer = kind([p], **{"lr": RATE} | options)
    points = [START]
    for _ in range(steps):
        p.grad = td.tensor(GRADIENT)
        optimizer.step()
        points.append(p.numpy().copy())
    return np.diff(points, axis=0)


FIRST: list[tuple[Any, dict[str, Any], Any]] = [
    (optim.Momentum, {"beta": 0.75}, -RATE * 0.25 * GRADIENT),
    (optim.Adagrad, {"eps": 0.0}, -RATE * np.sign(GRADIENT)),
    (optim.Adagrad, {"eps": 0.5, "eps_inside": True}, -RATE * GRADIENT / np.sqrt(GRADIENT**2 + 0.5)),
    (optim.Adadelta, {}, -RATE * 1e-3 * GRADIENT / np.sqrt(0.1 * GRADIENT**2 + 1e-6)),
    (optim.RMSprop, {"eps": 0.0}, -10 * RATE * np.sign(GRADIENT)),
    (optim.Rprop, {}, -RATE * np.sign(GRADIENT)),
    (optim.ASGD, {}, -RATE * (GRADIENT + 1e-4 * START)),
    (optim.Adamax, {"eps": 0.0}, -RATE * np.sign(GRADIENT)),
    (optim.RAdam, {}, -RATE * GRADIENT),
    (optim.AdaBelief, {"eps": 0.0}, -RATE / 0.9 * np.sign(GRADIENT)),
    (optim.Lion, {}, -RATE * np.sign(GRADIENT)),
    (optim.ScheduleFreeSGD, {}, -RATE * GRADIENT),
    (optim.ScheduleFreeAdamW, {"eps": 0.0}, -RATE * np.sign(GRADIENT)),
    (optim.SOAP, {}, 0 * GRADIENT),
]


@pytest.mark.parametrize(("kind", "options", "expected"), FIRST, ids=lambda x: getattr(x, "__name__", ""))
def test_first(kind: Any, options: dict[str, Any], expected: np.ndarray) -> None:
    np.testing.assert_allclose(moved(kind, **options)[0], expected, rtol=1e-9)


def test_nadam_looks_ahead() -> None:
    now, ahead = (0.9 * (1 - 0.5 * 0.96 ** (t * 4e-3)) for t in (1, 2))
    factor = 1 + ahead * (1 - 0.9) / (1 - now * ahead)
    np.testing.assert_allclose(factor, 1.0565, rtol=1e-4)
    np.testing.assert_allclose(moved(optim.NAdam, eps=0.0)[0], -RATE * factor * np.sign(GRADIENT), rtol=1e-9)


def test_the_same_gradient_again() -> None:
    count = np.arange(1, 7).reshape(-1, 1, 1)
    sign = np.sign(GRADIENT)
    np.testing.assert_allclose(moved(optim.Adagrad, 6, eps=0.0), -RATE * sign / np.sqrt(count), rtol=1e-9)
    np.testing.assert_allclose(moved(optim.Rprop, 6), -RATE * sign * 1.2 ** (count - 1), rtol=1e-9)
    np.testing.assert_allclose(moved(optim.RAdam, 5), -RATE * np.tile(GRADIENT, (5, 1, 1)), rtol=1e-9)
    assert (abs(moved(optim.RAdam, 6)[5]) < 0.5 * RATE * abs(GRADIENT).min()).any()  # the sixth adapts


def test_momentum_is_heavy_ball_at_a_smaller_rate() -> None:
    heavy = moved(optim.SGD, 8, lr=RATE * 0.2, momentum=0.8)
    np.testing.assert_allclose(moved(optim.Momentum, 8, beta=0.8), heavy, rtol=1e-9)


def test_asgd_averages() -> None:
    """ax is the mean of the points after t0 + 1."""
    p = td.nn.Parameter(START)
    optimizer = optim.ASGD([p], lr=RATE, t0=3)
    points = []
    for i in range(9):
        p.grad = td.tensor(np.random.default_rng(i).standard_normal(p.shape))
        optimizer.step()
        points.append(p.numpy().copy())
    np.testing.assert_allclose(optimizer.state[p]["ax"].numpy(), np.mean(points[4:], 0), rtol=1e-9)


def test_lengths_of_layer_wise_steps() -> None:
    length = np.linalg.norm(START)
    lars = moved(optim.LARS, always_adapt=True, eps=0.0, trust_coeff=0.01)[0]
    np.testing.assert_allclose(lars, -RATE * 0.01 * length * GRADIENT / np.linalg.norm(GRADIENT), rtol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(moved(optim.LAMB)[0]), RATE * length, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_lengths_whose_squares_are_out_of_range(scale: float) -> None:
    """In float32: a step of LARS is still in the proportion of the weights."""
    p = td.nn.Parameter(START.astype(np.float32))
    p.grad = td.tensor((scale * GRADIENT).astype(np.float32))
    optim.LARS([p], lr=RATE, always_adapt=True, eps=0.0, trust_coeff=0.01).step()
    expected = RATE * 0.01 * np.linalg.norm(START)
    np.testing.assert_allclose(np.linalg.norm(p.numpy() - START), expected, rtol=1e-3)


@pytest.mark.parametrize("kind", [optim.LARS, optim.LAMB])
def test_layer_wise_steps_from_nothing(kind: Any) -> None:
    """Where a length is 0 the ratio is 1: no NaN."""
    p = td.nn.Parameter(np.zeros(3))
    options = {"always_adapt": True} if kind is optim.LARS else {"eps": 0.0}
    optimizer = kind([p], lr=RATE, **options)
    p.grad = td.tensor(np.array([1.0, 2.0, -3.0]))
    optimizer.step()
    expected = [-1.0, -2.0, 3.0] if kind is optim.LARS else [-1.0, -1.0, 1.0]
    np.testing.assert_allclose(p.numpy(), RATE * np.array(expected), rtol=1e-9)


def test_muon_s_steps_are_nearly_orthogonal() -> None:
    """Their singular values lie in [0.682, 1.202]; tall matrices step by √(rows / columns) of that."""
    step = moved(optim.Muon, weight_decay=0.0)[0] / (RATE * np.sqrt(4 / 3))
    values = np.linalg.svd(step, compute_uv=False)
    assert 0.682 <= values.min() <= values.max() <= 1.202
    left, _, right = np.linalg.svd(-GRADIENT, full_matrices=False)
    assert (np.diag(left.T @ step @ right.T) > 0.6).all()


def test_shampoo_s_first_step_is_orthogonal() -> None:
    left, _, right = np.linalg.svd(GRADIENT, full_matrices=False)
    np.testing.assert_allclose(moved(optim.Shampoo, eps=1e-12)[0], -RATE * left @ right, rtol=1e-4)


def test_shampoo_takes_large_gradients_of_one_rank() -> None:
    """Whose moments have eigenvalues that rounding makes negative."""
    p = td.nn.Parameter(np.zeros((4, 3)))
    p.grad = td.tensor(1e7 * np.outer(GRADIENT[:, 0], GRADIENT[0]))
    optim.Shampoo([p], lr=RATE).step()
    np.testing.assert_allclose(np.linalg.svd(p.numpy(), compute_uv=False), [RATE, 0, 0], atol=1e-3 * RATE)


def test_muon_refuses_vectors() -> None:
    with pytest.raises(td.ShapeError, match=r"Muon: expected parameter 0 of two or more dims, got \(3,\)"):
        optim.Muon([td.nn.Parameter(np.ones(3))])
