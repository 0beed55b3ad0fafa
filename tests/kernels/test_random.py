"""Random numbers: known answers of Philox, the same bits on every backend, and distributions
that are what they claim to be.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tinydl_kernels import random as kernels
from tinydl_kernels import rejection
from tinydl_kernels.cuda import launching
from tinydl_kernels.machine import dispatch, memory
from tinydl_kernels.machine.errors import DtypeError, ShapeError

KEY, START = np.array([0x0123456789ABCDEF, 7], np.uint64), np.array([3], np.uint64)
BACKENDS = ["reference", "cpu"]
SHAPES = [(), (0,), (2, 0), (1,), (2,), (3,), (4,), (1, 5, 1), (7, 11), (4 * kernels.GRAIN + 3,)]


def threes(shape, dtype, like):
    return memory.array_module(like).full(shape, 3, dtype)


DRAWS = {
    "integers": lambda key, start, shape: kernels.integers(key, start, shape),
    "randint": lambda key, start, shape: kernels.randint(key, start, shape, -7, 2**62),
    "uniform float32": lambda key, start, shape: kernels.uniform(key, start, shape, np.float32),
    "uniform float64": lambda key, start, shape: kernels.uniform(key, start, shape, np.float64),
    "normal float32": lambda key, start, shape: kernels.normal(key, start, shape, np.float32),
    "normal float64": lambda key, start, shape: kernels.normal(key, start, shape, np.float64),
    "beta, both below 1": lambda key, start, shape: rejection.beta(key, start, shape, np.float64, 0.2, 0.7),
    "beta, both above 1": lambda key, start, shape: rejection.beta(key, start, shape, np.float32, 5.0, 2.0),
    "beta, one above 1": lambda key, start, shape: rejection.beta(key, start, shape, np.float64, 0.3, 4.0),
    "gamma below 1": lambda key, start, shape: rejection.gamma(key, start, shape, np.float64, 0.3),
    "gamma above 1": lambda key, start, shape: rejection.gamma(key, start, shape, np.float32, 2.5),
    "bernoulli": lambda key, start, shape: kernels.bernoulli(key, start, shape, 0.3),
    "dropout float32": lambda key, start, shape: kernels.dropout(
        threes(shape, np.float32, key), key, start, 0.3
    ),
    "dropout float64": lambda key, start, shape: kernels.dropout(
        threes(shape, np.float64, key), key, start, 0.3
    ),
}


def array(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


@pytest.fixture(params=BACKENDS)
def each_backend(request):
    with dispatch.use(request.param):
        yield


# ---- Philox


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # Random123, kat_vectors, philox4x32 10
        ([0x00000000] * 4, [0x00000000] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers(each_backend, counter, key, words):
    seed, start, stream = (low | high << 32 for low, high in (key, counter[:2], counter[2:]))
    result = kernels.integers(array(seed, stream), array(start), (4,))
    assert result.dtype == np.uint32
    assert result.tolist() == words


@pytest.mark.parametrize("start", [2**32 - 2, 2**64 - 2])
def test_counters_carry_into_the_upper_word_and_wrap(each_backend, start):
    words = kernels.integers(KEY, array(start), (16,)).reshape(4, 4)
    for b in range(4):
        np.testing.assert_array_equal(words[b], kernels.integers(KEY, array((start + b) % 2**64), (4,)))
    assert len({tuple(block) for block in words.tolist()}) == 4


def test_any_bit_of_key_and_counter_gives_other_numbers():
    draws = {tuple(kernels.integers(KEY, START, (4,)))}
    for bit in range(64):
        flip = np.uint64(1 << bit)
        draws |= {tuple(kernels.integers(KEY ^ array(flip, 0), START, (4,)))}
        draws |= {tuple(kernels.integers(KEY ^ array(0, flip), START, (4,)))}
        draws |= {tuple(kernels.integers(KEY, START ^ flip, (4,)))}
    assert len(draws) == 1 + 3 * 64


def test_streams_do_not_overlap():
    one, two = (kernels.integers(array(5, stream), START, (4096,)) for stream in (0, 1))
    blocks = {tuple(block) for words in (one, two) for block in words.reshape(-1, 4).tolist()}
    assert len(blocks) == 2048


# ---- The backends


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_numba_gives_the_bits_of_the_reference(draw, shape):
    with dispatch.use("reference"):
        expected = DRAWS[draw](KEY, START, shape)
    result = DRAWS[draw](KEY, START, shape)
    assert result.dtype == expected.dtype
    assert result.shape == shape
    np.testing.assert_array_equal(result, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not launching.is_available(), reason="no GPU that CuPy can use")
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_gpu_gives_the_bits_of_the_reference(draw, shape):
    import cupy  # optional package

    with dispatch.use("reference"):
        expected = DRAWS[draw](KEY, START, shape)
    result = DRAWS[draw](cupy.asarray(KEY), cupy.asarray(START), shape)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.get(), expected)


@pytest.mark.parametrize("draw", DRAWS)
def test_a_draw_is_a_slice_of_the_stream(each_backend, draw):
    """So any part can be made alone, and what `blocks` says is all that a draw takes."""
    whole = DRAWS[draw](KEY, START, (32,))
    used = kernels.blocks((8,), whole.dtype if "dropout" not in draw else bool)
    if draw.startswith(("beta", "gamma")):
        used = rejection.blocks((8,))
    np.testing.assert_array_equal(DRAWS[draw](KEY, START + np.uint64(used), (8,)), whole[8:16])


@pytest.mark.parametrize("draw", DRAWS)
def test_results_are_the_planned_buffers(each_backend, draw):
    planned = []

    def source(shape, dtype, like):
        planned.append(memory.fresh(shape, dtype, like))
        return planned[-1]

    with memory.supplied_by(source):
        result = DRAWS[draw](KEY, START, (3, 5))
    assert any(result is buffer for buffer in planned)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((), np.float32, 1),
        ((0, 3), "f4", 0),
        ((4,), np.uint32, 1),
        ((5,), bool, 2),
        ((5,), "f8", 3),
        ((2, 3), np.int64, 3),
    ],
)
def test_blocks(shape, dtype, expected):
    assert kernels.blocks(shape, dtype) == expected


def test_reserve(each_backend):
    counter = array(2**64 - 2)
    before = kernels.reserve(counter, 5)
    assert before.tolist() == [2**64 - 2]
    assert counter.tolist() == [3]
    assert before is not counter


# ---- Distributions

N = 200_000


def test_uniform_is_the_top_bits(each_backend):
    words = kernels.integers(KEY, START, (N,)).astype(np.uint64)
    u = kernels.uniform(KEY, START, (N,), np.float32)
    np.testing.assert_array_equal(u.astype(np.float64) * 2**24, words >> 8)
    d = kernels.uniform(KEY, START, (N // 2,), np.float64)
    np.testing.assert_array_equal(d * 2**53, (words[0::2] | words[1::2] << np.uint64(32)) >> 11)
    assert stats.kstest(d, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(d[:-1], d[1:])[0, 1]) < 5 / np.sqrt(d.size)


def test_normal_is_box_and_muller(each_backend):
    """Against NumPy's logarithm, sine and cosine."""
    bits = kernels.integers(KEY, START, (N,)).view(np.uint64).reshape(-1, 2)
    u, angle = ((bits[:, 0] >> np.uint64(11)) + 1.0) * 2.0**-53, bits[:, 1] * (2 * np.pi * 2.0**-64)
    radius = np.sqrt(-2 * np.log(u))
    z = kernels.normal(KEY, START, (N // 2,), np.float64)
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(-1)
    np.testing.assert_allclose(z, expected, rtol=1e-14, atol=1e-14)

    words = kernels.integers(KEY, START, (N,)).reshape(-1, 2).astype(np.float64)
    radius, angle = np.sqrt(-2 * np.log((words[:, 0] + 1) * 2.0**-32)), words[:, 1] * (2 * np.pi * 2.0**-32)
    z = kernels.normal(KEY, START, (N,), np.float32)
    assert z.dtype == np.float32
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(-1)
    np.testing.assert_allclose(z, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_numbers_are_normal(dtype):
    z = kernels.normal(KEY, START, (N,), dtype).astype(np.float64)
    assert abs(z.mean()) < 5 / np.sqrt(N)
    assert abs(z.var() - 1) < 5 * np.sqrt(2 / N)
    assert abs((z**4).mean() - 3) < 5 * np.sqrt(96 / N)
    assert abs(np.corrcoef(z[0::2], z[1::2])[0, 1]) < 5 / np.sqrt(N / 2)  # the two of a pair
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_box_muller_at_the_ends_of_its_domain():
    """The smallest and largest u, and angles on and beside the axes."""
    u = np.array([2.0**-53, 2.0**-32, 0.5, 1 - 2.0**-53, 1.0])
    turns = [quarter * 2**62 + offset for quarter in range(4) for offset in (0, 1, 2**61 - 1, 2**61)]
    u, turn = (grid.reshape(-1) for grid in np.meshgrid(u, np.array(turns, np.uint64)))
    x, y = kernels._box_muller(u, turn)
    radius, angle = np.sqrt(-2 * np.log(u)), turn * (2 * np.pi * 2.0**-64)
    np.testing.assert_allclose(x, radius * np.cos(angle), rtol=0, atol=1e-14)
    np.testing.assert_allclose(y, radius * np.sin(angle), rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.hypot(x, y), radius, rtol=1e-15)


def test_log_and_exp_are_to_the_last_bits():
    u = np.concatenate([np.geomspace(1e-300, 1e300, 10001), 1 + np.linspace(-1e-3, 1e-3, 101)])
    np.testing.assert_allclose(kernels._log(u), np.log(u), rtol=1e-15, atol=1e-18)
    x = np.linspace(-700, 700, 10001)
    np.testing.assert_allclose(rejection._exp(x), np.exp(x), rtol=1e-15)
    np.testing.assert_array_equal(
        rejection._exp(np.array([-1e5, 1e5])), rejection._exp(np.array([-700.0, 700.0]))
    )
    assert rejection._open_unit(np.array([0, 2**64 - 1], np.uint64)).tolist() == [2.0**-53, 1 - 2.0**-53]


@pytest.mark.parametrize(
    ("a", "b"),
    [(0.2, 0.2), (0.1, 0.9), (1.0, 1.0), (1.0, 0.3), (0.4, 6.0), (6.0, 0.4), (2.0, 2.0), (9, 1.5), (1.5, 9)],
)
def test_beta_numbers_are_beta(a, b):
    x = rejection.beta(KEY, START, (N,), np.float64, a, b)
    assert stats.kstest(x, stats.beta(a, b).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / np.sqrt(N)
    assert abs(x.var() - stats.beta(a, b).var()) < 5 * x.std() * x.std() * 3 / np.sqrt(N)


def test_small_beta_numbers_keep_their_digits():
    """As what is left of 1 they would end at 1e-16."""
    x = rejection.beta(KEY, START, (N,), np.float64, 0.05, 3.0)
    assert stats.kstest(x, stats.beta(0.05, 3.0).cdf).pvalue > 1e-3
    assert 0 < x.min() < 1e-60


def test_beta_of_tiny_parameters_is_a_coin():
    x = rejection.beta(KEY, START, (N,), np.float64, 1e-4, 3e-4)
    assert np.isfinite(x).all()
    assert abs(x.mean() - 0.25) < 5 * np.sqrt(3 / 16 / N)
    assert ((x < 1e-6) | (x > 1 - 1e-6)).mean() > 0.99


@pytest.mark.parametrize("a", [0.05, 0.5, 0.99, 1.0, 1.3, 4.0, 300.0])
def test_gamma_numbers_are_gamma(a):
    x = rejection.gamma(KEY, START, (N,), np.float64, a)
    assert stats.kstest(x, stats.gamma(a).cdf).pvalue > 1e-3
    assert abs(x.mean() - a) < 5 * np.sqrt(a / N)
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / np.sqrt(N)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 4), (0, 10**6), (-(2**63), 2**63 - 1), (2**63 - 2, 2**63 - 1), (-5, 2**33)]
)
def test_randint_is_a_fraction_of_the_range(each_backend, low, high):
    values = kernels.randint(KEY, START, (200,), low, high)
    bits = kernels.integers(KEY, START, (400,)).view(np.uint64)
    assert values.dtype == np.int64
    assert values.tolist() == [low + (int(b) * (high - low) >> 64) for b in bits]


def test_randint_is_uniform():
    counts = np.bincount(kernels.randint(KEY, START, (N,), 0, 10), minlength=10)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("p", [0.0, 2.0**-32, 0.25, 0.7, 1 - 2.0**-32, 1.0])
def test_bernoulli_compares_words(each_backend, p):
    mask = kernels.bernoulli(KEY, START, (N,), p)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, kernels.integers(KEY, START, (N,)) < p * 2**32)
    assert abs(mask.mean() - p) <= 5 * np.sqrt(p * (1 - p) / N)


# ---- Dropout


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
def test_dropout_masks_and_scales(each_backend, dtype, p):
    x = kernels.normal(array(1, 2), START, (1001,), dtype)
    keep = kernels.bernoulli(KEY, START, x.shape, 1 - p)
    y = kernels.dropout(x, KEY, START, p)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.where(keep, x * dtype(1 / (1 - p) if p < 1 else 0), 0))
    assert p > 0 or np.array_equal(y, x)


def test_dropped_elements_are_zero_whatever_they_were(each_backend):
    x = np.array([np.nan, np.inf, -np.inf, 1] * 50)
    keep = kernels.bernoulli(KEY, START, x.shape, 0.5)
    y = kernels.dropout(x, KEY, START, 0.5)
    np.testing.assert_array_equal(y, np.where(keep, 2 * x, 0))
    np.testing.assert_array_equal(kernels.dropout(x, KEY, START, 1.0), 0)


# ---- Errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: kernels.integers(KEY[:1], START, (2,)),
            ShapeError,
            r"expected key of shape \(2,\), got \(1,\)",
        ),
        (lambda: kernels.integers(KEY, KEY, (2,)), ShapeError, r"expected start of shape \(1,\), got \(2,\)"),
        (
            lambda: kernels.integers(KEY.astype(np.int64), START, (2,)),
            DtypeError,
            "expected key of dtype uint64, got int64",
        ),
        (
            lambda: kernels.uniform(KEY, START, (2,), np.float16),
            DtypeError,
            "uniform: expected float32 or float64, got f",
        ),
        (
            lambda: kernels.normal(KEY, START, (2,), np.int64),
            DtypeError,
            "normal: expected float32 or float64, got int64",
        ),
        (
            lambda: kernels.dropout(np.ones(3, np.int64), KEY, START, 0.5),
            DtypeError,
            "dropout: expected float32 or float64",
        ),
        (
            lambda: kernels.bernoulli(KEY, START, (2,), 1.5),
            ValueError,
            "bernoulli: expected a probability, 0 <= p <= 1, got 1",
        ),
        (lambda: kernels.bernoulli(KEY, START, (2,), float("nan")), ValueError, "got nan"),
        (
            lambda: rejection.beta(KEY, START, (2,), np.float64, 0.0, 1.0),
            ValueError,
            "beta: expected finite parameters above 0, got 0.0, 1.0",
        ),
        (
            lambda: rejection.beta(KEY, START, (2,), np.int64, 1.0, 1.0),
            DtypeError,
            "beta: expected float32 or",
        ),
        (
            lambda: rejection.gamma(KEY, START, (2,), np.float64, float("inf")),
            ValueError,
            "gamma: expected finite parameters above 0, got inf",
        ),
        (
            lambda: kernels.dropout(np.ones(3), KEY, START, -0.5),
            ValueError,
            "dropout: expected a probability, .*got -0.5",
        ),
        (
            lambda: kernels.randint(KEY, START, (2,), 3, 3),
            ValueError,
            r"expected low < high, both int64, got \[3, 3\)",
        ),
        (lambda: kernels.randint(KEY, START, (2,), 0, 2**63), ValueError, "both int64"),
    ],
)
def test_errors(each_backend, call, error, message):
    with pytest.raises(error, match=message):
        call()
