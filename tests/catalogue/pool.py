"""Pooling, unpooling and other sizes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.window import Window, adaptive_spans

import tinydl as td
from tinydl.ops import pool

from . import references as ref
from .row import PLANE, Row, Spec, X, apart, positive

POOL_WINDOW = Window.pool("avg_pool2d", (2, 2, 4, 5), (2, 3), (2, 1), 1)
POOL_REFERENCE = functools.partial(
    ref.avg_pool, kernel=(2, 3), stride=(2, 1), pads=((1, 1), (1, 1)), count_include_pad=False
)


IMAGE = [[(2, 2, 4, 6)]]


def _pools(axes: int) -> list[Row]:
    """Every kind of pooling over a number of axes."""
    image, small, size = (2, 2, 4, 3, 4)[: axes + 2], (2, 2, 2, 2, 2)[: axes + 2], (2, 2, 3)[:axes]

    def row(name: str, settings: tuple[Any, ...], sample: Any, reference: Any, covers: str = "") -> Row:
        function = getattr(td, f"{name}{axes}d")
        return Row(
            f"{name}{axes}d {axes} axes", lambda *x: function(*x, *settings), [sample], reference, covers
        )

    return [
        row("max_pool", (2, 1), [apart(*image)], lambda x: ref.max_pool(x, 2, 1)),
        row("avg_pool", (2, 1), [image], lambda x: ref.avg_pool(x, 2, 1)),
        row("lp_pool", (3, 2, 1), [positive(*image)], lambda x: (ref.windows(x, 2) ** 3).sum(-1) ** (1 / 3)),
        row(
            "max_unpool",
            (2,),
            [small, distinct(4**axes, *small)],
            lambda x, i: ref.max_unpool(x, i, (4,) * axes),
        ),
        row("adaptive_avg_pool", (size,), [image], lambda x: ref.adaptive_pool(x, size, np.mean)),
        row(
            "adaptive_max_pool",
            (size,),
            [apart(*image)],
            lambda x: ref.adaptive_pool(x, size, np.max),
            "pool.adaptive_max_pool",
        ),
    ]


def distinct(high: int, *shape: int) -> Spec:
    """Places in planes of `high` elements, no place twice."""
    planes, n = shape[0] * shape[1], int(np.prod(shape[2:]))
    return lambda generator: np.stack([generator.permutation(high)[:n] for _ in range(planes)]).reshape(shape)


def winners(plane: tuple[int, int], shape: tuple[int, ...]) -> Spec:
    """Places in the flattened plane, each in its adaptive span."""
    (top, bottom), (left, right) = (adaptive_spans(n, m) for n, m in zip(plane, shape[2:], strict=True))
    return lambda generator: (
        generator.integers(top[:, None], bottom[:, None], shape) * plane[1]
        + generator.integers(left, right, shape)
    )


ROWS: list[Row] = [
    Row(
        "max_pool2d",
        lambda x, kernel=2: td.max_pool2d(x, kernel),
        [[apart(2, 2, 4, 6)], [(1, 1, 2, 2)], [(0, 1, 2, 2)], [(1, 2, 5, 3)]],
        lambda x: ref.max_pool(x, (2, 2), (2, 2)),
        "pool.max_pool",
        bad=[((X,), ShapeError, "max_pool2d: expected input (N, C, H, W) or (C, H, W), got (3, 4)")],
    ),
    Row(
        "max_pool2d odd",
        lambda x: td.max_pool2d(x, (3, 2), (2, 1), (1, 0), (1, 2), ceil_mode=True),
        [[apart(2, 1, 4, 5)]],
        lambda x: ref.max_pool(x, (3, 2), (2, 1), ((1, 2), (0, 0)), (1, 2)),
    ),
    Row(
        "pool.gather",
        functools.partial(pool._gather, window=None),
        [[(2, 2, 3, 4), winners((3, 4), (2, 2, 2, 3))], [(0, 1, 2, 2), winners((2, 2), (0, 1, 1, 1))]],
        ref.gather,
    ),
    Row(
        "pool.scatter",
        functools.partial(pool._scatter, plane=(3, 4), window=None),
        [[(2, 2, 2, 3), winners((3, 4), (2, 2, 2, 3))]],
        lambda g, indices: ref.pullback(lambda x: ref.gather(x, indices), [np.zeros((2, 2, 3, 4))], [g], 0),
        "pool.scatter",
    ),
    Row(
        "avg_pool2d",
        lambda x, kernel=2: td.avg_pool2d(x, kernel, padding=1),
        [[(2, 2, 4, 6)], [(1, 1, 2, 2)], [(0, 1, 2, 2)]],
        lambda x: ref.avg_pool(x, (2, 2), (2, 2), ((1, 1), (1, 1))),
        bad=[((X,), ShapeError, "avg_pool2d: expected input (N, C, H, W) or (C, H, W), got (3, 4)")],
    ),
    Row(
        "pool.avg_pool",
        lambda x: pool._avg_pool(x, window=POOL_WINDOW, count_include_pad=False, divisor=None),
        [[(2, 2, 4, 5)]],
        POOL_REFERENCE,
        "pool.avg_pool",
    ),
    Row(
        "pool.avg_pool_dx",
        lambda g: pool._avg_pool_dx(g, window=POOL_WINDOW, count_include_pad=False, divisor=None),
        [[(2, 2, *POOL_WINDOW.out)]],
        lambda g: ref.pullback(POOL_REFERENCE, [np.zeros((2, 2, 4, 5))], [g], 0),
        "pool.avg_pool_dx",
    ),
    Row(
        "adaptive_avg_pool2d",
        lambda x, size=(2, 3): td.adaptive_avg_pool2d(x, size),
        [[(2, 2, 5, 4)], [(1, 1, 4, 6)], [(0, 1, 2, 3)]],
        lambda x: ref.adaptive_pool(x, (2, 3), np.mean),
        bad=[
            ((X,), ShapeError, "adaptive_avg_pool2d: expected input (N, C, H, W) or (C, H, W), got (3, 4)"),
            ((PLANE, 0), ShapeError, "adaptive_avg_pool2d: expected output sizes of at least 1, got 0"),
        ],
    ),
    Row(
        "avg_pool2d divisor",
        lambda x: td.avg_pool2d(x, 2, divisor_override=3),
        IMAGE,
        lambda x: ref.avg_pool(x, 2, 2, divisor=3),
    ),
    *[row for axes in (1, 2, 3) for row in _pools(axes)],
    *[
        Row(
            f"interpolate {mode}",
            functools.partial(td.interpolate, size=size, mode=mode),
            [[shape]],
            reference,
            "resample.resample",
        )
        for mode, shape, size, reference in (
            ("nearest", (2, 2, 3, 4), (5, 2), lambda x: x[:, :, [0, 0, 1, 1, 2]][:, :, :, [0, 2]]),
            ("linear", (2, 2, 4), (7,), lambda x: ref.resize(x, (7,), lambda t: 1 - t, 1)),
            ("bilinear", (2, 2, 3, 4), (5, 2), lambda x: ref.resize(x, (5, 2), lambda t: 1 - t, 1)),
            ("trilinear", (1, 2, 2, 3, 2), (3, 2, 4), lambda x: ref.resize(x, (3, 2, 4), lambda t: 1 - t, 1)),
            ("bicubic", (2, 2, 3, 4), (5, 2), lambda x: ref.resize(x, (5, 2), ref.cubic, 2)),
            ("area", (2, 2, 3, 4), (2, 3), lambda x: ref.adaptive_pool(x, (2, 3), np.mean)),
        )
    ],
    *[
        Row(
            f"interpolate antialiased {mode}",
            functools.partial(td.interpolate, size=(5, 2), mode=mode, antialias=True),
            [[(2, 2, 3, 6)]],
            functools.partial(ref.shrunk, size=(5, 2), kernel=kernel),
        )
        for mode, kernel in (
            ("bilinear", lambda t: max(0.0, 1 - abs(t))),
            ("bicubic", lambda t: ref.cubic(abs(t), -0.5) if abs(t) < 2 else 0.0),
            ("lanczos", lambda t: np.sinc(t) * np.sinc(t / 3) if abs(t) < 3 else 0.0),
        )
    ],
    Row(
        "interpolate",
        lambda x, mode="nearest", **to: td.interpolate(x, mode=mode, **(to or {"scale_factor": 2})),
        [[(2, 2, 3)], [(1, 1, 1, 2)]],
        lambda x: np.kron(x, np.ones((1, 1) + (2,) * (x.ndim - 2))),
        bad=[
            ((PLANE, "cubic"), ValueError, "interpolate: expected mode one of"),
            (
                (PLANE, "linear"),
                ShapeError,
                "interpolate: expected input of 3 dims in mode 'linear', got (1, 2, 4, 4)",
            ),
        ],
    ),
    Row(
        "unfold",
        lambda x: td.unfold(x, (2, 3), padding=1),
        IMAGE,
        lambda x: ref.unfold(x, (2, 3), 1, 1),
        "unfold.unfold",
    ),
    Row(
        "fold",
        lambda x: td.fold(x, (3, 4), (2, 3), padding=1),
        [[(2, 12, 16)]],
        lambda g: ref.pullback(lambda x: ref.unfold(x, (2, 3), 1, 1), [np.zeros((2, 2, 3, 4))], [g], 0),
        "unfold.fold",
        bad=[((X,), ShapeError, "fold: expected input (N, C·6, L) for kernel_size (2, 3), got")],
    ),
]
