"""The CUDA kernels of reductions, on the emulator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from emulated import agrees, agrees_checked, needs_compiler
from tinydl_kernels import reduce
from tinydl_kernels.machine import dispatch

pytestmark = needs_compiler

FOLDS = {  # shape, axes
    "rows": ((5, 6), (1,)),
    "columns": ((5, 70), (0,)),
    "all": ((3, 4, 5), (0, 1, 2)),
    "long row": ((1, 1100), (1,)),
    "row in parts": ((1, 17000), (1,)),
    "columns in parts": ((600, 9), (0,)),
    "every other axis": ((2, 3, 2, 3, 2, 2), (1, 3, 5)),
    "channels": ((4, 3, 5, 4), (0, 2, 3)),
    "a few columns": ((2, 1100, 2), (1,)),
    "sizes of one": ((1, 7, 1), (0, 2)),
    "none": ((3, 2), ()),
    "nothing to sum": ((3, 0), (1,)),
    "nothing at all": ((0, 3), (1,)),
}


def draw(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return (3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)


def check_folds(agrees: Callable[..., None], case: str, dtype: type) -> None:
    shape, dims = FOLDS[case]
    x = draw(shape, dtype)
    agrees(reduce.sum, x, dims)
    agrees(reduce.wide_sum, x, dims)
    agrees(reduce.sum_to, x, tuple(1 if dim in dims else size for dim, size in enumerate(shape)))
    agrees(reduce.sum, x.astype(np.int64), dims)
    agrees(reduce.sum, x.astype(np.int32), dims)
    agrees(reduce.sum, x > 1, dims)
    agrees(reduce.logsumexp, x, dims)
    if all(shape[dim] for dim in dims):
        check_extremes(agrees, x, dims)
    for y in (x, x > 1, np.ones_like(x), np.zeros_like(x), x.astype(np.int32)):
        agrees(reduce.any_true, y, dims)
        agrees(reduce.all_true, y, dims)


def check_extremes(agrees: Callable[..., None], x: np.ndarray, dims: tuple[int, ...]) -> None:
    places = np.arange(x.size).reshape(x.shape)
    zeros = np.where(places % 2, x.dtype.type(0), x.dtype.type(-0.0))
    nans = np.where(places % 7 == 3, x.dtype.type(np.nan), x)
    for op in (reduce.amax, reduce.amin):
        for y in (x, zeros, nans, x.astype(np.int64), x.astype(np.int32), x > 0):
            agrees(op, y, dims)
        with dispatch.use("cuda-emulated"):
            got = op(zeros, dims)
        with dispatch.use("reference"):
            assert np.array_equal(np.signbit(got), np.signbit(op(zeros, dims)))


def check_products(agrees: Callable[..., None], shape: tuple[int, ...], dim: int, dtype: type) -> None:
    x = np.random.default_rng(0).uniform(0.9, 1.1, shape).astype(dtype)
    agrees(reduce.prod, x, dim)
    agrees(reduce.prod, 3 - 4 * (x > 1), dim)
    agrees(reduce.prod, x > 0.9, dim)


def check_winners(agrees: Callable[..., None], shape: tuple[int, ...], dim: int, dtype: type) -> None:
    x = np.rint(draw(shape, dtype))  # with ties
    for y in (x, x.astype(np.int64), x.astype(np.int32), x > 0):
        agrees(reduce.max, y, dim)
        agrees(reduce.min, y, dim)
    if x.size > 2:
        x.reshape(-1)[1::7] = np.nan
        x.reshape(-1)[2::7] = np.inf
        agrees(reduce.max, x, dim)
        agrees(reduce.min, x, dim)


@pytest.mark.parametrize("case", FOLDS)
def test_folds(case):
    check_folds(agrees, case, np.float32)


@pytest.mark.parametrize(
    ("shape", "dim"), [((4, 6), 1), ((6, 40), 0), ((17000,), 0), ((600, 9), 0), ((1,), 0), ((3, 0), 1)]
)
def test_products(shape, dim):
    check_products(agrees, shape, dim, np.float32)


@pytest.mark.parametrize(
    ("shape", "dim"), [((4, 6), 1), ((6, 40), 0), ((17000,), 0), ((600, 9), 0), ((1,), 0), ((0, 3), 1)]
)
def test_winners(shape, dim):
    check_winners(agrees, shape, dim, np.float32)


def test_checked():
    for case in ("rows", "columns in parts", "every other axis"):
        check_folds(agrees_checked, case, np.float64)
    check_products(agrees_checked, (600, 9), 0, np.float64)
    check_winners(agrees_checked, (600, 9), 0, np.float64)
    check_winners(agrees_checked, (4, 6), -1, np.float64)


def test_float32_sums_are_as_exact_as_those_in_float64():
    x = np.full((1, 5000), 0.1, np.float32)
    x[0, 0], x[0, 4999] = 1e8, -1e8
    agrees(reduce.sum, x, (1,), tolerance=1e-7)


def test_infinities_and_nan():
    inf, nan = np.inf, np.nan
    x = np.array(
        [[1.0, inf, 2], [inf, -inf, 0], [nan, 1, 2], [-inf, -inf, -inf], [1e4, -1e4, 1e4], [inf, inf, 1]]
    )
    for dtype in (np.float32, np.float64):
        with np.errstate(all="ignore"):
            agrees(reduce.sum, x.astype(dtype), (1,))
            agrees(reduce.logsumexp, x.astype(dtype), (1,))
            agrees(reduce.prod, x.astype(dtype), 1)
            agrees(reduce.all_true, x.astype(dtype), (1,))
