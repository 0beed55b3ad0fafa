"""Sums with a factor, quotients that are rounded, remainders."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td

from .row import (
    PAIRS,
    WORD,
    Row,
    V,
    X,
    between,
    binary,
    normal,
    positive,
    samples_of,
    unary,
)

WHOLE = td.tensor([7, -7])


def quotient(name: str, reference: object, covers: str) -> Row:
    """Of numbers whose quotient is no integer."""
    bad = [
        ((X, V), ShapeError, f"{name}: expected shapes that broadcast, got (3, 4), (3,)"),
        ((X, "a"), DtypeError, f"{name}: {WORD}"),
        ((WHOLE, 0), ZeroDivisionError, f"{name}: expected a divisor other than 0 of integers, got 0"),
    ]
    samples = [[between(2.2, 2.4)(*m), between(0.9, 1.0)(*n)] for m, n in PAIRS]
    return Row(name, getattr(td, name), samples, reference, covers, bad=bad)  # type: ignore[arg-type]


ROWS: list[Row] = [
    binary("add", td.add, np.add),
    binary("sub", td.sub, np.subtract),
    binary("div", td.div, np.divide, b=positive),
    Row(
        "add alpha",
        lambda x, y, alpha=-0.5: td.add(x, y, alpha=alpha),
        [[(3, 4), (4,)], [(), ()]],
        lambda x, y: x - 0.5 * y,
        "core.add",
        bad=[((WHOLE, WHOLE, 0.5), DtypeError, "add: expected alpha an integer for integers, got 0.5")],
    ),
    Row(
        "sub alpha",
        lambda x, y, alpha=-0.5: td.sub(x, y, alpha=alpha),
        [[(3, 4), (4,)], [(), ()]],
        lambda x, y: x + 0.5 * y,
        "elementwise.sub",
        bad=[((X, V, "a"), DtypeError, "sub: expected alpha a number, got 'a'")],
    ),
    Row(
        "div floor",
        lambda x, y, mode="floor": td.div(x, y, rounding_mode=mode),
        [[between(2.2, 2.4)(3, 4), between(0.9, 1.0)(4)]],
        np.floor_divide,
        bad=[((X, X, "up"), ValueError, "div: expected rounding_mode None, 'floor' or 'trunc', got 'up'")],
    ),
    Row(
        "div trunc",
        lambda x, y: td.div(-x, y, rounding_mode="trunc"),
        [[between(2.2, 2.4)(3, 4), between(0.9, 1.0)(4)]],
        lambda x, y: np.trunc(-x / y),
        "elementwise.div",
    ),
    quotient("floor_divide", np.floor_divide, "arithmetic.floor_divide"),
    quotient("remainder", np.remainder, "arithmetic.remainder"),
    quotient("fmod", np.fmod, "arithmetic.fmod"),
    unary("round", td.round, np.rint, between(0.6, 1.4), covers="elementwise.round"),
    Row(
        "round decimals",
        lambda x: td.round(x, decimals=1),
        [[between(0.26, 0.34)(3, 4)]],
        lambda x: np.round(x, 1),
    ),
    Row("Tensor.__mod__", lambda x: x % 0.7, samples_of(between(0.8, 1.3)), lambda x: x % 0.7),
    Row("Tensor.__floordiv__", lambda x: x // 0.7 * x, samples_of(between(0.8, 1.3)), lambda x: x // 0.7 * x),
    Row("Tensor.__rsub__", lambda x: 1.0 - x, samples_of(normal), lambda x: 1 - x),
]
