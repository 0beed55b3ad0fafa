"""The CUDA kernels of scans, on the emulator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from emulated import agrees, agrees_checked, needs_compiler
from tinydl_kernels import scan

pytestmark = needs_compiler

LINES = {  # shape, axis
    "rows": ((5, 9), 1),
    "rows of two rounds": ((2, 200), 1),
    "a row of several rounds": ((1, 2500), 1),
    "columns": ((7, 40), 0),
    "long columns": ((150, 9), 0),
    "a few columns": ((2, 30, 3), 1),
    "one": ((1, 1), 0),
    "empty": ((0, 3), 0),
    "no elements in a line": ((3, 0), 1),
}


def check_scans(agrees: Callable[..., None], case: str, dtype: type) -> None:
    shape, dim = LINES[case]
    x, a = np.random.default_rng(0).uniform(-1.05, 1.05, (2, *shape)).astype(dtype)
    for reverse in (False, True):
        agrees(scan.cumsum, x, dim, reverse)
        agrees(scan.cumsum, (9 * x).astype(np.int64), dim, reverse)
        agrees(scan.recurrence, a, x, dim, reverse)
    agrees(scan.cumprod, x + dtype(1), dim)
    agrees(scan.cumprod, (2 * x).astype(np.int32), dim)
    agrees(scan.cumsum, x > 0, dim, False)


@pytest.mark.parametrize("case", LINES)
def test_scans(case):
    check_scans(agrees, case, np.float32)


@pytest.mark.parametrize("case", ["rows of two rounds", "long columns"])
def test_scans_checked(case):
    check_scans(agrees_checked, case, np.float64)


def test_what_is_not_finite_propagates():
    x = np.array([1.0, np.inf, 2.0, np.nan, 3.0, 0.0, 1.0])
    with np.errstate(all="ignore"):
        agrees(scan.cumsum, x, 0, False)
        agrees(scan.cumprod, x[::-1].copy(), 0)
        agrees(scan.cumprod, np.array([2.0, 0, 3, np.inf, 1]), 0)
        agrees(scan.recurrence, x, x[::-1].copy(), 0, True)


def test_zero_survives_what_would_overflow():
    """The factors after a zero overflow if they are multiplied first."""
    x = np.full(600, 1e200)
    x[0] = 0
    agrees(scan.cumprod, x, 0)
    agrees(scan.recurrence, x, np.zeros(600), 0, False)
