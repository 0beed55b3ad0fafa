"""Products of matrices."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl.ops import matmul

from .row import (
    Row,
    V,
    X,
)

ROWS: list[Row] = [
    Row(
        "matmul",
        td.matmul,
        [
            [(3, 4), (4, 2)],
            [(4,), (4,)],
            [(2, 3, 4), (4,)],
            [(4,), (2, 4, 3)],
            [(2, 1, 3, 4), (5, 4, 2)],
            [(1, 1), (1, 1)],
            [(2, 3, 4), (4, 2)],
            [(0, 4), (4, 2)],
            [(3, 0), (0, 2)],
        ],
        np.matmul,
        bad=[
            ((X, X), ShapeError, "matmul: expected inner sizes that agree, got (3, 4) @ (3, 4)"),
            (
                (X, td.ones(4, 2, dtype="float64")),
                DtypeError,
                "matmul: expected one dtype, got float32 and float64",
            ),
            (
                (td.ones(2, 3, 4), td.ones(3, 4, 2)),
                ShapeError,
                "matmul: expected leading sizes that broadcast",
            ),
        ],
    ),
    *[
        Row(
            f"matmul.matmul {ta:d}{tb:d}",
            lambda a, b, ta=ta, tb=tb: matmul._matmul(a, b, ta=ta, tb=tb),
            [
                [(4, 3) if ta else (3, 4), (2, 4) if tb else (4, 2)],
                [(2, 4, 3) if ta else (2, 3, 4), (2, 4) if tb else (4, 2)],
            ],
            lambda a, b, ta=ta, tb=tb: (a.swapaxes(-1, -2) if ta else a) @ (b.swapaxes(-1, -2) if tb else b),
            "matmul.matmul",
        )
        for ta in (False, True)
        for tb in (False, True)
    ],
    Row(
        "matmul.linear",
        matmul._linear,
        [[(5, 4), (3, 4), (3,)], [(1, 2), (70, 2), (70,)], [(2, 0), (3, 0), (3,)]],
        lambda x, w, b: x @ w.T + b,
        "matmul.linear",
    ),
    Row(
        "linear",
        td.linear,
        [[(5, 4), (3, 4), (3,)], [(2, 3, 4), (1, 4), (1,)], [(4,), (3, 4)], [(0, 4), (3, 4), (3,)]],
        lambda x, w, b=0.0: x @ w.T + b,
        bad=[
            (
                (X, td.ones(3, 3)),
                ShapeError,
                "linear: expected input (*, in), weight (out, in), bias (out,), got input (3, 4)",
            )
        ],
    ),
    Row(
        "mm",
        td.mm,
        [[(3, 4), (4, 2)]],
        np.matmul,
        bad=[((X, X), ShapeError, "mm: expected (n, k) and (k, m), got")],
    ),
    Row(
        "bmm",
        td.bmm,
        [[(2, 3, 4), (2, 4, 2)]],
        np.matmul,
        bad=[((X, X), ShapeError, "bmm: expected (b, n, k) and (b, k, m), got")],
    ),
    Row(
        "mv",
        td.mv,
        [[(3, 4), (4,)]],
        np.matmul,
        bad=[((X, X), ShapeError, "mv: expected (n, k) and (k,), got")],
    ),
    Row(
        "dot",
        td.dot,
        [[(4,), (4,)], [(0,), (0,)]],
        np.dot,
        bad=[((X, X), ShapeError, "dot: expected (k,) and (k,), got")],
    ),
    Row(
        "outer",
        td.outer,
        [[(3,), (4,)]],
        np.outer,
        bad=[((X, V), ShapeError, "outer: expected (n,) and (m,), got (3, 4) and (3,)")],
    ),
    Row(
        "cross",
        td.cross,
        [[(2, 3), (2, 3)]],
        np.cross,
        bad=[((X[:2], X[:2]), ShapeError, "cross: expected a dim of size 3")],
    ),
    Row("kron", td.kron, [[(2, 3), (3, 2)], [(2,), (2, 2)]], np.kron),
    *[
        Row(
            f"einsum {equation}",
            lambda *xs, e=equation: td.einsum(e, *xs),
            [shapes],
            lambda *xs, e=equation: np.einsum(e, *xs),
        )
        for equation, *shapes in (
            ("ij,jk->ik", (3, 4), (4, 2)),
            ("bij,bkj->bik", (2, 3, 4), (2, 2, 4)),
            ("ii->i", (3, 3)),
            ("ij->", (3, 2)),
            ("i,j,ijk->k", (2,), (3,), (2, 3, 2)),
            ("...i,i", (2, 3, 4), (4,)),
        )
    ],
    Row(
        "bilinear",
        td.bilinear,
        [[(5, 3), (5, 2), (4, 3, 2), (4,)], [(2, 2, 1), (2, 2, 3), (2, 1, 3), (2,)]],
        lambda x, y, w, b: np.einsum("...i,oij,...j->...o", x, w, y) + b,
        bad=[
            (
                (X, X, td.ones(2, 4, 3)),
                ShapeError,
                "bilinear: expected input1 (*, in1), input2 (*, in2), weight (out, in1, in2), got",
            )
        ],
    ),
]
