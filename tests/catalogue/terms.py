"""The terms without a value: a row for each public one, and what it refuses. regularizers/test_samples.py
walks them, and training/test_terms_by_the_trainer.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    CutMix,
    Cutout,
    DisturbLabel,
    ElasticNetProx,
    GroupLassoProx,
    InputNoise,
    L1Prox,
    ManifoldMixup,
    MaxNorm,
    Mixed,
    Mixup,
    Objective,
    RandomErasing,
    SamplePairing,
    Term,
)


@dataclass(frozen=True)
class TermRow:
    name: str
    make: Callable[..., Term]  # with generator= and name= as they come
    idle: Callable[..., Term] | None  # as it draws nothing and leaves all as it is
    bad: Sequence[tuple[Callable[[], Any], type[Exception], str]]
    images: bool = False  # does it need them?
    after: bool = False  # does it act after the step, and not before the pass?
    soft: bool = True  # does it take targets that are no classes?


def called(term: Term, x: Any = None, target: Any = None) -> Callable[[], Any]:
    """On a batch; of a model with a hidden layer."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x, target = td.ones(2, 4) if x is None else x, td.tensor([0, 1]) if target is None else target
    return lambda: Objective(model, td.cross_entropy, [term])(x, target)


MIXED = Mixed(td.tensor([0, 1]), td.tensor([1, 0]), td.ones(2))
WHOLE = td.tensor(np.ones((2, 4), np.int64))
IMAGES = td.ones(2, 1, 2, 2)


def mixing(kind: Callable[..., Any], who: str, x: Any = None) -> list[Any]:
    return [
        (lambda: kind(-1.0), ValueError, f"{who}: expected alpha of at least 0, got -1.0"),
        (
            lambda: kind(1.0, per="pixel"),
            ValueError,
            rf"{who}: expected per in \('batch', 'sample'\), got 'pixel'",
        ),
        (
            called(kind(1.0), x, MIXED),
            td.ShapeError,
            f"{who}: expected targets of one term that mixes, got Mixed",
        ),
    ]


def inputs(kind: Callable[[], Any], who: str) -> list[Any]:
    return [
        (called(kind(), WHOLE), td.DtypeError, f"{who}: expected a floating input, got int64"),
        (called(kind(), (IMAGES, IMAGES)), td.ShapeError, f"{who}: expected one input, got 2"),
    ]


def flat(kind: Callable[[], Any], who: str) -> list[Any]:
    return [(called(kind()), td.ShapeError, rf"{who}: expected an input \(B, C, H, W\), got \(2, 4\)")]


def without_the_optimizer(term: Term) -> Callable[[], Any]:
    return lambda: Objective(nn.Linear(4, 3), td.cross_entropy, [term]).after()


def after_a_step(make: Callable[..., Term]) -> Callable[..., Term]:
    """A term that draws nothing."""
    return lambda generator=None, **more: make(**more)


TERMS = [
    TermRow("Mixup", Mixup, lambda: Mixup(0.0), [*mixing(Mixup, "Mixup"), *inputs(Mixup, "Mixup")]),
    TermRow(
        "ManifoldMixup",
        lambda **more: ManifoldMixup(2.0, "0", **more),
        lambda: ManifoldMixup(0.0, "0"),
        [
            *mixing(lambda alpha, **more: ManifoldMixup(alpha, "0", **more), "ManifoldMixup"),
            (lambda: ManifoldMixup(2.0), ValueError, "ManifoldMixup: expected layers, got none"),
            (
                called(ManifoldMixup(2.0, "hidden")),
                AttributeError,
                "get_submodule: expected one of 0, 1 in Sequential, got 'hidden'",
            ),
        ],
    ),
    TermRow(
        "CutMix",
        CutMix,
        lambda: CutMix(0.0),
        [*mixing(CutMix, "CutMix", IMAGES), *inputs(CutMix, "CutMix"), *flat(CutMix, "CutMix")],
        images=True,
    ),
    TermRow(
        "Cutout",
        lambda **more: Cutout(3, **more),
        lambda: Cutout(0),
        [
            (lambda: Cutout(-1), ValueError, "Cutout: expected size as a whole number of at least 0, got -1"),
            (lambda: Cutout(1.5), ValueError, "Cutout: expected size as a .* got 1.5"),
            (lambda: Cutout(value="mean"), ValueError, "Cutout: expected value as numbers or 'noise', got"),
            (
                called(Cutout(value=(1.0, 2.0)), IMAGES),
                td.ShapeError,
                r"Cutout: expected value as a number or one per channel of \(2, 1, 2, 2\), got \(1.0, 2.0\)",
            ),
            *inputs(Cutout, "Cutout"),
            *flat(Cutout, "Cutout"),
        ],
        images=True,
    ),
    TermRow(
        "RandomErasing",
        lambda **more: RandomErasing(0.7, value="noise", **more),
        lambda: RandomErasing(0.0),
        [
            (lambda: RandomErasing(1.5), ValueError, r"RandomErasing: expected p in \[0, 1\], got 1.5"),
            (lambda: RandomErasing(scale=(0.5, 0.1)), ValueError, "RandomErasing: expected 0 < low <= high"),
            (lambda: RandomErasing(ratio=(0.0, 1.0)), ValueError, "RandomErasing: expected 0 < low <= high"),
            (lambda: RandomErasing(value="mean"), ValueError, "RandomErasing: expected value as numbers or"),
            (
                called(RandomErasing(value=(1.0, 2.0)), IMAGES),
                td.ShapeError,
                r"RandomErasing: expected value as a number or one per channel of \(2, 1, 2, 2\), got \(1.0",
            ),
            *inputs(RandomErasing, "RandomErasing"),
            *flat(RandomErasing, "RandomErasing"),
        ],
        images=True,
    ),
    TermRow("SamplePairing", SamplePairing, None, inputs(SamplePairing, "SamplePairing")),
    TermRow(
        "InputNoise",
        lambda **more: InputNoise(0.3, **more),
        lambda: InputNoise(0.0),
        [(lambda: InputNoise(-1), ValueError, "InputNoise: expected std of at least 0, got -1")],
    ),
    TermRow(
        "DisturbLabel",
        lambda **more: DisturbLabel(0.9, classes=3, **more),
        lambda: DisturbLabel(0.0, classes=3),
        [
            (lambda: DisturbLabel(2.0, classes=3), ValueError, "DisturbLabel: expected a probability"),
            (lambda: DisturbLabel(classes=0), ValueError, "DisturbLabel: expected classes as a whole number"),
            (
                called(DisturbLabel(classes=3), target=td.ones(2, 3)),
                td.DtypeError,
                "DisturbLabel: expected class indices as targets, got float32",
            ),
            (
                called(DisturbLabel(classes=3), target=MIXED),
                td.DtypeError,
                "DisturbLabel: expected class indices as targets, got Mixed",
            ),
        ],
        soft=False,
    ),
    TermRow(
        "MaxNorm",
        after_a_step(lambda **more: MaxNorm(0.1, **more)),
        None,
        [
            (lambda: MaxNorm(0), ValueError, "MaxNorm: expected c above 0, got 0"),
            (without_the_optimizer(MaxNorm(params="w")), ValueError, r"max_norm: expected parameters out of"),
        ],
        after=True,
    ),
    *[
        TermRow(
            kind.__name__,
            after_a_step(lambda kind=kind, **more: kind(0.1, **more)),
            lambda kind=kind: kind(0.0),
            [
                (
                    lambda kind=kind: kind(-1.0),
                    ValueError,
                    f"{kind.__name__}: expected a weight of at least 0, got -1.0",
                ),
                (
                    without_the_optimizer(kind(1.0)),
                    td.GraphError,
                    rf"{kind.__name__}: expected objective.after\(optimizer\), whose rate it needs, got none",
                ),
                *more,
            ],
            after=True,
        )
        for kind, more in (
            (L1Prox, []),
            (
                ElasticNetProx,
                [(lambda: ElasticNetProx(1.0, 2), ValueError, "ElasticNetProx: expected l1_ratio in")],
            ),
            (
                GroupLassoProx,
                [(lambda: GroupLassoProx(1.0, "rows"), ValueError, "GroupLassoProx: expected groups in")],
            ),
        )
    ],
]
