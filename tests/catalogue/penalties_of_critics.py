"""The rows of the penalties and losses of critics: models with one output, fakes out of the inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    R1,
    R2,
    CriticConsistency,
    Dragan,
    FeatureMatching,
    GradientPenalty,
    Hinge,
    LeastSquares,
    Logistic,
    Objective,
    Penalty,
    Relativistic,
    SemiSupervised,
    Wasserstein,
)

from .penalties import DRAWS, Form, Linear, PenaltyRow, TorchPass, negative
from .penalties_of_gradients import of_lipschitz, seeded


def fakes(x: Any) -> Any:
    """Not affine: a BatchNorm would make x of it again."""
    return 0.5 * x + 0.3 * x * x


def view(x: Any) -> Any:
    return 0.7 * x + 0.2 * x * x


def given(x: Any) -> dict[str, Any]:
    return {"fake": fakes(x)}


def scores(at: Linear, x: np.ndarray) -> np.ndarray:
    return (x @ at.W.T + at.c)[:, 0]


def of_loss(
    value: Callable[[np.ndarray, np.ndarray], float],
    slopes: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Callable[[Linear], Form]:
    """Of a mean over samples; `slopes` by each score, without 1/B."""

    def form(at: Linear) -> Form:
        x, fake, B = at.x, fakes(at.x), len(at.x)
        pair = scores(at, x), scores(at, fake)
        d_real, d_fake = (np.broadcast_to(d, (B,)) / B for d in slopes(*pair))
        return value(*pair), (d_real @ x + d_fake @ fake)[None], np.array([d_real.sum() + d_fake.sum()])

    return form


def torch_scores(seen: TorchPass) -> tuple[Any, Any]:
    return seen.logits[:, 0], seen.model(fakes(seen.x.detach()))[:, 0]


def half_square(at: Linear) -> Form:
    return (at.W**2).sum() / 2, at.W, np.zeros_like(at.c)


def torch_slopes(seen: TorchPass, x: Any) -> Any:
    leaf = x.detach().requires_grad_()
    return seen.torch.autograd.grad(seen.model(leaf).sum(), leaf, create_graph=True)[0].flatten(1)


def draws(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = td.Generator(*DRAWS)
    return [td.rand(shape, generator=generator, dtype="float64").numpy() for shape in shapes]


def torch_interpolates(one_sided: bool) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        x = seen.x.detach()
        t = seen.torch.from_numpy(draws((len(x), *(1,) * (x.ndim - 1)))[0])
        excess = ((torch_slopes(seen, t * x + (1 - t) * fakes(x)) ** 2).sum(1) + 1e-16).sqrt() - 1
        return ((excess.relu() if one_sided else excess) ** 2).mean()

    return form


def torch_dragan(seen: TorchPass) -> Any:
    x = seen.x.detach()
    alpha, u = map(seen.torch.from_numpy, draws((len(x), *(1,) * (x.ndim - 1)), tuple(x.shape)))
    moved = x + alpha * 0.5 * x.std(unbiased=False) * u
    return ((((torch_slopes(seen, moved) ** 2).sum(1) + 1e-16).sqrt() - 1) ** 2).mean()


def of_means(at: Linear) -> Form:
    """The real side is detached."""
    fake = fakes(at.x).mean(0)
    gap = (fake - at.x.mean(0)) @ at.W.T
    return (gap**2).sum(), 2 * np.outer(gap, fake), 2 * gap


def torch_means(seen: TorchPass) -> Any:
    fake = seen.model(fakes(seen.x.detach())).mean(0)
    return ((seen.logits.mean(0).detach() - fake) ** 2).sum()


def unlabeled_too(x: Any) -> dict[str, Any]:
    return {"unlabeled": view(x), "fake": fakes(x)}


def of_classes(at: Linear) -> Form:
    """lse(z) has the derivative p; softplus(lse), D p with D = Z/(Z + 1)."""
    B = len(at.x)
    value, dW, dc = at.by_logits(-np.log(at.p[np.arange(B), at.y]).mean(), at.delta / B)
    for x, factor in ((view(at.x), -1.0), (fakes(at.x), 0.0)):
        z = x @ at.W.T + at.c
        lse = np.log(np.exp(z).sum(1))
        there = Linear(at.W, at.c, x, at.y)
        slope = 0.5 * (sigmoid(lse) + factor)[:, None] * there.p / B
        part, more, bias = there.by_logits(0.5 * (softplus(lse) + factor * lse).mean(), slope)
        value, dW, dc = value + part, dW + more, dc + bias
    return value, dW, dc


def torch_classes(seen: TorchPass) -> Any:
    x = seen.x.detach()
    real, fake = (seen.model(each).logsumexp(1) for each in (view(x), fakes(x)))
    softplus = seen.torch.nn.functional.softplus
    return seen.losses.mean() + 0.5 * (softplus(real) - real + softplus(fake)).mean()


def of_consistency(both: bool) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        value, dW = 0.0, np.zeros_like(at.W)
        for x in (at.x, fakes(at.x)) if both else (at.x,):
            d = x - view(x)
            gap = d @ at.W.T
            value += (gap**2).mean()
            dW += 2 / len(d) * gap.T @ d
        return value, dW, np.zeros_like(at.c)

    return form


def torch_consistency(both: bool) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        x = seen.x.detach()
        batches = (x, fakes(x)) if both else (x,)
        return sum(((seen.model(each) - seen.model(view(each))) ** 2).mean() for each in batches)

    return form


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def softplus(z: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(z))


# The rows
# ------------------------------------------------------------------------------------------------------------


def critic(penalty: Penalty, outputs: int = 1, **more: Any) -> Callable[[], Any]:
    loss = lambda z, y, reduction: z.sum(1)  # noqa: E731
    return lambda: Objective(nn.Linear(4, outputs), loss, [penalty])(td.ones(2, 4), **more)


def usual(make: Callable[..., Penalty], who: str) -> list[Any]:
    fake = {"fake": td.ones(2, 4)}
    return [
        negative(make, who),
        (
            critic(make(1.0), 3, **fake),
            td.ShapeError,
            rf"{who}: expected one output per sample \(B,\) or \(B, 1\), got \(2, 3\)",
        ),
    ]


def no_fake(penalty: Penalty) -> Any:
    wanted = rf"{penalty.name}: expected fake= of the objective's call, a tensor, got \[\]"
    return critic(penalty), ValueError, wanted


def loss_row(
    penalty: Any, value: Any, slopes: Any, torch: Callable[[Any, Any, Any], Any], **more: Any
) -> PenaltyRow:
    """`torch` of torch.nn.functional and both scores."""
    return PenaltyRow(
        penalty.__name__,
        penalty,
        of_loss(value, slopes),
        lambda seen: torch(seen.torch.nn.functional, *torch_scores(seen)),
        [*usual(penalty, penalty.__name__), no_fake(penalty())],
        outputs=1,
        given=given,
        extra=True,
        at_zero=None,
        flat_at_zero=False,
        **more,
    )


consistency = lambda weight, **more: CriticConsistency(weight, augment=view, **more)  # noqa: E731

ROWS = [
    loss_row(
        Wasserstein,
        lambda real, fake: fake.mean() - real.mean(),
        lambda real, fake: (np.array(-1.0), np.array(1.0)),
        lambda F, real, fake: fake.mean() - real.mean(),
    ),
    loss_row(
        Hinge,
        lambda real, fake: np.maximum(1 - real, 0).mean() + np.maximum(1 + fake, 0).mean(),
        lambda real, fake: (-1.0 * (real < 1), 1.0 * (fake > -1)),
        lambda F, real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
    ),
    loss_row(
        LeastSquares,
        lambda real, fake: ((real - 1) ** 2).mean() + (fake**2).mean(),
        lambda real, fake: (2 * (real - 1), 2 * fake),
        lambda F, real, fake: ((real - 1) ** 2).mean() + (fake**2).mean(),
    ),
    loss_row(
        Logistic,
        lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
        lambda real, fake: (-sigmoid(-real), sigmoid(fake)),
        lambda F, real, fake: F.softplus(-real).mean() + F.softplus(fake).mean(),
    ),
    loss_row(
        Relativistic,
        lambda real, fake: softplus(fake - real).mean(),
        lambda real, fake: (-sigmoid(fake - real), sigmoid(fake - real)),
        lambda F, real, fake: F.softplus(fake - real).mean(),
    ),
    PenaltyRow(
        "SemiSupervised",
        lambda weight, **more: SemiSupervised(weight=weight, **more),
        of_classes,
        torch_classes,
        [
            negative(lambda weight: SemiSupervised(weight=weight), "SemiSupervised"),
            (
                lambda: Objective(nn.Linear(4, 3), SemiSupervised())(td.ones(2, 4), td.tensor([0, 1])),
                ValueError,
                r"semi_supervised: expected unlabeled= of the objective's call, a tensor, got \[\]",
            ),
            (
                lambda: Objective(nn.Conv1d(1, 3, 1), SemiSupervised())(td.ones(2, 1, 4), td.tensor([0, 1])),
                td.ShapeError,
                r"SemiSupervised: expected logits \(B, m\), got \(2, 3, 4\)",
            ),
        ],
        given=unlabeled_too,
        extra=True,
        at_zero=None,
        flat_at_zero=False,
    ),
    PenaltyRow(
        "R1",
        R1,
        half_square,
        lambda seen: (seen.slopes(seen.logits.sum()) ** 2).sum(1).mean() / 2,
        usual(R1, "R1"),
        outputs=1,
    ),
    PenaltyRow(
        "R2",
        R2,
        half_square,
        lambda seen: (torch_slopes(seen, fakes(seen.x)) ** 2).sum(1).mean() / 2,
        [*usual(R2, "R2"), no_fake(R2(1.0))],
        outputs=1,
        given=given,
        extra=True,
    ),
    PenaltyRow(
        "GradientPenalty",
        seeded(GradientPenalty),
        of_lipschitz(False),
        torch_interpolates(False),
        [
            *usual(GradientPenalty, "GradientPenalty"),
            no_fake(GradientPenalty()),
            (
                critic(GradientPenalty(), fake=td.ones(3, 4)),
                td.ShapeError,
                r"GradientPenalty: expected a fake for each sample \(2, 4\), got \(3, 4\)",
            ),
        ],
        outputs=1,
        given=given,
        extra=True,
        at_zero=(1e-8 - 1) ** 2,
    ),
    PenaltyRow(
        "GradientPenalty, one-sided",
        seeded(GradientPenalty, one_sided=True),
        of_lipschitz(True),
        torch_interpolates(True),
        [],
        outputs=1,
        given=given,
        extra=True,
    ),
    PenaltyRow(
        "Dragan",
        seeded(Dragan),
        of_lipschitz(False),
        torch_dragan,
        [*usual(Dragan, "Dragan"), (lambda: Dragan(c=0), ValueError, "Dragan: expected c above 0, got 0")],
        coupled=True,
        outputs=1,
        extra=True,
        at_zero=(1e-8 - 1) ** 2,
    ),
    PenaltyRow(
        "FeatureMatching",
        lambda weight, **more: FeatureMatching(weight, "", **more),
        of_means,
        torch_means,
        [
            negative(lambda weight: FeatureMatching(weight, ""), "FeatureMatching"),
            no_fake(FeatureMatching(1.0, "")),
        ],
        coupled=True,
        held=("target",),
        given=given,
        extra=True,
    ),
    PenaltyRow(
        "CriticConsistency",
        consistency,
        of_consistency(False),
        torch_consistency(False),
        usual(consistency, "CriticConsistency"),
        outputs=1,
        extra=True,
    ),
    PenaltyRow(
        "CriticConsistency, balanced",
        lambda weight, **more: CriticConsistency(weight, augment=view, fakes=True, **more),
        of_consistency(True),
        torch_consistency(True),
        [no_fake(CriticConsistency(augment=view, fakes=True))],
        outputs=1,
        given=given,
        extra=True,
    ),
]
