"""Stable order, and the different elements."""

import numpy as np
import pytest
from tinydl_kernels import sort


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dim", [0, 1])
def test_argsort_is_stable_both_ways(dim, descending):
    x = np.random.default_rng(0).integers(0, 4, (20, 15)).astype(np.float32)
    x[3, 4] = np.nan
    order = sort.argsort(x, dim, descending)
    assert order.dtype == np.int64
    keys = np.nan_to_num(x, nan=9.0)
    for line, places in zip(np.moveaxis(keys, dim, 0).T, np.moveaxis(order, dim, 0).T, strict=True):
        expected = sorted(range(len(line)), key=lambda i: -line[i] if descending else line[i])
        assert places.tolist() == expected


def test_unique():
    x = np.array([[2.0, 1.0], [np.nan, 2.0], [np.nan, 1.0]])
    values, inverse, counts = sort.unique(x, None)
    np.testing.assert_array_equal(values, [1, 2, np.nan, np.nan])
    np.testing.assert_array_equal(values[inverse], x)
    assert counts.tolist() == [2, 2, 1, 1]
    rows, inverse, counts = sort.unique(np.array([[1, 2], [0, 3], [1, 2]]), 0)
    assert rows.tolist() == [[0, 3], [1, 2]]
    assert inverse.tolist() == [1, 0, 1]
    assert counts.tolist() == [1, 2]
