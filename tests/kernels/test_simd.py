"""Register tiles: each inner loop and its plain twin, and what lies around. At the width of this processor;
test_narrow_registers.py runs the same at others.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinydl_kernels import pool
from tinydl_kernels.cpu import internals, lane_reductions, packing, simd, tiles
from tinydl_kernels.machine.window import Window

DTYPES = st.sampled_from([np.float32, np.float64])


def numbers(size, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(size).astype(dtype)


def guarded(size, dtype, seed=0):
    """Numbers between two stretches of NaN: what reads beyond them shows."""
    result = np.full(size + 400, np.nan, dtype)
    result[200 : 200 + size] = numbers(size, dtype, seed)
    return result


def agree(function, y, *args):
    """`function` and its plain twin do the same to y (starting at 200, after a guard)."""
    twin = y.copy()
    function(y, 200, *args)
    function.plain(twin, 200, *args)
    np.testing.assert_allclose(y, twin, atol=1e-3 if y.dtype == np.float32 else 1e-11)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 21), st.integers(0, 140), st.integers(0, 30), st.integers(1, 30), st.booleans(), DTYPES)
def test_multiply_add(rows, n, terms, period, with_bias, dtype):
    random = np.random.default_rng(n)
    w_terms, x_terms = random.integers(0, 50, terms), random.integers(0, 90, terms)
    gap = random.integers(0, period) if with_bias else 0
    y, x, w = guarded(rows * 150, dtype), guarded(90 + n, dtype, 1), guarded(rows * 60 + 50, dtype, 2)
    bias = guarded(rows, dtype, 3) if with_bias else y[:0]
    agree(tiles.multiply_add, y, 150, rows, gap, period, w, 200, 60, w_terms, x, 200, x_terms, bias, 200, n)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(0, 13), st.integers(0, 4), st.integers(0, 70), DTYPES)
def test_dots(rows, count, lines, line, dtype):
    taps = np.append(np.random.default_rng(line).integers(0, 50, count), np.zeros(8, np.int64))
    g, x = guarded(rows * lines * line, dtype), guarded(50 + lines * 80, dtype, 1)
    width = simd.lanes(g.itemsize)
    sums = guarded(rows * count * width, dtype, 2)
    before = sums[200:-200].reshape(rows, count, width).sum(axis=2)
    tiles.dots(sums, 200, count * width, rows, g, 200, lines * line, x, 200, 80, taps, count, lines, line)
    got = sums[200:-200].reshape(rows, count, width).sum(axis=2) - before
    twin = np.zeros(rows * count, dtype)
    tiles.dots.plain(twin, 0, count, rows, g, 200, lines * line, x, 200, 80, taps, count, lines, line)
    np.testing.assert_allclose(got, twin.reshape(rows, count), atol=1e-3 if dtype == np.float32 else 1e-11)
    assert np.isnan(sums[:200]).all()
    assert np.isnan(sums[-200:]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(1, 4), st.integers(0, 230), st.booleans(), DTYPES)
def test_panel(rows, vectors, terms, repeated, dtype):
    random = np.random.default_rng(rows)
    width = vectors * simd.lanes(np.dtype(dtype).itemsize)
    w_rows = np.append(random.integers(0, 50, rows), np.zeros(simd.ROWS, np.int64))
    w, w_terms = guarded(150, dtype), random.integers(0, 100, terms)
    x, first = guarded(terms * 70 + 70, dtype, 1), guarded((rows + simd.ROWS) * 70, dtype, 2)
    y, twin = (guarded((rows + simd.ROWS) * 70, dtype, 3) for _ in range(2))
    first_step = 0 if repeated else 70
    tiles.panel(y, 200, 70, first, 200, first_step, rows, w, 200, w_rows, w_terms, x, 200, 70, vectors)
    tiles.panel.plain(twin, 200, 70, first, 200, first_step, rows, w, 200, w_rows, w_terms, x, 200, 70, width)
    got, wanted = (a[200 : 200 + rows * 70].reshape(rows, 70) for a in (y, twin))
    np.testing.assert_allclose(got, wanted, atol=1e-3 if dtype == np.float32 else 1e-11)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(1, 48), st.integers(0, 30), st.booleans(), st.booleans(), DTYPES)
def test_strip(rows, columns, terms, repeated, transposed, dtype):
    lanes = simd.lanes(np.dtype(dtype).itemsize)
    columns = min(columns, 3 * lanes)
    width, first_step = -(-columns // lanes) * lanes, 0 if repeated else columns
    w_step, w_term = (1, rows) if transposed else (terms, 1)
    x, w = guarded(terms * width, dtype, 1), guarded(rows * terms, dtype, 2)
    first = guarded(columns if repeated else rows * columns, dtype, 3)
    y = guarded(rows * 50, dtype)
    agree(
        tiles.strip,
        y,
        50,
        first,
        200,
        first_step,
        rows,
        w,
        200,
        w_step,
        w_term,
        x,
        200,
        width,
        terms,
        columns,
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9), st.integers(0, 48), st.integers(0, 48), DTYPES)
def test_pack_rows(rows, columns, width, dtype):
    width = min(width, 3 * simd.lanes(np.dtype(dtype).itemsize))
    columns = min(columns, width)
    agree(
        tiles.pack_rows,
        guarded(rows * width, dtype),
        guarded(rows * 60, dtype, 1),
        200,
        60,
        rows,
        columns,
        width,
    )


@settings(max_examples=40, deadline=None)
@given(st.data(), DTYPES)
def test_frame(data, dtype):
    triple = st.tuples(*[st.integers(1, 40)] * 3)
    sizes, grid, low = (data.draw(t) for t in (triple, triple, st.tuples(*[st.integers(-5, 5)] * 3)))
    to, source = (
        guarded(3 * grid[0] * grid[1] * grid[2], dtype),
        guarded(3 * sizes[0] * sizes[1] * sizes[2], dtype, 1),
    )
    agree(packing.frame, to, source, 200, 3, sizes, low, grid)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9), DTYPES)
def test_totals(rows, dtype):
    lanes = simd.lanes(np.dtype(dtype).itemsize)
    agree(tiles.totals, guarded(rows, dtype), guarded(rows * lanes, dtype, 1), 200, rows, lanes)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 200), st.integers(0, 199), st.sampled_from([1.0, np.inf, -np.inf, np.nan]), DTYPES)
def test_largest(count, place, odd, dtype):
    row = guarded(count, dtype)[200 : 200 + count]
    if place < count:
        row[place] = odd
    assert (
        lane_reductions.largest_of_row(row)
        == lane_reductions.largest_of_row.plain(row)
        == max((x for x in row if x == x), default=-np.inf)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 50), st.integers(0, 50), DTYPES)
def test_transpose(rows, columns, dtype):
    source, to = guarded(rows * 60, dtype), guarded(columns * 60, dtype, 1)
    agree(tiles.transpose, to, 60, source, 200, 60, rows, columns)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9), st.integers(1, 40), st.integers(1, 4), DTYPES)
def test_add_rows(rows, n, apart, dtype):
    to, source, places = guarded(4 * rows + n, dtype), guarded(rows * 60, dtype, 1), np.arange(5 + rows) * 2
    agree(tiles.add_rows, to, places - 10, 5, 2, source, 200, 60, rows, n, apart)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 70), st.integers(0, 70), st.integers(0, 70), DTYPES)
def test_pad(n, low, count, dtype):
    low, count = min(low, n), min(count, n - min(low, n))
    agree(tiles.pad, guarded(n, dtype), n, guarded(count, dtype, 1), 200, low, count)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("low", "count"), [(0, 2**32), (-(2**32), 2**33), (2**32, 5), (-(2**33), 2**32), (5, -(2**32))]
)
def test_bounds_far_outside_of_a_register(low, count, dtype):
    """They do not wrap around: all lanes are inside of them, or none."""
    y, source = guarded(16, dtype), guarded(16, dtype, 1)
    tiles.pad(y, 200, 16, source, 200 + low, low, count)
    np.testing.assert_array_equal(y[200:216], source[200:216] if low <= 0 and low + count >= 16 else 0)
    assert np.isnan(np.delete(y, np.s_[200:216])).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_negative_number_of_values_is_none(dtype):
    y = guarded(16, dtype)
    before = y.copy()
    for n in (-1, -(2**63)):
        tiles.copy(y, 200, 1, y, 0, 1, n)
        tiles.fill(y, 200, dtype(3), n)
        tiles.rectify(y, 200, n)
        tiles.add_strided(y, 200, 1, y, 201, 1, n)
    np.testing.assert_array_equal(y, before)


def test_nan_and_infinity_stay_in_their_columns():
    x, w, y = numbers(100, np.float32), numbers(8, np.float32), np.zeros(800, np.float32)
    x[3], x[99] = np.inf, np.nan
    tiles.multiply_add(
        y, 0, 100, 8, 0, 100, w, 0, 1, np.zeros(1, np.int64), x, 0, np.zeros(1, np.int64), y[:0], 0, 100
    )
    assert (np.isfinite(y.reshape(8, 100)) == np.isfinite(x)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("step", "pad"), [(1, 1), (2, 0), (2, 1)])
def test_winners(dtype, step, pad):
    """The first of equals, the last NaN, and -inf where there is nothing else."""
    x = np.random.default_rng(0).integers(0, 4, (3, 2, 7, 37)).astype(dtype)
    x[0, 0, ::3, ::5], x[1] = np.nan, -np.inf
    window = Window.pool("pool", x.shape, 3 if pad else 2, step, pad)
    for got, expected in zip(
        pool.max_forward(x, window), pool.max_forward.implementations["reference"](x, window), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_without_registers(monkeypatch):
    """Where tiles fail the trial (test_another_numba.py), the plain twin is compiled in the place of each."""
    monkeypatch.setattr(internals, "_lost", {"tiles"})
    simd.lanes.cache_clear()
    try:
        assert simd.lanes(4) == 1
        assert simd.vectorized(lambda x: x + 1)(lambda x: x + 2)(1) == 2
    finally:
        simd.lanes.cache_clear()
