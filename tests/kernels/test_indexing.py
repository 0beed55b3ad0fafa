"""Concatenation, padding, cropping, and the transpose of basic indexing."""

import numpy as np
import pytest
from dtypes import either_width
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, basic_indices
from tinydl_kernels import indexing
from tinydl_kernels.machine.validate import agree


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
    np.testing.assert_array_equal(
        indexing.concatenate([arrays[0], None, arrays[2]], dim, sizes), np.concatenate(arrays, dim)
    )


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
    g = np.ascontiguousarray(np.random.default_rng(1).integers(-9, 9, np.shape(x[index]))).reshape(
        np.shape(x[index])
    )
    placed = agree(indexing.place, g, shape, index)
    assert (placed * x).sum() == (g * x[index]).sum()


SHAPES = [
    ((5,), 0, 3),
    ((4, 6), 0, 7),
    ((4, 6), 1, 2),
    ((3, 5, 200), 1, 9),
    ((2, 4, 1), 1, 3),
    ((0, 3), 1, 2),
    ((3, 0), 0, 2),
    ((2, 3), 1, 0),
]


@either_width
@pytest.mark.parametrize(("shape", "dim", "m"), SHAPES)
def test_gather_and_scatters(shape, dim, m, dtype):
    random = np.random.default_rng(0)
    x = random.standard_normal(shape).astype(dtype)
    taken = (*shape[:dim], m, *shape[dim + 1 :])
    g = random.standard_normal(taken).astype(dtype)
    full = random.integers(0, shape[dim], taken)
    line = random.integers(0, shape[dim], (1,) * dim + (m,) + (1,) * (len(shape) - dim - 1))
    for index in (full, line):
        np.testing.assert_array_equal(
            agree(indexing.gather, x, index, dim), np.take_along_axis(x, np.broadcast_to(index, taken), dim)
        )
        back = agree(indexing.scatter_add, g, index, shape[dim], dim)
        np.testing.assert_allclose(back.sum(dim), g.sum(dim), atol=1e-5)
        np.testing.assert_allclose(
            (back * x).sum(), (g * indexing.gather(x, index, dim)).sum(), rtol=1e-4, atol=1e-5
        )
        agree(indexing.scatter, x, g, index, dim)


def test_a_sum_over_one_place_has_a_fixed_order_and_is_exact():
    g = np.full((100_000, 3), 0.1, np.float32)
    index = np.zeros((100_000, 1), np.int64)
    first = indexing.scatter_add(g, index, 2, 0)
    np.testing.assert_allclose(first[0], np.float64(np.float32(0.1)) * 100_000, rtol=1e-7)
    assert first.tobytes() == indexing.scatter_add(g, index, 2, 0).tobytes()


def test_the_last_of_several_wins():
    x, index = np.zeros(3), np.array([1, 2, 1, 1])
    np.testing.assert_array_equal(agree(indexing.scatter, x, np.arange(4.0), index, 0), [0, 3, 1])


def test_integers_are_counted_in_int64():
    index = np.array([1, 2, 1])
    for ones in (np.ones(3, np.bool_), np.ones(3, np.int32)):
        counts = agree(indexing.scatter_add, ones, index, 4, 0)
        assert counts.dtype == np.int64
        assert counts.tolist() == [0, 2, 1, 0]


@pytest.mark.parametrize("bad", [-1, 3])
def test_indices_out_of_range(bad):
    x, index = np.zeros((3, 2)), np.array([[0], [bad]])
    for call in (
        lambda: agree(indexing.gather, x, index, 0),
        lambda: agree(indexing.scatter_add, x[:2], index, 3, 0),
        lambda: agree(indexing.scatter, x, x[:2], index, 0),
        lambda: agree(indexing.one_hot, index, 3),
    ):
        with pytest.raises(IndexError, match=r"expected indices from 0 to 2, got"):
            call()


def test_flat_index_is_ravel_multi_index():
    rows, columns = np.array([[0], [2], [-1]]), np.array([1, -4])
    expected = np.ravel_multi_index(np.broadcast_arrays(rows % 3, columns % 4), (3, 4))
    np.testing.assert_array_equal(indexing.flat_index((rows, columns), (3, 4)), expected)


def test_place_diagonal_is_the_transpose_of_diagonal():
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    for offset in (-3, -1, 0, 2, 4):
        for dims in ((0, 2), (2, 1), (1, 0)):
            taken = x.diagonal(offset, *dims)
            g = np.random.default_rng(1).standard_normal(taken.shape)
            placed = indexing.place_diagonal(g, x.shape, offset, *dims)
            np.testing.assert_array_equal(placed.diagonal(offset, *dims), g)
            assert np.count_nonzero(placed) == g.size
