"""The losses of several tasks: rows as in penalties.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinydl as td
from catalogue.penalties import Form, Linear, PenaltyRow, negative, objective
from catalogue.penalties_of_passes import BATCH
from tinydl import nn
from tinydl.regularizers import GradNorm, UncertaintyWeighting

TASKS = (lambda z, y: td.cross_entropy(z, y), lambda z, y: (z * z).mean())


def uncertain(weight: Any, **more: Any) -> UncertaintyWeighting:
    return UncertaintyWeighting(TASKS, ("classification", "regression"), weight=weight, **more)


def grad_norm(weight: Any, model: nn.Module, **more: Any) -> GradNorm:
    shared = "0.weight" if isinstance(model, nn.Sequential) else "weight"
    return GradNorm(TASKS, shared, weight=weight, **more)


def of_tasks(first: float, second: float) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        z = at.x @ at.W.T + at.c
        own = -np.log(at.p[range(len(z)), at.y]).mean()
        dz = first * at.delta / len(z) + second * 2 * z / z.size
        return at.by_logits(first * own + second * (z**2).mean(), dz)

    return form


ROWS = [
    PenaltyRow(
        "UncertaintyWeighting",
        uncertain,
        of_tasks(1.0, 0.5),
        lambda seen: seen.losses.mean() + (seen.logits**2).mean() / 2,
        [
            negative(uncertain, "UncertaintyWeighting"),
            (
                lambda: UncertaintyWeighting(TASKS, ("regression", "ranking")),
                ValueError,
                r"UncertaintyWeighting: expected kinds out of \('regression', 'classification'\) of each",
            ),
            (
                lambda: UncertaintyWeighting(TASKS, ("regression",)),
                ValueError,
                "UncertaintyWeighting: .*of 2 tasks",
            ),
            (
                lambda: objective(UncertaintyWeighting([lambda z, y: z], ("regression",)))(*BATCH),
                td.ShapeError,
                r"UncertaintyWeighting: expected a loss of shape \(\) of task 0, got \(2, 3\)",
            ),
        ],
        at_zero=np.log(3),
        flat_at_zero=False,
    ),
    PenaltyRow(
        "GradNorm",
        grad_norm,
        of_tasks(1.0, 1.0),
        lambda seen: seen.losses.mean() + (seen.logits**2).mean(),
        [
            negative(lambda weight: GradNorm(TASKS, "weight", weight=weight), "GradNorm"),
            (
                lambda: GradNorm([], "weight"),
                ValueError,
                "GradNorm: expected tasks, alpha and lr of at least 0, got 0 tasks, 1.5, 0.025",
            ),
            (
                lambda: objective(GradNorm(TASKS, "wieght"))(*BATCH),
                ValueError,
                r"GradNorm: expected shared out of \['weight', 'bias'\], got 'wieght'",
            ),
            (
                lambda: objective(GradNorm([lambda z, y: td.ones(()).requires_grad_() * 1], "weight"))(
                    *BATCH
                ),
                td.GraphError,
                "GradNorm: expected task 0 to depend on 'weight', got one that does not",
            ),
        ],
        at_zero=np.log(3),
        flat_at_zero=False,
        of_model=True,
    ),
]
