"""Rows of a table, and bags of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import nn
from tinydl.ops.embedding import _shared_rows, _shared_sums

from .layers import layer
from .row import Row, X, apart, exactly, index

SPLIT = [0, 2, 2]  # of five indices: two, none, three
OFFSETS, ENDED = exactly(np.array(SPLIT)), exactly(np.array([*SPLIT, 5]))
FLAT, TIMES = index(4, 5, 1), exactly(np.array([[1.0], [2.0], [2.0], [1.0], [4.0]]))
TABLE, BAGS, LINE = apart(4, 3), index(4, 2, 3), index(4, 5)


def bagged(mode: str, padding: int | None = None) -> Callable[..., np.ndarray]:
    """The bags of (bags, n), or of the five indices by OFFSETS, reduced one by one."""

    def reference(i: Any, w: Any, offsets: Any = None, weights: Any = None) -> np.ndarray:
        factors = np.ones(i.shape) if weights is None else weights
        bags = zip(i, factors, strict=True)
        if i.ndim == 1:
            bags = zip(*(np.split(x, SPLIT[1:]) for x in (i, factors)), strict=True)
        return np.array([one(w, np.asarray(rows), f, rows != padding) for rows, f in bags]).reshape(
            -1, w.shape[1]
        )

    def one(w: Any, rows: Any, factors: Any, kept: Any) -> Any:
        found = (w[rows] * factors[:, None])[kept]
        return getattr(np, mode)(found, 0) if len(found) else np.zeros(w.shape[1])

    return reference


def bag(mode: str, **more: Any) -> Callable[..., Any]:
    return lambda i, w: td.embedding_bag(i, w, mode=mode, **more)


ROWS: list[Row] = [
    Row("embedding", lambda w, i: td.embedding(i, w), [[(5, 3), index(5, 2, 4)]], lambda w, i: w[i]),
    Row(
        "embedding.shared_rows",
        _shared_rows,
        [[(4, 3), FLAT, TIMES]],
        lambda w, i, t: w[i[:, 0]],
        order=0,
        fixed=(2,),
    ),
    Row(
        "embedding.shared_sums",
        lambda g, i, t: _shared_sums(g, i, t, size=4),
        [[(5, 3), FLAT, TIMES]],
        lambda g, i, t: (np.eye(4)[i[:, 0]] / t).T @ g,
        order=0,
        fixed=(2,),
    ),
    *[
        row
        for mode in ("sum", "mean", "max")
        for row in (
            Row(
                f"embedding_bag {mode}",
                bag(mode),
                [[BAGS, TABLE], [index(4, 2, 1), TABLE], [index(4, 0, 2), TABLE]],
                bagged(mode),
                bad=[
                    ((td.tensor([0, 1]), X), ShapeError, "embedding_bag: expected input (bags, n), or (n,)")
                ],
            ),
            Row(
                f"embedding_bag {mode} offsets",
                lambda i, w, o, mode=mode: td.embedding_bag(i, w, o, mode=mode, padding_idx=-2),
                [[LINE, TABLE, OFFSETS]],
                bagged(mode, 2),
            ),
            Row(
                f"embedding_bag {mode} ended",
                lambda i, w, o, mode=mode: td.embedding_bag(i, w, o, mode=mode, include_last_offset=True),
                [[LINE, TABLE, ENDED]],
                bagged(mode),
            ),
            *layer(
                f"EmbeddingBag {mode}",
                lambda dtype, mode=mode: nn.EmbeddingBag(4, 3, mode=mode, padding_idx=1, dtype=dtype),
                [[BAGS, TABLE]],
                bagged(mode, 1),
            ),
        )
    ],
    Row(
        "embedding_bag weights",
        lambda i, w, o, f: td.embedding_bag(i, w, o, mode="sum", per_sample_weights=f),
        [[LINE, TABLE, OFFSETS, (5,)]],
        bagged("sum"),
    ),
    *layer(
        "Embedding",
        lambda dtype: nn.Embedding(5, 3, dtype=dtype),
        [[index(5, 2, 4), (5, 3)]],
        lambda i, w: w[i],
    ),
]
