"""Images along maps, smoothed planes, and random numbers of samples: Numba against the reference, SciPy as
oracle, known answers, the same bits for any cut of the batch.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats
from tinydl_kernels import per_sample, random, smooth, warp
from tinydl_kernels.cpu import threads
from tinydl_kernels.machine.dispatch import use
from tinydl_kernels.machine.errors import BackendError, DtypeError, ShapeError
from tinydl_kernels.machine.validate import agree

BORDERS = {warp.CONSTANT: "grid-constant", warp.EDGE: "nearest", warp.REFLECT: "mirror"}
DTYPES = (np.uint8, np.float32)


def images(shape=(4, 2, 9, 7), dtype=np.float32, seed=0):
    x = np.random.default_rng(seed).integers(0, 256, shape)
    return x.astype(dtype)


def matrices(N, projective=False, seed=1):
    generator = np.random.default_rng(seed)
    found = np.tile(np.eye(3), (N, 1, 1)) + generator.uniform(-0.4, 0.4, (N, 3, 3))
    found[:, :2, 2] = generator.uniform(-5, 5, (N, 2))
    found[:, 2] = (0, 0, 1)
    if projective:
        found[:, 2, :2] = generator.uniform(-0.05, 0.05, (N, 2))
    return found


def field(N, size, seed=2):
    return np.random.default_rng(seed).uniform(-3, 3, (N, 2, *size)).astype(np.float32)


def by_scipy(x, maps, bend, size, order, mode, fill):
    row, column = np.mgrid[: size[0], : size[1]].astype(np.float64)
    found = np.empty((*x.shape[:2], *size))
    for n, m in enumerate(maps):
        u, v = (column, row) if bend is None else (column + bend[n, 0], row + bend[n, 1])
        w = m[2, 0] * u + m[2, 1] * v + m[2, 2]
        s, t = ((m[k, 0] * u + m[k, 1] * v + m[k, 2]) / w for k in range(2))
        for c in range(x.shape[1]):
            plane = x[n, c].astype(np.float64)
            found[n, c] = ndimage.map_coordinates(plane, [t, s], order=order, mode=mode, cval=fill)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("bent", [False, True])
@pytest.mark.parametrize("projective", [False, True])
def test_warp_is_the_reference_and_scipys(dtype, border, bent, projective):
    x, size = images(dtype=dtype), (6, 8)
    maps, bend = matrices(4, projective), field(4, size) if bent else None
    y = agree(warp.warp, x, maps, bend, size, True, border, 3, tolerance=0)
    expected = by_scipy(x, maps, bend, size, 1, BORDERS[border], 3)
    np.testing.assert_allclose(y, expected, atol=0.5001 if dtype == np.uint8 else 2e-3)
    nearest = agree(warp.warp, x, maps, bend, size, False, border, 3, tolerance=0)
    np.testing.assert_array_equal(nearest, by_scipy(x, maps, bend, size, 0, BORDERS[border], 3))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int32, np.int64, np.float64])
def test_nearest_takes_any_labels(dtype):
    x = images(dtype=dtype)
    y = agree(warp.warp, x, matrices(4), None, (9, 7), False, warp.CONSTANT, 1, tolerance=0)
    assert set(np.unique(y)) <= {*np.unique(x), 1}


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1)])
@pytest.mark.parametrize("border", BORDERS)
def test_images_of_one_row_or_pixel(size, border):
    x = images((3, 1, *size))
    y = agree(warp.warp, x, matrices(3), None, (4, 5), True, border, 0, tolerance=0)
    expected = by_scipy(x, matrices(3), None, (4, 5), 1, BORDERS[border], 0)
    np.testing.assert_allclose(y, expected, atol=2e-3)


def test_the_identity_copies_every_bit():
    x = images()
    x[0, 0, 0, :4] = np.nan, np.inf, -np.inf, -0.0
    y = warp.warp(x, np.tile(np.eye(3), (4, 1, 1)), None, (9, 7), True, warp.CONSTANT, 0)
    assert y.tobytes() == x.tobytes()


def test_a_place_that_is_nowhere_is_outside():
    maps = np.zeros((1, 3, 3))  # 0 / 0 at every pixel
    y = agree(warp.warp, images((1, 1, 3, 3)), maps, None, (3, 3), True, warp.CONSTANT, 7, tolerance=0)
    np.testing.assert_array_equal(y, 7)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_places_that_are_no_numbers_or_far_away(border, bilinear, value):
    x, bend = images((2, 1, 5, 6)), field(2, (5, 6))
    bend[0, 0, 2], bend[1, 1, :, 3] = np.float32(min(value, 3e38)), np.float32(min(value, 3e38))
    with np.errstate(invalid="ignore"):
        y = agree(warp.warp, x, matrices(2), bend, (5, 6), bilinear, border, 7, tolerance=0)
    assert np.isfinite(y).all()


def test_no_samples():
    x = np.empty((0, 1, 3, 3), np.float32)
    assert agree(warp.warp, x, np.empty((0, 3, 3)), None, (2, 2), True, warp.EDGE, 0).shape == (0, 1, 2, 2)
    nothing = agree(warp.warp, images((1, 1, 3, 3)), matrices(1), None, (2, 0), True, warp.EDGE, 0)
    assert nothing.shape == (1, 1, 2, 0)
    assert agree(smooth.smooth, x, np.ones((0, 3), np.float32), warp.EDGE).shape == x.shape
    assert agree(per_sample.uniform, np.empty(0, np.uint64), KEY, 3, np.float32).shape == (0, 3)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", [(3, 2, 9, 7), (1, 1, 5, 6), (2, 1, 70, 45), (1, 1, 2, 3)])
@pytest.mark.parametrize("taps", [1, 3, 9, 13])
def test_smooth_is_the_reference_and_scipys(border, shape, taps):
    x = images(shape)
    weights = np.random.default_rng(3).uniform(0, 2 / taps, (shape[0], taps)).astype(np.float32)
    y = agree(smooth.smooth, x, weights, border, tolerance=1e-4)
    for n, row in enumerate(weights.astype(np.float64)):
        along = ndimage.correlate1d(x[n].astype(np.float64), row, 1, mode=BORDERS[border])
        expected = ndimage.correlate1d(along, row, 2, mode=BORDERS[border])
        np.testing.assert_allclose(y[n], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("size", "taps"), [((28, 28), 25), ((5, 3), 9), ((1, 40), 3)])
def test_displacements_are_smoothed_uniform_numbers(size, taps):
    weights = np.random.default_rng(3).uniform(0, 2 / taps, taps).astype(np.float32)
    y = agree(smooth.displacements, INDEX, KEY, 34.0, weights, size, tolerance=1e-4)
    noise = 34.0 * (2 * per_sample.uniform(INDEX, KEY, 2 * size[0] * size[1], np.float32) - 1)
    planes = noise.reshape(-1, 2, *size).astype(np.float64)
    for axis in (2, 3):
        planes = ndimage.correlate1d(planes, weights.astype(np.float64), axis, mode="grid-constant")
    np.testing.assert_allclose(y, planes, rtol=1e-4, atol=1e-3)


KEY = np.array([0x0123456789ABCDEF, 7], np.uint64)
INDEX = np.array([5, 0, 2**32 - 1, 77], np.uint64)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 17])
def test_numbers_of_samples_are_blocks_of_the_generator(size):
    """Row n is the draw of random.py from block index[n] · 2^32 on: the same Philox, other counters."""
    for dtype in (np.float32, np.float64):
        y = agree(per_sample.uniform, INDEX, KEY, size, dtype, tolerance=0)
        for row, number in zip(y, INDEX, strict=True):
            start = np.array([number << np.uint64(32)], np.uint64)
            np.testing.assert_array_equal(row, random.uniform(KEY, start, (size,), dtype))
    y = agree(per_sample.normal, INDEX, KEY, size, tolerance=0)
    for row, number in zip(y, INDEX, strict=True):
        start = np.array([number << np.uint64(32)], np.uint64)
        np.testing.assert_array_equal(row, random.normal(KEY, start, (size,), np.float32))


def test_numbers_of_neighbours_are_independent():
    index = np.arange(4000, dtype=np.uint64)
    y = per_sample.uniform(index, KEY, 4, np.float64)
    assert stats.kstest(y.reshape(-1), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(np.hstack([y[:-1], y[1:]]).T) - np.eye(8)).max() < 0.06
    assert stats.kstest(per_sample.normal(index, KEY, 4).reshape(-1), "norm").pvalue > 1e-3


def test_same_bits_for_any_cut_of_the_batch_and_any_threads():
    x, maps, index = images((40, 1, 28, 28)), matrices(40), np.arange(40, dtype=np.uint64)
    bend = field(40, (28, 28))
    weights = np.full((40, 7), 1 / 7, np.float32)

    def made(rows):
        bent = warp.warp(x[rows], maps[rows], bend[rows], (28, 28), True, warp.REFLECT, 0)
        numbers = per_sample.uniform(index[rows], KEY, 100, np.float32)
        bends = smooth.displacements(index[rows], KEY, 8.0, weights[0], (28, 28))
        return bent, smooth.smooth(x[rows], weights[rows], warp.REFLECT), bends, numbers

    before, whole = threads.get_num_threads(), made(slice(None))
    for count in (1, 3):
        threads.set_num_threads(count)
        try:
            for part in (slice(0, 1), slice(17, 31), slice(39, None, -1)):
                for a, b in zip(made(part), whole, strict=True):
                    np.testing.assert_array_equal(a, b[part])
        finally:
            threads.set_num_threads(before)


def test_wrong_keys_are_refused():
    with pytest.raises(DtypeError, match="per_sample: expected index of dtype uint64, got int64"):
        per_sample.uniform(np.arange(3), KEY, 1, np.float32)
    with pytest.raises(ShapeError, match=r"per_sample: expected key of shape \(2,\), got \(3,\)"):
        per_sample.normal(INDEX, np.zeros(3, np.uint64), 1)
    with pytest.raises(ShapeError, match="per_sample: expected index of shape"):
        per_sample.normal(INDEX[None], KEY, 1)


@pytest.mark.parametrize(
    "op", [warp.warp, smooth.smooth, smooth.displacements, per_sample.uniform, per_sample.normal]
)
def test_there_are_no_cuda_kernels_and_none_is_claimed(op):
    with use("cuda-emulated"), pytest.raises(BackendError, match="no implementation on backend"):
        op(images())
