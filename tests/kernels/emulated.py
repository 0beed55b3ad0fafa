"""What the tests of CUDA kernels share: the emulator's modes, and the agreement of an operation with its reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from tinydl_kernels import emulator, gemm
from tinydl_kernels.dispatch import Operation
from tinydl_kernels.validate import agree

needs_compiler = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
ORDERS = {"forward": emulator.Mode(), "reversed": emulator.Mode("reversed"), "random": emulator.Mode("random", seed=5)}
CHECKED = emulator.Mode("random", check=True, seed=6)
MODES = {**ORDERS, "checked": CHECKED}
every_tile = pytest.mark.parametrize("tile", gemm.TILES, ids=lambda tile: f"{tile.rows}x{tile.columns}")


def use(mode: emulator.Mode) -> AbstractContextManager[None]:
    return emulator.mode(mode.order, mode.check, mode.seed)


@pytest.fixture(params=MODES)
def each_mode(request: pytest.FixtureRequest) -> Iterator[None]:
    """The three orders of threads, and the checker."""
    with use(MODES[request.param]):
        yield


def agrees(op: Operation, *args: Any, tolerance: float | None = None) -> None:
    """In every order of threads: the emulated operation gives what the reference gives."""
    for mode in ORDERS.values():
        with use(mode):
            agree(op, *args, tolerance=tolerance, only="cuda-emulated")


def agrees_checked(op: Operation, *args: Any, tolerance: float | None = None) -> None:
    """With races, bounds and uninitialized shared memory watched."""
    with use(CHECKED):
        agree(op, *args, tolerance=tolerance, only="cuda-emulated")
