"""The rows of generators.py: the model makes samples (B, 3), and a linear critic judges them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    GeneratorLoss,
    Hinge,
    LeastSquares,
    Logistic,
    Objective,
    Penalty,
    Relativistic,
    Wasserstein,
)

from .penalties import CONSTANT, DRAWS, Form, Linear, PenaltyRow, TorchPass, frozen
from .penalties_of_critics import sigmoid, softplus

V, SHIFT = np.array([0.7, -1.2, 0.4]), 0.3  # D(z) = V·z + SHIFT


class Critic(nn.Module):
    """D, in the dtype of a model."""

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        self.v = nn.Parameter(td.tensor(V, dtype=next(like.parameters()).dtype))

    def forward(self, z: td.Tensor) -> td.Tensor:
        return (z * self.v).sum(1) + SHIFT


SINGLE = Critic(nn.Linear(1, 1))


def judged(loss: Any) -> Callable[..., Penalty]:
    return lambda weight, model, **more: GeneratorLoss(
        Critic(model), loss(), weight=weight, generator=td.Generator(*DRAWS), **more
    )


def given(x: Any) -> dict[str, Any]:
    """Real samples (B, 3)."""
    return {"real": x.reshape(len(x), -1)[:, :3] * 0.8}


def row(
    loss: Any, value: Callable[..., float], slope: Callable[..., Any], torch: Callable[..., Any]
) -> PenaltyRow:
    """All of D(fake) and D(real); the slope by D(fake), without 1/B."""

    def form(at: Linear) -> Form:
        fake, real = (z @ V + SHIFT for z in (at.x @ at.W.T + at.c, given(at.x)["real"]))
        d = np.broadcast_to(slope(fake, real), (len(fake),)) / len(fake)
        return at.by_logits(value(fake, real), d[:, None] * V)

    def of_torch(seen: TorchPass) -> Any:
        v = seen.torch.from_numpy(V)
        fake, real = (z @ v + SHIFT for z in (seen.logits, given(seen.x.detach())["real"]))
        return torch(seen.torch.nn.functional, fake, real)

    return PenaltyRow(
        f"GeneratorLoss, {loss.__name__}",
        judged(loss),
        form,
        of_torch,
        [],
        at_zero=None,
        flat_at_zero=False,
        of_model=True,
        given=given,
    )


def called(penalty: Penalty, **more: Any) -> Callable[[], Any]:
    return lambda: Objective(nn.Linear(4, 3), penalty)(td.ones(2, 4), **more)


ROWS = [
    row(
        Wasserstein,
        lambda fake, real: -fake.mean(),
        lambda fake, real: -1.0,
        lambda F, fake, real: -fake.mean(),
    ),
    row(Hinge, lambda fake, real: -fake.mean(), lambda fake, real: -1.0, lambda F, fake, real: -fake.mean()),
    row(
        LeastSquares,
        lambda fake, real: ((fake - 1) ** 2).mean(),
        lambda fake, real: 2 * (fake - 1),
        lambda F, fake, real: F.mse_loss(fake, fake.new_ones(len(fake))),
    ),
    row(
        Logistic,
        lambda fake, real: softplus(-fake).mean(),
        lambda fake, real: -sigmoid(-fake),
        lambda F, fake, real: F.binary_cross_entropy_with_logits(fake, fake.new_ones(len(fake))),
    ),
    row(
        Relativistic,
        lambda fake, real: softplus(real - fake).mean(),
        lambda fake, real: -sigmoid(real - fake),
        lambda F, fake, real: -F.logsigmoid(fake - real).mean(),
    ),
]
ROWS[0].bad.extend(  # type: ignore[attr-defined]
    [
        (
            lambda: GeneratorLoss(SINGLE, Hinge(), weight=-1.0),
            ValueError,
            "GeneratorLoss: expected a weight of at least 0, got -1.0",
        ),
        (
            lambda: GeneratorLoss(SINGLE, td.cross_entropy),
            TypeError,
            r"GeneratorLoss: expected a critic's loss, such as Hinge\(\), got function",
        ),
        (
            called(GeneratorLoss(SINGLE, Relativistic())),
            ValueError,
            r"generator_loss: expected real= of the objective's call, a tensor, got \[\]",
        ),
        (
            called(GeneratorLoss(nn.Linear(3, 3), Hinge())),
            td.ShapeError,
            r"GeneratorLoss: expected one output per sample \(B,\) or \(B, 1\), got \(2, 3\)",
        ),
        (
            called(GeneratorLoss(SINGLE, Relativistic()), real=td.ones(3, 3)),
            td.ShapeError,
            r"Relativistic: expected a fake for each of \(2,\), got \(3,\)",
        ),
        (
            frozen(GeneratorLoss(SINGLE, Hinge())),
            td.GraphError,
            f"generator_loss: {CONSTANT}",
        ),
    ]
)
