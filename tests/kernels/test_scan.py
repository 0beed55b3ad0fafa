"""Running sums and products and the linear recurrence: every backend against the
reference, and against plain loops.
"""

import numpy as np
import pytest
from dtypes import either_width
from tinydl_kernels import scan
from tinydl_kernels.machine.validate import agree

SHAPES = [
    ((5,), 0),
    ((3, 4), 0),
    ((3, 4), 1),
    ((2, 3, 200), 1),
    ((2, 3, 1), 1),
    ((300, 7, 40), 1),
    ((0, 3), 0),
    ((3, 0), 0),
    ((1, 1), 0),
]


@either_width
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_every_backend(shape, dim, dtype):
    random = np.random.default_rng(0)
    x, a = random.uniform(0.5, 1.2, (2, *shape)).astype(dtype)
    for reverse in (False, True):
        summed = agree(scan.cumsum, x, dim, reverse)
        back = slice(None, None, -1 if reverse else None)
        along = (slice(None),) * dim + (back,)
        np.testing.assert_allclose(summed[along], np.cumsum(x[along], dim, np.float64), rtol=1e-6)
        y = np.moveaxis(agree(scan.recurrence, a, x, dim, reverse), dim, 0)[back]
        b, c = np.moveaxis(x, dim, 0)[back], np.moveaxis(a, dim, 0)[back]
        for k in range(1, len(y)):
            np.testing.assert_allclose(y[k], c[k] * y[k - 1] + b[k], rtol=1e-5)
    np.testing.assert_allclose(agree(scan.cumprod, x, dim), np.cumprod(x, dim, np.float64), rtol=1e-5)


def test_integers_and_booleans_give_int64():
    for x in (np.array([[True, False, True]]), np.array([[3, -1, 2]], np.int32)):
        assert agree(scan.cumsum, x, 1, False).dtype == np.int64
        assert agree(scan.cumprod, x, 1).dtype == np.int64


def test_what_is_not_finite_propagates():
    x = np.array([1.0, np.inf, 2.0, np.nan, 3.0])
    agree(scan.cumsum, x, 0, False)
    agree(scan.cumprod, x, 0)
    agree(scan.recurrence, x, x[::-1].copy(), 0, True)
