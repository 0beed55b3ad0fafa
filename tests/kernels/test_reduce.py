"""Reductions: every pattern of axes against the reference."""

import itertools

import numpy as np
import pytest
from dtypes import either_width
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tinydl_kernels import reduce
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.validate import agree

SHAPES = [
    (),
    (1,),
    (5,),
    (3, 4),
    (2, 3, 4, 5),
    (2, 1, 3, 1, 4),
    (0, 3),
    (3, 0),
    (40, 3, 7, 600),
    (50000,),
    (20000, 3),
    (300, 1300),
]


@either_width
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_over_any_axes(shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for count in range(x.ndim + 1):
        for dims in itertools.combinations(range(x.ndim), count):
            agree(reduce.sum, x, dims)
            agree(reduce.wide_sum, x, dims, tolerance=1e-11)
            agree(reduce.logsumexp, x, dims)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_sums_over_drawn_axes(data):
    shape = data.draw(array_shapes(max_dims=6, max_side=5, min_side=0))
    dims = tuple(dim for dim in range(len(shape)) if data.draw(st.booleans()))
    x = np.random.default_rng(0).standard_normal(shape)
    agree(reduce.sum, x, dims)
    agree(reduce.logsumexp, x, dims)
    kept = tuple(1 if dim in dims else size for dim, size in enumerate(shape))
    agree(reduce.sum_to, x, kept)


@pytest.mark.parametrize(
    ("shape", "target"),
    [((2, 3, 4), (3, 1)), ((2, 3), ()), ((2, 3), (2, 3)), ((5, 1, 2), (1, 2)), ((0, 2), (2,))],
)
def test_sum_to(shape, target):
    x = np.random.default_rng(0).standard_normal(shape)
    agree(reduce.sum_to, x, target)
    result = reduce.sum_to(x, target)
    assert result.shape == target
    assert not np.shares_memory(result, x)


def test_sum_to_a_shape_that_does_not_broadcast():
    for backend in ("reference", "cpu"):
        with (
            dispatch.use(backend),
            pytest.raises(ShapeError, match=r"sum_to: expected a shape that broadcasts to \(2, 3\)"),
        ):
            reduce.sum_to(np.ones((2, 3)), (2, 1, 3))


@pytest.mark.parametrize("dtype", [bool, np.int64])
def test_integers_sum_exactly(dtype):
    x = np.random.default_rng(0).integers(0, 2, (30, 40, 5)).astype(dtype)
    for dims in ((), (0,), (1,), (2,), (0, 2), (0, 1, 2)):
        agree(reduce.sum, x, dims)


def test_float32_is_summed_in_float64():
    x = np.full((1 << 22,), 0.1, np.float32)
    assert reduce.sum(x, (0,)) == np.float32(np.float64(np.float32(0.1)) * (1 << 22))
    assert reduce.sum(x.reshape(-1, 2), (0,))[1] == np.float32(np.float64(np.float32(0.1)) * (1 << 21))


@pytest.mark.parametrize("name", ["amax", "amin"])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.int32, np.int8, np.uint8, bool])
def test_extremes(name, kind):
    """The reference's bits, the sign of a zero among them: rows, columns, in parts, every other axis."""
    op, random = getattr(reduce, name), np.random.default_rng(0)
    cases = [((7,), (0,)), ((3, 4, 5), (0, 2)), ((2, 3, 40000), (1, 2)), ((40, 900), (0,)), ((), ())]
    cases += [((3, 2), ()), ((1, 7, 1), (0, 2)), ((0, 3), (1,)), ((600, 9), (0,))]
    for shape, dims in cases:
        x = (100 * random.standard_normal(shape)).astype(np.int64).astype(kind)
        inputs = [x]
        if x.dtype.kind == "f":
            zeros = np.where(random.random(shape) < 0.5, x.dtype.type(0), x.dtype.type(-0.0))
            inputs += [zeros, np.where(random.random(shape) < 0.1, -np.inf, zeros).astype(kind)]
        for y in inputs:
            expected = agree(op, y, dims)
            assert op(y, dims).tobytes() == expected.tobytes()
        if x.dtype.kind == "f":
            nans = [np.nan, -np.nan, np.inf]
            agree(op, np.where(random.random(shape) < 0.2, random.choice(nans, shape), x).astype(kind), dims)


def test_extremes_of_zeros():
    for backend in ("reference", "cpu"):
        with dispatch.use(backend):
            for x in ([0.0, -0.0], [-0.0, 0.0]):
                assert not np.signbit(reduce.amax(np.array(x), (0,)))
                assert np.signbit(reduce.amin(np.array(x), (0,)))
            assert np.signbit(reduce.amax(np.array([-0.0, -1.0]), (0,)))


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_the_extreme_of_nothing(name):
    for backend in ("reference", "cpu"):
        with (
            dispatch.use(backend),
            pytest.raises(ShapeError, match=rf"{name}: expected at least one element along dim 0"),
        ):
            getattr(reduce, name)(np.empty((0, 4)), (0, 1))


@either_width
@pytest.mark.parametrize("name", ["max", "min"])
def test_winners(name, dtype):
    op = getattr(reduce, name)
    random = np.random.default_rng(0)
    for shape in ((7,), (5, 1), (1, 6), (3, 4, 5), (2, 3, 40000), (70, 90)):
        x = random.integers(-3, 4, shape).astype(dtype)  # with ties: the first wins
        for dim in range(len(shape)):
            agree(op, x, dim)
        x[random.random(shape) < 0.2] = np.nan
        for dim in range(-1, len(shape)):
            agree(op, x, dim)
    agree(op, np.empty((0, 4), dtype), 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["max", "min"])
def test_winners_of_rows_of_every_length(name, dtype):
    """Places and bits; what lies beside a row does not count."""
    op, random = getattr(reduce, name), np.random.default_rng(0)
    for size in (*range(1, 150), 4095, 4096, 4097, 4200, 9000):
        x = random.integers(-3, 4, (9, size)).astype(dtype)
        x[2], x[6] = np.nan, np.inf if name == "max" else -np.inf
        x[3, random.integers(size)] = np.nan
        x[4], x[5] = np.where(random.random((2, size)) < 0.5, 0.0, -0.0)
        x[7] = -x[6]
        x[8, random.integers(size)] = 9 if name == "max" else -9
        values, places = op(x, 1)
        agree(op, x, 1)
        assert values.tobytes() == np.take_along_axis(x, places[:, None], 1).tobytes()


@pytest.mark.parametrize("name", ["max", "min"])
def test_the_winner_of_nothing(name):
    for backend in ("reference", "cpu"):
        with (
            dispatch.use(backend),
            pytest.raises(ShapeError, match=rf"{name}: expected at least one element along dim 0"),
        ):
            getattr(reduce, name)(np.empty((0, 4)), 0)


@pytest.mark.parametrize("dim", [0, 1])
def test_logsumexp_at_the_edges(dim):
    inf, nan = np.inf, np.nan
    x = np.array(
        [[-inf, -inf, -inf], [inf, 1, -inf], [nan, 1, inf], [1000, 1000, 1000], [-1000, -1000, -1000]]
    )
    expected = np.array([-inf, inf, nan, 1000 + np.log(3), -1000 + np.log(3)])
    x = x if dim == 1 else np.ascontiguousarray(x.T)
    np.testing.assert_allclose(reduce.logsumexp(x, (dim,)), expected, rtol=1e-15)
    agree(reduce.logsumexp, x, (dim,))
