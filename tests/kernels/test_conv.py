"""Convolution: Numba and the reference, the reference and PyTorch, and the
trilinear form that the three share.
"""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinydl_kernels import conv
from tinydl_kernels.conv import col2im
from tinydl_kernels.cpu import packing, threads
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.validate import agree
from tinydl_kernels.machine.window import Window


def arrays(batch, C, O, window, dtype=np.float64):
    """x, w, b, g of a window."""
    random = np.random.default_rng(0)
    shapes = (batch, C, *window.input), (O, C // window.groups, *window.kernel), (O,), (batch, O, *window.out)
    return tuple(random.standard_normal(shape).astype(dtype) for shape in shapes)


@st.composite
def cases(draw, pairs=True):
    """(window, batch, C, O): one to three axes, any stride, padding, dilation and groups."""
    axes = draw(st.integers(1, 3))
    sizes, kernel, stride, low, high, dilation = (
        draw(st.tuples(*[st.integers(least, most)] * axes))
        for least, most in ((1, 8), (1, 4), (1, 3), (0, 2), (0, 3), (1, 3))
    )
    high = high if pairs else low
    fits = [
        low + size + high > d * (k - 1) for size, k, low, high, d in zip(sizes, kernel, low, high, dilation)
    ]
    sizes = tuple(size if fit else size + 9 for size, fit in zip(sizes, fits))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    C, O = groups * draw(st.integers(1, 6)), groups * draw(st.integers(1, 9))
    padding = tuple(zip(low, high))
    window = Window.conv(
        "conv", (1, C, *sizes), (O, C // groups, *kernel), stride, padding, dilation, groups, axes
    )
    return window, draw(st.sampled_from([0, 1, 2, 3, 35])), C, O


@settings(max_examples=150, deadline=None)
@given(cases(), st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_backends_agree(case, with_bias, dtype):
    window, batch, C, O = case
    x, w, b, g = arrays(batch, C, O, window, dtype)
    tolerance = 1e-11 if dtype is np.float64 else 1e-3
    agree(conv.forward, x, w, b if with_bias else None, window, tolerance=tolerance)
    agree(conv.grad_input, g, w, window, tolerance=tolerance)
    agree(conv.grad_weight, x, g, window, tolerance=tolerance)


@settings(max_examples=60, deadline=None)
@given(case=cases(pairs=False))
def test_reference_is_pytorchs(torch, case):
    window, batch, C, O = case
    x, w, b, g = arrays(batch, C, O, window)
    function = getattr(torch.nn.functional, f"conv{len(window.input)}d")
    xt, wt = (torch.tensor(a, requires_grad=True) for a in (x, w))
    y = function(xt, wt, torch.tensor(b), window.stride, window.low, window.dilation, window.groups)
    dx, dw = torch.autograd.grad(y, (xt, wt), torch.tensor(g))
    with dispatch.use("reference"):
        np.testing.assert_allclose(conv.forward(x, w, b, window), y.detach().numpy(), atol=1e-11)
        np.testing.assert_allclose(conv.grad_input(g, w, window), dx.numpy(), atol=1e-11)
        np.testing.assert_allclose(conv.grad_weight(x, g, window), dw.numpy(), atol=1e-11)


@pytest.fixture(scope="module")
def torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch")


@settings(max_examples=60, deadline=None)
@given(cases())
def test_one_trilinear_form(case):
    """<forward(x, w), g> = <x, grad_input(g, w)> = <w, grad_weight(x, g)>"""
    window, batch, C, O = case
    x, w, _, g = arrays(batch, C, O, window)
    form = np.vdot(conv.forward(x, w, None, window), g)
    np.testing.assert_allclose(np.vdot(x, conv.grad_input(g, w, window)), form, atol=1e-9)
    np.testing.assert_allclose(np.vdot(w, conv.grad_weight(x, g, window)), form, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([np.float32, np.float64]), st.integers(1, 40))
def test_columns(case, dtype, width):
    """They give the input gradient of any window, though few take this way."""
    window, batch, C, O = case
    _, w, _, g = arrays(batch, C, O, window, dtype)
    dx = np.full((batch, C, *window.input), np.nan, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(col2im, "WIDTH", width)
        col2im.grad_input(g, w, dx, window, (max(1, batch), 2, 1))
    with dispatch.use("reference"):
        expected = conv.grad_input(g, w, window)
    np.testing.assert_allclose(dx, expected, atol=1e-4 if dtype == np.float32 else 1e-11)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "stride", "padding", "groups"),
    [
        ((2, 3, 40, 70), (5, 3, 3, 5), 1, 1, 1),  # several chunks of rows
        ((2, 3, 40, 70), (5, 3, 3, 5), 2, (1, 2), 1),
        ((1, 8, 3, 600), (16, 4, 3, 3), 1, 0, 2),  # rows longer than a chunk
        ((70, 2, 5, 5), (3, 2, 5, 5), 1, 0, 1),  # a product of matrices, more images than tasks
        ((3, 6, 9, 9), (6, 1, 3, 3), 1, 1, 6),  # depthwise
        ((3, 6, 9, 9), (12, 6, 1, 1), 1, 0, 1),  # pointwise: neither copied nor in longer rows
        ((2, 2, 6, 6), (2, 2, 1, 1), 1, ((0, 3), (0, 3)), 1),
        ((9, 20, 8, 8), (50, 20, 3, 3), 1, 1, 1),  # lanes along channels, several images together
        ((2, 20, 17, 19), (100, 20, 3, 3), 1, ((0, 2), (1, 1)), 1),  # several panels
        ((5, 24, 15, 9), (40, 12, 3, 3), 2, 0, 2),  # panels of two groups, stride
        ((1, 16, 19, 18), (96, 16, 1, 1), 1, 0, 1),  # one image, in place
        ((2, 20, 11, 12), (50, 20, 5, 5), 1, 0, 1),  # dx from columns of taps and channels
        ((2, 90, 7, 13), (64, 90, 3, 3), 2, 1, 1),  # in several blocks of channels
        ((3, 1, 28, 28), (6, 1, 5, 5), 1, 2, 1),  # dx of one channel: rows of g slide in registers
        ((2, 1, 9, 70), (4, 1, 4, 7), 1, (0, 3), 1),  # over several tiles, by eight taps or fewer
        ((2, 3, 9, 33), (12, 1, 2, 9), 1, 0, 3),  # nine float64 are as many as can be
        ((1, 1, 7, 40), (2, 1, 3, 19), 1, 0, 1),  # too many
        # planes as large as the image, yet not the image
        ((2, 2, 3, 3), (2, 2, 1, 1), 2, ((0, 2), (0, 2)), 1),
    ],
)
def test_shapes_of_special_paths(x_shape, w_shape, stride, padding, groups):
    window = Window.conv("conv", x_shape, w_shape, stride, padding, 1, groups)
    x, w, b, g = arrays(x_shape[0], x_shape[1], w_shape[0], window)
    agree(conv.forward, x, w, b, window)
    agree(conv.grad_input, g, w, window)
    agree(conv.grad_weight, x, g, window)


@pytest.mark.parametrize(("C", "O"), [(0, 3), (2, 0)])
def test_no_channels(C, O):
    window = Window.conv("conv", (2, C, 5, 5), (O, C, 3, 3), 1, 1)
    x, w, b, g = arrays(2, C, O, window)
    agree(conv.forward, x, w, b, window)
    agree(conv.grad_input, g, w, window)
    agree(conv.grad_weight, x, g, window)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "stride", "padding"),
    [
        ((37, 6, 14, 14), (10, 6, 5, 5), 1, 0),
        # with scratch for so many tasks that they share it
        ((40, 16, 33, 31), (32, 16, 3, 3), 2, 1),
        ((40, 4, 40, 40), (8, 4, 3, 3), 1, 1),
        ((40, 1, 60, 60), (6, 1, 5, 5), 1, 2),
    ],
)
def test_bits_do_not_depend_on_the_number_of_threads(x_shape, w_shape, stride, padding):
    window = Window.conv("conv", x_shape, w_shape, stride, padding)
    x, w, b, g = arrays(x_shape[0], x_shape[1], w_shape[0], window, np.float32)
    outer, results = threads.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            results.append(
                (conv.forward(x, w, b, window), conv.grad_input(g, w, window), conv.grad_weight(x, g, window))
            )
    finally:
        threads.set_num_threads(outer)
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_array_equal(a, b)


def test_nan_and_inf_pass_through():
    window = Window.conv("conv", (1, 1, 6, 6), (1, 1, 3, 3))
    x, w, _, _ = arrays(1, 1, 1, window)
    x[0, 0, 2, 2], x[0, 0, 5, 5] = np.nan, np.inf
    agree(conv.forward, x, w, None, window)


def test_the_partial_sums_of_a_large_weight_take_little_room(monkeypatch, plain_calls):
    monkeypatch.setattr(conv, "PARTIALS", 100)
    window = Window.conv("conv", (9, 4, 6, 6), (8, 4, 3, 3))
    x, _, _, g = arrays(9, 4, 8, window)
    agree(conv.grad_weight, x, g, window)


def test_an_image_is_its_own_plane_where_nothing_is_padded_or_strided():
    plan = packing.plan_of(Window.conv("conv", (1, 2, 7, 6), (3, 2, 3, 2)), 2, 3, True)
    assert not plan.packed
    np.testing.assert_array_equal(
        plan.x_terms, [c * 42 + h * 6 + w for c in range(2) for h in range(3) for w in range(2)]
    )


@pytest.mark.parametrize(("kernel", "padding", "packed"), [(1, 0, False), (3, 0, False), (3, 1, True)])
def test_images_are_not_copied_for_a_stride_alone(kernel, padding, packed):
    window = Window.conv("conv", (3, 4, 8, 10), (16, 4, kernel, kernel), 2, padding)
    plan = packing.plan_of(window, 4, 16, False)
    assert plan.packed == packed
    assert plan.grid == ((1, 8, 10) if not packed else (1, 9, 11))
    x, w, b, g = arrays(3, 4, 16, window)
    agree(conv.forward, x, w, b, window)
    agree(conv.grad_input, g, w, window)
    agree(conv.grad_weight, x, g, window)
