"""Resampling on the emulator."""

from __future__ import annotations

import numpy as np
import pytest
from emulated import agrees, agrees_checked, needs_compiler
from tinydl_kernels import resample

pytestmark = needs_compiler
MATRICES = [
    resample.linear(5, 9, 5 / 9, False),
    resample.cubic(5, 3, 5 / 3, False),
    resample.nearest(5, 4, 1.25, False),
    resample.means(5, 3),
    resample.means(3, 5).transposed,
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "dim"), [((5,), 0), ((2, 5, 3), 1), ((3, 50, 5), 2), ((0, 5), 1), ((5, 0), 0)]
)
def test_resample(shape, dim, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for rows in MATRICES:
        agrees(resample.resample, x, rows, dim)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_checked(dtype):
    agrees_checked(resample.resample, np.ones((2, 5, 3), dtype), MATRICES[1], 1)


def test_a_sum_over_many():
    x = np.random.default_rng(0).uniform(0, 1, (1, 20_000)).astype(np.float32)
    agrees(resample.resample, x, resample.means(20_000, 1), 1, tolerance=1e-7)
