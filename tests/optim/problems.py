"""Losses whose minima are known, and how many steps it takes to get there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Problem(NamedTuple):
    """A loss of an array (2, 4), whose minimum is 0 where every entry is 1.

    loss          x -> (loss, gradient)
    noise         the standard deviation of what is added to each entry of a gradient
    close         it is solved where the loss is at most this part of what it was at the start
    """

    loss: Callable[[np.ndarray], tuple[float, np.ndarray]]
    start: np.ndarray
    noise: float
    close: float


SCALES = np.geomspace(1.0, 100.0, 8).reshape(2, 4)


def quadratic(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Of condition 100."""
    return float((SCALES * (x - 1) ** 2).sum() / 2), SCALES * (x - 1)


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Rosenbrock's valley (1 - a)² + 100 (b - a²)², four times: a column has an a and a b."""
    a, b = x
    off = b - a**2
    return float(((1 - a) ** 2 + 100 * off**2).sum()), np.stack([-2 * (1 - a) - 400 * a * off, 200 * off])


FAR = np.random.default_rng(0).standard_normal((2, 4))
PROBLEMS = {
    "quadratic": Problem(quadratic, FAR, 0.0, 1e-3),
    "Rosenbrock": Problem(rosenbrock, np.array([[-1.2, 0.5, 0.0, -0.5], [1.0, 1.0, -0.5, 0.5]]), 0.0, 1e-3),
    "noisy quadratic": Problem(quadratic, FAR, 1.0, 1e-2),
}
MOST = 6000
"""Steps after which it is given up."""
Step = Callable[[np.ndarray, np.ndarray], np.ndarray]


def steps_to(problem: Problem, step: Step) -> int:
    """How many calls step(x, gradient) -> the next x it takes; `MOST` where they do not suffice. The noise is
    the same whoever steps.
    """
    random = np.random.default_rng(1)
    x = problem.start
    goal = problem.close * problem.loss(x)[0]
    for count in range(MOST):
        value, gradient = problem.loss(x)
        if value <= goal:
            return count
        if problem.noise:
            gradient = gradient + problem.noise * random.standard_normal(x.shape)
        x = step(x, gradient)
    return MOST
