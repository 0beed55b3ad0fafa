"""The penalties that compare passes: rows as in penalties.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinydl as td
from catalogue.penalties import (
    CONSTANT,
    DRAWS,
    Form,
    Linear,
    PenaltyRow,
    TorchPass,
    drawn,
    frozen,
    negative,
    objective,
    on_tokens,
)
from tinydl import nn
from tinydl.ops.update import assign
from tinydl.regularizers import (
    UDA,
    VAT,
    MeanTeacher,
    PiModel,
    RDrop,
    TemporalEnsemble,
    TrainingSignalAnnealing,
)

EPS = 0.5
BATCH = (td.ones(2, 4), td.tensor([0, 1]))


def of_generator(kind: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
    return lambda weight, **more: kind(weight, generator=td.Generator(*DRAWS), **settings, **more)


# On linear models
# ------------------------------------------------------------------------------------------------------------


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def unit(g: np.ndarray) -> np.ndarray:
    return g / np.sqrt((g**2).sum(1, keepdims=True))


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return (p * (np.log(p) - np.log(q))).sum(1).mean()


def of_vat(iterations: int) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        d = unit(drawn(*at.x.shape))
        for _ in range(iterations):
            q = softmax((at.x + 0.1 * d) @ at.W.T + at.c)
            d = unit((q - at.p) @ at.W)
        moved = at.x + EPS * d
        q = softmax(moved @ at.W.T + at.c)
        dz = (q - at.p) / len(at.x)
        return divergence(at.p, q), dz.T @ moved, dz.sum(0)

    return form


def of_squares(target: Callable[[Linear], np.ndarray]) -> Callable[[Linear], Form]:
    """The mean of (p - q)² for a constant q."""

    def form(at: Linear) -> Form:
        p, q = at.p, target(at)
        dp = 2 / p.size * (p - q)
        return at.by_logits(((p - q) ** 2).mean(), p * (dp - (p * dp).sum(1, keepdims=True)))

    return form


def nothing(at: Linear) -> Form:
    return 0.0, np.zeros_like(at.W), np.zeros_like(at.c)


def halved(at: Linear) -> np.ndarray:
    return softmax((at.x @ at.W.T + at.c) / 2)


def of_uda(at: Linear) -> Form:
    x = augmented(at.x)
    z = at.x @ at.W.T + at.c
    t, q = softmax(z / 0.4), softmax(x @ at.W.T + at.c)
    sure = at.p.max(1, keepdims=True) > 0.7
    assert 0 < sure.sum() < len(sure)
    dz = sure * (q - t) / len(x)
    return (sure * t * (np.log(t) - np.log(q))).sum(1).mean(), dz.T @ x, dz.sum(0)


def of_annealing(at: Linear) -> Form:
    """Halfway: η = 2/3."""
    p = at.p[range(len(at.y)), at.y]
    counts = (p < 2 / 3).astype(float)
    assert 0 < counts.sum() < len(counts)
    dz = at.delta * counts[:, None] / counts.sum()
    return at.by_logits(-(np.log(p) * counts).sum() / counts.sum(), dz)


# How they are made
# ------------------------------------------------------------------------------------------------------------


def augmented(x: Any) -> Any:
    """Nothing affine, which a BatchNorm would undo."""
    return x * x * 0.5 - x


def ensemble(weight: Any, **more: Any) -> TemporalEnsemble:
    """After one visit of the first samples."""
    penalty = TemporalEnsemble(weight, 20, classes=3, generator=td.Generator(*DRAWS), **more)
    with td.no_grad():
        assign(penalty.mean, remembered(20) * (1 - 0.6))
        assign(penalty.visits, 1)
    return penalty


def remembered(n: int) -> np.ndarray:
    """(n, 3), the targets of the samples 0, 1, ..."""
    return softmax(np.random.default_rng(3).standard_normal((n, 3)))


def half_teacher(weight: Any, model: nn.Module, **more: Any) -> MeanTeacher:
    """A teacher with half the parameters."""
    penalty = MeanTeacher(weight, model, generator=td.Generator(*DRAWS), **more)
    state = {name: np.array(p) / 2 for name, p in penalty.teacher.named_parameters()}
    penalty.teacher.load_state_dict(state, strict=False)
    return penalty


def annealing(weight: Any, **more: Any) -> TrainingSignalAnnealing:
    """Halfway."""
    penalty = TrainingSignalAnnealing(100, weight=weight, **more)
    with td.no_grad():
        assign(penalty.steps, 50)
    return penalty


def index(x: td.Tensor) -> dict[str, td.Tensor]:
    return {"index": td.arange(x.shape[0])}


# In PyTorch
# ------------------------------------------------------------------------------------------------------------


def torch_divergence(seen: TorchPass, p: Any, other: Any) -> Any:
    """mean_b KL of p, constant, against the softmax of other logits."""
    return (p * (p.log() - other.log_softmax(1))).sum(1).mean()


def torch_vat(iterations: int) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        torch, x, p = seen.torch, seen.x.detach(), seen.logits.softmax(1).detach()
        sizes = (-1, *(1,) * (x.ndim - 1))
        length = lambda t: t.flatten(1).norm(dim=1).reshape(sizes)  # noqa: E731
        d = torch.from_numpy(drawn(*x.shape))
        d = d / length(d)
        for _ in range(iterations):
            moved = (x + 0.1 * d).requires_grad_()
            value = torch_divergence(seen, p, seen.model(moved))
            (g,) = torch.autograd.grad(value, moved)
            d = g / length(g)
        return torch_divergence(seen, p, seen.model(x + EPS * d))

    return form


def torch_again(seen: TorchPass) -> Any:
    return ((seen.logits.softmax(1) - seen.model(seen.x).softmax(1)) ** 2).mean()


def torch_teacher(seen: TorchPass) -> Any:
    """In train mode, on parameters of half the size."""
    training = seen.model.training
    half = {name: p.detach() / 2 for name, p in seen.model.named_parameters()}
    buffers = {name: b.clone() for name, b in seen.model.named_buffers()}
    seen.model.train()
    q = seen.torch.func.functional_call(seen.model, {**half, **buffers}, (seen.x.detach(),)).softmax(1)
    seen.model.train(training)
    return ((seen.logits.softmax(1) - q) ** 2).mean()


def torch_ensemble(seen: TorchPass) -> Any:
    target = seen.torch.from_numpy(remembered(20)[: len(seen.x)])
    return ((seen.logits.softmax(1) - target) ** 2).mean()


def torch_r_drop(seen: TorchPass) -> Any:
    p, q = seen.logits.log_softmax(1), seen.model(seen.x).log_softmax(1)
    return ((p.exp() - q.exp()) * (p - q)).sum(1).mean() / 2


def torch_uda(seen: TorchPass) -> Any:
    z = seen.logits.detach()
    t, q = (z / 0.4).log_softmax(1), seen.model(augmented(seen.x)).log_softmax(1)
    return ((t.exp() * (t - q)).sum(1) * (z.softmax(1).amax(1) > 0.7)).mean()


def torch_annealing(seen: TorchPass) -> Any:
    counts = seen.logits.softmax(1)[range(len(seen.y)), seen.y] < 2 / 3
    return seen.losses[counts].mean()


# What is refused
# ------------------------------------------------------------------------------------------------------------


def not_given(penalty: Any) -> Callable[[], Any]:
    return lambda: objective(penalty)(*BATCH, unlabelled=td.ones(3, 4))


def flat(penalty: Any) -> Callable[[], Any]:
    """Logits (B,)."""
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    return lambda: td.regularizers.Objective(model, td.mse_loss, [penalty])(td.ones(2, 4), td.ones(2))


FLAT = r"expected logits \(B, m, \*\), got \(2,\)"
FLOATING = "expected a floating input to perturb, got int64"
GIVEN = r"expected unlabeled= of the objective's call, got \['unlabelled'\]"

ROWS = [
    PenaltyRow(
        "VAT",
        of_generator(VAT, eps=EPS),
        of_vat(1),
        torch_vat(1),
        [
            negative(lambda weight: VAT(weight, 1.0), "VAT"),
            (
                lambda: VAT(1.0, -1.0),
                ValueError,
                "VAT: expected eps of at least 0, xi above 0, iterations of at least 1, got -1.0, 0.1, 1",
            ),
            (lambda: VAT(1.0, 1.0, xi=0.0), ValueError, "VAT: .*got 1.0, 0.0, 1"),
            (lambda: VAT(1.0, 1.0, iterations=0), ValueError, "VAT: .*got 1.0, 0.1, 0"),
            (on_tokens(VAT(1.0, 1.0)), td.ShapeError, f"VAT: {FLOATING}"),
            (flat(VAT(1.0, 1.0)), td.ShapeError, f"VAT: {FLAT}"),
            (not_given(VAT(1.0, 1.0, on="unlabeled")), ValueError, f"vat: {GIVEN}"),
            (frozen(VAT(1.0, 1.0)), td.GraphError, f"vat: {CONSTANT}"),
        ],
        extra=True,
        held=("target", "adversary"),
    ),
    PenaltyRow(
        "VAT of three iterations",
        of_generator(VAT, eps=EPS, iterations=3),
        of_vat(3),
        torch_vat(3),
        [],
        extra=True,
        held=("target", "adversary"),
    ),
    PenaltyRow(
        "PiModel",
        PiModel,
        nothing,
        torch_again,
        [
            negative(PiModel, "PiModel"),
            (flat(PiModel(1.0)), td.ShapeError, f"PiModel: {FLAT}"),
            (not_given(PiModel(1.0, on="unlabeled")), ValueError, f"pi_model: {GIVEN}"),
            (frozen(PiModel(1.0)), td.GraphError, f"pi_model: {CONSTANT}"),
        ],
        extra=True,
    ),
    PenaltyRow(
        "TemporalEnsemble",
        ensemble,
        of_squares(lambda at: remembered(20)[: len(at.x)]),
        torch_ensemble,
        [
            negative(lambda weight: TemporalEnsemble(weight, 5, classes=3), "TemporalEnsemble"),
            (
                lambda: TemporalEnsemble(1.0, 5, classes=3, alpha=1.0),
                ValueError,
                r"TemporalEnsemble: expected n and classes of at least 1, alpha in \[0, 1\), got 5, 3, 1.0",
            ),
            (lambda: TemporalEnsemble(1.0, 0, classes=3), ValueError, "TemporalEnsemble: .*got 0, 3, 0.6"),
            (
                lambda: objective(TemporalEnsemble(1.0, 5, classes=3))(*BATCH),
                td.ShapeError,
                r"TemporalEnsemble: expected index= of the samples \(2,\), got NoneType",
            ),
            (
                lambda: objective(TemporalEnsemble(1.0, 5, classes=3))(*BATCH, index=td.arange(3)),
                td.ShapeError,
                r"TemporalEnsemble: expected index= of the samples \(2,\), got \(3,\)",
            ),
            (
                lambda: objective(TemporalEnsemble(1.0, 5, classes=4))(*BATCH, index=td.arange(2)),
                td.ShapeError,
                r"TemporalEnsemble: expected logits \(B, 4\), got \(2, 3\)",
            ),
        ],
        at_zero=((remembered(20)[:5] - 1 / 3) ** 2).mean(),
        flat_at_zero=False,
        given=index,
    ),
    PenaltyRow(
        "MeanTeacher",
        half_teacher,
        of_squares(halved),
        torch_teacher,
        [
            negative(lambda weight: MeanTeacher(weight, nn.Linear(4, 3)), "MeanTeacher"),
            (
                lambda: MeanTeacher(1.0, nn.Linear(4, 3), 1.5),
                ValueError,
                r"MeanTeacher: expected decay in \[0, 1\], got 1.5",
            ),
            (frozen(MeanTeacher(1.0, nn.Linear(4, 3))), td.GraphError, f"mean_teacher: {CONSTANT}"),
        ],
        of_model=True,
    ),
    PenaltyRow(
        "RDrop",
        RDrop,
        nothing,
        torch_r_drop,
        [
            negative(RDrop, "RDrop"),
            (lambda: RDrop(-1.0, td.cross_entropy), ValueError, "RDrop: expected a weight of at least 0"),
            (
                lambda: RDrop(nn.Buffer(1.0, np.float64), td.cross_entropy),
                ValueError,
                "RDrop: expected a number as its weight beside a loss, got ",
            ),
            (flat(RDrop(1.0)), td.ShapeError, f"RDrop: {FLAT}"),
            (frozen(RDrop(1.0)), td.GraphError, f"rdrop: {CONSTANT}"),
        ],
        extra=True,
    ),
    PenaltyRow(
        "UDA",
        of_generator(UDA, augment=augmented, threshold=0.7),
        of_uda,
        torch_uda,
        [
            negative(lambda weight: UDA(weight, augmented), "UDA"),
            (
                lambda: UDA(1.0, augmented, T=0.0),
                ValueError,
                r"UDA: expected T above 0, threshold in \[0, 1\], got 0.0, 0.8",
            ),
            (flat(UDA(1.0, augmented)), td.ShapeError, f"UDA: {FLAT}"),
            (frozen(UDA(1.0, augmented)), td.GraphError, f"uda: {CONSTANT}"),
        ],
        extra=True,
        held=("target",),
    ),
    PenaltyRow(
        "TrainingSignalAnnealing",
        annealing,
        of_annealing,
        torch_annealing,
        [
            negative(annealing, "TrainingSignalAnnealing"),
            (
                lambda: TrainingSignalAnnealing(10, "square"),
                ValueError,
                r"TrainingSignalAnnealing: expected steps of at least 1, form in \('linear', 'exp', 'log'\)",
            ),
            (
                lambda: TrainingSignalAnnealing(0),
                ValueError,
                "TrainingSignalAnnealing: expected steps of at least 1",
            ),
            (
                lambda: objective(TrainingSignalAnnealing(9, loss=td.mse_loss))(td.ones(2, 4), td.ones(2, 3)),
                td.ShapeError,
                r"TrainingSignalAnnealing: expected logits \(B, m\) and losses \(B,\), got \(2, 3\)",
            ),
        ],
        coupled=True,
        at_zero=np.log(3),
        flat_at_zero=False,
        held=("counts",),
    ),
]
