"""Tensors cut, set beside one another, turned over, put on diagonals; activations that pull towards 0."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td

from .row import Row, V, X, apart


def embedded(x: np.ndarray) -> np.ndarray:
    """(a, n) on the diagonal above the main one of (n + 1, a, n + 1)."""
    y = np.zeros((x.shape[1] + 1, x.shape[0], x.shape[1] + 1))
    for i in range(x.shape[1]):
        y[i, :, i + 1] = x[:, i]
    return y


ROWS: list[Row] = [
    Row(
        "select",
        lambda x, dim=1, index=-2: td.select(x, dim, index),
        [[(3, 4)], [(0, 3)], [(2, 2, 3)]],
        lambda x: x[:, -2],
        bad=[
            ((X, 1, 4), ShapeError, "select: expected index in [-4, 3] along dim 1, got 4"),
            ((X, 2), ShapeError, "select: expected dim in [-2, 1], got 2"),
        ],
    ),
    Row(
        "tensor_split",
        lambda x, sections=3, dim=1: td.tensor_split(x, sections, dim),
        [[(3, 4)], [(2, 1)], [(0, 5)]],
        lambda x: tuple(np.array_split(x, 3, 1)),
        bad=[((X, 0), ShapeError, "tensor_split: expected a number of sections of at least 1, got 0")],
    ),
    Row(
        "tensor_split at places",
        lambda x: td.tensor_split(x, [1, -1, 9], 1),
        [[(3, 4)], [(2, 1)]],
        lambda x: (x[:, :1], x[:, 1:-1], x[:, -1:], x[:, 9:]),
    ),
    Row(
        "hsplit",
        lambda x, sections=2: td.hsplit(x, sections),
        [[(3, 4)], [(2,)], [(0, 2)]],
        lambda x: tuple(np.split(x, 2, 1 if x.ndim > 1 else 0)),
        bad=[((X, 3), ShapeError, "hsplit: expected a number of sections that divides 4, got 3")],
    ),
    Row(
        "vsplit",
        lambda x, sections=2: td.vsplit(x, sections),
        [[(4, 3)], [(2, 0)]],
        lambda x: tuple(np.split(x, 2)),
        bad=[((V,), ShapeError, "vsplit: expected at least 2 dims, got (3,)")],
    ),
    Row(
        "dsplit",
        lambda x, sections=2: td.dsplit(x, sections),
        [[(2, 1, 4)], [(0, 2, 2)]],
        lambda x: tuple(np.split(x, 2, 2)),
        bad=[((X,), ShapeError, "dsplit: expected at least 3 dims, got (3, 4)")],
    ),
    *[
        Row(
            f"atleast_{n}d",
            getattr(td, f"atleast_{n}d"),
            [[(3,)], [()], [(2, 3)], [(0,)]],
            getattr(np, f"atleast_{n}d"),
        )
        for n in (1, 2, 3)
    ],
    Row(
        "column_stack",
        lambda *xs: td.column_stack(xs),
        [[(3,), (3, 2)], [(1,), ()], [(0, 2), (0,)]],
        lambda *xs: np.column_stack(xs),
        bad=[((), ShapeError, "column_stack: expected at least one tensor, got none")],
    ),
    Row(
        "dstack",
        lambda *xs: td.dstack(xs),
        [[(3, 2), (3, 2)], [(), (1,)], [(2, 2, 1), (2, 2)]],
        lambda *xs: np.dstack(xs),
        bad=[((), ShapeError, "dstack: expected at least one tensor, got none")],
    ),
    Row(
        "fliplr",
        td.fliplr,
        [[(3, 4)], [(1, 0)]],
        np.fliplr,
        bad=[((V,), ShapeError, "fliplr: expected at least 2 dims, got (3,)")],
    ),
    Row(
        "flipud",
        td.flipud,
        [[(3, 4)], [(2,)]],
        np.flipud,
        bad=[((td.tensor(1.0),), ShapeError, "flipud: expected at least 1 dims, got ()")],
    ),
    Row(
        "diag_embed",
        lambda x, offset=1, dim1=0, dim2=-1: td.diag_embed(x, offset, dim1, dim2),
        [[(2, 3)], [(1, 1)], [(0, 2)]],
        embedded,
        bad=[
            ((X, 0, 2, -1), ShapeError, "diag_embed: expected two different dims, got 2 and -1"),
            ((td.tensor(1.0),), ShapeError, "diag_embed: expected at least 1 dims, got ()"),
        ],
    ),
    Row(
        "hardshrink",
        td.hardshrink,
        [[apart(3, 4)], [()], [(0, 2)]],
        lambda x: np.where(np.abs(x) > 0.5, x, 0),
        bad=[((X > 0,), DtypeError, "hardshrink: expected float32 or float64, got bool")],
    ),
    Row(
        "softshrink",
        lambda x, lambd=0.3: td.softshrink(x, lambd),
        [[apart(3, 4)], [()], [(0, 2)]],
        lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.3, 0),
        bad=[
            ((X, -1), ValueError, "softshrink: expected lambd of at least 0, got -1"),
            ((X > 0,), DtypeError, "softshrink: expected float32 or float64, got bool"),
        ],
    ),
    Row(
        "tanhshrink",
        td.tanhshrink,
        [[(3, 4)], [()], [(0, 2)]],
        lambda x: x - np.tanh(x),
        bad=[((X > 0,), DtypeError, "tanhshrink: expected numbers, got bool")],
    ),
]
