"""The CUDA kernels of softmax, on the emulator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from emulated import agrees, agrees_checked, needs_compiler
from tinydl_kernels import softmax

pytestmark = needs_compiler

LINES = {  # shape, axis
    "rows": ((7, 10), 1),
    "long rows": ((2, 1500), 1),
    "columns": ((5, 70), 0),
    "long columns": ((70, 11), 0),
    "a few columns": ((3, 40, 2), 1),
    "one": ((1,), 0),
    "size one": ((3, 1, 9), 1),
    "empty": ((0, 3), 1),
    "no elements in a line": ((3, 0), 1),
}


def check_lines(agrees: Callable[..., None], case: str, dtype: type) -> None:
    shape, dim = LINES[case]
    g, x = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    agrees(softmax.softmax, x, dim)
    agrees(softmax.log_softmax, x, dim)
    agrees(softmax.softmax_dx, g, softmax.softmax.implementations["reference"](x, dim), dim)
    agrees(softmax.log_softmax_dx, g, softmax.log_softmax.implementations["reference"](x, dim), dim)


@pytest.mark.parametrize("case", LINES)
def test_lines(case):
    check_lines(agrees, case, np.float32)


def test_checked():
    check_lines(agrees_checked, "long columns", np.float64)
    check_lines(agrees_checked, "rows", np.float64)


def test_infinities_and_nan():
    inf, nan = np.inf, np.nan
    x = np.array([[1000, -1000, 1000, -inf], [0, nan, 1, 2], [inf, 0, 1, 2], [-inf, -inf, -inf, -inf], [0, 0, -inf, 0]])
    with np.errstate(all="ignore"):
        agrees(softmax.softmax, x, 1)
        agrees(softmax.log_softmax, x, 1)
