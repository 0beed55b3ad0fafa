"""The penalties that train against adversaries: rows as in penalties.py."""

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
from catalogue.penalties_of_passes import (
    BATCH,
    EPS,
    FLAT,
    FLOATING,
    divergence,
    flat,
    of_generator,
    softmax,
    torch_divergence,
    unit,
)
from tinydl import nn
from tinydl.regularizers import MART, TRADES, AdversarialFeatures, AdversarialTraining, attack

# On linear models
# ------------------------------------------------------------------------------------------------------------


def of_training(at: Linear) -> Form:
    """FGSM on a linear model: x + ε·sign(Wᵀδ)."""
    x = at.x + EPS * np.sign(at.delta @ at.W)
    q = softmax(x @ at.W.T + at.c)
    rows = np.arange(len(x)), at.y
    value = -(0.4 * np.log(at.p[rows]) + 0.6 * np.log(q[rows])).mean()
    dz, dq = 0.4 * at.delta / len(x), 0.6 * (q - np.eye(len(at.c))[at.y]) / len(x)
    return value, dz.T @ at.x + dq.T @ x, dz.sum(0) + dq.sum(0)


def of_trades(norm: float) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        d = 1e-3 * drawn(*at.x.shape)
        for _ in range(3):
            g = (softmax((at.x + d) @ at.W.T + at.c) - at.p) @ at.W
            if norm == 2:
                d = d + 0.2 * unit(g)
                d = d * np.minimum(1, 0.5 / np.sqrt((d**2).sum(1, keepdims=True)))
            else:
                d = np.clip(d + 0.2 * np.sign(g), -0.5, 0.5)
        p, q = at.p, softmax((at.x + d) @ at.W.T + at.c)
        h = np.log(p) - np.log(q)
        dq, dp = (q - p) / len(p), p * (h - (p * h).sum(1, keepdims=True)) / len(p)
        return divergence(p, q), dq.T @ (at.x + d) + dp.T @ at.x, dq.sum(0) + dp.sum(0)

    return form


def of_mart(at: Linear) -> Form:
    x, B, m = at.x + EPS * np.sign(at.delta @ at.W), len(at.x), len(at.c)
    p, q, rows, hot = at.p, softmax(x @ at.W.T + at.c), np.arange(B), np.eye(m)[at.y]
    rival = np.where(hot > 0, -1, q).argmax(1)
    qk, star = q[rows, rival], np.eye(m)[rival]
    kl, unsure = (p * np.log(p / q)).sum(1), 1 - p[rows, at.y]
    value = (-np.log(q[rows, at.y]) - np.log(1 - qk) + 5 * kl * unsure).mean()
    dq = q - hot + (qk / (1 - qk))[:, None] * (star - q) + 5 * unsure[:, None] * (q - p)
    h = np.log(p / q)
    dp = 5 * (unsure[:, None] * p * (h - kl[:, None]) - (kl * p[rows, at.y])[:, None] * (hot - p))
    return value, (dq.T @ x + dp.T @ at.x) / B, (dq.sum(0) + dp.sum(0)) / B


def of_features(at: Linear) -> Form:
    """At the logits themselves."""
    z = at.x @ at.W.T + at.c
    length = np.sqrt((z**2).sum(1, keepdims=True))
    q = softmax(z + 0.1 * length * unit(drawn(*z.shape)))
    moved = softmax(z + EPS * length * unit(q - at.p))
    value = -np.log(moved[np.arange(len(z)), at.y]).mean()
    return at.by_logits(value, (moved - np.eye(len(at.c))[at.y]) / len(z))


# How they are made
# ------------------------------------------------------------------------------------------------------------


def quick(model: nn.Module, x: td.Tensor, target: Any) -> td.Tensor:
    return attack.fgsm(model, x, target, EPS)


def training(weight: Any, **more: Any) -> AdversarialTraining:
    return AdversarialTraining(td.cross_entropy, quick, 0.4, weight=weight, **more)


def mart(weight: Any, **more: Any) -> MART:
    return MART(attack=quick, weight=weight, **more)


def features(weight: Any, model: nn.Module, **more: Any) -> AdversarialFeatures:
    """At the first layer of a network, or at the output of a single layer."""
    layer = "0" if isinstance(model, nn.Sequential) else ""
    return AdversarialFeatures(weight, layer, EPS, generator=td.Generator(*DRAWS), **more)


# In PyTorch
# ------------------------------------------------------------------------------------------------------------


def torch_fgsm(seen: TorchPass) -> Any:
    """In eval mode."""
    training = seen.model.training
    seen.model.eval()
    x = seen.x.detach().requires_grad_()
    losses = seen.torch.nn.functional.cross_entropy(seen.model(x), seen.y)
    (g,) = seen.torch.autograd.grad(losses, x)
    seen.model.train(training)
    return (x + EPS * g.sign()).detach()


def torch_training(seen: TorchPass) -> Any:
    other = seen.torch.nn.functional.cross_entropy(seen.model(torch_fgsm(seen)), seen.y)
    return 0.4 * seen.losses.mean() + 0.6 * other


def torch_trades(norm: float) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        torch, training, x = seen.torch, seen.model.training, seen.x.detach()
        sizes = (-1, *(1,) * (x.ndim - 1))
        length = lambda t: t.flatten(1).norm(dim=1).reshape(sizes)  # noqa: E731
        seen.model.eval()
        p, d = seen.model(x).softmax(1).detach(), 1e-3 * torch.from_numpy(drawn(*x.shape))
        for _ in range(3):
            moved = (x + d).requires_grad_()
            (g,) = torch.autograd.grad(torch_divergence(seen, p, seen.model(moved)), moved)
            if norm == 2:
                d = d + 0.2 * g / length(g)
                d = d * (0.5 / length(d)).clip(max=1)
            else:
                d = (d + 0.2 * g.sign()).clip(-0.5, 0.5)
        seen.model.train(training)
        return torch_divergence(seen, seen.logits.softmax(1), seen.model(x + d))

    return form


def torch_mart(seen: TorchPass) -> Any:
    torch, rows = seen.torch, range(len(seen.y))
    p, q = seen.logits.softmax(1), seen.model(torch_fgsm(seen)).softmax(1)
    others = torch.where(torch.nn.functional.one_hot(seen.y, 3) > 0, 0, q).amax(1)
    kl = (p * (p / q).log()).sum(1)
    losses = -q[rows, seen.y].log() - (1 - others).log() + 5 * kl * (1 - p[rows, seen.y])
    return losses.mean()


def torch_features(seen: TorchPass) -> Any:
    """At the first layer."""
    torch, first, rest = seen.torch, seen.model[0], seen.model[1:]
    h = first(seen.x)
    sizes = (-1, *(1,) * (h.ndim - 1))
    length = lambda t: t.flatten(1).norm(dim=1).reshape(sizes)  # noqa: E731
    d = torch.from_numpy(drawn(*h.shape))
    probe = (h + 0.1 * length(h) * d / length(d)).detach().requires_grad_()
    (g,) = torch.autograd.grad(torch_divergence(seen, seen.logits.softmax(1).detach(), rest(probe)), probe)
    r = (EPS * length(h) * g / length(g)).detach()
    return torch.nn.functional.cross_entropy(rest(h + r), seen.y)


# What is refused
# ------------------------------------------------------------------------------------------------------------


ROWS = [
    PenaltyRow(
        "AdversarialTraining",
        training,
        of_training,
        torch_training,
        [
            negative(training, "AdversarialTraining"),
            (
                lambda: AdversarialTraining(td.cross_entropy, quick, 2.0),
                ValueError,
                r"AdversarialTraining: expected alpha in \[0, 1\], got 2.0",
            ),
            (on_tokens(training(1.0)), td.DtypeError, f"AdversarialTraining: {FLOATING}"),
            (frozen(training(1.0)), td.GraphError, f"adversarial_training: {CONSTANT}"),
        ],
        at_zero=np.log(3),
        flat_at_zero=False,
        extra=True,
        held=("adversary",),
    ),
    PenaltyRow(
        "TRADES",
        of_generator(TRADES, eps=0.5, step_size=0.2, steps=3),
        of_trades(np.inf),
        torch_trades(np.inf),
        [
            negative(lambda weight: TRADES(weight, 0.5, 0.2), "TRADES"),
            (
                lambda: TRADES(1.0, 0.5, 0.2, start=0.0),
                ValueError,
                r"TRADES: expected a start above 0 \(at d = 0 the divergence has no gradient\), steps of at "
                "least 1, got 0.0, 10",
            ),
            (lambda: TRADES(1.0, -1.0, 0.2), ValueError, "TRADES: expected eps of at least 0, got -1.0"),
            (
                lambda: TRADES(1.0, 1.0, 0.2, norm=1),
                ValueError,
                r"TRADES: expected norm in \(2, inf\), got 1",
            ),
            (
                lambda: TRADES(1.0, [1.0, 2.0], 0.2, norm=2),
                ValueError,
                r"TRADES: expected eps as a number where norm is 2, got \[1.0, 2.0\]",
            ),
            (flat(TRADES(1.0, 0.5, 0.2)), td.ShapeError, f"TRADES: {FLAT}"),
            (on_tokens(TRADES(1.0, 0.5, 0.2)), td.DtypeError, f"TRADES: {FLOATING}"),
            (frozen(TRADES(1.0, 0.5, 0.2)), td.GraphError, f"trades: {CONSTANT}"),
        ],
        extra=True,
        held=("adversary",),
    ),
    PenaltyRow(
        "TRADES in the ball",
        of_generator(TRADES, eps=0.5, step_size=0.2, steps=3, norm=2),
        of_trades(2),
        torch_trades(2),
        [],
        extra=True,
        held=("adversary",),
    ),
    PenaltyRow(
        "MART",
        mart,
        of_mart,
        torch_mart,
        [
            negative(mart, "MART"),
            (lambda: MART(-1.0, attack=quick), ValueError, "MART: expected beta of at least 0, got -1.0"),
            (
                lambda: objective(mart(1.0))(td.ones(2, 4), td.full((2, 3), 1 / 3)),
                td.ShapeError,
                r"MART: expected targets as classes \(2,\), got \(2, 3\) float32",
            ),
            (flat(mart(1.0)), td.ShapeError, r"MART: expected logits \(B, m\), got \(2,\)"),
            (frozen(mart(1.0)), td.GraphError, f"mart: {CONSTANT}"),
        ],
        at_zero=np.log(3) - np.log(2 / 3),
        flat_at_zero=False,
        extra=True,
        held=("adversary",),
    ),
    PenaltyRow(
        "AdversarialFeatures",
        features,
        of_features,
        torch_features,
        [
            negative(lambda weight: AdversarialFeatures(weight, "", 1.0), "AdversarialFeatures"),
            (
                lambda: AdversarialFeatures(1.0, [], 1.0),
                ValueError,
                r"AdversarialFeatures: expected layers, eps of at least 0, xi above 0, got \(\), 1.0, 0.1",
            ),
            (flat(AdversarialFeatures(1.0, "0", 1.0)), td.ShapeError, f"AdversarialFeatures: {FLAT}"),
            (
                lambda: objective(AdversarialFeatures(1.0, "middle", 1.0))(*BATCH),
                AttributeError,
                "get_submodule: expected one of no children in Linear, got 'middle'",
            ),
            (frozen(AdversarialFeatures(1.0, "", 1.0)), td.GraphError, f"adversarial_features: {CONSTANT}"),
        ],
        at_zero=np.log(3),
        flat_at_zero=False,
        extra=True,
        of_model=True,
        held=("adversary",),
    ),
]
