"""Fixtures of several tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tinydl_kernels.cpu.calls import Calls
from tinydl_kernels.cuda import cuts
from tinydl_kernels.machine import precision


@pytest.fixture
def cut_into(monkeypatch: pytest.MonkeyPatch) -> Callable[[cuts.Tile, int], None]:
    """Call it with a tile and a number of splits: every product is cut so."""
    return lambda tile, splits: monkeypatch.setattr(
        cuts, "cut", lambda *sizes: cuts._cut(tile, splits, *sizes)
    )


@pytest.fixture
def plain_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call is kept, so that the Python of each implementation runs, which the test looks at or alters."""
    monkeypatch.setattr(Calls, "__call__", lambda own, *args: own.implementation(*args))


@pytest.fixture
def tf32() -> Iterator[None]:
    """Tensor cores."""
    precision.set_float32_matmul_precision("high")
    yield
    precision.set_float32_matmul_precision("highest")
