"""Sums and extremes."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl.ops import reduce

from . import references as ref
from .row import (
    DIM,
    Row,
    X,
    apart,
    normal,
    samples_of,
)

ROWS: list[Row] = [
    Row(
        "sum",
        lambda x, dim=(0, -1), keepdim=False: td.sum(x, dim, keepdim),
        [[(2, 3, 4)], [(1, 1)], [(0, 3)], [(3, 0)]],
        lambda x: x.sum((0, -1)),
        "reduce.sum",
        bad=[
            ((X, 2), ShapeError, f"sum: {DIM}"),
            ((X, (0, -2)), ShapeError, "sum: expected each dim once, got (0, -2)"),
        ],
    ),
    Row("sum all", td.sum, samples_of(normal), np.sum),
    Row(
        "sum keepdim",
        lambda x: td.sum(x, 1, True),
        [[(3, 4)], [(3, 1)], [(3, 0)]],
        lambda x: x.sum(1, keepdims=True),
    ),
    Row(
        "mean",
        lambda x, dim=1: td.mean(x, dim),
        [[(3, 4, 2)], [(3, 1)], [(0, 3)]],
        lambda x: x.mean(1),
        "reduce.mean",
        bad=[((X, 2), ShapeError, f"mean: {DIM}")],
    ),
    Row(
        "nansum",
        lambda x, dim=1: td.nansum(x, dim),
        [[(3, 4)], [(2, 3, 1)], [(0, 3)]],
        lambda x: x.sum(1),
        bad=[((X, 2), ShapeError, f"nansum: {DIM}")],
    ),
    Row(
        "nanmean",
        lambda x, dim=1: td.nanmean(x, dim),
        [[(3, 4)], [(2, 3, 1)], [(0, 3)]],
        lambda x: x.mean(1),
        bad=[
            ((X, 2), ShapeError, f"nanmean: {DIM}"),
            ((X > 0,), DtypeError, "nanmean: expected float32 or float64, got bool"),
        ],
    ),
    Row("mean all", td.mean, [[(3, 4)], [()], [(1,)]], np.mean),
    Row(
        "logsumexp",
        lambda x, dim=1: td.logsumexp(x, dim),
        [[(3, 4)], [(2, 1)], [(0, 3)]],
        lambda x: ref.logsumexp(x, 1),
        "reduce.logsumexp",
        bad=[((X, 2), ShapeError, f"logsumexp: {DIM}")],
    ),
    Row(
        "logsumexp keepdim",
        lambda x: td.logsumexp(x, (0, 2), True),
        [[(2, 3, 4)]],
        lambda x: ref.logsumexp(x, (0, 2), True),
    ),
    *[
        row
        for name, pick, shared, primitive, value, where in (
            ("max", td.max, td.amax, reduce._max, np.max, np.argmax),
            ("min", td.min, td.amin, reduce._min, np.min, np.argmin),
        )
        for row in (
            Row(
                f"{name} dim",
                lambda x, dim=1, pick=pick: pick(x, dim),
                [[apart(3, 4)], [(2, 1)], [(0, 3)]],
                lambda x, value=value, where=where: (value(x, 1), where(x, 1)),
                bad=[
                    ((X, 2), ShapeError, f"{name}: {DIM}"),
                    (
                        (td.ones(2, 0), 1),
                        ShapeError,
                        f"{name}: expected at least one element along dim 1, got (2, 0)",
                    ),
                ],
            ),
            Row(f"{name} all", pick, [[apart(3, 4)], [()]], value),
            Row(
                f"a{name}",
                lambda x, dim=(0, 2), pick=shared: pick(x, dim),
                [[apart(2, 3, 2)], [(1, 1, 1)], [(2, 0, 2)]],
                lambda x, value=value: value(x, (0, 2)),
                f"reduce.a{name}",
                bad=[
                    (
                        (td.ones(0, 3), 0),
                        ShapeError,
                        f"a{name}: expected at least one element along dim 0, got (0, 3)",
                    )
                ],
            ),
            Row(
                f"reduce.{name}",
                lambda x, pick=primitive: pick(x, dim=0),
                [[apart(3, 4)], [(1, 2)]],
                lambda x, value=value, where=where: (value(x, 0), where(x, 0)),
                f"reduce.{name}",
            ),
        )
    ],
    Row("var", lambda x: td.var(x, 1), [[(3, 4)], [(2, 2, 2)]], lambda x: x.var(1, ddof=1)),
    Row("std", lambda x: td.std(x, 1, unbiased=False), [[(3, 4)]], lambda x: x.std(1), "statistics.root"),
    Row(
        "var_mean",
        lambda x: td.var_mean(x, (0, 2)),
        [[(3, 2, 4)]],
        lambda x: (x.var((0, 2), ddof=1), x.mean((0, 2))),
    ),
    Row(
        "std_mean",
        lambda x: td.std_mean(x, (0, 2)),
        [[(3, 2, 4)]],
        lambda x: (x.std((0, 2), ddof=1), x.mean((0, 2))),
    ),
    *[
        Row(
            f"norm {p}",
            lambda x, p=p: td.norm(x, p, 1),
            [[(3, 4)]],
            lambda x, p=p: np.linalg.norm(x, p, 1),
        )
        for p in (0, 1, 2, 3, 4, -1, np.inf, -np.inf)
    ],
    Row("norm", td.norm, [[(3, 4)], [(2,)]], np.linalg.norm),
]
