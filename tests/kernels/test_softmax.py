"""Softmax, log-softmax and cross-entropy against their references, and at the edges of the number range."""

import numpy as np
import pytest
from dtypes import either_width
from tinydl_kernels import softmax
from tinydl_kernels.cpu import exponential
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.validate import agree

FLOATS = (np.float32, np.float64)


@either_width
@pytest.mark.parametrize(
    "shape", [(1,), (9,), (3, 1), (1, 4), (2, 3, 4, 5), (40, 30, 20), (3000, 10), (0, 3), (3, 0)]
)
def test_along_every_axis(shape, dtype):
    g, x = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    for dim in range(-1, x.ndim):
        y = agree(softmax.softmax, x, dim)
        log_y = agree(softmax.log_softmax, x, dim)
        agree(softmax.softmax_dx, g, y, dim)
        agree(softmax.log_softmax_dx, g, log_y, dim)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_of_every_length(dtype):
    """Where a row ends is nowhere to be seen: no number beside it counts, and each is exp's to the bit."""
    random = np.random.default_rng(0)
    for size in range(1, 140):
        x, g = random.standard_normal((2, 5, size)).astype(dtype)
        x[0], x[2], x[4, random.integers(size)] = np.nan, np.inf, -np.inf
        y, log_y = agree(softmax.softmax, x, 1), agree(softmax.log_softmax, x, 1)
        agree(softmax.log_softmax_dx, g, log_y, 1)
        for target in (random.integers(0, size, 5), y):
            agree(softmax.cross_entropy, x[1::2].copy(), target[1::2].copy(), 0.1, -100)
            agree(softmax.cross_entropy_dx, g[1::2, 0].copy(), x[1::2].copy(), target[1::2].copy(), 0.1, -100)
        row, e, plain = 50 * x[1], np.full(size + 9, 7, dtype), np.empty(size, dtype)
        total = exponential.exp_line(row, row.max(), e[:size])
        np.testing.assert_allclose(total, exponential.exp_line_plainly(row, row.max(), plain), rtol=1e-14)
        assert e[:size].tobytes() == plain.tobytes()
        assert (e[size:] == 7).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4000, 10), (0, 3), (3, 0)])
def test_cross_entropy(shape, label_smoothing, dtype):
    random = np.random.default_rng(0)
    x, g = random.standard_normal(shape).astype(dtype), random.standard_normal(shape[0]).astype(dtype)
    indices = random.integers(0, max(shape[1], 1), shape[0])
    soft = random.random(shape).astype(dtype)  # does not sum to 1
    for target in (indices, soft):
        for ignored in (-100, 0):
            agree(softmax.cross_entropy, x, target, label_smoothing, ignored)
            agree(softmax.cross_entropy_dx, g, x, target, label_smoothing, ignored)
    assert agree(softmax.counted, indices, 0, x.dtype) == (indices != 0).sum()


@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_dx_is_the_derivative(soft):
    random = np.random.default_rng(0)
    x, g, step = random.standard_normal((4, 5)), random.standard_normal(4), random.standard_normal((4, 5))
    target = random.random((4, 5)) if soft else random.integers(0, 5, 4)

    def value(x):
        return g @ softmax.cross_entropy(x, target, 0.2, 1)

    difference = (value(x + 1e-6 * step) - value(x - 1e-6 * step)) / 2e-6
    np.testing.assert_allclose(
        (softmax.cross_entropy_dx(g, x, target, 0.2, 1) * step).sum(), difference, rtol=1e-8
    )


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_edges(backend):
    inf = np.inf
    with dispatch.use(backend):
        np.testing.assert_allclose(
            softmax.softmax(np.array([[1000.0, -1000, 1000, -inf]]), 1), [[0.5, 0, 0.5, 0]]
        )
        np.testing.assert_allclose(softmax.log_softmax(np.array([[1000.0, 0, -inf]]), 1), [[0, -1000, -inf]])
        # a class with -inf that nobody asks for is no trouble; one that is asked for costs inf
        x = np.array([[0.0, 0, -inf], [0, 0, -inf]])
        np.testing.assert_allclose(softmax.cross_entropy(x, np.array([0, 2]), 0.0, -100), [np.log(2), inf])
        # an index that is no class reads no memory, and shows; one that is ignored counts for nothing
        np.testing.assert_array_equal(softmax.cross_entropy(x, np.array([-1, 3]), 0.1, 3), [np.nan, 0])
        dx = softmax.cross_entropy_dx(np.ones(2), x, np.array([-1, 3]), 0.1, 3)
        np.testing.assert_array_equal(dx, [[np.nan] * 3, [0] * 3])
        assert np.isnan(softmax.softmax(np.array([[0.0, np.nan]]), 1)).all()
