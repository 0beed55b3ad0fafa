"""Pooling."""

from __future__ import annotations

import functools

import numpy as np
from tinydl_kernels.errors import ShapeError
from tinydl_kernels.window import Window

import tinydl as td
from tinydl.ops import pool

from . import references as ref
from .row import (
    PLANE,
    Row,
    X,
    apart,
    index,
)

POOL_WINDOW = Window.pool("avg_pool2d", (2, 2, 4, 5), (2, 3), (2, 1), 1)
POOL_REFERENCE = functools.partial(ref.avg_pool2d, kernel=(2, 3), stride=(2, 1), pads=((1, 1), (1, 1)), count_include_pad=False)
ROWS: list[Row] = [
    Row(
        "max_pool2d",
        lambda x, kernel=2: td.max_pool2d(x, kernel),
        [[apart(2, 2, 4, 6)], [(1, 1, 2, 2)], [(0, 1, 2, 2)], [(1, 2, 5, 3)]],
        lambda x: ref.max_pool2d(x, (2, 2), (2, 2)),
        "pool.max_pool",
        bad=[((X,), ShapeError, "max_pool2d: expected input (N, C, H, W), got (3, 4)")],
    ),
    Row(
        "max_pool2d odd",
        lambda x: td.max_pool2d(x, (3, 2), (2, 1), (1, 0), (1, 2), ceil_mode=True),
        [[apart(2, 1, 4, 5)]],
        lambda x: ref.max_pool2d(x, (3, 2), (2, 1), ((1, 2), (0, 0)), (1, 2)),
    ),
    Row(
        "pool.gather",
        pool._gather,
        [[(2, 2, 3, 4), index(12, 2, 2, 2, 3)], [(0, 1, 2, 2), index(4, 0, 1, 1, 1)]],
        ref.gather,
    ),
    Row(
        "pool.scatter",
        lambda g, indices: pool._scatter(g, indices, plane=(3, 4)),
        [[(2, 2, 2, 3), index(12, 2, 2, 2, 3)]],
        lambda g, indices: ref.pullback(lambda x: ref.gather(x, indices), [np.zeros((2, 2, 3, 4))], [g], 0),
        "pool.scatter",
    ),
    Row(
        "avg_pool2d",
        lambda x, kernel=2: td.avg_pool2d(x, kernel, padding=1),
        [[(2, 2, 4, 6)], [(1, 1, 2, 2)], [(0, 1, 2, 2)]],
        lambda x: ref.avg_pool2d(x, (2, 2), (2, 2), ((1, 1), (1, 1))),
        bad=[((X,), ShapeError, "avg_pool2d: expected input (N, C, H, W), got (3, 4)")],
    ),
    Row(
        "pool.avg_pool",
        lambda x: pool._avg_pool(x, window=POOL_WINDOW, count_include_pad=False),
        [[(2, 2, 4, 5)]],
        POOL_REFERENCE,
        "pool.avg_pool",
    ),
    Row(
        "pool.avg_pool_dx",
        lambda g: pool._avg_pool_dx(g, window=POOL_WINDOW, count_include_pad=False),
        [[(2, 2, *POOL_WINDOW.out)]],
        lambda g: ref.pullback(POOL_REFERENCE, [np.zeros((2, 2, 4, 5))], [g], 0),
        "pool.avg_pool_dx",
    ),
    Row(
        "adaptive_avg_pool2d",
        lambda x, size=(2, 3): td.adaptive_avg_pool2d(x, size),
        [[(2, 2, 5, 4)], [(1, 1, 4, 6)], [(0, 1, 2, 3)]],
        lambda x: ref.adaptive_avg_pool2d(x, (2, 3)),
        bad=[
            ((X,), ShapeError, "adaptive_avg_pool2d: expected input (N, C, H, W), got (3, 4)"),
            ((PLANE, 0), ShapeError, "adaptive_avg_pool2d: expected output sizes of at least 1, got 0"),
        ],
    ),
]
