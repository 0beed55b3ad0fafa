"""Cuts into tasks: more of them for many threads, and the bits of one thread."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tinydl_kernels import conv
from tinydl_kernels.conv import winograd
from tinydl_kernels.cpu import compiler, slots, threads
from tinydl_kernels.cpu.product import product
from tinydl_kernels.machine.window import Window

import tinydl as td

COUNTS = 1, 2, 8, 64
# (N, C, O, size, kernel, stride, pad, dilation, groups); the loop that does the work of each primitive, and
# into how many pieces at least for 64 threads
CONVOLUTIONS = {
    "Winograd": (
        (64, 64, 144, 32, 3, 1, 1, 1, 1),
        {"_forward": 64, "_forward ": 64, "_filter_gradients": 18},
    ),
    "outputs": (
        (64, 64, 96, 32, 3, 2, 1, 1, 1),
        {"forward_outputs": 64, "_columns": 64, "grad_weight_outputs": 64},
    ),
    "pixels": (
        (64, 24, 24, 112, 3, 1, 1, 1, 24),
        {"forward_pixels": 64, "forward_pixels ": 64, "grad_weight_pixels": 64},
    ),
    "one image": (
        (1, 128, 96, 72, 3, 1, 2, 2, 1),
        {"forward_outputs": 64, "forward_outputs ": 64, "grad_weight_outputs": 48},
    ),
}


@pytest.fixture(autouse=True)
def _threads():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


@pytest.fixture
def pieces(monkeypatch, plain_calls):
    """By the name of a loop, into how many pieces it was cut last."""
    found, run = {}, compiler.Parallel.__call__

    def call(self, n, grain, *args):
        found[self.function.__name__] = -(-n // max(grain, 1))
        run(self, n, grain, *args)

    monkeypatch.setattr(compiler.Parallel, "__call__", call)
    return found


def convolutions(settings):
    """The three primitives on random arrays."""
    N, C, O, size, k, stride, pad, dilation, G = settings
    window = Window.conv("conv", (N, C, size, size), (O, C // G, k, k), stride, pad, dilation, G)
    random = np.random.default_rng(0)
    x, w, g = (
        random.standard_normal(shape).astype(np.float32)
        for shape in ((N, C, size, size), (O, C // G, k, k), (N, O, *window.out))
    )
    return [
        lambda: conv.forward(x, w, None, window),
        lambda: conv.grad_input(g, w, window),
        lambda: conv.grad_weight(x, g, window),
    ]


@pytest.mark.parametrize(("settings", "loops"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions(settings, loops, pieces) -> None:
    for call, (loop, most) in zip(convolutions(settings), loops.items(), strict=True):
        results, cuts = [], []
        for count in COUNTS:
            threads.set_num_threads(count)
            pieces.clear()
            results.append(call())
            cuts.append(pieces[loop.strip()])
        for result in results[1:]:
            np.testing.assert_array_equal(results[0], result)
        assert cuts[0] == cuts[1], loop
        assert cuts == sorted(cuts), loop
        assert cuts[-1] >= most, loop


@pytest.mark.parametrize("sizes", [(4096, 40, 3072), (1024, 300, 1024), (70, 500, 4000)])
def test_products(sizes, pieces) -> None:
    I, K, J = sizes
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape).astype(np.float32) for shape in ((I, K), (K, J)))
    results, cuts = [], []
    for count in COUNTS:
        threads.set_num_threads(count)
        y = np.empty((I, J), np.float32)
        product(a, b, y)
        results.append(y)
        cuts.append(pieces["_tiles"])
    for result in results[1:]:
        np.testing.assert_array_equal(results[0], result)
    assert cuts == sorted(cuts)
    assert cuts[-1] >= min(64, 2 * math.prod(sizes) // slots.WORTH) // 2


def test_more_threads_than_rows_of_scratch() -> None:
    """A recording keeps the scratch of the threads that there were; those that have come since wait."""
    x, w = td.randn(64, 64, 16, 16), td.randn(64, 64, 3, 3)
    threads.set_num_threads(slots.FEW + 8)
    step = td.record(lambda x: td.conv2d(x, w, padding=1))
    first = step(x).numpy()
    threads.set_num_threads(2)
    step = td.record(lambda x: td.conv2d(x, w, padding=1))
    step(x), step(x)
    threads.set_num_threads(slots.FEW + 8)
    np.testing.assert_array_equal(step(x).numpy(), first)
    assert winograd.TASKS == slots.FEW  # what there is room for at two threads
