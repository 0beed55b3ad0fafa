"""SGD, Adam and AdamW go the way they have always gone, bit for bit."""

from __future__ import annotations

import golden_trajectories as golden
import numpy as np
import pytest

import tinydl as td


@pytest.mark.parametrize("record", [False, True], ids=["eager", "recorded"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", golden.CASES)
def test_the_bits_are_the_same(name: str, dtype: str, record: bool) -> None:
    expected = np.load(golden.FILE)
    with td.backend("cpu"):
        digest, values = golden.trajectory(name, dtype, record)
    np.testing.assert_array_equal(values, expected[f"{name} {dtype}"])
    assert digest == expected[f"{name} {dtype} digest"].tobytes()
