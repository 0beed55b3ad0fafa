"""Ways over a surface, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

import tinydl as td
from tinydl import optim
from tinydl.study import beale, recurrent_cliff, walk


def test_gradient_descent_on_a_quadratic():
    found = walk(lambda x, y: x**2 - 3 * y**2, (2.0, 1e-3), lambda p: optim.SGD(p, lr=0.1), 5)
    k = np.arange(6)
    assert found == pytest.approx(np.stack([2 * 0.8**k, 1e-3 * 1.6**k], 1), rel=1e-12)


def test_clipped():
    found = walk(lambda x, y: 30 * x + 40 * y, (0.0, 0.0), lambda p: optim.SGD(p, lr=0.5), 2, max_norm=1.0)
    assert found == pytest.approx(np.array([[0, 0], [-0.3, -0.4], [-0.6, -0.8]]), rel=1e-5)


def test_an_optimizer_that_looks_more_than_once_a_step():
    newton = lambda p: optim.LBFGS(p, lr=1.0, line_search_fn="strong_wolfe")  # noqa: E731
    found = walk(lambda x, y, z: (x - 1) ** 2 + 10 * (y + 2) ** 2 + z**2, (0.0, 0.0, 3.0), newton, 3)
    assert found.shape == (4, 3)
    assert found[-1] == pytest.approx([1, -2, 0], abs=1e-6)


def test_least_of_beale():
    assert beale(3.0, 0.5) == 0
    around = np.random.default_rng(0).normal(size=(2, 100)) + np.array([[3], [0.5]])
    assert (beale(*around) > 0).all()
    assert beale(1.0, 1.0) == pytest.approx(1.5**2 + 2.25**2 + 2.625**2)


def test_a_cliff():
    """Half a step away from it on both sides, h goes to different fixed points."""
    w, b = td.tensor(5.0), td.tensor([-2.49, -2.51])
    low, high = recurrent_cliff(w, b).numpy()[::-1]
    assert high < 0.05 < 0.2 < low
    assert recurrent_cliff(w, b, steps=1).numpy() == pytest.approx(
        (1 / (1 + np.exp([-0.01, 0.01])) - 0.7) ** 2
    )
