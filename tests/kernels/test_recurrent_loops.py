"""Recurrent layers on the processor: against the reference, and the reference against differences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from recurrences import CELLS, Sizes, check, given
from tinydl_kernels.machine.validate import agree

on_cpu = partial(agree, only="cpu")
SIZES = [Sizes(5, 3, 4), Sizes(3, 21, 40), Sizes(1, 1, 1), Sizes(2, 150, 17), Sizes(2, 0, 3), Sizes(2, 3, 0)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_against_the_reference(cell, sizes):
    for reverse, whole, ends in ((False, True, True), (True, True, True), (False, False, False)):
        check(on_cpu, given(cell, sizes, np.float64, reverse, whole, ends), 1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_in_float32(cell):
    check(on_cpu, given(cell, Sizes(4, 9, 33), np.float32, True, True, True), 2e-4)
