"""Winograd's convolution: its transforms, the three primitives against float64 for all shapes that it takes,
how exact it is, what overflows, and which convolutions it is for.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinydl_kernels import conv
from tinydl_kernels.conv import points, winograd
from tinydl_kernels.cpu import jobs, threads
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.window import Window

import tinydl as td

REDUCTIONS = (
    (points.points_of_input, 6, 6),
    (points.points_of_taps, 3, 6),
    (points.points_of_output, 4, 6),
    (points.output_of_points, 6, 4),
    (points.taps_of_points, 6, 3),
)


def window_of(N, C, O, size, padding=1):
    return Window.conv("conv", (N, C, *size), (O, C, 3, 3), 1, padding)


def arrays(N, C, O, window, seed=0):
    """x, w, b, g of a window."""
    random = np.random.default_rng(seed)
    shapes = (N, C, *window.input), (O, C, 3, 3), (O,), (N, O, *window.out)
    return tuple(random.standard_normal(shape).astype(np.float32) for shape in shapes)


def three(x, w, b, g, window):
    return (
        conv.forward(x, w, b, window),
        conv.grad_input(g, w, window),
        conv.grad_weight(x, g, window),
    )


def exact(x, w, b, g, window):
    with dispatch.use("reference"):
        return three(*(a.astype(np.float64) for a in (x, w, b, g)), window)


def direct(*args):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "is_better", lambda *_: False)
        return three(*args)


@pytest.fixture
def always(monkeypatch, plain_calls):
    """Winograd for each convolution that it can do. A list of what ran, and of what the direct kernel did
    over again.
    """
    ran = []

    def noting(name, function):
        def noted(*args):
            spoilt = function(*args)
            ran.append(f"{name} again" if spoilt.any() else name)
            return spoilt

        return noted

    for name in ("forward", "grad_weight"):
        monkeypatch.setattr(winograd, name, noting(name, getattr(winograd, name)))
    monkeypatch.setattr(winograd, "is_better", lambda window, N, C, O, *_: min(N, C, O) > 0)
    return ran


# ---- The transforms


def test_the_matrices_make_a_correlation_and_its_gradient():
    random = np.random.default_rng(0)
    x, w, g = (random.standard_normal(n) for n in (6, 3, 4))
    at_points = np.array(points.B_T) @ x
    y = np.array(points.A).T @ (at_points * (np.array(points.G) @ w))
    np.testing.assert_allclose(y, np.correlate(x, w), atol=1e-14)
    dw = np.array(points.G).T @ (at_points * (np.array(points.A) @ g))
    np.testing.assert_allclose(dw, np.correlate(x, g), atol=1e-14)


@pytest.mark.parametrize(("transform", "side", "size"), REDUCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transforms_and_their_twins(transform, side, size, dtype):
    random = np.random.default_rng(0)
    n, row, column = 32, 700, 90
    source, half = random.standard_normal(side * row).astype(dtype), np.empty(36 * 16, dtype)
    got, wanted = (np.full(400 + 6 * 700, np.nan, dtype) for _ in range(2))
    for to, function in ((got, transform), (wanted, transform.plain)):
        function(to, 200, row, column, source, 3, row, column, n, half)
    np.testing.assert_allclose(got, wanted, atol=1e-5 if dtype is np.float32 else 1e-13)
    assert np.isfinite(got).sum() == size * size * n


# ---- The three primitives


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(1, 140),
    st.tuples(st.integers(1, 13), st.integers(1, 30)),
    st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 4))] * 2),
    st.booleans(),
)
def test_all_shapes(N, C, O, size, padding, relu):
    size = tuple(max(n, 3 - sum(pads)) for n, pads in zip(size, padding, strict=True))
    window = window_of(N, C, O, size, padding)
    x, w, b, g = arrays(N, C, O, window)
    y, dx, dw = exact(x, w, b, g, window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "is_better", lambda *_: True)
        got = conv.forward(x, w, b, window, relu), *three(x, w, b, g, window)[1:]
    for a, wanted in zip(got, (np.maximum(y, 0) if relu else y, dx, dw), strict=True):
        np.testing.assert_allclose(a, wanted, atol=1e-5 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize(
    ("N", "C", "O", "size"),
    [
        (3, 64, 64, (32, 32)),  # several bands, the last one lower
        (50, 17, 100, (8, 8)),  # several images together, panels that are not full
        (2, 5, 3, (9, 130)),  # a band is one row
    ],
)
def test_it_runs_and_agrees(N, C, O, size, always):
    window = window_of(N, C, O, size)
    args = *arrays(N, C, O, window), window
    for got, wanted in zip(three(*args), exact(*args), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())
    assert always == ["forward", "forward", "grad_weight"]


def test_arrays_of_any_strides(always):
    window = window_of(2, 16, 24, (10, 12))
    x, w, b, g = arrays(2, 16, 24, window)
    turned = [a.transpose(*range(a.ndim)[::-1]).copy().transpose(*range(a.ndim)[::-1]) for a in (x, w, b, g)]
    for got, wanted in zip(three(*turned, window), three(x, w, b, g, window), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_bits_do_not_depend_on_the_number_of_threads(always):
    window = window_of(20, 33, 130, (16, 16))
    args = *arrays(20, 33, 130, window), window
    outer, results = threads.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            results.append(three(*args))
    finally:
        threads.set_num_threads(outer)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_recorded_step_has_the_same_bits(always):
    """Two layers, a penalty on the gradient, hence all of the second order too."""
    td.manual_seed(0)
    net = td.nn.Sequential(
        td.nn.Conv2d(3, 24, 3, padding=1), td.nn.ReLU(), td.nn.Conv2d(24, 32, 3, padding=(0, 2)), td.nn.Tanh()
    )
    x = td.tensor(arrays(4, 3, 3, window_of(4, 3, 3, (10, 11)))[0], requires_grad=True)

    def step():
        y = net(x).square().mean()
        (dx,) = td.grad(y, (x,), create_graph=True)
        return td.grad(y + dx.square().sum(), list(net.parameters()))

    eager = [a.numpy().copy() for a in step()]
    recorded = td.record(step)
    for _ in range(3):
        for got, wanted in zip(recorded(), eager, strict=True):
            np.testing.assert_array_equal(got.numpy(), wanted)
    assert {"forward", "grad_weight"} <= set(always)


def test_it_is_nothing_but_loops(always):
    """So a recorded step needs no Python for it."""
    window = window_of(4, 32, 32, (8, 8))
    args = *arrays(4, 32, 32, window), window
    expected = three(*args)
    outputs = []
    (job,) = jobs.compiled([lambda: outputs.append(three(*args))])
    for a in outputs[0]:
        a[...] = 0
    job()
    for got, wanted in zip(outputs[0], expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


# ---- How exact it is


def scaled(kind, N, C, O, size, random):
    """Random x, w, g: plain, of one sign, or with factors from 10⁻³ to 10³."""

    def normal(*shape):
        return random.standard_normal(shape)

    def factors(*shape):
        return 10 ** random.uniform(-3, 3, shape)

    x, g = normal(N, C, size, size), normal(N, O, size, size)
    w = normal(O, C, 3, 3) * np.sqrt(2 / (9 * C))
    match kind:
        case "after relu":
            x = np.maximum(x, 0)
        case "all positive":
            x, w, g = np.abs(x), np.abs(w), np.abs(g)
        case "far from zero":
            x, g = x + 100, g + 100
        case "channels":
            x, w, g = x * factors(C, 1, 1), w * factors(O, 1, 1, 1), g * factors(O, 1, 1)
        case "pixels":
            x, g = x * factors(size, size), g * factors(size, size)
        case "numbers":
            x, w, g = x * factors(*x.shape), w * factors(*w.shape), g * factors(*g.shape)
        case "samples":
            x, g = x * factors(N, 1, 1, 1), g * factors(N, 1, 1, 1)
        case "taps":
            w = w * factors(3, 3)
        case "tiny":
            x, g = x * 1e-20, g * 1e-15
        case "huge":
            x, g = x * 1e28, g * 1e5
    return tuple(a.astype(np.float32) for a in (x, w, g))


KINDS = (
    "plain",
    "after relu",
    "all positive",
    "far from zero",
    "channels",
    "pixels",
    "numbers",
    "samples",
    "taps",
    "tiny",
    "huge",
)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_a_few_times_those_of_the_direct_kernel(kind):
    """The promise: root of the mean square at most 5 times as large, the largest at most 10 times."""
    random = np.random.default_rng(0)
    for N, C, O, size in ((50, 32, 32, 8), (12, 40, 48, 16), (50, 72, 72, 7)):
        x, w, g = scaled(kind, N, C, O, size, random)
        window = window_of(N, C, O, (size, size))
        assert winograd.is_better(window, N, C, O, x.dtype, True)
        args = x, w, np.zeros(O, np.float32), g, window
        for got, other, wanted in zip(three(*args), direct(*args), exact(*args), strict=True):
            error, usual = np.abs(got - wanted), np.abs(other - wanted)
            error, usual = error / usual.max(), usual / usual.max()
            assert np.sqrt(np.mean(error**2)) <= 5 * np.sqrt(np.mean(usual**2))
            assert error.max() <= 10


# ---- What is not finite


def test_where_something_overflows_the_direct_kernel_runs(always):
    """|x| is 1e30, and the results are not much more; the sums at the points are beyond float32."""
    window = window_of(2, 64, 64, (8, 8))
    x, w, b, g = arrays(2, 64, 64, window)
    x, w = np.sign(x) * np.float32(1e30), np.abs(w) * np.float32(1e7)
    x[:, 1::2], w[:, 1::2] = x[:, ::2], -w[:, ::2]  # each pair of channels cancels, all but for rounding
    g = np.zeros_like(g)
    g[:, :, 4, 4] = 1e8  # times 1e30 is just below the limit of float32
    got, wanted = three(x, w, b, g, window), direct(x, w, b, g, window)
    assert np.isfinite(wanted[0]).all()
    assert np.isfinite(wanted[2]).all()
    np.testing.assert_array_equal(got[0], wanted[0])
    np.testing.assert_array_equal(got[2], wanted[2])
    w, g = w.swapaxes(0, 1).copy(), x  # the same for the input gradient
    np.testing.assert_array_equal(conv.grad_input(g, w, window), direct(x, w, b, g, window)[1])
    assert always == ["forward again", "forward", "grad_weight again", "forward again"]


def test_large_numbers_do_not_overflow(always):
    window = window_of(3, 24, 24, (9, 9))
    x, w, b, g = arrays(3, 24, 24, window)
    x = np.clip(x, -1, 1) * np.float32(1e30)
    args = x, w * np.float32(1e-3), b, g * np.float32(1e-3), window
    for got, wanted in zip(three(*args), exact(*args), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())
    assert always == ["forward", "forward", "grad_weight"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_are_where_the_direct_kernel_has_them(value, always):
    window = window_of(2, 20, 40, (10, 10))
    x, w, b, g = arrays(2, 20, 40, window)
    for array in (x, w, b, g):
        there = array.flat[array.size // 3]
        array.flat[array.size // 3] = value
        for got, wanted in zip(three(x, w, b, g, window), direct(x, w, b, g, window), strict=True):
            np.testing.assert_array_equal(np.isfinite(got), np.isfinite(wanted))
        array.flat[array.size // 3] = there


# ---- Which convolutions


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "stride", "dilation", "groups", "dtype", "expected"),
    [
        ((50, 64, 8, 8), (64, 64, 3, 3), 1, 1, 1, np.float32, True),
        ((50, 256, 8, 8), (256, 256, 3, 3), 1, 1, 1, np.float32, True),
        ((50, 64, 8, 8), (64, 64, 3, 3), 1, 1, 1, np.float64, False),
        ((50, 64, 8, 8), (64, 64, 3, 3), 2, 1, 1, np.float32, False),
        ((50, 64, 8, 8), (64, 64, 3, 3), (1, 2), 1, 1, np.float32, False),
        ((50, 64, 8, 8), (64, 64, 3, 3), 1, 2, 1, np.float32, False),
        ((50, 64, 8, 8), (64, 32, 3, 3), 1, 1, 2, np.float32, False),
        ((50, 64, 8, 8), (64, 64, 5, 5), 1, 1, 1, np.float32, False),
        ((50, 64, 8, 8), (64, 64, 3, 1), 1, 1, 1, np.float32, False),
        ((50, 64, 8, 8, 8), (64, 64, 3, 3, 3), 1, 1, 1, np.float32, False),
        ((50, 64, 64), (64, 64, 3), 1, 1, 1, np.float32, False),
        ((50, 64, 3, 90), (64, 64, 3, 3), 1, 1, 1, np.float32, False),  # three tiles of four are in vain
        ((50, 1, 28, 28), (6, 1, 3, 3), 1, 1, 1, np.float32, False),
        ((0, 64, 8, 8), (64, 64, 3, 3), 1, 1, 1, np.float32, False),
        ((50, 0, 8, 8), (64, 0, 3, 3), 1, 1, 1, np.float32, False),
    ],
)
def test_which(x_shape, w_shape, stride, dilation, groups, dtype, expected):
    padding = 0 if x_shape[2] == 3 else 1
    window = Window.conv("conv", x_shape, w_shape, stride, padding, dilation, groups, len(x_shape) - 2)
    assert winograd.is_better(window, x_shape[0], x_shape[1], w_shape[0], np.dtype(dtype)) is expected
