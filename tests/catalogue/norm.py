"""Normalization and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl.engine.core import Tensor
from tinydl.ops import norm, random

from . import references as ref
from .row import (
    Row,
    V,
    X,
    positive,
)


def _batch_norm_dx(g: Tensor, x: Tensor, gamma: Tensor) -> Any:
    return norm._batch_norm_dx(g, x, gamma, *norm._batch_norm(x.detach(), None, None, eps=1e-5)[1:], eps=1e-5)


def _batch_norm_dx_dx(v: Tensor, v_gamma: Tensor, v_beta: Tensor, g: Tensor, x: Tensor, gamma: Tensor) -> Any:
    statistics = norm._batch_norm(x.detach(), None, None, eps=1e-5)[1:]
    return norm._batch_norm_dx_dx(v, v_gamma, v_beta, g, x, gamma, *statistics, eps=1e-5)


def _batch_norm_dx_dx_reference(
    v: Any, v_gamma: Any, v_beta: Any, g: Any, x: Any, gamma: Any
) -> tuple[Any, ...]:
    return tuple(ref.pullback(ref.batch_norm_dx, [g, x, gamma], [v, v_gamma, v_beta], i) for i in range(3))


def dropped(x: np.ndarray, p: float) -> np.ndarray:
    """By the mask of a fresh generator."""
    with td.backend("reference"):
        return x * td.dropout(td.ones(x.shape, dtype="float64"), p, generator=td.Generator()).numpy()


def running(x: Any, mean: Any, var: Any, gamma: Any, beta: Any) -> Any:
    mean, var, gamma, beta = (ref.channels(c, x) for c in (mean, var, gamma, beta))
    return (x - mean) / np.sqrt(var + 1e-5) * gamma + beta


def _bumped(x: Tensor) -> Tensor:
    """The primitive itself, on the key and the counter of a fresh generator."""
    fresh = td.Generator()
    return random._dropout(x, fresh.key.to(x.device), fresh.counter.to(x.device).detach(), p=0.4)


def kept(function: Any, x: np.ndarray) -> np.ndarray:
    """Dropout is affine in x: its slope and offset, from a fresh generator."""
    with td.backend("reference"):
        low, high = (
            function(td.full(x.shape, value, dtype="float64"), 0.4, True, generator=td.Generator()).numpy()
            for value in (0.0, 1.0)
        )
    return low + (high - low) * x


def drawn(shape: tuple[int, ...]) -> np.ndarray:
    """The normal numbers of a fresh generator."""
    with td.backend("reference"):
        return td.randn(shape, generator=td.Generator(), dtype="float64").numpy()


def grouped(x: Any, w: Any, b: Any) -> Any:
    """Group normalization in two groups."""
    parts = x.reshape(len(x), 2, -1)
    return ref.normalized(parts, 2, 1e-5).reshape(x.shape) * ref.channels(w, x) + ref.channels(b, x)


def responses(x: Any) -> Any:
    """Local response normalization over 3 channels, alpha ½."""
    power = np.pad(x * x, ((0, 0), (1, 1), (0, 0)))
    return x * (1 + 0.5 / 3 * (power[:, :-2] + power[:, 1:-1] + power[:, 2:])) ** -0.75


ROWS: list[Row] = [
    Row(
        "batch_norm",
        lambda x, gamma=None, beta=None: td.batch_norm(x, None, None, gamma, beta, training=True),
        [[(4, 3, 2, 2), (3,), (3,)], [(5, 2)], [(2, 1, 3), (1,), (1,)]],
        ref.batch_norm,
        bad=[
            ((V,), ShapeError, "batch_norm: expected input (N, C, *) and weight (C,), got input (3,)"),
            (
                (X, V),
                ShapeError,
                "batch_norm: expected input (N, C, *) and weight (C,), got input (3, 4), weight (3,)",
            ),
            (
                (X[:1],),
                ShapeError,
                "batch_norm: expected more than one value per channel in training, got input (1, 4)",
            ),
        ],
        tolerance=1e-4,
    ),
    Row(
        "batch_norm running",
        lambda x, mean=None, var=None, *affine: td.batch_norm(x, mean, var, *affine),
        [[(4, 3, 2), (3,), positive(3), (3,), (3,)], [(0, 2), (2,), positive(2), (2,), (2,)]],
        running,
        bad=[((X,), ShapeError, "batch_norm: expected running statistics outside training, got None")],
    ),
    Row(
        "norm.batch_norm",
        lambda x, gamma, beta: norm._batch_norm(x, gamma, beta, eps=1e-3)[0],
        [[(4, 3, 2), (3,), (3,)]],
        lambda *a: ref.batch_norm(*a, eps=1e-3),
        "norm.batch_norm",
        tolerance=1e-4,
    ),
    Row(
        "norm.batch_norm_dx",
        _batch_norm_dx,
        [[(4, 2, 3), (4, 2, 3), (2,)]],
        ref.batch_norm_dx,
        "norm.batch_norm_dx",
        tolerance=1e-4,
    ),
    Row(
        "norm.batch_norm_dx_dx",
        _batch_norm_dx_dx,
        [[(4, 2, 3), (2,), (2,), (4, 2, 3), (4, 2, 3), (2,)]],
        _batch_norm_dx_dx_reference,
        "norm.batch_norm_dx_dx",
        tolerance=1e-4,
    ),
    Row(
        "dropout",
        lambda x, p=0.4: td.dropout(x, p),
        [[(5, 7)], [(1,)], [(0, 3)], [()]],
        lambda x: dropped(x, 0.4),
        bad=[((X, 2), ValueError, "dropout: expected a probability in [0, 1], got 2")],
    ),
    Row("dropout evaluation", lambda x: td.dropout(x, 0.4, training=False), [[(5, 7)]], np.asarray),
    Row("random.dropout", _bumped, [[(5, 7)], [(0,)]], lambda x: dropped(x, 0.4), "random.dropout"),
    *[
        Row(f.__name__, lambda x, f=f: f(x, 0.4, True), [[shape]], lambda x, f=f: kept(f, x))
        for f, shape in (
            (td.dropout1d, (3, 4, 5)),
            (td.dropout2d, (3, 4, 2, 2)),
            (td.dropout3d, (3, 4, 2, 1, 2)),
            (td.alpha_dropout, (5, 7)),
        )
    ],
    Row(
        "gaussian_noise",
        lambda x: td.gaussian_noise(x, 0.5),
        [[(5, 7)], [(0,)]],
        lambda x: x + 0.5 * drawn(x.shape),
        dtypes=[np.float64],
    ),
    Row(
        "normal",
        td.normal,
        [[(3, 4), positive(4)], [(), ()]],
        lambda m, s: m + s * drawn((m + s).shape),
        dtypes=[np.float64],
    ),
    Row(
        "layer_norm",
        lambda x, w, b: td.layer_norm(x, w.shape, w, b),
        [[(3, 4, 2), (4, 2), (4, 2)], [(2, 3), (3,), (3,)]],
        lambda x, w, b: ref.normalized(x, tuple(range(x.ndim - w.ndim, x.ndim)), 1e-5) * w + b,
        bad=[
            (
                (X, V, V),
                ShapeError,
                "layer_norm: expected an input (*, 3) and weight, bias (3,), got (3, 4), (3,), (3,)",
            )
        ],
        tolerance=1e-4,
    ),
    Row(
        "rms_norm",
        lambda x, w: td.rms_norm(x, w.shape, w, 1e-5),
        [[(3, 4), (4,)]],
        lambda x, w: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w,
        bad=[
            ((X, V), ShapeError, "rms_norm: expected an input (*, 3) and weight, bias (3,), got (3, 4), (3,)")
        ],
    ),
    Row(
        "group_norm",
        lambda x, w, b: td.group_norm(x, 2, w, b),
        [[(3, 4, 2), (4,), (4,)]],
        grouped,
        bad=[((td.ones(2, 3, 2), V, V), ShapeError, "group_norm: expected")],
        tolerance=1e-4,
    ),
    Row(
        "instance_norm",
        lambda x, w, b: td.instance_norm(x, None, None, w, b),
        [[(3, 2, 5), (2,), (2,)]],
        lambda x, w, b: ref.normalized(x, 2, 1e-5) * ref.channels(w, x) + ref.channels(b, x),
        tolerance=1e-4,
    ),
    Row(
        "local_response_norm",
        lambda x: td.local_response_norm(x, 3, 0.5),
        [[(2, 5, 3)]],
        responses,
        bad=[
            (
                (X,),
                ShapeError,
                "local_response_norm: expected input (N, C, *) and a size of at least 1, got (3, 4) and 3",
            )
        ],
    ),
    Row("normalize", td.normalize, [[(3, 4)]], lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)),
    Row(
        "normalize 3",
        lambda x: td.normalize(x, 3.0),
        [[(3, 4)]],
        lambda x: x / np.linalg.norm(x, 3, 1, keepdims=True),
    ),
]
