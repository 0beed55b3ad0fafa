"""exp, log and tanh of kernels against NumPy's in extended precision, and at the
edges of the number range.
"""

import numpy as np
import pytest
from tinydl_kernels.cpu import transcendental
from tinydl_kernels.cpu.compiler import kernel

EDGES = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1e-40,
    -1e-40,
    1e-310,
    5e-324,
    1.0,
    -1.0,
    88.8,
    -88.0,
    -104.0,
    709.9,
    -745.2,
    1e300,
    -1e300,
]
SINGLE = {"exp": (-87, 88), "log": (1e-37, 1e3), "tanh": (-12, 12)}
DOUBLE = {"exp": (-708, 709), "log": (1e-300, 1e3), "tanh": (-25, 25)}
ULPS = {"exp": 1.5, "log": 1.5, "tanh": 3}


def over(name):
    function = getattr(transcendental, name)

    def loop(x, y):
        for k in range(x.size):
            y[k] = function(x[k])

    loop.__name__ = loop.__qualname__ = f"{name}_over"
    return kernel(loop)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["exp", "log", "tanh"])
def test_units_in_the_last_place(name, dtype):
    if np.finfo(np.longdouble).nmant <= 52 and dtype == np.float64:
        pytest.skip("this platform has no wider type to compare with")
    low, high = (SINGLE if dtype == np.float32 else DOUBLE)[name]
    random = np.random.default_rng(0)
    near_one = 1 + 0.01 * random.standard_normal(10000)
    x = np.concatenate(
        [random.uniform(low, high, 100000), random.uniform(max(low, -1), 1, 100000), near_one]
    ).astype(dtype)
    y = np.empty_like(x)
    over(name)(x, y)
    exact = getattr(np, name)(x.astype(np.longdouble))
    assert (abs(y - exact) / np.spacing(abs(exact).astype(dtype))).max() < ULPS[name]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["exp", "log", "tanh"])
def test_edges(name, dtype):
    with np.errstate(all="ignore"):
        x = np.array(EDGES).astype(dtype)
        expected = getattr(np, name)(x)
    y = np.empty_like(x)
    over(name)(x, y)
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(np.signbit(y[~np.isnan(y)]), np.signbit(expected[~np.isnan(y)]))


def test_integers_are_taken_as_float64():
    y = np.empty(3)
    over("exp")(np.arange(3), y)
    np.testing.assert_allclose(y, np.exp([0, 1, 2]), rtol=1e-15)
