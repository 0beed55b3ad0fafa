"""What the tests of recurrent layers share: operands, and the three operations held to their references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels import recurrent
from tinydl_kernels.machine import dispatch
from tinydl_kernels.recurrent.parts import GATES

CELLS = tuple(GATES)


class Sizes(NamedTuple):
    T: int
    N: int
    H: int


class Given(NamedTuple):
    """The operands of the three operations; what they may do without is here and there None."""

    layer: tuple[Any, ...]
    layer_dx: tuple[Any, ...]
    layer_dx_dx: tuple[Any, ...]


def given(cell: str, sizes: Sizes, dtype: Any, reverse: bool, whole: bool, ends: bool) -> Given:
    """`whole`: nothing is None; ends: sequences have lengths, and NaN behind them."""
    T, N, H = sizes
    random = np.random.default_rng(0)
    lstm, rows = cell == "lstm", GATES[cell] * H

    def normal(*shape: int, wanted: bool = True) -> Any:
        drawn = random.standard_normal(shape).astype(dtype)
        return drawn if wanted else None

    p, w = normal(T, N, rows), normal(rows, H) / dtype(max(H, 1) ** 0.5)
    b, h0, c0 = normal(rows, wanted=whole), normal(N, H, wanted=whole), normal(N, H, wanted=whole and lstm)
    lengths = random.integers(1, T + 1, N) if ends else None
    if lengths is not None:
        p[np.arange(T)[:, None] >= lengths] = np.nan
    layer = (p, w, b, h0, c0, lengths, cell, reverse)
    gy, gh, gc = normal(T, N, H), normal(N, H, wanted=whole), normal(N, H, wanted=whole and lstm)
    with dispatch.use("reference"):
        *_, before, gates = recurrent.layer(*layer)
        layer_dx = (gy, gh, gc, w, lengths, before, gates, cell, reverse, whole)
        dp, *_, du, adjoint = recurrent.layer_dx(*layer_dx)
    v = (
        normal(T, N, rows), normal(rows, H, wanted=whole), normal(rows, wanted=whole),
        normal(N, H, wanted=whole), normal(N, H, wanted=whole and lstm),
    )  # fmt: skip
    saved = lengths, before, gates, dp if du is None else du, adjoint
    layer_dx_dx = (*v, gy, gh, gc, p, w, b, h0, c0, *saved, cell, reverse, whole)
    return Given(layer, layer_dx, layer_dx_dx)


def check(agrees: Callable[..., Any], given: Given, tolerance: float | None = None) -> None:
    agrees(recurrent.layer, *given.layer, tolerance=tolerance)
    agrees(recurrent.layer_dx, *given.layer_dx, tolerance=tolerance)
    agrees(recurrent.layer_dx_dx, *given.layer_dx_dx, tolerance=tolerance)
