"""Matrix products: transposed, batched, broadcast."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from tinydl_kernels import elementwise
from tinydl_kernels.cpu import product, threads
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.validate import agree
from tinydl_kernels.matmul import linear, matmul


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_batch_and_transposition(data):
    batches = data.draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0))
    i, k, j = (data.draw(st.integers(0, 5)) for _ in range(3))
    transpose_a, transpose_b = data.draw(st.booleans()), data.draw(st.booleans())
    random = np.random.default_rng(0)
    a = random.standard_normal((*batches.input_shapes[0], *((k, i) if transpose_a else (i, k))))
    b = random.standard_normal((*batches.input_shapes[1], *((j, k) if transpose_b else (k, j))))
    result = agree(matmul, a, b, transpose_a, transpose_b)
    letters = ("ki" if transpose_a else "ik"), ("jk" if transpose_b else "kj")
    expected = np.einsum("...{},...{}->...ij".format(*letters), a, b)
    np.testing.assert_allclose(result, expected, atol=1e-12)
    assert result.shape == (*batches.result_shape, i, j)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_dtypes_and_fresh_results(dtype):
    a = np.arange(6).reshape(2, 3).astype(dtype)
    y = matmul(a, a, False, True)
    assert y.dtype == dtype
    assert y.flags.c_contiguous
    np.testing.assert_array_equal(y, [[5, 14], [14, 50]])


def test_shapes_that_do_not_fit():
    for backend in ("reference", "cpu"):
        with dispatch.use(backend):
            with pytest.raises(ShapeError, match=r"got \(2, 3\) times \(2, 3\)"):
                matmul(np.ones((2, 3)), np.ones((2, 3)))
            with pytest.raises(ShapeError, match="batch axes"):
                matmul(np.ones((2, 1, 1)), np.ones((3, 1, 1)))


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-3), (np.float64, 1e-11)])
@pytest.mark.parametrize(("batch_a", "batch_b"), [((), ()), ((3, 1), (2,)), ((), (2, 2)), ((9,), (9,))])
def test_products_cut_into_tasks(transpose_a, transpose_b, dtype, tolerance, batch_a, batch_b):
    random = np.random.default_rng(0)
    for i, k, j in (
        (37, 50, 61),
        (1, 700, 90),
        (90, 700, 1),
        (500, 3, 64),
        (1100, 9, 2),
        (64, 300, 1000),
        (130, 260, 200),
        (3, 9, 1100),
    ):
        a = random.standard_normal((*batch_a, *((k, i) if transpose_a else (i, k)))).astype(dtype)
        b = random.standard_normal((*batch_b, *((j, k) if transpose_b else (k, j)))).astype(dtype)
        agree(matmul, a, b, transpose_a, transpose_b, tolerance=tolerance)


def test_bias():
    random = np.random.default_rng(0)
    a, b, bias = (
        random.standard_normal((70, 30)),
        random.standard_normal((40, 30)),
        random.standard_normal(40),
    )
    y = np.empty((70, 40))
    product.product(a, b, y, False, True, bias)
    np.testing.assert_allclose(y, a @ b.T + bias, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 8])
def test_relu_is_that_of_a_call_of_its_own(rows):
    """Bit for bit: a sum that is rounded to -0 becomes 0, NaN stays."""
    a, b = np.full((rows, 1), -1e-30, np.float32), np.array([[1e-30, 1, -1, np.nan, 0, 1e30]], np.float32)
    bias, y, z = (
        np.full(6, -0.0, np.float32),
        np.empty((rows, 6), np.float32),
        np.empty((rows, 6), np.float32),
    )
    product.product(a, b, y, False, False, bias)
    product.product(a, b, z, False, False, bias, True)
    assert z.tobytes() == elementwise.relu(y).tobytes()


def test_bits_do_not_depend_on_the_number_of_threads():
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((210, 190)).astype(np.float32) for _ in range(2))
    outer, results = threads.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            results.append((matmul(a, b, False, True), matmul(a, b, True)))
    finally:
        threads.set_num_threads(outer)
    for other in results[1:]:
        for x, y in zip(results[0], other):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("i", "k", "j"), [(1, 400, 120), (3, 5, 700), (700, 5, 3), (50, 84, 1), (2, 0, 3)])
@pytest.mark.parametrize("relu", [False, True])
def test_thin_products_of_a_layer(i, k, j, relu):
    """Bias along either side; relu passes NaN on."""
    random = np.random.default_rng(0)
    x, w, b = (random.standard_normal(shape) for shape in ((i, k), (j, k), (j,)))
    b[-1] = np.nan
    with np.errstate(invalid="ignore"):
        expected = x @ w.T + b
        expected = np.maximum(expected, 0) if relu else expected
    np.testing.assert_allclose(linear(x, w, b, relu), expected, 1e-12, 1e-12)
