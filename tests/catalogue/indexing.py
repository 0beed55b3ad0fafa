"""Indexing by arrays and masks, sorting, scans."""

from __future__ import annotations

import numpy as np

import tinydl as td
from tinydl.ops import scan

from .row import (
    Row,
    apart,
    index,
    mask,
)

PLACES = index(3, 2, 4)
UNLIKE = lambda generator: np.stack([generator.permutation(3)[:2] for _ in range(4)], 1)  # noqa: E731  no place twice


def _scattered(x: np.ndarray, places: np.ndarray, source: np.ndarray) -> np.ndarray:
    y = x.copy()
    np.put_along_axis(y, places, source, 0)
    return y


def _added(x: np.ndarray, places: np.ndarray, source: np.ndarray) -> np.ndarray:
    y = x.copy()
    np.add.at(y, (places, np.arange(x.shape[1])), source)
    return y


def _recurrence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    y = [b[:, 0]]
    for k in range(1, b.shape[1]):
        y.append(a[:, k] * y[-1] + b[:, k])
    return np.stack(y, 1)


ROWS: list[Row] = [
    Row(
        "gather",
        lambda x, i: td.gather(x, 0, i),
        [[(3, 4), PLACES]],
        lambda x, i: np.take_along_axis(x, i, 0),
        "indexing.gather",
    ),
    Row(
        "take_along_dim",
        lambda x, i: td.take_along_dim(x, i, 0),
        [[(3, 4), PLACES]],
        lambda x, i: np.take_along_axis(x, i, 0),
    ),
    Row(
        "scatter",
        lambda x, i, s: td.scatter(x, 0, i, s),
        [[(3, 4), UNLIKE, (2, 4)]],
        _scattered,
        "indexing.scatter",
    ),
    Row("scatter twice", lambda x, i, s: td.scatter(x, 0, i, s), [[(3, 4), PLACES, (2, 4)]], _scattered),
    Row(
        "scatter_add",
        lambda x, i, s: td.scatter_add(x, 0, i, s),
        [[(3, 4), PLACES, (2, 4)]],
        _added,
        "indexing.scatter_add",
    ),
    Row(
        "index_select",
        lambda x, i: td.index_select(x, 1, i),
        [[(3, 4), index(4, 5)], [(0, 2), index(2, 3)]],
        lambda x, i: x[:, i],
    ),
    Row(
        "masked_fill",
        lambda x, m: td.masked_fill(x, m, 2.0),
        [[(3, 4), mask(4)]],
        lambda x, m: np.where(m, 2.0, x),
    ),
    Row("masked_select", td.masked_select, [[(3, 4), mask(3, 4)]], lambda x, m: x[m], records=False),
    Row(
        "Tensor.__getitem__ arrays", lambda x, i: x[i, 1:], [[(3, 4), index(3, 2, 2)]], lambda x, i: x[i, 1:]
    ),
    Row(
        "bincount",
        lambda w, i: td.bincount(i, w, 5),
        [[(6,), index(4, 6)]],
        lambda w, i: np.bincount(i, w, 5),
        records=False,
    ),
    Row("sort", td.sort, [[apart(3, 4)], [(2, 1)]], lambda x: (np.sort(x, -1), np.argsort(x, -1))),
    Row(
        "topk",
        lambda x: td.topk(x, 2),
        [[apart(3, 4)]],
        lambda x: (-np.sort(-x, -1)[:, :2], np.argsort(-x, -1)[:, :2]),
    ),
    Row(
        "cumsum",
        lambda x: td.cumsum(x, 1),
        [[(3, 4)], [(2, 1)], [(0, 2)]],
        lambda x: x.cumsum(1),
        "scan.cumsum",
    ),
    Row(
        "cumprod",
        lambda x: td.cumprod(x, 1),
        [[(3, 4)], [(2, 1)], [(0, 2)]],
        lambda x: x.cumprod(1),
        "scan.cumprod",
    ),
    Row("prod", lambda x: td.prod(x, 1), [[(3, 4)], [(2, 1)], [(2, 0)]], lambda x: x.prod(1), "scan.prod"),
    Row("prod all", td.prod, [[(3, 4)], [()]], np.prod),
    Row(
        "scan.recurrence",
        lambda a, b: scan._recurrence(a, b, dim=1, reverse=False),
        [[(3, 4), (3, 4)], [(2, 1), (2, 1)]],
        _recurrence,
        "scan.recurrence",
    ),
]
