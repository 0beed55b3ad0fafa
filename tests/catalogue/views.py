"""Further names of shapes, differences and running extremes."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl.nn import backward_hooks
from tinydl.regularizers import objective

from .row import Row, V, apart, between, exactly

SCALAR = td.tensor(1.0)


def _running(choose, x, dim):
    """(values, indices) of the extremes so far, the last of equals."""
    values = choose.accumulate(x, dim)
    places = np.arange(x.shape[dim]).reshape(-1, *[1] * (x.ndim - 1 - dim % x.ndim))
    return values, np.maximum.accumulate(np.where(x == values, places, 0), dim)


ROWS: list[Row] = [
    Row("ravel", td.ravel, [[(3, 4)], [()], [(0, 3)], [(1, 1)]], np.ravel),
    *[
        Row(
            name,
            lambda x, name=name: getattr(td, name)(x, 0, -1),
            [[(3, 4)], [(2, 1, 3)], [(0, 2)], [(4,)]],
            lambda x: np.swapaxes(x, 0, -1),
        )
        for name in ("swapaxes", "swapdims")
    ],
    Row(
        "unflatten",
        lambda x: td.unflatten(x, 1, (2, -1)),
        [[(3, 4)], [(0, 2)], [(1, 6, 2)]],
        lambda x: x.reshape(x.shape[0], 2, -1, *x.shape[2:]) if x.size else x.reshape(0, 2, 1),
        bad=[
            (
                (td.ones(3, 3),),
                ShapeError,
                "unflatten: expected sizes for the elements of dim 1 of (3, 3), got",
            )
        ],
    ),
    Row(
        "diff",
        lambda x: td.diff(x, dim=0),
        [[(4, 3)], [(1,)], [(0, 2)]],
        lambda x: np.diff(x, axis=0) if len(x) else x,
        bad=[((SCALAR,), ShapeError, "diff: expected at least one dim, got a 0-d tensor")],
    ),
    Row(
        "diff twice",
        lambda x, a, b: td.diff(x, 2, 1, a, b),
        [[(2, 4), (2, 1), (2, 3)]],
        lambda x, a, b: np.diff(x, 2, 1, a, b),
    ),
    *[
        Row(
            f"{name} {dim}",
            lambda x, name=name, dim=dim: getattr(td, name)(x, dim),
            [[apart(3, 4)], [apart(2, 5, 3)], [apart(1, 1)], [(0, 2)]],
            lambda x, choose=choose, dim=dim: (
                _running(choose, x, dim) if x.size else (x, np.zeros(x.shape, np.int64))
            ),
        )
        for name, choose in (("cummax", np.maximum), ("cummin", np.minimum))
        for dim in (0, -1)
    ],
    Row(
        "trace",
        td.trace,
        [[(3, 3)], [(2, 4)], [(4, 2)], [(0, 2)]],
        np.trace,
        bad=[((V,), ShapeError, "trace: expected a matrix (n, m), got (3,)")],
    ),
]


def _reduced(x, src, reduce, include_self):
    """Sources 0, 2 come to place 1, source 1 to place 0."""
    function = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min}[reduce]
    rows = [[src[1]], [src[0], src[2]], []]
    if include_self:
        return np.stack([function(np.stack([x[i], *row]), 0) for i, row in enumerate(rows)])
    return np.stack([function(np.stack(row), 0) if row else x[i] for i, row in enumerate(rows)])


ROWS += [
    Row(
        f"scatter_reduce {reduce} {include_self}",
        lambda x, index, src, reduce=reduce, include_self=include_self: td.scatter_reduce(
            x, 0, index, src, reduce, include_self=include_self
        ),
        [[apart(3, 2), exactly([[1, 1], [0, 0], [1, 1]]), between(2.1, 3)(3, 2)]],
        lambda x, _, src, reduce=reduce, include_self=include_self: _reduced(x, src, reduce, include_self),
        order=2,
    )
    for reduce in ("sum", "prod", "mean", "amax", "amin")
    for include_self in (True, False)
]
ROWS.append(
    Row(
        "objective.with_zeros",
        objective._with_zeros,
        [[(3,), (3, 4), (2,)], [(), (0, 3)]],
        lambda value, *others: value,
        order=2,
    )
)
ROWS.append(
    Row(
        "backward_hooks.gate",
        lambda x, y: backward_hooks.gate(x, y, seen=list),
        [[(3, 4), (2,)], [(), (0, 3)]],
        lambda x, y: (x, y),
        records=False,
    )
)
