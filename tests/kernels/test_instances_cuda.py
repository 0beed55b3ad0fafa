"""Instances of kernels for other dtypes than their families' tests use: the same
source, compiled once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulated import agrees, every_tile, needs_compiler
from tinydl_kernels import conv, elementwise
from tinydl_kernels.machine.window import Window
from tinydl_kernels.matmul import matmul

pytestmark = needs_compiler


@every_tile
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_products(cut_into: Any, tile: Any, dtype: Any) -> None:
    cut_into(tile, 1)
    random = np.random.default_rng(0)
    agrees(
        matmul,
        random.integers(-9, 9, (5, 11)).astype(dtype),
        random.integers(-9, 9, (11, 7)).astype(dtype),
        False,
        False,
    )


def test_depthwise_convolution_in_float64() -> None:
    random = np.random.default_rng(0)
    window = Window.conv("conv", (2, 6, 7, 6), (6, 1, 3, 3), 1, 1, 1, 6)
    x, w, g = (random.standard_normal(shape) for shape in ((2, 6, 7, 6), (6, 1, 3, 3), (2, 6, *window.out)))
    agrees(conv.forward, x, w, None, window)
    agrees(conv.grad_input, g, w, window)
    agrees(conv.grad_weight, x, g, window)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_casts_to_the_same_dtype(dtype: Any) -> None:
    agrees(elementwise.cast, np.arange(12).reshape(3, 4).T.astype(dtype), np.dtype(dtype))
