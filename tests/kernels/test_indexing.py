"""Concatenation, padding, cropping, and the transpose of basic indexing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, basic_indices
from tinydl_kernels import indexing
from tinydl_kernels.validate import agree


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_concatenate(dim):
    shapes = [[2, 3, 4] for _ in range(3)]
    for i, shape in enumerate(shapes):
        shape[dim] = i  # the first is empty
    arrays = [np.random.default_rng(i).standard_normal(shape) for i, shape in enumerate(shapes)]
    sizes = [a.shape[dim] for a in arrays]
    np.testing.assert_array_equal(indexing.concatenate(arrays, dim, sizes), np.concatenate(arrays, dim))
    assert not np.shares_memory(indexing.concatenate(arrays[1:2], dim, sizes[1:2]), arrays[1])
    arrays[1][...] = 0
    np.testing.assert_array_equal(indexing.concatenate([arrays[0], None, arrays[2]], dim, sizes), np.concatenate(arrays, dim))


@given(st.data())
def test_pad_and_crop_undo_each_other(data):
    shape = data.draw(array_shapes(min_dims=0, max_dims=4, max_side=4, min_side=0))
    low, high = (tuple(data.draw(st.integers(0, 3)) for _ in shape) for _ in range(2))
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    padded = agree(indexing.pad, x, low, high, -7)
    np.testing.assert_array_equal(agree(indexing.crop, padded, low, high), x)
    assert (padded == -7).sum() == padded.size - x.size


@given(st.data())
def test_place_is_the_transpose_of_indexing(data):
    shape = data.draw(array_shapes(max_dims=4, max_side=5))
    index = data.draw(basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    x = np.random.default_rng(0).integers(-9, 9, shape)
    g = np.ascontiguousarray(np.random.default_rng(1).integers(-9, 9, np.shape(x[index]))).reshape(np.shape(x[index]))
    placed = agree(indexing.place, g, shape, index)
    assert (placed * x).sum() == (g * x[index]).sum()
