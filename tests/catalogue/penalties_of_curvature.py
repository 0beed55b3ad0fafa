"""The rows of the penalties in curvature.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import tinydl as td
from tinydl.regularizers import CurvaturePenalty, FisherPenalty, GradAlign, GradientNorm, HessianTrace

from .penalties import DRAWS, Form, Linear, PenaltyRow, TorchPass, frozen, negative
from .penalties_of_gradients import curved, images_refused, seeded, through_slopes, usual

# On linear models
# ------------------------------------------------------------------------------------------------------------


def of_curvature(at: Linear) -> Form:
    g = at.delta @ at.W
    length = np.sqrt((g != 0).sum(1, keepdims=True))
    there = replace(at, x=at.x + 0.7 * np.sign(g) / np.maximum(length, 1))
    bend = there.delta @ at.W - g
    dW, dc = through_slopes(there, 2 / len(g) * bend)
    dW_here, dc_here = through_slopes(at, 2 / len(g) * bend)
    return (bend**2).sum(1).mean(), dW - dW_here, dc - dc_here


def of_alignment(at: Linear) -> Form:
    u = td.rand(at.x.shape, generator=td.Generator(*DRAWS), dtype="float64").numpy()
    there = replace(at, x=at.x + 0.3 * (2 * u - 1))
    a, b = at.delta @ at.W, there.delta @ at.W
    na, nb = (np.linalg.norm(g, axis=1, keepdims=True) for g in (a, b))
    if not (na * nb).any():
        return 0.0, np.zeros_like(at.W), np.zeros_like(at.c)
    cosine = (a * b).sum(1, keepdims=True) / (na * nb)
    dW, dc = through_slopes(at, -(b / nb - cosine * a / na) / na / len(a))
    dW_there, dc_there = through_slopes(there, -(a / na - cosine * b / nb) / nb / len(a))
    return 1 - cosine.mean(), dW + dW_there, dc + dc_there


def drawn_signs(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = td.Generator(*DRAWS)
    return [2.0 * td.randint(0, 2, shape, generator=generator).numpy() - 1 for shape in shapes]


def of_trace(at: Linear, t: np.ndarray) -> tuple[float, np.ndarray]:
    """mean tᵀSt and its derivative by the logits."""
    value = (t * curved(at, t)).sum(1).mean()
    return value, curved(at, t**2 - 2 * (at.p * t).sum(1, keepdims=True) * t) / len(t)


def of_input_trace(n: int) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        value, dW, dc = 0.0, np.zeros_like(at.W), np.zeros_like(at.c)
        for v in drawn_signs(*[at.x.shape] * n):
            t = v @ at.W.T
            part, dz = of_trace(at, t)
            value += part / n
            dW += (dz.T @ at.x + 2 / len(t) * curved(at, t).T @ v) / n
            dc += dz.sum(0) / n
        return value, dW, dc

    return form


def of_weight_trace(at: Linear) -> Form:
    V, v = drawn_signs(at.W.shape, at.c.shape)
    return at.by_logits(*of_trace(at, at.x @ V.T + v))


def of_mean_slopes(squared: bool, drawn: bool = False) -> Callable[[Linear], Form]:
    """A function of the norm of the mean losses' derivatives by W and c."""

    def form(at: Linear) -> Form:
        if drawn:
            at = replace(at, y=drawn_labels(at.p))
        gW, gc = at.delta.T @ at.x / len(at.x), at.delta.mean(0)
        value = (gW**2).sum() + (gc**2).sum()
        scale = 2.0 if squared else 1 / np.sqrt(value + 1e-16)
        dz = scale / len(at.x) * curved(at, at.x @ gW.T + gc)
        return at.by_logits(value if squared else np.sqrt(value + 1e-16), dz)

    return form


def drawn_labels(p: np.ndarray) -> np.ndarray:
    u = td.rand((len(p), 1), generator=td.Generator(*DRAWS), dtype="float64").numpy()
    return (p.cumsum(1)[:, :-1] <= u).sum(1)


# In PyTorch
# ------------------------------------------------------------------------------------------------------------


def torch_moved(seen: TorchPass, shift: Any) -> Any:
    x = seen.x + shift
    losses = seen.torch.nn.functional.cross_entropy(seen.model(x), seen.y, reduction="sum")
    return seen.torch.autograd.grad(losses, x, create_graph=True)[0].flatten(1)


def torch_curvature(seen: TorchPass) -> Any:
    g = seen.slopes(seen.losses.sum())
    z = g.detach().sign()
    z = 0.7 * z / z.norm(dim=1, keepdim=True)
    return ((torch_moved(seen, z.reshape(seen.x.shape)) - g) ** 2).sum(1).mean()


def torch_alignment(seen: TorchPass) -> Any:
    u = td.rand(tuple(seen.x.shape), generator=td.Generator(*DRAWS), dtype="float64").numpy()
    there = torch_moved(seen, seen.torch.from_numpy(0.3 * (2 * u - 1)))
    here = seen.slopes(seen.losses.sum())
    return 1 - seen.torch.nn.functional.cosine_similarity(here, there, eps=0).mean()


def torch_input_trace(n: int) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        g = seen.slopes(seen.losses.sum())
        signs = [seen.torch.from_numpy(v).flatten(1) for v in drawn_signs(*[tuple(seen.x.shape)] * n)]
        return sum((v * seen.slopes((g * v).sum())).sum(1).mean() for v in signs) / n

    return form


def torch_weight_trace(seen: TorchPass) -> Any:
    parameters = list(seen.model.parameters())
    grad = seen.torch.autograd.grad
    g = grad(seen.losses.mean(), parameters, create_graph=True)
    v = [seen.torch.from_numpy(v) for v in drawn_signs(*[tuple(p.shape) for p in parameters])]
    bent = grad(sum((a * b).sum() for a, b in zip(g, v, strict=True)), parameters, create_graph=True)
    return sum((a * b).sum() for a, b in zip(bent, v, strict=True))


def torch_mean_slopes(squared: bool, drawn: bool = False) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        labels = drawn_labels(seen.logits.softmax(1).detach().numpy()) if drawn else seen.y
        loss = seen.torch.nn.functional.cross_entropy(seen.logits, seen.torch.as_tensor(labels))
        found = seen.torch.autograd.grad(loss, list(seen.model.parameters()), create_graph=True)
        value = sum((g**2).sum() for g in found)
        return value if squared else (value + 1e-16).sqrt()

    return form


# The rows
# ------------------------------------------------------------------------------------------------------------

ALIGN = seeded(GradAlign, eps=0.3)
CURVATURE = seeded(CurvaturePenalty, h=0.7)

ROWS = [
    PenaltyRow(
        "CurvaturePenalty",
        CURVATURE,
        of_curvature,
        torch_curvature,
        [
            *usual(CurvaturePenalty, "CurvaturePenalty", "curvature_penalty"),
            (
                lambda: CurvaturePenalty(1.0, h=0),
                ValueError,
                "CurvaturePenalty: expected h above 0, got 0",
            ),
        ],
        extra=True,
    ),
    PenaltyRow(
        "GradAlign",
        ALIGN,
        of_alignment,
        torch_alignment,
        [
            *usual(ALIGN, "GradAlign", "grad_align"),
            (lambda: GradAlign(1.0, eps=-1.0), ValueError, "GradAlign: expected eps above 0, got -1.0"),
        ],
        extra=True,
    ),
    PenaltyRow(
        "HessianTrace",
        seeded(HessianTrace),
        of_input_trace(1),
        torch_input_trace(1),
        [
            *usual(HessianTrace, "HessianTrace", "hessian_trace"),
            (
                lambda: HessianTrace(1.0, n=1.5),
                ValueError,
                "HessianTrace: expected n as a whole number of at least 1, got 1.5",
            ),
            (
                lambda: HessianTrace(1.0, of="outputs"),
                ValueError,
                r"HessianTrace: expected of in \('input', 'weights'\), got 'outputs'",
            ),
            (
                lambda: HessianTrace(1.0, of="weights", wrt="0"),
                ValueError,
                "HessianTrace: expected no wrt with of='weights', got '0'",
            ),
        ],
        third_order=True,
    ),
    PenaltyRow(
        "HessianTrace, two draws",
        seeded(HessianTrace, n=2),
        of_input_trace(2),
        torch_input_trace(2),
        [],
        third_order=True,
    ),
    PenaltyRow(
        "HessianTrace of the weights",
        seeded(HessianTrace, of="weights"),
        of_weight_trace,
        torch_weight_trace,
        [
            (
                frozen(HessianTrace(1.0, of="weights")),
                td.GraphError,
                "hessian_trace: expected trainable parameters that the loss depends on, got none",
            )
        ],
        at_zero=None,
        flat_at_zero=False,
        draws_per_sample=False,
        third_order=True,
    ),
    PenaltyRow(
        "GradientNorm",
        GradientNorm,
        of_mean_slopes(False),
        torch_mean_slopes(False),
        [
            negative(GradientNorm, "GradientNorm"),
            (
                frozen(GradientNorm(1.0)),
                td.GraphError,
                "gradient_norm: expected trainable parameters that the loss depends on, got none",
            ),
        ],
        coupled=True,
        at_zero=None,
        flat_at_zero=False,
    ),
    PenaltyRow(
        "GradientNorm, squared",
        lambda weight, **more: GradientNorm(weight, squared=True, **more),
        of_mean_slopes(True),
        torch_mean_slopes(True),
        [],
        coupled=True,
        at_zero=None,
        flat_at_zero=False,
    ),
    PenaltyRow(
        "FisherPenalty",
        seeded(FisherPenalty),
        of_mean_slopes(True, drawn=True),
        torch_mean_slopes(True, drawn=True),
        [
            negative(FisherPenalty, "FisherPenalty"),
            images_refused(FisherPenalty, "FisherPenalty"),
            (
                frozen(FisherPenalty(1.0)),
                td.GraphError,
                "fisher_penalty: expected trainable parameters that the loss depends on, got none",
            ),
        ],
        coupled=True,
        at_zero=None,
        flat_at_zero=False,
    ),
]
