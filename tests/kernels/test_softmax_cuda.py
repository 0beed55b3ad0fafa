"""The CUDA kernels of softmax and cross-entropy, on the emulator."""

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
ROWS = [(6, 5), (3, 1100), (1, 1), (0, 3), (3, 0)]
IGNORED = -100


def check_lines(agrees: Callable[..., None], case: str, dtype: type) -> None:
    shape, dim = LINES[case]
    g, x = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    agrees(softmax.softmax, x, dim)
    agrees(softmax.log_softmax, x, dim)
    agrees(softmax.softmax_dx, g, softmax.softmax.implementations["reference"](x, dim), dim)
    agrees(softmax.log_softmax_dx, g, softmax.log_softmax.implementations["reference"](x, dim), dim)


def check_cross_entropy(agrees: Callable[..., None], shape: tuple[int, int], dtype: type) -> None:
    random = np.random.default_rng(0)
    x, g = random.standard_normal(shape).astype(dtype), random.standard_normal(shape[0]).astype(dtype)
    indices = random.integers(0, max(shape[1], 1), shape[0])
    indices[1::3] = IGNORED
    indices[2::3] = shape[1]
    agrees(softmax.counted, indices, IGNORED, np.dtype(dtype))
    for target in (indices, random.random(shape).astype(dtype)):
        for smoothing in (0.0, 0.1):
            agrees(softmax.cross_entropy, x, target, smoothing, IGNORED)
            agrees(softmax.cross_entropy_dx, g, x, target, smoothing, IGNORED)


@pytest.mark.parametrize("case", LINES)
def test_lines(case):
    check_lines(agrees, case, np.float32)


@pytest.mark.parametrize("shape", ROWS)
def test_cross_entropy(shape):
    check_cross_entropy(agrees, shape, np.float32)


def test_counted():
    agrees(softmax.counted, np.arange(2000) % 7, 3, np.dtype(np.float32))


def test_checked():
    check_lines(agrees_checked, "long columns", np.float64)
    check_lines(agrees_checked, "rows", np.float64)
    check_cross_entropy(agrees_checked, (6, 5), np.float64)
    check_cross_entropy(agrees_checked, (1, 1100), np.float64)


def test_infinities_and_nan():
    inf, nan = np.inf, np.nan
    x = np.array(
        [[1000, -1000, 1000, -inf], [0, nan, 1, 2], [inf, 0, 1, 2], [-inf, -inf, -inf, -inf], [0, 0, -inf, 0]]
    )
    with np.errstate(all="ignore"):
        agrees(softmax.softmax, x, 1)
        agrees(softmax.log_softmax, x, 1)
        agrees(softmax.cross_entropy, x, np.array([0, 1, 2, 0, 2]), 0.0, IGNORED)
