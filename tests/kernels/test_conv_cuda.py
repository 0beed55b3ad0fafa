"""Convolution on the GPU, emulated: every tile and split, any window, in any order of
threads, and with accesses checked.
"""

from __future__ import annotations

import numpy as np
import pytest
from emulated import agrees, agrees_checked, every_tile, needs_compiler
from hypothesis import given, settings
from test_conv import arrays, cases
from tinydl_kernels import conv
from tinydl_kernels.cuda import cuts
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.validate import agree
from tinydl_kernels.machine.window import Window

pytestmark = needs_compiler


def check(agrees, window, batch, C, O, dtype=np.float32, tolerance=1e-5):
    x, w, b, g = arrays(batch, C, O, window, dtype)
    agrees(conv.forward, x, w, b, window, tolerance=tolerance)
    agrees(conv.grad_input, g, w, window, tolerance=tolerance)
    agrees(conv.grad_weight, x, g, window, tolerance=tolerance)


WINDOWS = {
    "padded": (Window.conv("conv", (1, 5, 9, 9), (18, 5, 3, 3), 1, 1), 2, 5, 18),
    "strided": (
        Window.conv("conv", (1, 6, 11, 8), (4, 3, 3, 2), (3, 2), ((1, 0), (2, 1)), (2, 1), 2),
        3,
        6,
        4,
    ),
}
every_window = pytest.mark.parametrize("case", WINDOWS.values(), ids=WINDOWS)


@every_tile
@pytest.mark.parametrize("splits", [1, 3])
@every_window
def test_every_tile(tile, splits, case, cut_into):
    cut_into(tile, splits)
    check(agrees, *case)


@every_tile
def test_every_tile_is_free_of_races(tile, cut_into):
    cut_into(tile, 2)
    check(agrees_checked, Window.conv("conv", (1, 3, 4, 5), (4, 3, 2, 2), 2, 1), 2, 3, 4)


@every_tile
def test_every_tile_in_double(tile, cut_into):
    cut_into(tile, 2)
    check(agrees, *WINDOWS["strided"], np.float64, 1e-12)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_any_window(case):
    window, batch, C, O = case
    x, w, b, g = arrays(min(batch, 2), C, O, window, np.float32)
    for op, args in (
        (conv.forward, (x, w, b)),
        (conv.forward, (x, w, None)),
        (conv.grad_input, (g, w)),
        (conv.grad_weight, (x, g)),
    ):
        agree(op, *args, window, tolerance=1e-4, only="cuda-emulated")


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "stride", "padding", "dilation", "groups"),
    [
        ((5, 1, 12, 12), (20, 1, 5, 5), 1, 0, 1, 1),  # one input channel
        ((2, 6, 5, 5), (12, 6, 1, 1), 2, 0, 1, 1),  # phases that no tap meets
        ((2, 4, 7, 7), (4, 4, 3, 3), 2, 2, 2, 1),  # dilation and stride have a factor in common
        ((2, 4, 9, 9), (4, 4, 3, 3), 3, 3, 3, 1),  # all taps meet one phase
        ((3, 2, 4, 4), (3, 2, 4, 4), 1, 0, 1, 1),  # one position
        ((2, 2, 3, 3), (2, 2, 1, 1), 3, ((0, 2), (0, 2)), 1, 1),
        ((2, 6, 7, 6), (6, 1, 3, 3), 1, 1, 1, 6),  # depthwise
        ((2, 3, 7, 6), (6, 1, 3, 2), 2, 1, 2, 3),  # with two outputs a channel
        ((0, 2, 5, 5), (3, 2, 3, 3), 1, 1, 1, 1),
        ((2, 0, 5, 5), (3, 0, 3, 3), 1, 1, 1, 1),
        ((2, 2, 5, 5), (0, 2, 3, 3), 1, 1, 1, 1),
    ],
)
def test_windows_of_special_kinds(x_shape, w_shape, stride, padding, dilation, groups):
    window = Window.conv("conv", x_shape, w_shape, stride, padding, dilation, groups)
    check(agrees, window, x_shape[0], x_shape[1], w_shape[0])
    check(agrees_checked, window, x_shape[0], x_shape[1], w_shape[0])


def test_a_split_that_a_phase_has_nothing_for(cut_into):
    """Of the phases of a 1 x 1 kernel three have no taps: their second split begins beyond their end."""
    cut_into(cuts.TILES[-1], 2)
    check(agrees_checked, Window.conv("conv", (1, 2, 4, 4), (40, 2, 1, 1), 2), 1, 2, 40)


def test_nan_and_inf_pass_through():
    window = Window.conv("conv", (1, 1, 6, 6), (1, 1, 3, 3))
    x, w, _, _ = arrays(1, 1, 1, window, np.float32)
    x[0, 0, 2, 2], x[0, 0, 5, 5] = np.nan, np.inf
    agree(conv.forward, x, w, None, window, only="cuda-emulated")


def integral(case):
    """Arrays of small whole numbers: TF32 has them all, and sums of their products are exact."""
    window, batch, C, O = case
    return tuple(np.rint(4 * array).astype(np.float32) for array in arrays(batch, C, O, window))


@every_tile
@every_window
def test_tensor_cores(tile, case, cut_into, tf32):
    cut_into(tile, 2)
    x, w, b, g = integral(case)
    for op, args in ((conv.forward, (x, w, b)), (conv.grad_input, (g, w)), (conv.grad_weight, (x, g))):
        agrees(op, *args, case[0], tolerance=0)


def test_tensor_cores_are_free_of_races(tf32):
    check(agrees_checked, Window.conv("conv", (1, 3, 4, 5), (4, 3, 2, 2), 2, 1), 2, 3, 4, tolerance=2e-2)


def test_tensor_cores_round_factors_to_ten_bits(tf32):
    """1 + 2^-11 is a tie, and goes up; what is below it goes down."""
    window = Window.conv("conv", (1, 1, 1, 2), (1, 1, 1, 1))
    x, w = (
        np.array([1 + 2**-11, 1 + 2**-11 - 2**-20], np.float32).reshape(1, 1, 1, 2),
        np.ones((1, 1, 1, 1), np.float32),
    )
    with dispatch.use("cuda-emulated"):
        np.testing.assert_array_equal(conv.forward(x, w, None, window).ravel(), np.float32([1 + 2**-10, 1]))


def test_arrays_beyond_32_bits_are_refused(monkeypatch):
    monkeypatch.setattr(cuts, "LARGEST", 100)
    window = Window.conv("conv", (1, 1, 11, 11), (1, 1, 3, 3))
    x, w, _, _ = arrays(1, 1, 1, window)
    with (
        dispatch.use("cuda-emulated"),
        pytest.raises(ShapeError, match=r"conv: expected arrays of less than 2\^30 elements"),
    ):
        conv.forward(x, w, None, window)


def test_the_cut_fits_the_product():
    """Large tiles for large products, broad ones for few channels, splits where there are
    few tiles; k is covered once.
    """
    assert cuts.cut(512, 100_000, 4608, 1).kernel == "128x128"
    assert cuts.cut(16, 100_000, 144, 1).kernel == "16x128"
    assert cuts.cut(32, 100_000, 288, 1).kernel == "32x128"
    few = cuts.cut(64, 576, 131_072, 1)
    assert few.blocks >= cuts.MULTIPROCESSORS
    for sizes in (
        (20, 28_800, 25, 1),
        (50, 500, 800, 1),
        (1, 1, 1, 1),
        (20, 25, 28_800, 1),
        (4, 4, 0, 3),
        (3, 1000, 77, 8),
    ):
        choice = cuts.cut(*sizes)
        assert (choice.splits - 1) * choice.depth < max(1, sizes[2]) <= max(1, choice.splits * choice.depth)
