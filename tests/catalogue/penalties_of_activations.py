"""The rows of the penalties in activations.py and outputs.py that penalties.py has not.

Their layer is "", the model itself, so that a linear model has a closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    ActivityL1,
    ActivityL2,
    Barlow,
    DeCov,
    EntropyMin,
    FeatureStatistics,
    KLSparsity,
    Objective,
    Penalty,
    TemporalActivity,
    ZLoss,
)

from .penalties import (
    CONSTANT,
    Form,
    Linear,
    PenaltyRow,
    TorchPass,
    frozen,
    negative,
    objective,
    of_confidence,
)


def logits(at: Linear) -> np.ndarray:
    return at.x @ at.W.T + at.c


def at_output(penalty: Callable[..., Penalty], **settings: Any) -> Callable[..., Penalty]:
    return lambda weight, **more: penalty(weight, "", **settings, **more)


# On linear models
# ------------------------------------------------------------------------------------------------------------


def of_sparsity(at: Linear) -> Form:
    a = 1 / (1 + np.exp(-logits(at)))
    active, rho = a.mean(0), 0.2
    value = (rho * np.log(rho / active) + (1 - rho) * np.log((1 - rho) / (1 - active))).sum()
    return at.by_logits(value, (-rho / active + (1 - rho) / (1 - active)) / len(a) * a * (1 - a))


def of_changes(at: Linear) -> Form:
    """The classes are the steps of time."""
    change = np.diff(logits(at), axis=1)
    dz = np.zeros_like(logits(at))
    dz[:, 1:] += change
    dz[:, :-1] -= change
    return at.by_logits((change**2).sum(1).mean(), 2 / len(dz) * dz)


def of_covariance(at: Linear) -> Form:
    z = logits(at)
    c = z - z.mean(0)
    C = c.T @ c / len(c)
    C = C - np.diag(np.diag(C))
    return at.by_logits((C**2).sum() / 2, 2 / len(c) * c @ C)


MEAN, VAR = np.array([0.3, -0.2, 1.0]), np.array([2.0, 0.5, 1.0])


def of_statistics(mean: Any, var: Any) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        z = logits(at)
        mu, v = z.mean(0), z.var(0)
        dz = 2 / len(z) * (mu - mean) + 4 / len(z) * (v - var) * (z - mu)
        return at.by_logits(((mu - mean) ** 2).sum() + ((v - var) ** 2).sum(), dz)

    return form


def second_view(x: Any) -> Any:
    return 0.7 * x + 0.2 * x * x


def of_barlow(at: Linear) -> Form:
    x, B = second_view(at.x), len(at.x)
    views = [logits(at), x @ at.W.T + at.c]
    scales = [np.sqrt(z.var(0) + 1e-5) for z in views]
    n, n2 = ((z - z.mean(0)) / s for z, s in zip(views, scales, strict=True))
    C, one = n.T @ n2 / B, np.eye(len(at.c))
    weights = np.where(one == 1, 1.0, 0.1)
    dC = 2 * weights * (C - one) / B

    def back(n: np.ndarray, scale: np.ndarray, dn: np.ndarray) -> np.ndarray:
        return (dn - dn.mean(0) - n * (n * dn).mean(0)) / scale

    dz, dz2 = back(n, scales[0], n2 @ dC.T), back(n2, scales[1], n @ dC)
    return (weights * (C - one) ** 2).sum(), dz.T @ at.x + dz2.T @ x, (dz + dz2).sum(0)


def of_entropy(at: Linear) -> Form:
    value, dW, dc = of_confidence(at)
    return -value, -dW, -dc


def of_normalizer(at: Linear) -> Form:
    lse = np.log(np.exp(logits(at)).sum(1, keepdims=True))
    return at.by_logits((lse**2).mean(), 2 / len(lse) * lse * at.p)


# In PyTorch
# ------------------------------------------------------------------------------------------------------------


def torch_sparsity(seen: TorchPass) -> Any:
    active = seen.logits.sigmoid().mean(0)
    F = seen.torch.distributions
    return F.kl_divergence(F.Bernoulli(seen.torch.tensor(0.2, dtype=active.dtype)), F.Bernoulli(active)).sum()


def torch_covariance(seen: TorchPass) -> Any:
    C = seen.torch.cov(seen.logits.T, correction=0)
    return ((C**2).sum() - (C.diag() ** 2).sum()) / 2


def torch_statistics(mean: Any, var: Any) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        m, v = (seen.torch.as_tensor(each) for each in (mean, var))
        z = seen.logits
        return ((z.mean(0) - m) ** 2).sum() + ((z.var(0, unbiased=False) - v) ** 2).sum()

    return form


def torch_barlow(seen: TorchPass) -> Any:
    views = seen.logits, seen.model(second_view(seen.x))
    n, n2 = (seen.torch.nn.functional.batch_norm(z, None, None, training=True, eps=1e-5) for z in views)
    C, one = n.T @ n2 / len(n), seen.torch.eye(n.shape[1], dtype=n.dtype)
    return ((C - one) ** 2 * (0.9 * one + 0.1)).sum()


# The rows
# ------------------------------------------------------------------------------------------------------------


def no_layers(penalty: Callable[..., Penalty]) -> Any:
    return lambda: penalty(1.0), ValueError, f"{penalty.__name__}: expected layers, got none"


def flat(penalty: Penalty) -> Callable[[], Any]:
    """A model that puts out (N,)."""
    return lambda: Objective(nn.Flatten(0), td.mse_loss, [penalty])(td.ones(2, 4), td.ones(8))


ROWS = [
    PenaltyRow(
        "ActivityL1",
        at_output(ActivityL1),
        lambda at: at.by_logits(np.abs(logits(at)).sum(1).mean(), np.sign(logits(at)) / len(at.x)),
        lambda seen: seen.logits.abs().sum(1).mean(),
        [
            negative(at_output(ActivityL1), "ActivityL1"),
            no_layers(ActivityL1),
            (frozen(ActivityL1(1.0, "")), td.GraphError, f"activity_l1: {CONSTANT}"),
            (
                lambda: objective(ActivityL1(1.0, "hidden"))(td.ones(2, 4), td.tensor([0, 1])),
                AttributeError,
                "get_submodule: expected one of no children in Linear, got 'hidden'",
            ),
        ],
    ),
    PenaltyRow(
        "ActivityL2",
        at_output(ActivityL2),
        lambda at: at.by_logits((logits(at) ** 2).sum(1).mean(), 2 / len(at.x) * logits(at)),
        lambda seen: (seen.logits**2).sum(1).mean(),
        [
            negative(at_output(ActivityL2), "ActivityL2"),
            no_layers(ActivityL2),
            (frozen(ActivityL2(1.0, "")), td.GraphError, f"activity_l2: {CONSTANT}"),
        ],
    ),
    PenaltyRow(
        "KLSparsity",
        at_output(KLSparsity, rho=0.2, activation=td.sigmoid),
        of_sparsity,
        torch_sparsity,
        [
            negative(at_output(KLSparsity), "KLSparsity"),
            no_layers(KLSparsity),
            (lambda: KLSparsity(1.0, "", rho=0), ValueError, r"KLSparsity: expected rho in \(0, 1\), got 0"),
        ],
        coupled=True,
        at_zero=None,
        flat_at_zero=False,
    ),
    PenaltyRow(
        "KLSparsity, decayed",
        at_output(KLSparsity, rho=0.2, activation=td.sigmoid, decay=0.9, units=3),
        of_sparsity,
        torch_sparsity,
        [
            (
                lambda: KLSparsity(1.0, "", decay=1.0, units=3),
                ValueError,
                r"KLSparsity: expected decay in \[0, 1\), got 1.0",
            ),
            (
                lambda: KLSparsity(1.0, "", decay=0.9),
                ValueError,
                "KLSparsity: expected units= of one layer with decay, got None of ",
            ),
            (
                lambda: objective(KLSparsity(1.0, "", activation=td.sigmoid, decay=0.9, units=4))(
                    td.ones(2, 4), td.tensor([0, 1])
                ),
                td.ShapeError,
                r"KLSparsity: expected units \(4,\), got \(3,\)",
            ),
        ],
        coupled=True,
        at_zero=None,
        flat_at_zero=False,
        held=("past",),
    ),
    PenaltyRow(
        "TemporalActivity",
        at_output(TemporalActivity),
        of_changes,
        lambda seen: (seen.logits.diff(dim=1) ** 2).sum(1).mean(),
        [
            negative(at_output(TemporalActivity), "TemporalActivity"),
            no_layers(TemporalActivity),
            (
                flat(TemporalActivity(1.0, "")),
                td.ShapeError,
                r"TemporalActivity: expected an output \(B, T, \*\), got \(8,\)",
            ),
        ],
    ),
    PenaltyRow(
        "DeCov",
        at_output(DeCov),
        of_covariance,
        torch_covariance,
        [
            negative(at_output(DeCov), "DeCov"),
            no_layers(DeCov),
            (
                flat(DeCov(layers="")),
                td.ShapeError,
                r"DeCov: expected an output \(B, units, \*\), got \(8,\)",
            ),
        ],
        coupled=True,
    ),
    PenaltyRow(
        "FeatureStatistics",
        at_output(FeatureStatistics),
        of_statistics(0.0, 1.0),
        torch_statistics(0.0, 1.0),
        [
            negative(at_output(FeatureStatistics), "FeatureStatistics"),
            no_layers(FeatureStatistics),
            (
                flat(FeatureStatistics(1.0, "")),
                td.ShapeError,
                r"FeatureStatistics: expected an output \(B, units, \*\), got \(8,\)",
            ),
            (
                lambda: FeatureStatistics(1.0, "", mean="moving"),
                ValueError,
                "FeatureStatistics: expected mean as a number, a tensor or 'running', got 'moving'",
            ),
            (
                lambda: objective(FeatureStatistics(1.0, "", var="running"))(
                    td.ones(2, 4), td.tensor([0, 1])
                ),
                ValueError,
                "FeatureStatistics: expected a BatchNorm with running statistics at '', got Linear",
            ),
        ],
        coupled=True,
        at_zero=3.0,
    ),
    PenaltyRow(
        "FeatureStatistics, given",
        at_output(FeatureStatistics, mean=td.tensor(MEAN), var=td.tensor(VAR)),
        of_statistics(MEAN, VAR),
        torch_statistics(MEAN, VAR),
        [
            (
                lambda: objective(FeatureStatistics(1.0, "", mean=td.ones(4)))(
                    td.ones(2, 4), td.tensor([0, 1])
                ),
                td.ShapeError,
                r"FeatureStatistics: expected statistics \(3,\), got \(4,\)",
            )
        ],
        coupled=True,
        at_zero=None,
        flat_at_zero=False,
    ),
    PenaltyRow(
        "Barlow",
        lambda weight, **more: Barlow(weight, second_view, off=0.1, **more),
        of_barlow,
        torch_barlow,
        [
            (
                lambda: Barlow(-1.0, second_view),
                ValueError,
                "Barlow: expected a weight of at least 0, got -1.0",
            ),
            (
                lambda: Barlow(1.0, second_view, off=-1),
                ValueError,
                "Barlow: expected off of at least 0, got -1",
            ),
            (flat(Barlow(1.0, second_view)), td.ShapeError, r"Barlow: expected outputs \(B, d\), got \(8,\)"),
        ],
        coupled=True,
        at_zero=3.0,
        extra=True,
    ),
    PenaltyRow(
        "EntropyMin",
        EntropyMin,
        of_entropy,
        lambda seen: seen.torch.distributions.Categorical(logits=seen.logits).entropy().mean(),
        [
            negative(EntropyMin, "EntropyMin"),
            (flat(EntropyMin(1.0)), td.ShapeError, r"EntropyMin: expected logits \(B, m, \*\), got \(8,\)"),
            (
                lambda: objective(EntropyMin(1.0, on="unlabeled"))(td.ones(2, 4), td.tensor([0, 1])),
                ValueError,
                r"entropy_min: expected unlabeled= of the objective's call, got \[\]",
            ),
        ],
        at_zero=np.log(3),
    ),
    PenaltyRow(
        "ZLoss",
        ZLoss,
        of_normalizer,
        lambda seen: (seen.logits.logsumexp(1) ** 2).mean(),
        [
            negative(ZLoss, "ZLoss"),
            (flat(ZLoss()), td.ShapeError, r"ZLoss: expected logits \(B, m, \*\), got \(8,\)"),
        ],
        at_zero=None,
        flat_at_zero=False,
    ),
]
