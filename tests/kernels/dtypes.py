"""The dtypes that a kernel is tested in. Numba compiles it for each, which takes longer
than all that is then computed.
"""

from __future__ import annotations

import numpy as np
import pytest

either_width = pytest.mark.parametrize(
    "dtype", [pytest.param(np.float32, marks=pytest.mark.full), np.float64]
)
"""Double precision in the quick run, which the catalogue takes too; single precision in the full one.

Kernels that the training of small networks compiles in single precision anyway are tested in both at once.
"""
