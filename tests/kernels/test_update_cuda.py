"""Optimizer steps on the emulator: groups of many sizes and dtypes, more of them than one launch takes."""

from __future__ import annotations

import numpy as np
import pytest
from emulated import agrees, agrees_checked, needs_compiler
from tinydl_kernels import update

pytestmark = needs_compiler
LR = np.array(0.1)


def group(dtypes, shapes, parts):
    """`parts` lists of arrays of these shapes and dtypes, and counts of steps; the last
    part has no negative numbers.
    """
    random = np.random.default_rng(0)
    drawn = [
        [np.asarray(random.standard_normal(shape), d) for shape, d in zip(shapes, dtypes)]
        for _ in range(parts)
    ]
    drawn[-1] = [np.asarray(np.abs(x)) for x in drawn[-1]]
    return drawn, [np.array(i) for i in range(len(shapes))]


SHAPES = ((), (0, 2), (7,), (3, 1000), (2049,), (1, 1))
FLOATS = (np.float32, np.float64)
GROUPS = [((dtype,) * len(SHAPES), SHAPES) for dtype in FLOATS] + [(FLOATS * 66, ((1,), (2,), (3,)) * 44)]


@pytest.mark.parametrize(("dtypes", "shapes"), GROUPS, ids=["float32", "float64", "132 of both"])
def test_sgd(dtypes, shapes):
    (params, grads, buffers), steps = group(dtypes, shapes, 3)
    agrees(update.sgd, LR, params, grads, None, None, 0.0, 0.0, False, 0.1)
    for nesterov in (False, True):
        agrees(update.sgd, LR, params, grads, buffers, steps, 0.9, 0.2, nesterov, 0.1)


@pytest.mark.parametrize(("dtypes", "shapes"), GROUPS, ids=["float32", "float64", "132 of both"])
def test_adam(dtypes, shapes):
    (params, grads, m, v), steps = group(dtypes, shapes, 4)
    steps = [np.array([step + 1]) for step in steps]
    for decoupled in (False, True):
        agrees(update.adam, LR, params, grads, m, v, steps, 0.9, 0.999, 1e-8, 0.1, decoupled)


def test_checked():
    (params, grads, m, v), steps = group((np.float32,) * 3, ((), (1030,), (3,)), 4)
    agrees_checked(update.sgd, LR, params, grads, None, None, 0.0, 0.0, False, 0.1)
    agrees_checked(update.sgd, LR, params, grads, m, steps, 0.9, 0.2, True, 0.1)
    agrees_checked(update.adam, LR, params, grads, m, v, [np.array([1])] * 3, 0.9, 0.999, 1e-8, 0.1, False)


def test_counters():
    agrees(update.increment, *[np.array(i) for i in range(70)], np.array([5, 6, 7]))
    agrees_checked(update.increment, np.array([41]), np.array(-1))
