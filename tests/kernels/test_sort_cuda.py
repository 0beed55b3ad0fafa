"""The radix sort on the emulator: many digits, rows and tiles."""

from __future__ import annotations

import numpy as np
import pytest
from emulated import agrees, agrees_checked, needs_compiler
from tinydl_kernels import sort
from tinydl_kernels.cuda import launching
from tinydl_kernels.machine import dispatch

pytestmark = needs_compiler


def draw(shape, dtype):
    """Few different numbers, and the special ones."""
    random = np.random.default_rng(0)
    x = random.integers(-3, 4, shape)
    if np.dtype(dtype).kind != "f":
        return np.where(random.random(shape) < 0.2, np.iinfo(np.int64).max, x).astype(dtype)
    special = random.choice([np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-42, -1e-42, 0.5], shape)
    return np.where(random.random(shape) < 0.5, special, x).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint64, bool, np.int32])
def test_dtypes(dtype):
    x = draw((2, 30, 3), dtype)
    agrees(sort.argsort, x, 1, False)
    agrees(sort.argsort, x, 1, True)


@pytest.mark.parametrize(
    ("shape", "dim"), [((5,), 0), ((260, 2), 0), ((260, 2), 1), ((1, 1), 1), ((0, 3), 1), ((3, 0), 1)]
)
def test_shapes(shape, dim):
    agrees(sort.argsort, draw(shape, np.float32), dim, False)


def test_many_tiles():
    x = np.random.default_rng(0).integers(0, 5000, 5001).astype(np.float32)
    agrees(sort.argsort, x, 0, False)


def test_more_tiles_than_lanes():
    """The loop of `offset`, fed with counts of its own."""
    counts = np.random.default_rng(0).integers(0, 9, (256, 70)).astype(np.uint32)
    before, totals = counts.cumsum(1) - counts, np.empty(256, np.uint32)
    launching.module("sort").get_function("offset")(
        (32,), (256,), (sums := counts.copy(), totals, np.int32(70))
    )
    np.testing.assert_array_equal(sums, before)
    np.testing.assert_array_equal(totals, counts.sum(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint64])
def test_checked(dtype):
    agrees_checked(sort.argsort, draw((40, 3), dtype), 0, True)


def test_order_of_few_bits():
    with dispatch.use("cuda-emulated"):
        keys = np.array([3, 1, 2, 1, 0, 3], np.uint64)
        assert sort.radix_order(keys, 2, 6).tolist() == [4, 1, 3, 2, 0, 5]
        assert sort.radix_order(keys, 2, 3).tolist() == [1, 2, 0, 4, 3, 5]
