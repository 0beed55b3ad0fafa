"""Pooling: Numba and the reference, the reference and PyTorch, ties, NaN, transposed pairs."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tinydl_kernels import emulator, pool
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.validate import agree
from tinydl_kernels.machine.window import Window

EMULATED = ["cuda-emulated"] if emulator.unavailable() is None else []


@st.composite
def cases(draw, dilated=True):
    """(window, x): one to three axes; values from few, so that there are ties."""
    axes = draw(st.integers(1, 3))
    sizes, kernel, stride, dilation = (
        draw(st.tuples(*[st.integers(1, most)] * axes)) for most in (9, 4, 4, 2 if dilated else 1)
    )
    pads = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    shape = (draw(st.integers(0, 3)), draw(st.integers(1, 3)), *sizes)
    try:
        window = Window.pool("pool", shape, kernel, stride, pads, dilation, draw(st.booleans()), axes)
    except ShapeError:
        assume(False)
    values = st.sampled_from([[-np.inf, -1.0, 0.0, 2.0, np.nan], list(np.linspace(-3, -1, 20))])
    x = np.random.default_rng(draw(st.integers(0, 99))).choice(draw(values), shape)
    return window, x.astype(draw(st.sampled_from([np.float32, np.float64])))


@pytest.fixture(scope="module")
def torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch")


def cotangent(window, x):
    return np.random.default_rng(1).standard_normal(x.shape[:2] + window.out).astype(x.dtype)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_max_backends_agree(case):
    window, x = case
    _, indices = agree(pool.max_forward, x, window)
    agree(pool.gather, x, indices)
    agree(pool.scatter, cotangent(window, x), indices, window.input, window)


@settings(max_examples=150, deadline=None)
@given(cases(), st.booleans())
def test_avg_backends_agree(case, include_pad):
    window, x = case
    agree(pool.avg_forward, np.nan_to_num(x, neginf=-5), window, include_pad)
    agree(pool.avg_backward, cotangent(window, x), window, include_pad)


@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_max_is_pytorchs(torch, case):
    window, x = case
    assume(len(x))  # PyTorch refuses an empty batch in some of its poolings
    function = getattr(torch.nn.functional, f"max_pool{len(window.input)}d")
    t = torch.tensor(x, requires_grad=True)
    settings_of = (window.kernel, window.stride, window.low, window.dilation, window.ceil_mode)
    y, i = function(t, *settings_of, return_indices=True)
    g = cotangent(window, x)
    (dx,) = torch.autograd.grad(y, t, torch.tensor(g))
    with dispatch.use("reference"):
        values, indices = pool.max_forward(x, window)
        np.testing.assert_array_equal(values, y.detach().numpy())
        np.testing.assert_array_equal(indices, i.numpy())
        np.testing.assert_allclose(
            pool.scatter(g, indices, window.input, window), dx.numpy(), rtol=1e-5, atol=1e-5
        )


@settings(max_examples=100, deadline=None)
@given(case=cases(dilated=False), include_pad=st.booleans())
def test_avg_is_pytorchs(torch, case, include_pad):
    window, x = case
    assume(len(x))
    # PyTorch's avg_pool3d refuses the rest
    assume(all(size >= k for size, k in zip(window.input, window.kernel)))
    x = np.nan_to_num(x, neginf=-5)
    function = getattr(torch.nn.functional, f"avg_pool{len(window.input)}d")
    t = torch.tensor(x, requires_grad=True)
    y = function(t, window.kernel, window.stride, window.low, window.ceil_mode, include_pad)
    g = cotangent(window, x)
    (dx,) = torch.autograd.grad(y, t, torch.tensor(g))
    with dispatch.use("reference"):
        np.testing.assert_allclose(
            pool.avg_forward(x, window, include_pad), y.detach().numpy(), rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(
            pool.avg_backward(g, window, include_pad), dx.numpy(), rtol=1e-5, atol=1e-5
        )


@settings(max_examples=60, deadline=None)
@given(cases(), st.booleans())
def test_transposed_pairs(case, include_pad):
    """<gather(x), g> = <x, scatter(g)> and <avg_forward(x), g> = <x, avg_backward(g)>"""
    window, x = case
    _, indices = pool.max_forward(x, window)
    x, g = np.random.default_rng(2).standard_normal(x.shape), cotangent(window, x).astype(np.float64)
    np.testing.assert_allclose(
        np.vdot(pool.gather(x, indices), g),
        np.vdot(x, pool.scatter(g, indices, window.input, window)),
        atol=1e-10,
    )
    forward, backward = pool.avg_forward(x, window, include_pad), pool.avg_backward(g, window, include_pad)
    np.testing.assert_allclose(np.vdot(forward, g), np.vdot(x, backward), atol=1e-10)


@pytest.mark.parametrize("backend", ["reference", "cpu", *EMULATED])
def test_ties_padding_and_nan(backend):
    """Of equal values the first wins, of NaNs the last, and padding never."""
    x = np.array([[[[-1.0, -1.0, 0.0], [-1.0, np.nan, np.nan], [-np.inf, -np.inf, -np.inf]]]])
    with dispatch.use(backend):
        values, indices = pool.max_forward(x, Window.pool("pool", x.shape, 2, 1, 1))
    np.testing.assert_array_equal(values[0, 0, 0], [-1, -1, 0, 0])
    np.testing.assert_array_equal(indices[0, 0], [[0, 0, 2, 2], [0, 4, 5, 5], [3, 4, 5, 5], [6, 6, 7, 8]])
    np.testing.assert_array_equal(np.isnan(values[0, 0, 1]), [False, True, True, True])
    np.testing.assert_array_equal(values[0, 0, 3], -np.inf)


@pytest.mark.parametrize("backend", ["reference", "cpu", *EMULATED])
def test_scatter_adds_where_windows_share_a_winner(backend):
    window = Window.pool("pool", (1, 1, 2, 4), (2, 2), 1)
    with dispatch.use(backend):
        dx = pool.scatter(np.array([[[[1.0, 2.0, 4.0]]]]), np.array([[[[5, 5, 3]]]]), (2, 4), window)
    np.testing.assert_array_equal(dx, [[[[0, 0, 0, 4], [0, 3, 0, 0]]]])


def test_float32_means_of_large_windows_are_summed_in_float64():
    x = np.full((1, 1, 400, 400), 0.1, np.float32)
    window = Window.pool("pool", x.shape, 400)
    assert agree(pool.avg_forward, x, window, True)[0, 0, 0, 0] == np.float32(0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (3, 50, 9, 15), (1, 1, 1, 1), (0, 3, 4, 4), (140, 2, 70)])
def test_means_of_whole_planes_are_sums_in_order(shape, dtype):
    """On the processor; the reference adds in the same order, tap by tap."""
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    window = Window.pool("pool", shape, shape[2:], axes=len(shape) - 2)
    for divisor in (None, 3.0):
        y = agree(pool.avg_forward, x, window, True, divisor)
        g = cotangent(window, x)
        dx = agree(pool.avg_backward, g, window, True, divisor)
        with dispatch.use("reference"):
            np.testing.assert_array_equal(y, pool.avg_forward(x, window, True, divisor))
            np.testing.assert_array_equal(dx, pool.avg_backward(g, window, True, divisor))


@pytest.mark.parametrize("include_pad", [False, True])
def test_a_dilated_window_that_reaches_beyond_its_plane_is_not_the_plane(include_pad):
    x = np.array([[[1.0, 2.0]]], np.float32)
    window = Window((2,), (2,), (2,), (0,), (0,), (2,), 1, True)  # its second tap lies outside
    agree(pool.avg_forward, x, window, include_pad)
    agree(pool.max_forward, x, window)


def test_a_plane_beyond_32_bits_is_refused():
    shape = (1, 1, 1 << 15, (1 << 15) + 1)
    x = np.broadcast_to(np.float32(0), shape)
    with pytest.raises(
        ShapeError, match=r"pool: expected at most 1073741824 elements per channel, got \(32768"
    ):
        pool.max_forward(x, Window.pool("pool", shape, 2))


def test_shared_divisors_cannot_be_written_to():
    window = Window.pool("pool", (1, 1, 4, 4), 2)
    for divisor in (None, 3.0):
        with pytest.raises(ValueError, match="read-only"):
            pool._divisors(window, True, divisor)[...] = 0


def test_larger_planes():
    x = np.random.default_rng(0).standard_normal((5, 7, 30, 41)).astype(np.float32)
    window = Window.pool("pool", x.shape, 3, 2, 1)
    agree(pool.max_forward, x, window)
    agree(pool.avg_forward, x, window, False)
    agree(pool.avg_backward, cotangent(window, x), window, False)
