"""What the tests of CUDA kernels share: the emulator's modes, and the agreement of an
operation with its reference.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
from tinydl_kernels import emulator
from tinydl_kernels.cuda import cuts
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.dispatch import Operation
from tinydl_kernels.machine.validate import agree, leaves

needs_compiler = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
ORDERS = {
    "forward": emulator.Mode(),
    "reversed": emulator.Mode("reversed"),
    "random": emulator.Mode("random", seed=5),
}
CHECKED = emulator.Mode("random", check=True, seed=6)
MODES = {**ORDERS, "checked": CHECKED}
every_tile = pytest.mark.parametrize("tile", cuts.TILES, ids=lambda tile: f"{tile.rows}x{tile.columns}")


def use(mode: emulator.Mode) -> AbstractContextManager[None]:
    return emulator.mode(mode.order, mode.check, mode.seed)


@pytest.fixture(params=MODES)
def each_mode(request: pytest.FixtureRequest) -> Iterator[None]:
    """The three orders of threads, and the checker."""
    with use(MODES[request.param]):
        yield


def agrees(op: Operation, *args: Any, tolerance: float | None = None) -> None:
    """The emulated operation gives what the reference gives, and the same bits in every order of threads."""
    agree(op, *args, tolerance=tolerance, only="cuda-emulated")
    forward, *others = (bits(op, mode, copy.deepcopy(args)) for mode in ORDERS.values())
    for other in others:
        assert other == forward, f"{op.name}: other bits in another order of threads"


def bits(op: Operation, mode: emulator.Mode, args: tuple[Any, ...]) -> list[bytes]:
    """What the arrays hold that the emulated operation returns, and those that it may have written to."""
    with use(mode), dispatch.use("cuda-emulated"):
        result = op(*args)
    return [leaf.tobytes() for leaf in leaves((result, args)) if isinstance(leaf, np.ndarray)]


def agrees_checked(op: Operation, *args: Any, tolerance: float | None = None) -> None:
    """With races, bounds and uninitialized shared memory watched."""
    with use(CHECKED):
        agree(op, *args, tolerance=tolerance, only="cuda-emulated")
