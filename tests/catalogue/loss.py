"""Softmax and losses."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
from scipy import special
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl.ops import softmax

from . import references as ref
from .row import (
    DIM,
    Row,
    Spec,
    V,
    X,
    exactly,
    index,
    normal,
    positive,
    uniform,
)

TARGETS = "cross_entropy: expected input (N, K, *) and target (N, *) or (N, K, *), got (3, 4) and (2,)"


def signs(*shape: int) -> Spec:
    return lambda generator: generator.choice([-1.0, 1.0], shape)


def probability(*shape: int) -> Spec:
    return uniform(0.1, 0.9, *shape)


def _cosine(x: Any, y: Any) -> Any:
    return (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


def weighted(loss: Any, x: Any, target: Any, weight: Any) -> Any:
    return loss(x, target, weight=weight)


def _ctc(p: Any, samples: Any) -> Any:
    """-log of the sum over all paths that spell the target: every one of them is visited."""
    losses = []
    for n, (steps, target) in enumerate(samples):
        total = 0.0
        for path in itertools.product(range(p.shape[2]), repeat=steps):
            if tuple(c for c, _ in itertools.groupby(path) if c) == target:
                total += np.prod([p[t, n, c] for t, c in enumerate(path)])
        losses.append(-np.log(total))
    return np.array(losses)


ROWS: list[Row] = [
    Row(
        "softmax",
        lambda x, dim=1: td.softmax(x, dim),
        [[(3, 4)], [(2, 3, 2)], [(2, 1)], [(0, 3)]],
        lambda x: special.softmax(x, 1),
        "softmax.softmax",
        bad=[((X, 2), ShapeError, f"softmax: {DIM}")],
    ),
    Row(
        "softmax.softmax_dx",
        lambda g, y: softmax._softmax_dx(g, y, dim=1),
        [[(3, 4), (3, 4)], [(2, 3, 2), (2, 3, 2)]],
        lambda g, y: y * (g - (g * y).sum(1, keepdims=True)),
        "softmax.softmax_dx",
    ),
    Row(
        "log_softmax",
        lambda x, dim=1: td.log_softmax(x, dim),
        [[(3, 4)], [(2, 3, 2)], [(2, 1)], [(0, 3)]],
        lambda x: special.log_softmax(x, 1),
        "softmax.log_softmax",
        bad=[((X, 2), ShapeError, f"log_softmax: {DIM}")],
    ),
    Row(
        "softmax.log_softmax_dx",
        lambda g, y: softmax._log_softmax_dx(g, y, dim=1),
        [[(3, 4), (3, 4)], [(2, 3, 2), (2, 3, 2)]],
        lambda g, y: g - np.exp(y) * g.sum(1, keepdims=True),
        "softmax.log_softmax_dx",
    ),
    Row(
        "cross_entropy",
        td.cross_entropy,
        [[(3, 4), index(4, 3)], [(1, 2), index(2, 1)], [(2, 1), index(1, 2)]],
        lambda x, t: ref.cross_entropy(x, t).mean(),
        bad=[
            ((X, td.tensor([0, 1])), ShapeError, TARGETS),
            ((X, td.tensor([0, 1, 7])), ShapeError, "cross_entropy: expected classes in [0, 4), got 7 .. 7"),
            (
                (X, td.gt(V, 0)),
                DtypeError,
                "cross_entropy: expected class indices of an integer dtype, got bool",
            ),
            (
                (X, V.to("int64"), None, -100, "middle"),
                ValueError,
                "cross_entropy: expected reduction 'mean', 'sum' or 'none', got 'middle'",
            ),
            (
                (X, V.to("int64"), None, -100, "sum", 2),
                ValueError,
                "cross_entropy: expected label_smoothing in [0, 1], got 2",
            ),
        ],
    ),
    Row(
        "cross_entropy ignoring",
        lambda x, t: td.cross_entropy(x, t, ignore_index=2, label_smoothing=0.1),
        [[(5, 4), exactly([0, 2, 3, 2, 1])], [(2, 3, 2), exactly([[2, 2], [0, 2]])]],
        lambda x, t: ref.cross_entropy(ref.rows(x), t.reshape(-1), 0.1, 2).sum() / (t != 2).sum(),
        bad=[
            (
                (X, td.tensor([0, 2, -100])),
                ShapeError,
                "cross_entropy: expected classes in [0, 4), got -100 .. -100",
            )
        ],
    ),
    Row(
        "cross_entropy smooth",
        lambda x, t: td.cross_entropy(x, t, reduction="none", label_smoothing=0.1),
        [[(3, 4), index(4, 3)], [(0, 4), index(4, 0)]],
        lambda x, t: ref.cross_entropy(x, t, 0.1),
    ),
    Row(
        "cross_entropy soft",
        lambda x, t: td.cross_entropy(x, t, reduction="sum", label_smoothing=0.1),
        [[(3, 4), positive(3, 4)]],
        lambda x, t: ref.cross_entropy(x, t, 0.1).sum(),
    ),
    Row(
        "cross_entropy planes",
        lambda x, t: td.cross_entropy(x, t, reduction="none"),
        [[(2, 3, 2, 2), index(3, 2, 2, 2)]],
        lambda x, t: -np.take_along_axis(special.log_softmax(x, 1), t[:, None], 1)[:, 0],
    ),
    *[
        row
        for kind, target, fixed in (("indices", index(4, 3), ()), ("soft", positive(3, 4), (1,)))
        for row in (
            Row(
                f"softmax.cross_entropy {kind}",
                lambda x, t: softmax._cross_entropy(x, t, label_smoothing=0.1, ignored=2),
                [[(3, 4), target]],
                lambda x, t: ref.cross_entropy(x, t, 0.1, 2),
                "softmax.cross_entropy",
                fixed=fixed,
            ),
            Row(
                f"softmax.cross_entropy_dx {kind}",
                lambda x, t, g: softmax._cross_entropy_dx(g, x, t, label_smoothing=0.1, ignored=2),
                [[(3, 4), target, (3,)]],
                lambda x, t, g: ref.pullback(lambda x: ref.cross_entropy(x, t, 0.1, 2), [x], [g], 0),
                "softmax.cross_entropy_dx",
                fixed=fixed,
            ),
        )
    ],
    Row("softmin", lambda x: td.softmin(x, 1), [[(3, 4)]], lambda x: special.softmax(-x, 1)),
    Row(
        "cross_entropy weighted",
        lambda x, t, w: td.cross_entropy(x, t, w, ignore_index=1),
        [[(5, 3), exactly([0, 1, 2, 2, 0]), positive(3)]],
        lambda x, t, w: np.average(ref.cross_entropy(x, t), weights=w[t] * (t != 1)),
        fixed=(2,),
    ),
    Row(
        "nll_loss",
        td.nll_loss,
        [[(3, 4), index(4, 3)], [(2, 3, 2), index(3, 2, 2)]],
        lambda x, t: -np.take_along_axis(x, t[:, None], 1).mean(),
        bad=[((X, td.tensor([0, 1, 4])), ShapeError, "nll_loss: expected classes in [0, 4), got 4 .. 4")],
    ),
    Row(
        "kl_div",
        td.kl_div,
        [[(3, 4), positive(3, 4)]],
        lambda x, t: (t * (np.log(t) - x)).mean(),
        bad=[((X, V), ShapeError, "kl_div: expected")],
    ),
    Row(
        "kl_div log_target",
        lambda x, t: td.kl_div(x, t, reduction="batchmean", log_target=True),
        [[(3, 4), (3, 4)]],
        lambda x, t: (np.exp(t) * (t - x)).sum() / 3,
    ),
    *[
        Row(
            name,
            getattr(td, name),
            [[spec(3, 4), target(3, 4)]],
            reference,
            bad=[((X, V), ShapeError, f"{name}: expected")],
            fixed=[1] if target is signs else [],
        )
        for name, spec, target, reference in (
            ("mse_loss", normal, normal, lambda x, t: ((x - t) ** 2).mean()),
            ("sum_of_squares", normal, normal, lambda x, t: ((x - t) ** 2).sum() / 3 / 2),
            ("l1_loss", normal, normal, lambda x, t: np.abs(x - t).mean()),
            ("smooth_l1_loss", normal, normal, lambda x, t: special.huber(1.0, x - t).mean()),
            ("huber_loss", normal, normal, lambda x, t: special.huber(1.0, x - t).mean()),
            ("hinge_loss", normal, signs, lambda x, t: np.maximum(1 - t * x, 0).mean()),
            (
                "hinge_embedding_loss",
                normal,
                signs,
                lambda x, t: np.where(t > 0, x, np.maximum(1 - x, 0)).mean(),
            ),
            (
                "binary_cross_entropy",
                probability,
                probability,
                lambda x, t: -(t * np.log(x) + (1 - t) * np.log1p(-x)).mean(),
            ),
            (
                "binary_cross_entropy_with_logits",
                normal,
                probability,
                lambda x, t: (np.logaddexp(0, x) - t * x).mean(),
            ),
        )
    ],
    Row(
        "poisson_nll_loss",
        td.poisson_nll_loss,
        [[(3, 4), positive(3, 4)]],
        lambda x, t: (np.exp(x) - t * x).mean(),
    ),
    Row(
        "gaussian_nll_loss",
        td.gaussian_nll_loss,
        [[(3, 4), (3, 4), positive(3, 4)]],
        lambda x, t, v: (np.log(v) + (x - t) ** 2 / v).mean() / 2,
    ),
    Row(
        "multi_margin_loss",
        td.multi_margin_loss,
        [[(3, 4), index(4, 3)]],
        lambda x, t: np.mean(
            [sum(max(0, 1 - r[y] + r[k]) for k in range(4) if k != y) / 4 for r, y in zip(x, t, strict=True)]
        ),
        bad=[((V, V), ShapeError, "multi_margin_loss: expected one class for (3,), got (3,)")],
    ),
    Row(
        "cosine_similarity",
        td.cosine_similarity,
        [[(3, 4), (3, 4)]],
        lambda x, y: (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1),
    ),
    Row(
        "cosine_embedding_loss",
        td.cosine_embedding_loss,
        [[(2, 4), (2, 4), exactly([1, -1])]],
        lambda x, y, t: np.where(t > 0, 1 - _cosine(x, y), np.maximum(_cosine(x, y), 0)).mean(),
        bad=[
            (
                (X, X, X),
                ShapeError,
                "cosine_embedding_loss: expected inputs (N, D), target (N,), got (3, 4), (3, 4), (3, 4)",
            )
        ],
    ),
    Row(
        "triplet_margin_loss",
        td.triplet_margin_loss,
        [[(3, 4), (3, 4), (3, 4)]],
        lambda a, p, n: np.maximum(
            np.linalg.norm(a - p + 1e-6, axis=1) - np.linalg.norm(a - n + 1e-6, axis=1) + 1, 0
        ).mean(),
    ),
    Row(
        "ctc_loss",
        lambda x, t: td.ctc_loss(td.log_softmax(x, -1), t, [4, 3], [2, 1], reduction="none"),
        [[(4, 2, 3), exactly([[1, 2], [1, 0]])]],
        lambda x, t: _ctc(special.softmax(x, -1), [(4, (1, 2)), (3, (1,))]),
    ),
    Row(
        "scaled_dot_product_attention",
        td.scaled_dot_product_attention,
        [[(2, 3, 4), (2, 5, 4), (2, 5, 2)]],
        ref.attention,
    ),
    Row(
        "scaled_dot_product_attention causal",
        lambda q, k, v: td.scaled_dot_product_attention(q, k, v, is_causal=True),
        [[(2, 3, 4), (2, 3, 4), (2, 3, 2)]],
        lambda q, k, v: ref.attention(q, k, v, np.tri(3, dtype=bool)),
    ),
    Row(
        "scaled_dot_product_attention groups",
        lambda q, k, v: td.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        [[(2, 4, 3, 2), (2, 2, 5, 2), (2, 2, 5, 3)], [(2, 3, 2), (1, 2, 2), (1, 2, 1)]],
        lambda q, k, v: ref.attention(q, *(np.repeat(x, q.shape[-3] // x.shape[-3], -3) for x in (k, v))),
    ),
    *[
        Row(
            f"{name} weighted",
            functools.partial(weighted, getattr(td, name)),
            [[(3, 4), (3, 4), positive(3, 4)], [(), (), positive()]],
            reference,
            bad=[((X, X, V), ShapeError, f"{name}: expected weight of the input's shape (3, 4), got (3,)")],
        )
        for name, reference in (
            ("mse_loss", lambda x, t, w: np.average((x - t) ** 2, weights=w)),
            ("l1_loss", lambda x, t, w: np.average(np.abs(x - t), weights=w)),
            ("huber_loss", lambda x, t, w: (special.huber(1.0, x - t) * w).mean()),
        )
    ],
]
