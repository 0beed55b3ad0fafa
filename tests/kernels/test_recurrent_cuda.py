"""The CUDA kernels of recurrent layers, on the emulator."""

from __future__ import annotations

import numpy as np
import pytest
from emulated import agrees, agrees_checked, needs_compiler
from recurrences import CELLS, Sizes, check, given

pytestmark = needs_compiler


@pytest.mark.parametrize(("reverse", "whole", "ends"), [(False, False, False), (True, True, True)])
@pytest.mark.parametrize("cell", CELLS)
def test_layers(cell, reverse, whole, ends):
    check(agrees, given(cell, Sizes(3, 2, 5), np.float32, reverse, whole, ends), 1e-4)


@pytest.mark.parametrize("cell", ["relu", "lstm", "gru"])
def test_layers_checked(cell):
    """With more units than a warp has lanes."""
    check(agrees_checked, given(cell, Sizes(3, 2, 35), np.float64, False, True, True), 1e-11)
