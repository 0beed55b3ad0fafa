"""The CUDA kernels of recurrent layers, on the emulator."""

from __future__ import annotations

import numpy as np
import pytest
from emulated import agrees, agrees_checked, needs_compiler
from recurrences import CELLS, Sizes, check, given

pytestmark = needs_compiler


@pytest.mark.parametrize(
    ("dtype", "reverse", "whole", "ends", "tolerance"),
    [(np.float32, False, False, False, 1e-4), (np.float64, True, True, True, 1e-11)],
)
@pytest.mark.parametrize("cell", CELLS)
def test_layers(cell, dtype, reverse, whole, ends, tolerance):
    check(agrees, given(cell, Sizes(3, 2, 5), dtype, reverse, whole, ends), tolerance)


@pytest.mark.parametrize("cell", ["relu", "lstm", "gru"])
def test_layers_checked(cell):
    """With more units than a warp has lanes."""
    check(agrees_checked, given(cell, Sizes(3, 2, 35), np.float64, False, True, True), 1e-11)
