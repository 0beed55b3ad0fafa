"""The CUDA kernels of batch normalization, on the emulator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from emulated import agrees, agrees_checked, needs_compiler
from tinydl_kernels import norm

pytestmark = needs_compiler

EPS = 1e-3
SHAPES = {
    "planes": (3, 2, 5, 4),
    "odd planes": (2, 3, 3, 3),
    "long, in parts": (20, 1, 9, 101),
    "long, in packs": (33, 1, 16, 32),
    "columns": (600, 3),
    "several columns a channel": (70, 9, 2, 2),
    "one value": (1, 2),
    "no channels": (4, 0, 2),
}


def check_norm(agrees: Callable[..., None], case: str, dtype: type) -> None:
    shape, generator = SHAPES[case], np.random.default_rng(0)
    v, g, x = generator.standard_normal((3, *shape)).astype(dtype)
    v_gamma, v_beta, gamma, beta = generator.standard_normal((4, shape[1])).astype(dtype)
    x += dtype(1)
    tolerance = 2e-4 if dtype == np.float32 else 1e-11
    mean, var = norm.batch_norm.implementations["reference"](x, gamma, beta, EPS)[1:]
    ulps = 2e-5 if dtype == np.float32 else 1e-11  # means are float64, but rounded to the dtype of x
    agrees(norm.batch_norm, x, gamma, beta, EPS, tolerance=ulps)
    agrees(norm.batch_norm, x, None, None, EPS, tolerance=ulps)
    agrees(norm.batch_norm_dx, g, x, gamma, mean, var, EPS, tolerance=tolerance)
    agrees(norm.batch_norm_dx, g, x, None, mean, var, EPS, tolerance=tolerance)
    agrees(norm.batch_norm_dx_dx, v, v_gamma, v_beta, g, x, gamma, mean, var, EPS, tolerance=tolerance)
    agrees(norm.batch_norm_dx_dx, None, v_gamma, None, g, x, gamma, mean, var, EPS, tolerance=tolerance)
    agrees(norm.batch_norm_dx_dx, v, None, None, g, x, None, mean, var, EPS, tolerance=tolerance)
    agrees(norm.running_update, gamma, beta, mean, var, 0.1, 5)


def test_a_mean_that_float32_cannot_hold():
    """As test_norm.py has it."""
    for shape in ((6, 3), (3, 2, 5, 4)):
        v, g, x = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
        gamma, beta = np.random.default_rng(1).standard_normal((2, shape[1])).astype(np.float32)
        x = np.float32(2**24) + 2 * np.rint(4 * x)
        mean, var = norm.batch_norm.implementations["reference"](x, gamma, beta, EPS)[1:]
        assert (mean != mean.astype(np.float32)).all()
        agrees(norm.batch_norm, x, gamma, beta, EPS, tolerance=2e-5)
        agrees(norm.batch_norm_dx, g, x, gamma, mean, var, EPS, tolerance=2e-4)
        agrees(norm.batch_norm_dx_dx, v, gamma, beta, g, x, gamma, mean, var, EPS, tolerance=2e-4)


@pytest.mark.parametrize("case", SHAPES)
def test_norm(case):
    check_norm(agrees, case, np.float32)


@pytest.mark.parametrize("case", ["planes", "several columns a channel"])
def test_norm_checked(case):
    check_norm(agrees_checked, case, np.float64)


@pytest.mark.parametrize("shape", [(4, 2, 50), (200, 2)])
def test_variance_far_from_zero(shape):
    x = (np.random.default_rng(0).standard_normal(shape) + 1e8).astype(np.float64)
    agrees(norm.batch_norm, x, None, None, EPS, tolerance=1e-6)
    agrees(norm.batch_norm, (x - 1e8 + 1000).astype(np.float32), None, None, EPS, tolerance=1e-4)


def test_infinities_and_nan_stay_in_their_channel():
    x = np.ones((4, 3, 9), np.float32)
    x[0, 0, 0], x[2, 1, 3] = np.inf, np.nan
    with np.errstate(all="ignore"):
        agrees(norm.batch_norm, x, None, None, EPS, tolerance=2e-5)
