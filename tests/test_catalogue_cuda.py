"""Walks the catalogue on the CUDA sources, to the second order: emulated in three orders of
threads, and as arrays of a GPU.

The emulator runs the launches; NumPy stands in for what CuPy does itself, and numpy_stand_ins.txt lists that.
Everything is held against the reference, and the orders against each other, bit for bit.
"""

from __future__ import annotations

from pathlib import Path

import fake_cupy
import numpy as np
import pytest
from catalogue import ROWS, Row
from catalogue.orders import assert_close, assert_same_bits, to_second_order
from tinydl_kernels import emulator
from tinydl_kernels.machine import dispatch

import tinydl as td

NUMPY_STAND_INS = Path(__file__).with_name("numpy_stand_ins.txt")
MODES = [emulator.Mode(), emulator.Mode("reversed"), emulator.Mode("random", seed=11)]

needs_compiler = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))


@needs_compiler
@every_row
def test_emulated_in_every_order_of_threads(row: Row) -> None:
    for sample in row.samples:
        arrays = row.arrays(sample)
        with td.backend("reference"):
            expected = to_second_order(row, arrays)
        found = []
        with td.backend("cuda-emulated"):
            for mode in MODES:
                with emulator.mode(mode.order, mode.check, mode.seed):
                    found.append(to_second_order(row, arrays))
        assert_close(found[0], expected, 1e-12)
        for other in found[1:]:
            assert_same_bits(other, found[0])


@needs_compiler
@every_row
def test_on_arrays_of_a_gpu(row: Row) -> None:
    """In float32: what the emulated backend gives, and no NumPy array among the arrays of the GPU."""
    if np.float32 not in row.dtypes:
        pytest.skip("other random numbers in float32")
    arrays = row.arrays(row.samples[0], np.float32)
    with td.backend("reference"):
        expected = to_second_order(row, arrays)
    with td.backend("cuda-emulated"):
        emulated = to_second_order(row, arrays)
    assert_close(emulated, expected, 20 * row.tolerance)
    with fake_cupy.installed():
        assert_same_bits(to_second_order(row, arrays, "cuda"), emulated)


@pytest.mark.tiny
def test_what_cupy_does_itself_is_listed() -> None:
    """Any other operation has kernels of its own, or none at all, which is an error:
    nothing falls back in silence.
    """
    lines = NUMPY_STAND_INS.read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    assert listed == [name for name in dispatch.numpy_stand_ins() if not name.startswith("test_")]
    for operation in dispatch.operations.values():
        emulated, reference = (operation.implementations.get(name) for name in ("cuda-emulated", "reference"))
        assert emulated is not reference or operation.name in listed
