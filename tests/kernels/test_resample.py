"""Maps along an axis, and windows as columns: Numba and the reference, products with
the dense matrix, transposes.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tinydl_kernels import resample, unfold
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.validate import agree
from tinydl_kernels.machine.window import Window, adaptive_spans

SIZES = st.integers(1, 9)
KINDS = {
    "means": lambda n, m: resample.means(n, m),
    "nearest": lambda n, m: resample.nearest(n, m, n / m, False),
    "linear": lambda n, m: resample.linear(n, m, n / m, False),
    "corners": lambda n, m: resample.linear(n, m, (n - 1) / max(m - 1, 1), True),
    "cubic": lambda n, m: resample.cubic(n, m, n / m, False),
    "wide linear": lambda n, m: resample.antialiased("linear", n, m, n / m),
    "wide cubic": lambda n, m: resample.antialiased("cubic", n, m, n / m),
    "lanczos": lambda n, m: resample.antialiased("lanczos", n, m, n / m),
}
rows = st.builds(lambda kind, n, m: KINDS[kind](n, m), st.sampled_from([*KINDS]), SIZES, SIZES)


def dense(rows):
    matrix = np.zeros(rows.shape)
    np.add.at(matrix, (np.repeat(np.arange(rows.shape[0]), np.diff(rows.starts)), rows.columns), rows.weights)
    return matrix


@settings(max_examples=100, deadline=None)
@given(
    rows,
    st.sampled_from([((), ()), ((3,), ()), ((), (4,)), ((2, 3), (5,)), ((0,), (2,)), ((2,), (0,))]),
    st.booleans(),
)
def test_product_with_the_matrix(rows, around, double):
    lead, rest = around
    x = (
        np.random.default_rng(0)
        .standard_normal((*lead, rows.shape[1], *rest))
        .astype(np.float64 if double else np.float32)
    )
    y = agree(resample.resample, x, rows, len(lead))
    expected = np.moveaxis(np.tensordot(dense(rows), x, (1, len(lead))), 0, len(lead))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    back = agree(resample.resample, y, rows.transposed, len(lead))
    assert back.shape == x.shape


@settings(max_examples=50, deadline=None)
@given(rows)
def test_rows_add_up_to_one_and_the_transpose_to_the_matrix(rows):
    np.testing.assert_allclose(dense(rows).sum(1), 1)
    np.testing.assert_array_equal(dense(rows.transposed), dense(rows).T)
    assert rows.transposed.transposed is rows


def test_equal_maps_are_one():
    assert resample.means(5, 3) is resample.means(5, 3)


@given(SIZES, SIZES)
def test_adaptive_spans_cover_everything_evenly(size, out):
    starts, stops = adaptive_spans(size, out)
    assert starts[0] == 0
    assert stops[-1] == size
    assert (starts[1:] <= stops[:-1]).all()
    assert np.ptp(stops - starts) <= 1


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_what_is_not_read_does_not_matter(backend):
    x = np.array([[1.0, np.inf, np.nan, 2.0]])
    with dispatch.use(backend):
        np.testing.assert_array_equal(resample.resample(x, resample.nearest(4, 2, 3.0, False), 1), [[1, 2]])


def test_float32_sums_are_in_float64():
    x = np.full((1, 4_000_000), 0.1, np.float32)
    assert agree(resample.resample, x[:, :40_001], resample.means(40_001, 1), 1)[0, 0] == np.float32(0.1)


# ---- Windows as columns


@st.composite
def unfolding(draw):
    """(window, x) over one to three axes."""
    axes = draw(st.integers(1, 3))
    sizes, kernel, stride, dilation = (
        draw(st.tuples(*[st.integers(1, most)] * axes)) for most in (7, 3, 3, 2)
    )
    pads = draw(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * axes))
    shape = (draw(st.integers(0, 2)), draw(st.integers(1, 3)), *sizes)
    try:
        window = Window.conv("unfold", shape, (1, shape[1], *kernel), stride, pads, dilation, 1, axes)
    except ShapeError:
        assume(False)
    x = np.random.default_rng(0).standard_normal(shape)
    return window, x.astype(draw(st.sampled_from([np.float32, np.float64])))


@settings(max_examples=100, deadline=None)
@given(unfolding())
def test_unfold_and_fold_are_transposed(case):
    """<unfold(x), y> = <x, fold(y)>"""
    window, x = case
    columns = agree(unfold.unfold, x, window)
    y = np.random.default_rng(1).standard_normal(columns.shape).astype(x.dtype)
    back = agree(unfold.fold, y, window)
    np.testing.assert_allclose(np.vdot(columns, y), np.vdot(x, back), rtol=1e-4, atol=1e-4)
