"""The CUDA kernels of pooling and of windows, on the emulator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from emulated import agrees, agrees_checked, needs_compiler
from tinydl_kernels import pool, unfold
from tinydl_kernels.cuda import launching
from tinydl_kernels.machine.window import Window

pytestmark = needs_compiler

CASES = {
    "halves": ((2, 3, 6, 8), 2, 2, 0, 1, False),
    "overlapping, padded": ((2, 2, 7, 5), 3, 2, 1, 1, False),
    "gaps": ((1, 2, 7, 6), (2, 3), (3, 1), (1, 0), (1, 2), True),
    "one axis": ((1, 1, 9), 4, 3, 2, 1, True),
    "three axes": ((1, 2, 3, 4, 5), (2, 3, 2), (1, 2, 2), (1, 1, 0), 1, False),
    "several threads to a window": ((1, 3, 12, 13), (11, 9), 1, 4, 1, False),
    "one element": ((1, 1, 1, 1), 1, 1, 0, 1, False),
    "no planes": ((0, 2, 4, 4), 2, 2, 0, 1, False),
}


def check_pool(agrees: Callable[..., None], case: str, dtype: type) -> None:
    shape, *settings, ceil_mode = CASES[case]
    window = Window.pool("pool", shape, *settings, ceil_mode, len(shape) - 2)
    generator = np.random.default_rng(0)
    x = generator.choice([-np.inf, -2.0, -1.0, 3.0, np.nan], shape).astype(dtype)
    agrees(pool.max_forward, x, window)
    agrees(pool.adaptive_max_forward, x, window.out)
    smooth, g = (
        generator.standard_normal(shape).astype(dtype),
        generator.standard_normal((*shape[:2], *window.out)).astype(dtype),
    )
    _, indices = pool.max_forward(smooth, window)
    agrees(pool.gather, smooth, indices)
    agrees(pool.scatter, g, indices, window.input, window, tolerance=0)
    agrees(pool.scatter, g, pool.adaptive_max_forward(smooth, window.out)[1], window.input, None, tolerance=0)
    for include_pad, divisor in ((True, None), (False, None), (False, 3)):
        agrees(pool.avg_forward, smooth, window, include_pad, divisor)
        agrees(pool.avg_backward, g, window, include_pad, divisor)


@pytest.mark.parametrize("case", CASES)
def test_pool(case):
    check_pool(agrees, case, np.float32)


@pytest.mark.parametrize("case", ["gaps", "several threads to a window"])
def test_pool_checked(case):
    check_pool(agrees_checked, case, np.float64)


def test_more_windows_than_threads(monkeypatch):
    monkeypatch.setattr(launching, "MAX_BLOCKS", 1)
    check_pool(agrees_checked, "halves", np.float64)
    check_pool(agrees, "several threads to a window", np.float32)


def check_unfold(agrees: Callable[..., None], case: str, dtype: type) -> None:
    shape, *settings, _ = CASES[case]
    window = Window.pool("unfold", shape, *settings, False, len(shape) - 2)
    generator = np.random.default_rng(0)
    agrees(unfold.unfold, generator.standard_normal(shape).astype(dtype), window, tolerance=0)
    columns = shape[0], shape[1] * int(np.prod(window.kernel)), int(np.prod(window.out))
    agrees(unfold.fold, generator.standard_normal(columns).astype(dtype), window)


@pytest.mark.parametrize("case", [case for case in CASES if "several" not in case])
def test_unfold(case):
    for dtype in (np.float32, np.float64):
        check_unfold(agrees, case, dtype)


def test_unfold_checked():
    check_unfold(agrees_checked, "gaps", np.float64)
