"""Functions that choose by order, by closeness and by place; joined tensors; products with a sum; margins."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td

from .row import (
    Row,
    V,
    X,
    apart,
    between,
    exactly,
    positive,
)

FIRST = td.tensor([0, 1])


def placed(function: str) -> Callable[..., np.ndarray]:
    """index_add, index_copy along dim 1 in NumPy."""

    def reference(x: np.ndarray, i: np.ndarray, s: np.ndarray) -> np.ndarray:
        y = x.copy()
        for k, place in enumerate(i):
            y[:, place] = s[:, k] if function == "copy" else y[:, place] - 2.0 * s[:, k]
        return y

    return reference


def in_order(k: int, axis: int = -1) -> Callable[..., tuple[np.ndarray, ...]]:
    """The k-th values along an axis and their places."""
    return lambda x: tuple(
        np.take(y, k, axis) for y in (np.sort(x, axis), np.argsort(x, axis, kind="stable"))
    )


def noisy_softmax(x: np.ndarray) -> np.ndarray:
    """With the noise of a fresh generator."""
    u = td.rand(x.shape, generator=td.Generator(), dtype="float64").numpy()
    return special.softmax((x - np.log(-np.log(u))) / 0.7, -1)


PLACES = exactly(np.array([2, 0, 2]))

ROWS: list[Row] = [
    Row(
        "logaddexp",
        td.logaddexp,
        [[(3, 4), (4,)], [(), ()], [(0, 3), (3,)]],
        np.logaddexp,
        bad=[((X, V), ShapeError, "logaddexp: expected shapes that broadcast, got (3, 4), (3,)")],
    ),
    Row("logit", td.logit, [[between(0.1, 0.9)(*s)] for s in ((3, 4), (), (0, 3))], special.logit),
    Row(
        "logit eps",
        lambda x: td.logit(x, 0.2),
        [[between(0.25, 0.75)(3, 4)]],
        special.logit,
        bad=[(("a",), DtypeError, "logit: expected a tensor for 'input', got str")],
    ),
    Row(
        "nan_to_num",
        td.nan_to_num,
        [[(3, 4)], [(0, 2)], [()]],
        np.nan_to_num,
        bad=[(("a",), DtypeError, "nan_to_num: expected a tensor for 'input', got str")],
    ),
    Row(
        "xlogy",
        td.xlogy,
        [[(3, 4), positive(3, 4)], [(), positive(4)], [(0, 3), positive(3)]],
        special.xlogy,
        bad=[((X, V), ShapeError, "xlogy: expected shapes that broadcast, got (3, 4), (3,)")],
    ),
    Row(
        "kthvalue",
        lambda x, k=1: td.kthvalue(x, k),
        [[apart(3, 4)], [apart(2, 1)], [apart(2, 2, 3)]],
        in_order(0),
        bad=[((X, 5), ShapeError, "kthvalue: expected k from 1 to 4 for (3, 4) along -1, got 5")],
    ),
    *[
        row
        for name, function in (("median", td.median), ("nanmedian", td.nanmedian))
        for row in (
            Row(name, lambda x, f=function: f(x), [[apart(3, 3)], [()], [apart(1)]], np.median),
            Row(
                f"{name} dim",
                lambda x, dim=1, f=function: f(x, dim),
                [[apart(3, 4)], [apart(2, 3, 1)]],
                lambda x: tuple(
                    y[:, (x.shape[1] - 1) // 2] for y in (np.sort(x, 1), np.argsort(x, 1, kind="stable"))
                ),
                bad=[
                    ((X, 2), ShapeError, f"{name}: expected dim in [-2, 1], got 2"),
                    (
                        (td.ones(2, 0), 1),
                        ShapeError,
                        f"{name}: expected at least one element along dim 1, got (2, 0)",
                    ),
                ],
            ),
        )
    ],
    Row(
        "take",
        td.take,
        [[(3, 4), exactly([[-1, 0], [5, 5]])], [(), exactly([0, -1])], [(0, 3), exactly(np.zeros(0, int))]],
        lambda x, i: x.reshape(-1)[i],
        bad=[
            ((X, td.tensor([12])), IndexError, "take: expected indices from -12 to 11, got 12 to 12"),
            ((X, V), DtypeError, "take: expected an index of integers, got float32"),
        ],
    ),
    *[
        Row(
            f"quantile {how}",
            lambda x, q=0.3, how=how: td.quantile(x, q, 1, interpolation=how),
            [[apart(3, 4)], [apart(2, 1)], [apart(2, 5, 2)]],
            lambda x, how=how: np.quantile(x, 0.3, 1, method=how),
            bad=[((X, 1.5), ValueError, "quantile: expected q in [0, 1], a number or a vector, got 1.5")],
        )
        for how in ("linear", "lower", "higher", "midpoint", "nearest")
    ],
    Row(
        "quantile several",
        lambda x: td.quantile(x, [0.0, 0.25, 1.0], keepdim=True),
        [[apart(3, 4)], [()]],
        lambda x: np.quantile(x, [0.0, 0.25, 1.0], keepdims=True),
    ),
    Row(
        "hstack",
        lambda *xs: td.hstack(xs),
        [[(2, 3), (2, 1)], [(3,), (2,)], [(), ()]],
        lambda *xs: np.hstack(xs),
        bad=[((X, V), ShapeError, "cat: expected shapes equal but for dim 1, got (3, 4), (3,)")],
    ),
    Row(
        "vstack",
        lambda *xs: td.vstack(xs),
        [[(2, 3), (1, 3)], [(3,), (2, 3)], [(), ()]],
        lambda *xs: np.vstack(xs),
        bad=[((X, V), ShapeError, "cat: expected shapes equal but for dim 0, got (3, 4), (1, 3)")],
    ),
    Row(
        "index_add",
        lambda x, i, s: td.index_add(x, 1, i, s, alpha=-2.0),
        [[(2, 3), PLACES, (2, 3)], [(0, 3), PLACES, (0, 3)], [(2, 3, 2), PLACES, (2, 3, 2)]],
        placed("add"),
        bad=[((X, FIRST, X), ShapeError, "index_add: expected a vector of places and a source (3, 2)")],
    ),
    Row(
        "index_copy",
        lambda x, i, s: td.index_copy(x, 1, i, s),
        [[(2, 3), PLACES, (2, 3)], [(0, 3), PLACES, (0, 3)], [(2, 3, 2), PLACES, (2, 3, 2)]],
        placed("copy"),
        bad=[((X, FIRST, X), ShapeError, "index_copy: expected a vector of places and a source (3, 2)")],
    ),
    Row(
        "index_fill",
        lambda x, i, v=2.5: td.index_fill(x, 1, i, v),
        [[(2, 3), exactly(np.array([2, 0]))], [(0, 3), exactly(np.array([1]))]],
        lambda x, i: np.where(np.isin(np.arange(3), i), 2.5, x),
        bad=[((X, FIRST, V), ShapeError, "index_fill: expected a number or a 0-d tensor as value, got (3,)")],
    ),
    Row(
        "addmm",
        lambda x, a, b: td.addmm(x, a, b, beta=0.5, alpha=-2.0),
        [[(3, 2), (3, 4), (4, 2)], [(2,), (3, 4), (4, 2)], [(), (0, 4), (4, 2)]],
        lambda x, a, b: 0.5 * x - 2 * a @ b,
        bad=[((X, X, X), ShapeError, "addmm: expected (n, k) and (k, m), got (3, 4) and (3, 4)")],
    ),
    Row(
        "baddbmm",
        lambda x, a, b: td.baddbmm(x, a, b, beta=0.5, alpha=-2.0),
        [[(2, 3, 2), (2, 3, 4), (2, 4, 2)], [(2,), (2, 3, 4), (2, 4, 2)]],
        lambda x, a, b: 0.5 * x - 2 * a @ b,
        bad=[((X, X, X), ShapeError, "baddbmm: expected (b, n, k) and (b, k, m), got (3, 4) and (3, 4)")],
    ),
    Row(
        "cdist",
        td.cdist,
        [[(2, 3), (4, 3)], [(2, 1, 3), (2, 4, 3)], [(0, 3), (2, 3)]],
        lambda x, y: np.linalg.norm(x[..., :, None, :] - y[..., None, :, :], axis=-1),
        bad=[((X, V), ShapeError, "cdist: expected points (*, n, d) and (*, m, d), got (3, 4) and (3,)")],
    ),
    Row(
        "pairwise_distance",
        td.pairwise_distance,
        [[(2, 3), (2, 3)], [(2, 3), (3,)]],
        lambda x, y: np.linalg.norm(x - y + 1e-6, axis=-1),
        bad=[((X, V), ShapeError, "pairwise_distance: expected shapes that broadcast, got (3, 4), (3,)")],
    ),
    Row(
        "gumbel_softmax",
        lambda x, tau=0.7: td.gumbel_softmax(x, tau),
        [[(3, 4)], [(2, 1)]],
        noisy_softmax,
        dtypes=[np.float64],
        bad=[((X, 0.0), ValueError, "gumbel_softmax: expected tau above 0, got 0.0")],
    ),
    Row(
        "tensordot",
        lambda a, b, dims=((1, 0), (0, 2)): td.tensordot(a, b, dims),
        [[(2, 3, 4), (3, 5, 2)], [(0, 3, 2), (3, 1, 0)]],
        lambda a, b: np.tensordot(a, b, ((1, 0), (0, 2))),
        bad=[
            ((X, X, 1), ShapeError, "tensordot: expected dims of equal sizes, got (3, 4) and (3, 4) over 1"),
            ((X, X, 3), ShapeError, "tensordot: expected dims from 0 to 2, got 3"),
        ],
    ),
]
