"""Matrix products on the GPU, emulated: every tile, split, transposition and batch."""

from __future__ import annotations

import numpy as np
import pytest
from emulated import agrees, agrees_checked, every_tile, needs_compiler
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from tinydl_kernels.cuda import cuts, launching
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import DtypeError
from tinydl_kernels.machine.validate import agree
from tinydl_kernels.matmul import launches, matmul

pytestmark = needs_compiler
TRANSPOSED = [(False, False), (False, True), (True, False), (True, True)]


def operands(I, K, J, transposed, dtype=np.float32, batches=((), ())):
    random = np.random.default_rng(0)
    shapes = (K, I) if transposed[0] else (I, K), (J, K) if transposed[1] else (K, J)
    return [
        (3 * random.standard_normal(batch + shape)).astype(dtype)
        for batch, shape in zip(batches, shapes, strict=True)
    ]


@every_tile
@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("transposed", TRANSPOSED)
def test_every_tile(tile, splits, transposed, cut_into):
    cut_into(tile, splits)
    for sizes in ((37, 50, 61), (36, 52, 64)):  # the latter in packs of 16 bytes
        agrees(matmul, *operands(*sizes, transposed), *transposed, tolerance=1e-4)


@every_tile
@pytest.mark.parametrize("transposed", TRANSPOSED)
def test_every_tile_is_free_of_races(tile, transposed, cut_into):
    cut_into(tile, 2)
    for sizes in ((5, 33, 7), (8, 36, 8)):
        agrees_checked(matmul, *operands(*sizes, transposed), *transposed, tolerance=1e-4)


@every_tile
@pytest.mark.parametrize("transposed", TRANSPOSED)
def test_tensor_cores(tile, transposed, cut_into, tf32):
    cut_into(tile, 2)
    a, b = map(np.rint, operands(37, 50, 61, transposed))
    agrees(matmul, a, b, *transposed, tolerance=0)


@pytest.fixture
def before_sm_80(monkeypatch):
    """No asynchronous copies, no tensor cores."""
    module = launching.Module(
        launching.module("matmul", np.dtype(np.float32)).path, np.dtype(np.float32), True
    )
    module.source = "#undef __CUDA_ARCH__\n#define __CUDA_ARCH__ 750\n" + module.source
    monkeypatch.setattr(cuts, "module", lambda *_: module)


@every_tile
def test_copies_by_way_of_registers(tile, cut_into, before_sm_80):
    cut_into(tile, 2)
    for transposed in TRANSPOSED:
        for sizes in ((37, 50, 61), (36, 52, 64)):
            agrees(matmul, *operands(*sizes, transposed), *transposed, tolerance=1e-4)
    agrees_checked(matmul, *operands(8, 36, 8, (True, False)), True, False, tolerance=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_batch_and_transposition(data):
    batches = data.draw(
        mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0)
    ).input_shapes
    sizes = [data.draw(st.integers(0, 5)) for _ in range(3)]
    transposed = data.draw(st.sampled_from(TRANSPOSED))
    dtype = data.draw(st.sampled_from([np.float64, np.int64]))
    agree(matmul, *operands(*sizes, transposed, dtype, batches), *transposed, only="cuda-emulated")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("sizes", [(1, 300, 1), (1, 5, 40), (90, 20, 3), (3, 400, 5)])
def test_long_and_thin(sizes, dtype):
    a, b = operands(*sizes, (False, True), dtype)
    agrees(matmul, a, b, False, True, tolerance=1e-4)
    agrees_checked(matmul, a, b, False, True, tolerance=1e-4)


def test_operands_off_the_vector_alignment():
    a, b = (
        np.arange(1, 18, dtype=np.float32)[1:].reshape(4, 4),
        np.arange(17, dtype=np.float32)[1:].reshape(4, 4),
    )
    agrees(matmul, a, b, True, False)


def test_what_lies_outside_has_an_aligned_address(cut_into):
    """Copies of 16 bytes whose last step along k has nothing to bring: a GPU checks their addresses too."""
    a, b = (
        np.random.default_rng(0).standard_normal(shape).astype(np.float32) for shape in ((10, 8), (10, 12))
    )
    cut_into(cuts.TILES[-1], 1)
    agrees_checked(matmul, a, b, True, False)


def test_integers_wrap_around():
    a = np.full((1, 2), 2**62, np.int64)
    agrees(matmul, a, a, False, True)


def test_dtypes_without_a_kernel_are_refused():
    a = np.ones((2, 2), bool)
    with (
        dispatch.use("cuda-emulated"),
        pytest.raises(DtypeError, match="expected two float32, float64 or int64 arrays"),
    ):
        matmul(a, a)


def test_axes_that_can_be_walked_as_one_are_one():
    assert launches._axes((2, 3, 4), (2, 3, 4), (4,), 10, 100) == [(6, 40, 0), (4, 10, 100)]
    assert launches._axes((2, 3, 4), (2, 3, 4), (2, 3, 4), 10, 100) == [(24, 10, 100)]
    assert launches._axes((2, 1, 4), (2, 1, 1), (4,), 10, 100) == [(2, 10, 0), (4, 0, 100)]
    assert launches._axes((), (), (), 10, 100) == []
