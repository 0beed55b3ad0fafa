"""Products of matrices."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, LinAlgError, ShapeError

import tinydl as td
from tinydl import linalg
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
    Row(
        "matmul turned",
        lambda a, b: td.matmul(a.transpose(-1, -2), b.transpose(-1, -2)),
        [
            [(4, 3), (2, 4)],
            [(2, 4, 3), (2, 2, 4)],
            [(2, 5, 4, 3), (2, 4)],
            [(4, 1), (1, 4)],
            [(0, 3), (2, 0)],
        ],
        lambda a, b: a.swapaxes(-1, -2) @ b.swapaxes(-1, -2),
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


def _mT(x):
    return x.swapaxes(-1, -2)


def _shifted(x):
    """Symmetric positive-definite."""
    return x @ _mT(x) + np.eye(x.shape[-1])


def _spd(x):
    return x @ x.transpose(-1, -2) + td.eye(x.shape[-1], dtype=x.dtype, device=x.device)


def _symmetric(x):
    return x + (x.transpose(-1, -2) if isinstance(x, td.Tensor) else _mT(x))


def _unsigned(values, vectors):
    """Eigenvectors are determined up to their signs."""
    return values, vectors * vectors


def _unsigned_svd(u, s, vh):
    return u * u, s, vh * vh, (u[..., : s.shape[-1]] * s[..., None, :]) @ vh[..., : s.shape[-1], :]


def _unsigned_qr(q, r):
    return q * q, r * r, q @ r


SQUARE, VECTORS = [[(3, 3)], [(2, 1, 3, 3)], [(1, 1)], [(0, 2, 2)]], [(2, 3, 3), (2, 3)]
PLANES, LINES = [[(4, 3)], [(3, 3)], [(2, 3, 4)], [(1, 1)], [(0, 3, 2)]], [[(4, 3)], [(2, 5, 2)]]


def _not_square(name: str) -> list[tuple]:
    return [
        ((X,), ShapeError, f"{name}: expected square matrices (..., n, n), got (3, 4)"),
        ((V,), ShapeError, f"{name}: expected square matrices (..., n, n), got (3,)"),
        ((td.zeros(2, 2, dtype="int64"),), DtypeError, "expected float32 or float64, got int64"),
    ]


ROWS += [
    Row("linalg.det", td.linalg.det, SQUARE, np.linalg.det, bad=_not_square("det")),
    Row(
        "linalg.cofactor",
        linalg._cofactor,
        SQUARE,
        lambda x: np.linalg.det(x)[..., None, None] * _mT(np.linalg.inv(x)),
        order=2,
    ),
    Row("linalg.slogdet", td.linalg.slogdet, SQUARE, np.linalg.slogdet, bad=_not_square("slogdet")),
    Row(
        "linalg.inv",
        td.linalg.inv,
        SQUARE,
        np.linalg.inv,
        bad=[
            *_not_square("inv"),
            (
                (td.zeros(2, 3, 3),),
                LinAlgError,
                "inv: expected invertible matrices, got matrix (0,) that is not",
            ),
        ],
    ),
    Row(
        "linalg.solve",
        td.linalg.solve,
        [
            [(3, 3), (3, 2)],
            [(2, 1, 3, 3), (4, 3, 2)],
            [(3, 3), (3,)],
            VECTORS,
            [(1, 1), (1,)],
            [(0, 2, 2), (2, 1)],
        ],
        lambda a, b: (
            np.linalg.solve(a, b)
            if b.ndim == a.ndim
            else (
                np.linalg.solve(a, b[..., None])[..., 0]
                if b.ndim == a.ndim - 1 and b.shape == a.shape[:-1]
                else np.linalg.solve(a, b)
            )
        ),
        bad=[
            ((td.eye(3), X.T), ShapeError, "solve: expected B of 3 rows, got (3, 3) and (4, 3)"),
            (
                (td.zeros(3, 3), X),
                LinAlgError,
                "solve: expected invertible matrices, got a matrix that is not",
            ),
            ((td.eye(3), td.ones(3, 1, dtype="float64")), DtypeError, "solve: expected one dtype"),
            (
                (td.ones(2, 3, 3), td.ones(5, 3, 1)),
                ShapeError,
                "solve: expected leading sizes that broadcast",
            ),
        ],
    ),
    Row(
        "linalg.solve from the right",
        lambda a, b: td.linalg.solve(a, b, left=False),
        [[(3, 3), (2, 3)], [(2, 3, 3), (4, 3)]],
        lambda a, b: _mT(np.linalg.solve(_mT(a), _mT(b))),
        bad=[((td.eye(3), V), ShapeError, "solve: expected matrices for B with left=False, got (3,)")],
    ),
    *[
        Row(
            f"linalg.cholesky {'upper' * upper}".strip(),
            lambda x, upper=upper: td.linalg.cholesky(_spd(x), upper=upper),
            SQUARE,
            lambda x, upper=upper: (_mT if upper else np.asarray)(np.linalg.cholesky(_shifted(x))),
        )
        for upper in (False, True)
    ],
    *[
        Row(
            f"linalg.qr {mode}",
            lambda x, mode=mode: _unsigned_qr(*td.linalg.qr(x, mode)),
            PLANES if mode == "reduced" else [[(3, 3)], [(3, 4)]],
            lambda x, mode=mode: _unsigned_qr(*np.linalg.qr(x, mode)),
            order=2,
            bad=[((V,), ShapeError, "qr: expected matrices (..., m, n), got (3,)")],
        )
        for mode in ("reduced", "complete")
    ],
    Row(
        "linalg.qr r",
        lambda x: td.linalg.qr(x, "r")[1].square(),
        LINES,
        lambda x: np.linalg.qr(x, "r") ** 2,
        order=2,
    ),
    *[
        Row(
            f"linalg.eigh {triangle}",
            lambda x, triangle=triangle: _unsigned(*td.linalg.eigh(_symmetric(x), triangle)),
            SQUARE,
            lambda x, triangle=triangle: _unsigned(*np.linalg.eigh(_symmetric(x), triangle)),
            order=2,
            tolerance=1e-4,
        )
        for triangle in "LU"
    ],
    Row(
        "linalg.eigvalsh",
        lambda x: td.linalg.eigvalsh(_symmetric(x)),
        SQUARE,
        lambda x: np.linalg.eigvalsh(_symmetric(x)),
        tolerance=1e-4,
    ),
    Row(
        "linalg.svd",
        lambda x: _unsigned_svd(*td.linalg.svd(x, full_matrices=False)),
        PLANES,
        lambda x: _unsigned_svd(*np.linalg.svd(x, full_matrices=False)),
        order=2,
        tolerance=1e-4,
        bad=[((V,), ShapeError, "svd: expected matrices (..., m, n), got (3,)")],
    ),
    Row(
        "linalg.svd full",
        lambda x: td.linalg.svd(x)[1],
        PLANES,
        lambda x: np.linalg.svd(x, compute_uv=False),
        "linalg.full_svd",
        order=2,
        tolerance=1e-4,
    ),
    Row(
        "linalg.svdvals",
        td.linalg.svdvals,
        PLANES,
        lambda x: np.linalg.svd(x, compute_uv=False),
        order=2,
        tolerance=1e-4,
        bad=[((V,), ShapeError, "svdvals: expected matrices (..., m, n), got (3,)")],
    ),
]

OLD = {
    "det": "det",
    "slogdet": "slogdet",
    "logdet": "slogdet",
    "inverse": "inv",
    "matrix_power": "matrix_power",
}
"""Names beside `linalg` of functions of square matrices -> who refuses others."""


ROWS += [
    *[
        Row(
            name,
            call,
            SQUARE,
            reference,
            bad=_not_square(OLD[name]),
        )
        for name, call, reference in (
            ("det", lambda x: td.det(x), np.linalg.det),
            ("slogdet", lambda x: td.slogdet(x), np.linalg.slogdet),
            ("logdet", lambda x: td.logdet(x), lambda x: np.log(np.linalg.det(x))),
            ("inverse", lambda x: td.inverse(x), np.linalg.inv),
            (
                "matrix_power",
                lambda x, n=3: td.matrix_power(x, n),
                lambda x: np.linalg.matrix_power(x, 3),
            ),
        )
    ],
    *[
        Row(
            f"linalg.matrix_power {n}",
            lambda x, n=n: td.linalg.matrix_power(x, n),
            SQUARE,
            lambda x, n=n: np.linalg.matrix_power(x, n),
            order=2,
            tolerance=1e-4,
            bad=[
                *_not_square("matrix_power"),
                ((td.eye(2), 1.5), TypeError, "matrix_power: expected n an integer"),
            ],
        )
        for n in (5, 2, 1, -2)
    ],
    Row(
        "cholesky",
        lambda x: td.cholesky(_spd(x), True),
        SQUARE,
        lambda x: _mT(np.linalg.cholesky(_shifted(x))),
    ),
    Row(
        "qr",
        lambda x: _unsigned_qr(*td.qr(x)),
        PLANES,
        lambda x: _unsigned_qr(*np.linalg.qr(x)),
        order=2,
        bad=[((V,), ShapeError, "qr: expected matrices (..., m, n), got (3,)")],
    ),
    Row(
        "svd",
        lambda x: (lambda u, s, v: _unsigned_svd(u, s, v.transpose(-1, -2)))(*td.svd(x)),
        PLANES,
        lambda x: _unsigned_svd(*np.linalg.svd(x, full_matrices=False)),
        order=2,
        tolerance=1e-4,
        bad=[((V,), ShapeError, "svd: expected matrices (..., m, n), got (3,)")],
    ),
    Row(
        "svd of values",
        lambda x: td.svd(x, compute_uv=False),
        [[(4, 3)], [(2, 3, 4)]],
        lambda x: (
            np.zeros((*x.shape[:-1], x.shape[-2])),
            np.linalg.svd(x, compute_uv=False),
            np.zeros((*x.shape[:-2], x.shape[-1], x.shape[-1])),
        ),
        order=2,
        tolerance=1e-4,
    ),
    *[
        Row(
            f"linalg.vector_norm {ord}",
            lambda x, ord=ord: td.linalg.vector_norm(x, ord, 0, True),
            [[(4, 3)], [(5,)]],
            lambda x, ord=ord: np.linalg.norm(x, ord, 0, True),
            bad=[
                ((X, "fro"), ValueError, "vector_norm: expected ord a number, got 'fro'"),
                (
                    (td.ones(0, 2), np.inf),
                    ShapeError,
                    "vector_norm: expected numbers for ord=inf, got (0, 2)",
                ),
            ],
        )
        for ord in (2, 3, 1, np.inf, -np.inf, 0.5)
    ],
    *[
        Row(
            f"linalg.matrix_norm {ord} {keepdim}",
            lambda x, ord=ord, dim=(-2, 0), keepdim=keepdim: td.linalg.matrix_norm(x, ord, dim, keepdim),
            [[(4, 2, 3)], [(3, 2, 3)]] if keepdim else [[(4, 2, 3)]],
            lambda x, ord=ord, keepdim=keepdim: np.linalg.norm(x, ord, (-2, 0), keepdim),
            order=2,
            tolerance=1e-4,
            bad=[
                (
                    (X, 3),
                    ValueError,
                    "matrix_norm: expected ord 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, got 3",
                ),
                ((X, 2, (0, 0)), ShapeError, "matrix_norm: expected two dims, got (0, 0)"),
                (
                    (V, 2, (0, 0)),
                    ShapeError,
                    "matrix_norm: expected two dims of matrices, got (0, 0) of (3,)",
                ),
            ],
        )
        for ord in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
        for keepdim in (False, True)
    ],
    Row(
        "linalg.norm",
        lambda x: td.linalg.norm(x),
        [[(2, 3, 4)], [(4,)], [()]],
        lambda x: np.linalg.norm(x),
    ),
    *[
        Row(
            f"linalg.norm {ord} {dim}",
            lambda x, ord=ord, dim=dim: td.linalg.norm(x, ord, dim),
            [[(4, 3)]],
            lambda x, ord=ord, dim=dim: np.linalg.norm(x, ord, dim),
            order=2,
            tolerance=1e-4,
            bad=[
                ((X, "fro", 0), ValueError, "norm: expected ord a number for vectors, got 'fro'"),
                (
                    (td.ones(2, 2, 2), 2, None),
                    ShapeError,
                    "norm: expected a vector or a matrix without dim, got",
                ),
            ],
        )
        for ord, dim in (("nuc", None), (2, None), (2, 0), (None, (1, 0)), (1, (0,)), (np.inf, 1))
    ],
]
