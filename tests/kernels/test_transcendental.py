"""exp, log, tanh and powers of kernels against NumPy's in extended precision, and at the
edges of the number range.
"""

import numpy as np
import pytest
from tinydl_kernels import elementwise
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


# ---- Powers

POWERS = {np.float32: 0.51, np.float64: 1.2}
"""Units in the last place; float64 keeps within 1 where a multiply-add is rounded once."""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_in_the_last_place_of_powers(dtype):
    if np.finfo(np.longdouble).nmant <= 52 and dtype == np.float64:
        pytest.skip("this platform has no wider type to compare with")
    random, n, info = np.random.default_rng(0), 100000, np.finfo(dtype)
    wide = random.uniform(info.minexp + 2, info.maxexp - 2, n) * 0.7
    bases = [
        random.uniform(0.1, 3, n),
        1 + 1e-3 * random.standard_normal(n),
        2**wide,
        2**wide,
        2.0 ** -abs(wide),
    ]
    exponents = [random.uniform(-3, 3, n), random.uniform(-1e4, 1e4, n), random.uniform(-1.7, 1.7, n)]
    exponents += [random.integers(-1, 2, n), np.full(n, 0.1)]
    bases.append(info.smallest_subnormal * random.integers(1, 1000, n))
    exponents.append(random.uniform(-0.8, 0.8, n))
    a, b = np.concatenate(bases).astype(dtype), np.concatenate(exponents).astype(dtype)
    y = elementwise.pow(a, b)
    with np.errstate(all="ignore"):
        exact = a.astype(np.longdouble) ** b.astype(np.longdouble)
        kept = (exact >= info.tiny) & (exact < info.max)
        units = abs(y - exact) / np.spacing(exact.astype(dtype))
    assert kept.mean() > 0.6
    assert units[kept].max() < POWERS[dtype]
    subnormal = exact < info.tiny
    assert subnormal.any()
    assert units[subnormal].max() < POWERS[dtype]
    np.testing.assert_array_equal(y[exact > np.longdouble(info.max) * (1 + info.eps)], np.inf)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_edges_of_powers(dtype):
    """Zeros with their signs, infinities, NaN, negative bases, whole, odd, huge and tiny exponents; and the
    same bits wherever a number stands.
    """
    info = np.finfo(dtype)
    numbers = [*EDGES, 0.5, 2, 3, 2.5, 1 + info.eps, 1 - info.epsneg, info.max, info.tiny, 4503599627370497]
    numbers += [9007199254740991, 16777215, 8388607.5, 2**62, 1e19, 1e25, 1075, 150, 1 / 3, 7]
    with np.errstate(all="ignore"):
        x = np.array(numbers).astype(dtype)
        x = np.concatenate([x, -x])
        a, b = x.repeat(x.size), np.tile(x, x.size)
        expected = a**b
        expected[(a == -np.inf) & (b == 0.5)] = np.inf  # NumPy takes the square root
    y = elementwise.pow(a, b)
    np.testing.assert_allclose(y, expected, rtol=4 * info.eps, atol=2 * float(info.smallest_subnormal))
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(y[known]), np.signbit(expected[known]))
    for p in range(0, a.size, 7):
        assert elementwise.pow(a[p : p + 1], b[p : p + 1]).tobytes() == y[p : p + 1].tobytes()


def test_whole_powers_are_exact():
    for dtype, top in ((np.float32, 2.0**24), (np.float64, 2.0**53)):
        a, b = (x.reshape(-1).astype(dtype) for x in np.meshgrid(np.arange(-40, 41), np.arange(1, 12)))
        exact = np.array([int(x) ** int(k) for x, k in zip(a, b, strict=True)])
        kept = abs(exact) <= top
        np.testing.assert_array_equal(elementwise.pow(a, b)[kept], exact[kept].astype(dtype))
