"""The critics' losses and penalties, and the losses of several tasks: rows as in penalties.py.

A critic puts out one number per sample; in these rows it is the first logit. Fakes are `fake(x)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinydl as td
from catalogue.penalties import (
    DRAWS,
    Form,
    Linear,
    PenaltyRow,
    TorchPass,
    frozen,
    negative,
    objective,
    on_images,
)
from catalogue.penalties_of_passes import BATCH, augmented
from tinydl import nn
from tinydl.regularizers import (
    DRAGAN,
    R1,
    R2,
    Consistency,
    FeatureMatching,
    GradientPenalty,
    GradNorm,
    Hinge,
    LeastSquares,
    NonSaturating,
    Objective,
    Relativistic,
    UncertaintyWeighting,
    Wasserstein,
)


def fake(x: Any) -> Any:
    return 0.7 * x * x - 0.4


def given(x: td.Tensor) -> dict[str, td.Tensor]:
    return {"fake": fake(x)}


def first_logit(kind: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
    """The penalty of a critic D = z_0."""

    def make(weight: Any, **more: Any) -> Any:
        penalty = kind(weight, generator=td.Generator(*DRAWS), **settings, **more)
        penalty.scores = lambda seen: seen.logits[:, 0]
        return penalty

    return make


def uniform(*shape: int, skip: int = 0) -> np.ndarray:
    """The uniform numbers of DRAWS behind the first ones of (skip, 1)."""
    g = td.Generator(*DRAWS)
    if skip:
        td.rand(skip, 1, generator=g, dtype="float64")
    return td.rand(shape, generator=g, dtype="float64").numpy()


# On linear models
# ------------------------------------------------------------------------------------------------------------


def by_first(at: Linear, value: float, dw: np.ndarray, dc: float = 0.0) -> Form:
    """The form of a value of w = W_0 and c_0 alone."""
    W, c = np.zeros_like(at.W), np.zeros_like(at.c)
    W[0], c[0] = dw, dc
    return value, W, c


E = np.e
Half = Callable[[Any], tuple[Any, Any]]  # of D(x), or of D(x̃): a loss per sample and its derivative


def log1p(x: Any) -> Any:
    return x.log1p() if hasattr(x, "log1p") else np.log1p(x)


def of_loss(real: Half, fakes: Half) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        value, dw, dc = 0.0, np.zeros_like(at.W[0]), 0.0
        for x, half in ((at.x, real), (fake(at.x), fakes)):
            loss, slope = half(x @ at.W[0] + at.c[0])
            value, dw, dc = value + loss.mean(), dw + (slope[:, None] * x).mean(0), dc + slope.mean()
        return by_first(at, value, dw, dc)

    return form


def torch_loss(real: Half, fakes: Half) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        return real(seen.logits[:, 0])[0].mean() + fakes(seen.model(fake(seen.x))[:, 0])[0].mean()

    return form


def of_relativistic(at: Linear) -> Form:
    difference = at.x - fake(at.x)
    d = difference @ at.W[0]
    return by_first(at, np.log1p(np.exp(-d)).mean(), -(difference / (1 + np.exp(d))[:, None]).mean(0))


def of_length(one_sided: bool = False) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        w = at.W[0]
        length = np.linalg.norm(w)
        away = max(length - 1, 0) if one_sided else length - 1
        return by_first(at, away**2, 2 * away * w / length)

    return form


def of_features(at: Linear) -> Form:
    """c cancels in the value, not in its gradient, whose real side is a constant."""
    x = fake(at.x)
    difference = (at.x - x).mean(0) @ at.W.T
    return (difference**2).sum(), -2 * np.outer(difference, x.mean(0)), -2 * difference


def of_consistency(at: Linear, fakes: bool = False) -> Form:
    w, value, dw = at.W[0], 0.0, np.zeros_like(at.W[0])
    for x in (at.x, fake(at.x)) if fakes else (at.x,):
        d = x - augmented(x)
        value, dw = value + ((d @ w) ** 2).mean(), dw + 2 * (d * (d @ w)[:, None]).mean(0)
    return by_first(at, value, dw)


def of_tasks(first: float, second: float) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        z = at.x @ at.W.T + at.c
        own = -np.log(at.p[range(len(z)), at.y]).mean()
        dz = first * at.delta / len(z) + second * 2 * z / z.size
        return at.by_logits(first * own + second * (z**2).mean(), dz)

    return form


# In PyTorch
# ------------------------------------------------------------------------------------------------------------


def slopes(seen: TorchPass, x: Any) -> Any:
    """‖∂D/∂x‖², (B,)."""
    x = x.detach().requires_grad_()
    (g,) = seen.torch.autograd.grad(seen.model(x)[:, 0].sum(), x, create_graph=True)
    return (g**2).flatten(1).sum(1)


def torch_relativistic(seen: TorchPass) -> Any:
    d = seen.logits[:, 0] - seen.model(fake(seen.x))[:, 0]
    return seen.torch.nn.functional.softplus(-d).mean()


def torch_between(seen: TorchPass) -> Any:
    x = seen.x.detach()
    t = seen.torch.from_numpy(uniform(len(x), *(1,) * (x.ndim - 1)))
    return t * x + (1 - t) * fake(x)


def torch_around(seen: TorchPass) -> Any:
    x = seen.x.detach()
    alpha = seen.torch.from_numpy(uniform(len(x), *(1,) * (x.ndim - 1)))
    noise = seen.torch.from_numpy(uniform(*x.shape, skip=len(x)))
    return x + alpha * 0.5 * x.std(unbiased=False) * noise


def torch_length(where: Callable[[TorchPass], Any], one_sided: bool = False) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        away = (slopes(seen, where(seen)) + 1e-16).sqrt() - 1
        return ((away.clip(min=0) if one_sided else away) ** 2).mean()

    return form


def torch_features(seen: TorchPass) -> Any:
    """At the output."""
    return ((seen.logits.detach().mean(0) - seen.model(fake(seen.x)).mean(0)) ** 2).sum()


def torch_consistency(fakes: bool) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        value = ((seen.logits - seen.model(augmented(seen.x)))[:, 0] ** 2).mean()
        x = fake(seen.x)
        return value + ((seen.model(x) - seen.model(augmented(x)))[:, 0] ** 2).mean() if fakes else value

    return form


# How they are made
# ------------------------------------------------------------------------------------------------------------


TASKS = (lambda z, y: td.cross_entropy(z, y), lambda z, y: (z * z).mean())


def uncertain(weight: Any, **more: Any) -> UncertaintyWeighting:
    return UncertaintyWeighting(TASKS, ("classification", "regression"), weight=weight, **more)


def grad_norm(weight: Any, model: nn.Module, **more: Any) -> GradNorm:
    shared = "0.weight" if isinstance(model, nn.Sequential) else "weight"
    return GradNorm(TASKS, shared, weight=weight, **more)


def features(weight: Any, model: nn.Module, **more: Any) -> FeatureMatching:
    return FeatureMatching(weight, str(len(model) - 1) if isinstance(model, nn.Sequential) else "", **more)


# What is refused
# ------------------------------------------------------------------------------------------------------------


def critic(penalty: Any, x: Any = None, **more: Any) -> Callable[[], Any]:
    """Of one output."""
    return lambda: Objective(nn.Linear(4, 1), Wasserstein(), [penalty])(
        td.ones(2, 4) if x is None else x, **({"fake": td.zeros(2, 4)} | more)
    )


def alone(penalty: Any, **more: Any) -> Callable[[], Any]:
    """As the loss of a critic."""
    return lambda: Objective(nn.Linear(4, 1), penalty)(td.ones(2, 4), **more)


def scores(kind: Callable[..., Any]) -> tuple[Callable[[], Any], type[Exception], str]:
    """Three logits per sample."""
    penalty = kind(1.0)
    message = rf"{type(penalty).__name__}: expected one output per sample \(2,\), got \(2, 3\)"
    return lambda: objective(penalty)(*BATCH, fake=td.zeros(2, 4)), td.ShapeError, message


def same_shape(penalty: Any) -> tuple[Callable[[], Any], type[Exception], str]:
    wanted = rf"{penalty.name}: expected fake of the shape of x, \(2, 4\), got \(3, 4\)"
    return critic(penalty, fake=td.zeros(3, 4)), td.ShapeError, wanted


def no_fake(penalty: Any) -> tuple[Callable[[], Any], type[Exception], str]:
    wanted = rf"{penalty.name}: expected fake= of the objective's call, got \[\]"
    return alone(penalty), ValueError, wanted


def meeting(penalty: Any) -> tuple[Callable[[], Any], type[Exception], str]:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    wanted = rf"{type(penalty).__name__}: expected a critic whose samples do not meet"
    return lambda: Objective(model, penalty)(td.ones(2, 4), fake=td.zeros(2, 4)), td.GraphError, wanted


CONSTANT = "expected a penalty that parameters can change"

ROWS = [
    *(
        PenaltyRow(
            kind.__name__,
            first_logit(kind),
            of_loss(real, fakes),
            torch_loss(real, fakes),
            [
                negative(kind, kind.__name__),
                scores(kind),
                no_fake(kind()),
                (
                    lambda kind=kind: kind(side="both"),
                    ValueError,
                    rf"{kind.__name__}: expected side in \('critic', 'generator'\), got 'both'",
                ),
            ],
            at_zero=at_zero,
            flat_at_zero=False,
            extra=True,
            given=given,
        )
        for kind, real, fakes, at_zero in (
            (Wasserstein, lambda d: (-d, -1 + 0 * d), lambda d: (d, 1 + 0 * d), 0.0),
            (
                Hinge,
                lambda d: ((1 - d) * (d < 1), -1.0 * (d < 1)),
                lambda d: ((1 + d) * (d > -1), 1.0 * (d > -1)),
                2.0,
            ),
            (LeastSquares, lambda d: ((d - 1) ** 2 / 2, d - 1), lambda d: (d**2 / 2, d), 0.5),
            (
                NonSaturating,
                lambda d: (log1p(E**-d), -1 / (1 + E**d)),
                lambda d: (log1p(E**d), 1 / (1 + E**-d)),
                2 * np.log(2),
            ),
        )
    ),
    PenaltyRow(
        "NonSaturating, the generator's",
        first_logit(NonSaturating, side="generator"),
        lambda at: by_first(
            at,
            np.log1p(np.exp(-(at.x @ at.W[0] + at.c[0]))).mean(),
            -(at.x / (1 + np.exp(at.x @ at.W[0] + at.c[0]))[:, None]).mean(0),
            -(1 / (1 + np.exp(at.x @ at.W[0] + at.c[0]))).mean(),
        ),
        lambda seen: seen.torch.nn.functional.softplus(-seen.logits[:, 0]).mean(),
        [],
        at_zero=np.log(2),
        flat_at_zero=False,
    ),
    PenaltyRow(
        "Relativistic",
        first_logit(Relativistic),
        of_relativistic,
        torch_relativistic,
        [
            negative(Relativistic, "Relativistic"),
            scores(Relativistic),
            no_fake(Relativistic()),
            (
                alone(Relativistic(), fake=td.zeros(3, 4)),
                td.ShapeError,
                r"relativistic: expected fakes of 2 rows, got \(3, 4\)",
            ),
        ],
        at_zero=np.log(2),
        flat_at_zero=False,
        extra=True,
        given=given,
    ),
    PenaltyRow(
        "R1",
        first_logit(R1),
        lambda at: by_first(at, (at.W[0] ** 2).sum() / 2, at.W[0]),
        lambda seen: (seen.slopes(seen.logits[:, 0].sum()) ** 2).sum(1).mean() / 2,
        [
            negative(R1, "R1"),
            scores(R1),
            (on_images(R1(1.0)), td.ShapeError, r"R1: expected one output per sample \(2,\)"),
            (frozen(first_logit(R1)(1.0)), td.GraphError, f"r1: {CONSTANT}"),
        ],
    ),
    PenaltyRow(
        "R2",
        first_logit(R2),
        lambda at: by_first(at, (at.W[0] ** 2).sum() / 2, at.W[0]),
        lambda seen: slopes(seen, fake(seen.x)).mean() / 2,
        [negative(R2, "R2"), scores(R2), no_fake(R2(1.0))],
        extra=True,
        given=given,
    ),
    PenaltyRow(
        "GradientPenalty",
        first_logit(GradientPenalty, batch_norm=True),
        of_length(),
        torch_length(torch_between),
        [
            negative(GradientPenalty, "GradientPenalty"),
            scores(GradientPenalty),
            no_fake(GradientPenalty()),
            same_shape(GradientPenalty()),
            meeting(GradientPenalty()),
        ],
        at_zero=(1e-8 - 1) ** 2,
        extra=True,
        given=given,
    ),
    PenaltyRow(
        "GradientPenalty, one-sided",
        first_logit(GradientPenalty, one_sided=True, batch_norm=True),
        of_length(one_sided=True),
        torch_length(torch_between, one_sided=True),
        [],
        extra=True,
        given=given,
    ),
    PenaltyRow(
        "DRAGAN",
        first_logit(DRAGAN, batch_norm=True),
        of_length(),
        torch_length(torch_around),
        [
            negative(DRAGAN, "DRAGAN"),
            scores(DRAGAN),
            meeting(DRAGAN()),
            (lambda: DRAGAN(1.0, c=-1.0), ValueError, "DRAGAN: expected c of at least 0, got -1.0"),
        ],
        at_zero=(1e-8 - 1) ** 2,
        coupled=True,
        extra=True,
    ),
    PenaltyRow(
        "FeatureMatching",
        features,
        of_features,
        torch_features,
        [
            negative(lambda weight: FeatureMatching(weight, ""), "FeatureMatching"),
            no_fake(FeatureMatching(1.0, "")),
            (
                critic(FeatureMatching(1.0, "middle")),
                AttributeError,
                "get_submodule: expected one of no children in Linear, got 'middle'",
            ),
        ],
        coupled=True,
        extra=True,
        of_model=True,
        given=given,
        held=("real",),
    ),
    PenaltyRow(
        "Consistency",
        first_logit(Consistency, augment=augmented),
        of_consistency,
        torch_consistency(False),
        [
            negative(lambda weight: Consistency(weight, augmented), "Consistency"),
            scores(lambda weight: Consistency(weight, augmented)),
            no_fake(Consistency(1.0, augmented, fakes=True)),
        ],
        extra=True,
    ),
    PenaltyRow(
        "Consistency of fakes too",
        first_logit(Consistency, augment=augmented, fakes=True),
        lambda at: of_consistency(at, True),
        torch_consistency(True),
        [],
        extra=True,
        given=given,
    ),
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
