"""Gather and the scatters on the emulator: whole indices and lines, vectors and single
elements, few and many sources.
"""

from __future__ import annotations

import numpy as np
import pytest
from emulated import agrees, agrees_checked, needs_compiler
from tinydl_kernels import indexing
from tinydl_kernels.cuda import launching

pytestmark = needs_compiler
SHAPES = [
    ((5,), 0, 3),
    ((4, 6), 0, 7),
    ((4, 8), 0, 20),
    ((4, 300), 1, 2),
    ((3, 5, 9), 1, 9),
    ((2, 4, 1), 1, 30),
    ((0, 3), 1, 2),
    ((3, 0), 0, 2),
    ((2, 3), 1, 0),
]


def draw(shape, dim, m, dtype):
    """x, a source, and the kinds of indices: an element each, a line for all,
    a line for each of the outer.
    """
    random = np.random.default_rng(0)
    taken = (*shape[:dim], m, *shape[dim + 1 :])
    x, source = (random.integers(-2, 3, s).astype(dtype) for s in (shape, taken))
    before, behind = (1,) * dim, (1,) * (len(shape) - dim - 1)
    kinds = (taken, (*before, m, *behind), (*shape[:dim], m, *behind), (*before, m, *shape[dim + 1 :]))
    return x, source, [random.integers(0, shape[dim], kind) for kind in dict.fromkeys(kinds)]


def check(agrees, shape, dim, m, dtype):
    x, source, indices = draw(shape, dim, m, dtype)
    for index in indices:
        agrees(indexing.gather, x, index, dim)
        agrees(indexing.scatter_add, source, index, shape[dim], dim)
        if index.shape == source.shape or index.size == m:
            agrees(indexing.scatter, x, source, index, dim)


@pytest.mark.parametrize(("shape", "dim", "m"), SHAPES)
def test_shapes(shape, dim, m):
    check(agrees, shape, dim, m, np.float32)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, bool, np.int32])
def test_dtypes(dtype):
    check(agrees, (2, 3, 4), 1, 9, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_checked(dtype):
    for m in (3, 9):
        check(agrees_checked, (2, 3, 4), 1, m, dtype)


def test_sums_are_rounded_once():
    g = np.full((5000, 4), 0.1, np.float32)
    agrees(indexing.scatter_add, g, np.zeros((5000, 1), np.int64), 2, 0, tolerance=1e-7)


def test_one_hot():
    for index in (np.array(2), np.arange(6).reshape(2, 3) % 4, np.empty((0, 2), np.int64)):
        agrees(indexing.one_hot, index, 4)
        agrees_checked(indexing.one_hot, index, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
@pytest.mark.parametrize("strided", [False, True])
def test_put_lets_the_last_win(dtype, strided):
    target = np.zeros((4, 10), dtype)[:, ::2] if strided else np.zeros((4, 5), dtype)
    random = np.random.default_rng(0)
    rows, columns = random.integers(-4, 4, (3, 7)), random.integers(0, 5, 7)
    for index in ((rows, columns), (slice(None), columns), (..., columns[:3]), (rows[0, :2], slice(1, 3))):
        value = random.integers(0, 2 if dtype is bool else 99, target[index].shape).astype(dtype)
        agrees(indexing.put, target, index, value)
        agrees(indexing.put, target, index, value[..., :1])
    agrees(indexing.put, target, (target == 0,), np.ones((), dtype))


def test_more_items_than_threads(monkeypatch):
    monkeypatch.setattr(launching, "MAX_BLOCKS", 1)
    check(agrees, (300, 5), 0, 70, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("width", [1, 4])
def test_places_that_nearly_all_sources_belong_to(width, dtype):
    """They are added up in runs: over whole ones, over their ends, and over none."""
    random = np.random.default_rng(0)
    index = np.sort(random.integers(0, 40, 1500))
    index[300:1320] = 20
    index = random.permutation(np.sort(index))
    g = random.integers(-2, 3, (1500, width)).astype(dtype)
    agrees(indexing.scatter_add, g, index[:, None], 40, 0)
    agrees(indexing.scatter_add, g[None].repeat(2, 0), index[None, :, None], 40, 1)
    agrees(indexing.scatter, g[:40], g, index[:, None], 0)
    if width == 4:
        agrees_checked(indexing.scatter_add, g, index[:, None], 40, 0)
