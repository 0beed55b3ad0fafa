"""Elementwise kernels: every operation against its reference on every kind of operand."""

import itertools
import warnings

import numpy as np
import pytest
from dtypes import either_width
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from tinydl_kernels import elementwise
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.validate import agree

UNARY = [
    *("neg", "abs", "sign", "sqrt", "exp", "log", "tanh"),
    *("sigmoid", "relu", "isfinite", "logical_not", "copy"),
]
BINARY = [
    *("add", "sub", "mul", "div", "pow", "maximum", "minimum", "gate", "weighted"),
    *("floor_divide", "remainder", "fmod"),
    *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or"),
]
SPECIAL = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.0,
    3.0,
    1e-30,
    -1e-30,
    80.0,
    -80.0,
    1e4,
    -1e4,
]


def cases(names, each_width):
    """Every operation in float64, those with code of their own for each width in
    float32 too; all in the full run.
    """
    single = [
        pytest.param(name, np.float32, marks=[pytest.mark.full] * (name not in each_width)) for name in names
    ]
    return [(name, np.float64) for name in names] + single


def operand(random, shape, kind, dtype):
    """An array of `shape` whose strides are of some kind; values repeat, so that comparisons meet equals."""

    def draw(shape):
        return random.integers(-3, 4, shape).astype(dtype)

    if kind == "permuted":
        return draw(shape[::-1]).T
    if kind == "sliced" and shape:
        return draw((*shape[:-1], 2 * shape[-1] + 1))[..., 1::2]
    if kind == "flipped" and shape:
        return draw(shape)[(slice(None, None, -1),) * len(shape)]
    if kind == "expanded" and shape:
        return np.broadcast_to(draw((*shape[:-1], 1)), shape)
    return draw(shape)


KINDS = st.sampled_from(["contiguous", "permuted", "sliced", "flipped", "expanded"])


@st.composite
def operands(draw, count, dtype=np.float64):
    shapes = draw(
        mutually_broadcastable_shapes(num_shapes=count, max_dims=5, max_side=4, min_side=0)
    ).input_shapes
    random = np.random.default_rng(draw(st.integers(0, 99)))
    return [operand(random, shape, draw(KINDS), dtype) for shape in shapes]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_broadcast_of_any_strides(data):
    agree(elementwise.relu, *data.draw(operands(1)))
    agree(elementwise.sub, *data.draw(operands(2)))
    condition, a, b = data.draw(operands(3))
    agree(elementwise.where, condition > 0, a, b)
    agree(elementwise.between, *data.draw(operands(4)))


def test_rows_of_many_sizes_cut_anywhere():
    random = np.random.default_rng(0)
    for shape in ((3, 40000), (40000, 3), (7, 1, 9001), (2, 3, 5, 7, 11, 13)):
        x, y = random.standard_normal((2, *shape))
        agree(elementwise.sub, x, y)
        agree(elementwise.sub, x, y[:1])
        agree(elementwise.sub, y[..., :1], x)
        agree(elementwise.sub, x.T, y.T)
        agree(elementwise.between, x, y, y[:1, :1], x[..., -1:])


@pytest.mark.parametrize(("name", "dtype"), cases(UNARY, ("exp", "log", "tanh", "sigmoid", "relu", "sqrt")))
def test_unary(name, dtype):
    """exp, log and tanh of Numba and NumPy differ by a few units in the last place."""
    x = np.concatenate([np.array(SPECIAL, dtype), np.linspace(-20, 20, 501, dtype=dtype)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = agree(getattr(elementwise, name), x, tolerance=8 * np.finfo(dtype).eps)
    agree(getattr(elementwise, name), np.empty((0, 3), dtype))
    agree(getattr(elementwise, name), np.ones((), dtype), tolerance=8 * np.finfo(dtype).eps)
    assert result.dtype == (bool if name in ("isfinite", "logical_not") else dtype)


@pytest.mark.parametrize(
    ("name", "dtype"), cases(BINARY, ("sub", "div", "pow", "maximum", "gate", "weighted"))
)
def test_binary(name, dtype):
    x = np.array(SPECIAL, dtype)
    op = getattr(elementwise, name)
    agree(op, x[:, None], x, tolerance=8 * np.finfo(dtype).eps)
    agree(op, x.repeat(x.size), np.tile(x, x.size), tolerance=8 * np.finfo(dtype).eps)
    agree(op, np.empty((0, 3), dtype), np.ones((3,), dtype))
    assert op(x, np.asarray(2, dtype)).shape == x.shape


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8])
def test_bits(dtype):
    x, by = (
        np.array([-128, -3, 0, 1, 77, 255]).astype(dtype),
        np.arange(-70, 70, dtype=np.int64).astype(dtype),
    )
    agree(elementwise.bitwise_not, x)
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"):
        agree(getattr(elementwise, name), x[:, None], by)


def test_nan_rules():
    nan, zero, one, infinite = (np.array(value, np.float64) for value in (np.nan, 0, 1, -np.inf))
    for backend in ("reference", "cpu"):
        with dispatch.use(backend):
            assert np.isnan(elementwise.relu(nan))
            assert np.isnan(elementwise.clip(nan, zero, one))
            assert elementwise.sign(nan) == 0
            assert np.isnan(elementwise.maximum(nan, one))
            assert np.isnan(elementwise.minimum(one, nan))
            assert elementwise.where(np.array(True), one, nan) == 1
            assert elementwise.where(np.array(False), nan, one) == 1
            assert elementwise.gate(nan, zero) == 0
            assert elementwise.gate(one, nan) == 1
            assert elementwise.weighted(zero, infinite) == 0
            assert np.isnan(elementwise.weighted(zero, nan))
            assert np.isnan(elementwise.weighted(infinite, zero))
            assert elementwise.between(nan, one, zero, zero) == 0


def test_derivatives_at_the_kinks():
    zero, one, g = (np.full(1, value, np.float64) for value in (0, 1, 3))
    assert elementwise.gate(g, zero) == 0  # relu at 0
    assert elementwise.between(g, zero, zero, one) == 3  # clip at its bounds
    assert elementwise.between(g, one, zero, one) == 3
    assert elementwise.sign(zero) == 0  # abs at 0


@either_width
def test_clip_and_between(dtype):
    x, g = np.random.default_rng(0).standard_normal((2, 5, 7)).astype(dtype)
    low, high = np.asarray(-0.5, dtype), np.asarray(0.5, dtype)
    agree(elementwise.clip, x, low, high)
    agree(elementwise.between, g, x, low, high)
    agree(elementwise.clip, x, x[:1] - 1, high)
    agree(elementwise.between, g, x, x[:1] - 1, x[:, :1] + 1)


def test_sigmoid_keeps_its_small_values():
    x = np.array([-100.0, -700.0, 40.0])
    np.testing.assert_allclose(elementwise.sigmoid(x), [np.exp(-100.0), np.exp(-700.0), 1], rtol=1e-15)


INTEGERS, MASK = np.arange(-3, 4), np.arange(-3, 4) > 0


@pytest.mark.parametrize(
    ("name", "operands"),
    [
        ("div", (INTEGERS, INTEGERS + 9)),
        ("add", (MASK, ~MASK)),
        pytest.param("add", (INTEGERS, INTEGERS + 9), marks=pytest.mark.full),
        pytest.param("lt", (INTEGERS, INTEGERS[::-1]), marks=pytest.mark.full),
        pytest.param("exp", (INTEGERS,), marks=pytest.mark.full),
    ],
)
def test_dtypes_follow_numpy(name, operands):
    agree(getattr(elementwise, name), *operands)


OFTEN_CAST = {
    (np.float32, np.float64),
    (np.float64, np.float32),
    (np.int64, np.float32),
    (np.uint8, np.float32),
    (bool, np.float32),
}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(source, target, marks=[pytest.mark.full] * ((source, target) not in OFTEN_CAST))
        for source in (np.float32, np.float64, np.int64, np.uint8, bool)
        for target in (np.float32, np.float64, bool)
    ],
)
def test_cast(source, target):
    x = np.array([[0, 1, 2], [3, 0, 5]]).astype(source)
    agree(elementwise.cast, x, target)
    agree(elementwise.cast, x.T, np.dtype(target))
    agree(elementwise.cast, x[:0], target)


def test_results_are_new_contiguous_arrays():
    x = np.ones((3, 4, 5), np.float32)
    for view in (x, x.T, x[:, ::2], np.broadcast_to(x[:1], x.shape)):
        y = elementwise.copy(view)
        assert y.flags.c_contiguous
        assert not np.shares_memory(x, y)


def test_memory_that_numpy_cannot_align():
    x = np.frombuffer(b"\0" + np.arange(4, dtype=np.float32).tobytes(), np.float32, offset=1)
    np.testing.assert_array_equal(elementwise.add(x, x[::-1]), np.full(4, 3, np.float32))


def test_shapes_that_do_not_broadcast():
    with pytest.raises(ShapeError, match=r"add: expected shapes that broadcast, got \(2, 3\), \(4,\)"):
        elementwise.add(np.ones((2, 3)), np.ones(4))


@pytest.mark.parametrize(
    "steps", [*itertools.product((0, 1), repeat=3), *itertools.product((0, 1), repeat=4)]
)
def test_chains_have_the_bits_of_single_calls_whichever_operands_are_one_number_a_row(steps):
    """Such as x s + y t with s and t of a sample each."""
    random = np.random.default_rng(0)
    operands = [random.standard_normal((3, 37 if step else 1)).astype(np.float32) for step in steps]
    a, b, *rest = operands
    first, last = elementwise.mul(a, b), rest[0] if len(rest) == 1 else elementwise.mul(*rest)
    tree = ("add", ("mul", 0, 1), 2 if len(rest) == 1 else ("mul", 2, 3))
    expected = elementwise.add(first, last)
    np.testing.assert_array_equal(elementwise.chained(tree)(*operands), expected)
