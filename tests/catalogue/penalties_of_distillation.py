"""The penalties between predictions of one input: rows as in penalties.py."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinydl as td
from catalogue.penalties import CONSTANT, Form, Linear, PenaltyRow, TorchPass, frozen, negative, objective
from catalogue.penalties_of_passes import (
    BATCH,
    FLAT,
    augmented,
    divergence,
    flat,
    half_teacher,
    nothing,
    of_generator,
    softmax,
)
from tinydl import nn
from tinydl.regularizers import Distill, JensenShannon, SelfDistill

# On linear models
# ------------------------------------------------------------------------------------------------------------


def of_jensen_shannon(at: Linear) -> Form:
    """Of x and two views that are alike."""
    inputs = [at.x, augmented(at.x), augmented(at.x)]
    p = [softmax(x @ at.W.T + at.c) for x in inputs]
    middle = np.mean(p, 0)
    value, W, c = 0.0, np.zeros_like(at.W), np.zeros_like(at.c)
    for x, q in zip(inputs, p, strict=True):
        h = np.log(q / middle)
        dz = q * (h - (q * h).sum(1, keepdims=True)) / (3 * len(x))
        value, W, c = value + (q * h).sum(1).mean() / 3, W + dz.T @ x, c + dz.sum(0)
    return value, W, c


def of_distill(at: Linear) -> Form:
    """From a teacher of half the logits, at T = 4."""
    z = at.x @ at.W.T + at.c
    t, q = softmax(z / 8), softmax(z / 4)
    return at.by_logits(16 * divergence(t, q), 4 * (q - t) / len(z))


# How they are made
# ------------------------------------------------------------------------------------------------------------


def distill(weight: Any, model: nn.Module, **more: Any) -> Distill:
    """From a copy with half the parameters."""
    return Distill(weight, half_teacher(1.0, model).teacher, save_teacher=True, **more)


def self_distill(weight: Any, model: nn.Module, **more: Any) -> SelfDistill:
    """The last layer as its own head."""
    return SelfDistill(weight, str(len(model) - 1) if isinstance(model, nn.Sequential) else "", **more)


# In PyTorch
# ------------------------------------------------------------------------------------------------------------


def torch_jensen_shannon(seen: TorchPass) -> Any:
    views = [seen.logits, *(seen.model(augmented(seen.x)) for _ in range(2))]
    p = [z.softmax(1) for z in views]
    middle = sum(p) / 3
    return sum((q * (q / middle).log()).sum(1).mean() for q in p) / 3


def torch_distill(seen: TorchPass) -> Any:
    """The teacher's running statistics are those of its making."""
    training, names = seen.model.training, {name for name, _ in seen.model.named_parameters()}
    teacher = {name: p / 2 if name in names else p for name, p in seen.start.items()}
    seen.model.eval()
    t = seen.torch.func.functional_call(seen.model, teacher, (seen.x.detach(),))
    seen.model.train(training)
    t, q = (t / 4).log_softmax(1), (seen.logits / 4).log_softmax(1)
    return 16 * (t.exp() * (t - q)).sum(1).mean()


# What is refused
# ------------------------------------------------------------------------------------------------------------


ROWS = [
    PenaltyRow(
        "JensenShannon",
        of_generator(JensenShannon, augment=augmented),
        of_jensen_shannon,
        torch_jensen_shannon,
        [
            negative(lambda weight: JensenShannon(weight, augmented), "JensenShannon"),
            (
                lambda: JensenShannon(1.0, augmented, views=0),
                ValueError,
                "JensenShannon: expected views of at least 1, got 0",
            ),
            (flat(JensenShannon(1.0, augmented)), td.ShapeError, f"JensenShannon: {FLAT}"),
            (frozen(JensenShannon(1.0, augmented)), td.GraphError, f"jensen_shannon: {CONSTANT}"),
        ],
        extra=True,
    ),
    PenaltyRow(
        "Distill",
        distill,
        of_distill,
        torch_distill,
        [
            negative(lambda weight: Distill(weight, nn.Linear(4, 3)), "Distill"),
            (lambda: Distill(1.0, nn.Linear(4, 3), T=0), ValueError, "Distill: expected T above 0, got 0"),
            (
                lambda: Distill(1.5, nn.Linear(4, 3), loss=td.cross_entropy),
                ValueError,
                r"Distill: expected alpha in \[0, 1\] beside a loss, got 1.5",
            ),
            (
                lambda: objective(Distill(1.0, nn.Linear(4, 2)))(*BATCH),
                td.ShapeError,
                r"Distill: expected a teacher's logits \(2, 3\), got \(2, 2\)",
            ),
            (flat(Distill(1.0, nn.Linear(4, 3))), td.ShapeError, f"Distill: {FLAT}"),
            (frozen(Distill(1.0, nn.Linear(4, 3))), td.GraphError, f"distill: {CONSTANT}"),
        ],
        of_model=True,
    ),
    PenaltyRow(
        "SelfDistill",
        self_distill,
        nothing,
        lambda seen: 0 * seen.logits.sum(),
        [
            negative(lambda weight: SelfDistill(weight, ""), "SelfDistill"),
            (
                lambda: SelfDistill(1.0, []),
                ValueError,
                r"SelfDistill: expected layers, T above 0, got \(\), 3.0",
            ),
            (
                lambda: objective(SelfDistill(1.0, "0"), model=nn.Sequential(nn.Tanh(), nn.Linear(4, 3)))(
                    *BATCH
                ),
                td.ShapeError,
                r"SelfDistill: expected logits \(2, 3\) of layer '0', got \(2, 4\)",
            ),
            (flat(SelfDistill(1.0, "")), td.ShapeError, f"SelfDistill: {FLAT}"),
            (frozen(SelfDistill(1.0, "")), td.GraphError, f"self_distill: {CONSTANT}"),
        ],
        of_model=True,
        held=("target",),
    ),
]
