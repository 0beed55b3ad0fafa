"""Windows: sizes, PyTorch's arguments, and what is refused."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.window import Window, padded, seen_by, taps, unpadded

settings_here = settings(max_examples=100, deadline=None)


def some_windows(axes=2):
    """Windows of a pooling or a convolution over an input of a few positions."""

    def of(data):
        size, kernel, stride, low, high, dilation = data
        try:
            return Window.conv(
                "conv", (1, 1, *size), (1, 1, *kernel), stride, tuple(zip(low, high)), dilation, 1, axes
            )
        except ShapeError:
            return None

    def per_axis(least, most):
        return st.tuples(*[st.integers(least, most)] * axes)

    parts = st.tuples(
        per_axis(1, 8), per_axis(1, 4), per_axis(1, 3), per_axis(0, 2), per_axis(0, 3), per_axis(1, 3)
    )
    return parts.map(of).filter(lambda window: window is not None)


@settings_here
@given(some_windows())
def test_out_counts_the_windows_that_fit(window):
    for axis, size in enumerate(window.input):
        available = window.low[axis] + size + window.high[axis]
        starts = range(0, available, window.stride[axis])
        assert window.out[axis] == sum(start + window.span[axis] <= available for start in starts)


@settings_here
@given(some_windows())
def test_padding_and_its_transpose(window):
    """<padded(x), z> = <x, unpadded(z)>, and each tap sees what the definition says."""
    random = np.random.default_rng(0)
    x, z = random.standard_normal((2, *window.input)), random.standard_normal((2, *window.extent))
    planes = padded(x, window, 0)
    np.testing.assert_allclose(np.vdot(planes, z), np.vdot(x, unpadded(z, window)), atol=1e-12)
    for tap in taps(window.kernel):
        seen = planes[seen_by(tap, window)]
        assert seen.shape == (2, *window.out)
        for out in np.ndindex(window.out):
            at = [
                o * s + t * d - low
                for o, s, t, d, low in zip(out, window.stride, tap, window.dilation, window.low)
            ]
            inside = all(0 <= i < size for i, size in zip(at, window.input))
            np.testing.assert_array_equal(seen[(..., *out)], x[(..., *at)] if inside else 0)


@pytest.fixture(scope="module")
def torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch")


@settings_here
@given(st.data())
def test_sizes_are_pytorchs(torch, data):
    size, kernel, stride, dilation = (data.draw(st.integers(1, most)) for most in (9, 4, 5, 2))
    pad, ceil_mode = data.draw(st.integers(0, 2)), data.draw(st.booleans())
    x = torch.zeros(1, 1, size)
    try:
        window = Window.pool("max_pool1d", x.shape, kernel, stride, pad, dilation, ceil_mode, axes=1)
    except ShapeError:
        assume(False)
    assert (
        window.out == torch.max_pool1d_with_indices(x, kernel, stride, pad, dilation, ceil_mode)[0].shape[2:]
    )


def test_arguments_as_ints_tuples_pairs_and_words():
    x, w = (2, 3, 10, 8), (4, 3, 3, 5)
    assert Window.conv("conv2d", x, w) == Window.conv("conv2d", x, w, (1, 1), ((0, 0), (0, 0)), [1, 1])
    assert Window.conv("conv2d", x, w, padding="valid") == Window.conv("conv2d", x, w)
    assert Window.conv("conv2d", x, w, padding=(1, 2)) == Window.conv(
        "conv2d", x, w, padding=((1, 1), (2, 2))
    )
    assert Window.conv("conv2d", x, w, padding=[(0, 1), (2, 3)]).high == (1, 3)
    assert Window.conv("conv2d", x, w, stride=np.int64(2)).stride == (2, 2)
    assert Window.pool("max_pool2d", x, 2).stride == (2, 2)
    assert Window.pool("max_pool2d", x, (3, 2), (2, 1), (1, 0)).out == (5, 7)


def test_same_padding_keeps_the_size_and_puts_the_odd_one_high():
    window = Window.conv("conv2d", (1, 1, 9, 7), (1, 1, 4, 3), padding="same", dilation=(1, 2))
    assert window.out == (9, 7)
    assert (window.low, window.high) == ((1, 2), (2, 2))


def test_ceil_mode_drops_a_window_that_starts_in_the_high_padding():
    assert Window.pool("pool", (1, 1, 5, 5), 2, 2, 0, 1, True).out == (3, 3)
    assert Window.pool("pool", (1, 1, 4, 4), 2, 3, 1, 1, True).out == (2, 2)


def test_hashable_frozen_and_pickled():
    window = Window.conv("conv2d", (1, 1, 5, 5), (1, 1, 3, 3))
    assert hash(window) == hash(pickle.loads(pickle.dumps(window)))
    with pytest.raises(AttributeError):
        window.stride = (2, 2)


def test_flops():
    window = Window.conv("conv2d", (50, 20, 12, 12), (50, 10, 5, 5), groups=2)
    assert window.flops(50, 20, 50) == 2 * 50 * 50 * 10 * 25 * 64


CONV_ERRORS = [
    (
        {"x_shape": (8, 3, 32, 32), "w_shape": (16, 4, 3, 3)},
        "conv2d: x has C=3, weight expects C=4 (groups 1): x (8, 3, 32, 32), weight (16, 4, 3, 3)",
    ),
    (
        {"x_shape": (3, 32, 32)},
        "conv2d: x expected 4 axes (N, C, H, W), got 3: x (3, 32, 32), weight (4, 3, 3, 3)",
    ),
    (
        {"w_shape": (4, 3, 3)},
        "conv2d: weight expected 4 axes (O, C / groups, KH, KW), got 3: x (2, 3, 8, 8), weight (4, 3, 3)",
    ),
    ({"stride": 0}, "conv2d: stride expected at least 1 on every axis, got (0, 0)"),
    ({"dilation": (1, 0)}, "conv2d: dilation expected at least 1 on every axis, got (1, 0)"),
    ({"padding": -1}, "conv2d: padding expected at least 0 on every axis, got (-1, -1)"),
    ({"w_shape": (4, 3, 3, 0)}, "conv2d: kernel size expected at least 1 on every axis, got (3, 0)"),
    ({"groups": 0}, "conv2d: groups expected at least 1, got 0"),
    (
        {"w_shape": (4, 1, 3, 3), "groups": 3},
        "conv2d: weight has O=4, expected a multiple of groups 3: x (2, 3, 8, 8), weight (4, 1, 3, 3)",
    ),
    (
        {"w_shape": (4, 1, 3, 3), "groups": 2},
        "conv2d: x has C=3, weight expects C=2 (groups 2): x (2, 3, 8, 8), weight (4, 1, 3, 3)",
    ),
    (
        {"w_shape": (4, 3, 3, 9)},
        "conv2d: expected a padded input at least as large as the dilated kernel (3, 9), got (8, 8): "
        "input (8, 8), low pads (0, 0), high pads (0, 0)",
    ),
    ({"padding": "same", "stride": 2}, 'conv2d: padding "same" expected stride 1, got stride (2, 2)'),
    ({"padding": "full"}, 'conv2d: padding expected sizes, "same" or "valid", got \'full\''),
    ({"padding": ((1, 1),)}, "conv2d: padding expected 2 pairs (low, high), got ((1, 1),)"),
    ({"padding": ((1, 1), 2)}, "conv2d: padding expected 2 pairs (low, high), got ((1, 1), 2)"),
    ({"stride": (1, 2, 3)}, "conv2d: stride expected an int or 2 of them, got (1, 2, 3)"),
    ({"padding": (1, 2, 3)}, "conv2d: padding expected an int or 2 of them, got (1, 2, 3)"),
]

POOL_ERRORS = [
    ({"x_shape": (3, 8, 8)}, "max_pool2d: x expected 4 axes (N, C, H, W), got 3: x (3, 8, 8)"),
    ({"kernel_size": 0}, "max_pool2d: kernel_size expected at least 1 on every axis, got (0, 0)"),
    ({"stride": (1, 0)}, "max_pool2d: stride expected at least 1 on every axis, got (1, 0)"),
    (
        {"padding": (1, 2)},
        "max_pool2d: padding expected at most half the kernel (2, 2), got low (1, 2), high (1, 2)",
    ),
    (
        {"padding": ((0, 2), (0, 0))},
        "max_pool2d: padding expected at most half the kernel (2, 2), got low (0, 0), high (2, 0)",
    ),
    ({"padding": "same"}, 'max_pool2d: padding expected sizes or "valid", got "same"'),
    (
        {"kernel_size": 9},
        "max_pool2d: expected a padded input at least as large as the dilated kernel (9, 9), got (8, 8): "
        "input (8, 8), low pads (0, 0), high pads (0, 0)",
    ),
    ({"x_shape": (1, 1, 0, 8), "padding": 1}, "max_pool2d: expected a tap in the input for every window"),
    (
        {"x_shape": (1, 1, 1, 8), "dilation": 2, "padding": 1},
        "max_pool2d: expected a tap in the input for every window",
    ),
]


@pytest.mark.parametrize(("change", "message"), CONV_ERRORS)
def test_convolutions_refused(change, message):
    with pytest.raises(ShapeError) as error:
        Window.conv(**{"op": "conv2d", "x_shape": (2, 3, 8, 8), "w_shape": (4, 3, 3, 3)} | change)
    assert str(error.value) == message


@pytest.mark.parametrize(("change", "message"), POOL_ERRORS)
def test_poolings_refused(change, message):
    with pytest.raises(ShapeError) as error:
        Window.pool(**{"op": "max_pool2d", "x_shape": (2, 3, 8, 8), "kernel_size": 2} | change)
    assert str(error.value).startswith(message)
