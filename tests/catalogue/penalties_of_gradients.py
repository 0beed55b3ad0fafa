"""The rows of the penalties in gradients.py that penalties.py has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinydl as td
from tinydl.regularizers import (
    JacobianNorm,
    JacobianRegularizer,
    L1DataGrad,
    LipschitzPenalty,
    OneHotGradient,
    Penalty,
    SoftmaxJacobian,
)

from .penalties import (
    CONSTANT,
    DRAWS,
    IMAGES,
    INTEGERS,
    Form,
    Linear,
    PenaltyRow,
    TorchPass,
    frozen,
    negative,
    objective,
    on_images,
    on_tokens,
)


def seeded(penalty: Callable[..., Penalty], **settings: Any) -> Callable[..., Penalty]:
    return lambda weight, **more: penalty(weight, generator=td.Generator(*DRAWS), **settings, **more)


# On linear models
# ------------------------------------------------------------------------------------------------------------


def curved(at: Linear, v: np.ndarray) -> np.ndarray:
    """(B, m), S v: the derivative of softmax times v (B, m)."""
    return at.p * (v - (at.p * v).sum(1, keepdims=True))


def through_slopes(at: Linear, dg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives by W and c of a function of the rows g = delta W whose derivative by them is dg (B, d)."""
    dz = curved(at, dg @ at.W.T)
    return at.delta.T @ dg + dz.T @ at.x, dz.sum(0)


def of_l1(at: Linear) -> Form:
    g = at.delta @ at.W
    return np.abs(g).sum(1).mean(), *through_slopes(at, np.sign(g) / len(g))


def of_softmax_jacobian(at: Linear) -> Form:
    p, B = at.p, len(at.x)
    S = np.einsum("bi,ij->bij", p, np.eye(len(at.c))) - np.einsum("bi,bj->bij", p, p)
    SW = S @ at.W
    dS = 2 / B * SW @ at.W.T
    dp = np.einsum("bii->bi", dS) - np.einsum("bij,bj->bi", dS + dS.transpose(0, 2, 1), p)
    dz = curved(at, dp)
    value = (SW**2).sum((1, 2)).mean()
    return value, 2 / B * (S @ SW).sum(0) + dz.T @ at.x, dz.sum(0)


def of_one_logit(which: str) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        classes = at.y if which == "target" else drawn_classes(len(at.x), len(at.c))
        hot = np.eye(len(at.c))[classes]
        return (
            ((hot @ at.W) ** 2).sum(1).mean(),
            2 / len(at.x) * hot.sum(0)[:, None] * at.W,
            np.zeros_like(at.c),
        )

    return form


def drawn_classes(B: int, m: int) -> np.ndarray:
    return td.randint(0, m, (B,), generator=td.Generator(*DRAWS)).numpy()


def drawn_directions(n: int, B: int, m: int) -> list[np.ndarray]:
    generator = td.Generator(*DRAWS)
    v = [td.randn((B, m), generator=generator, dtype="float64").numpy() for _ in range(n)]
    return [each / np.linalg.norm(each, axis=1, keepdims=True) for each in v]


def of_projections(n: int) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        B, m = len(at.x), len(at.c)
        vs = drawn_directions(n, B, m)
        value = sum(((v @ at.W) ** 2).sum(1).mean() for v in vs)
        return m / (2 * n) * value, m / (n * B) * sum(v.T @ (v @ at.W) for v in vs), np.zeros(m)

    return form


def of_norm(at: Linear) -> Form:
    norm = np.sqrt((at.W**2).sum() + 1e-16)
    return norm, at.W / norm, np.zeros_like(at.c)


def of_lipschitz(one_sided: bool) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        norm = np.sqrt((at.W**2).sum() + 1e-16)
        excess = max(norm - 1, 0) if one_sided else norm - 1
        return excess**2, 2 * excess * at.W / norm, np.zeros_like(at.c)

    return form


# In PyTorch
# ------------------------------------------------------------------------------------------------------------


def torch_softmax_jacobian(seen: TorchPass) -> Any:
    return sum((seen.slopes(p) ** 2).sum(1).mean() for p in seen.logits.softmax(1).sum(0))


def torch_one_logit(which: str) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        drawn = seen.torch.from_numpy(drawn_classes(*seen.logits.shape))
        classes = seen.y if which == "target" else drawn
        return (seen.slopes(seen.logits.gather(1, classes[:, None]).sum()) ** 2).sum(1).mean()

    return form


def torch_projections(n: int) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        B, m = seen.logits.shape
        found = [
            (seen.slopes(seen.logits, seen.torch.from_numpy(v)) ** 2).sum(1).mean()
            for v in drawn_directions(n, B, m)
        ]
        return sum(found) * m / (2 * n)

    return form


def torch_norm(seen: TorchPass) -> Any:
    squares = sum((seen.slopes(column) ** 2).sum(1) for column in seen.logits.sum(0))
    return (squares + 1e-16).sqrt().mean()


def torch_lipschitz(one_sided: bool) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        excess = ((seen.slopes(seen.logits.sum()) ** 2).sum(1) + 1e-16).sqrt() - 1
        return ((excess.relu() if one_sided else excess) ** 2).mean()

    return form


# The rows
# ------------------------------------------------------------------------------------------------------------


def usual(make: Callable[..., Penalty], who: str, name: str) -> list[Any]:
    """What all penalties by the input refuse."""
    return [
        negative(make, who),
        (on_tokens(make(1.0)), td.GraphError, f"{name}: {INTEGERS}"),
        (frozen(make(1.0)), td.GraphError, f"{name}: {CONSTANT}"),
    ]


def images_refused(make: Callable[..., Penalty], who: str) -> Any:
    return on_images(make(1.0)), td.ShapeError, f"{who}: {IMAGES}"


def on_three_outputs(penalty: Penalty) -> Callable[[], Any]:
    return lambda: objective(penalty)(td.ones(2, 4), td.tensor([0, 1]))


ROWS = [
    PenaltyRow(
        "L1DataGrad",
        L1DataGrad,
        of_l1,
        lambda seen: seen.slopes(seen.losses.sum()).abs().sum(1).mean(),
        usual(L1DataGrad, "L1DataGrad", "l1_data_grad"),
    ),
    PenaltyRow(
        "SoftmaxJacobian",
        SoftmaxJacobian,
        of_softmax_jacobian,
        torch_softmax_jacobian,
        [
            *usual(SoftmaxJacobian, "SoftmaxJacobian", "softmax_jacobian"),
            images_refused(SoftmaxJacobian, "SoftmaxJacobian"),
        ],
    ),
    PenaltyRow(
        "OneHotGradient",
        OneHotGradient,
        of_one_logit("target"),
        torch_one_logit("target"),
        [
            *usual(OneHotGradient, "OneHotGradient", "one_hot_gradient"),
            images_refused(OneHotGradient, "OneHotGradient"),
            (
                lambda: OneHotGradient(1.0, "largest"),
                ValueError,
                r"OneHotGradient: expected which in \('target', 'random'\), got 'largest'",
            ),
        ],
    ),
    PenaltyRow(
        "OneHotGradient, random",
        seeded(OneHotGradient, which="random"),
        of_one_logit("random"),
        torch_one_logit("random"),
        [],
    ),
    PenaltyRow(
        "JacobianRegularizer",
        seeded(JacobianRegularizer),
        of_projections(1),
        torch_projections(1),
        [
            *usual(JacobianRegularizer, "JacobianRegularizer", "jacobian_regularizer"),
            images_refused(JacobianRegularizer, "JacobianRegularizer"),
            (
                lambda: JacobianRegularizer(1.0, n_proj=0),
                ValueError,
                "JacobianRegularizer: expected n_proj as a whole number of at least 1, got 0",
            ),
        ],
    ),
    PenaltyRow(
        "JacobianRegularizer, two projections",
        seeded(JacobianRegularizer, n_proj=2),
        of_projections(2),
        torch_projections(2),
        [],
    ),
    PenaltyRow(
        "JacobianNorm",
        JacobianNorm,
        of_norm,
        torch_norm,
        [*usual(JacobianNorm, "JacobianNorm", "jacobian_norm"), images_refused(JacobianNorm, "JacobianNorm")],
        at_zero=1e-8,
    ),
    PenaltyRow(
        "LipschitzPenalty",
        LipschitzPenalty,
        of_lipschitz(False),
        torch_lipschitz(False),
        [
            negative(LipschitzPenalty, "LipschitzPenalty"),
            (
                on_three_outputs(LipschitzPenalty()),
                td.ShapeError,
                r"LipschitzPenalty: expected one output per sample \(B,\) or \(B, 1\), got \(2, 3\)",
            ),
        ],
        at_zero=(1e-8 - 1) ** 2,
        outputs=1,
    ),
    PenaltyRow(
        "LipschitzPenalty, one-sided",
        lambda weight, **more: LipschitzPenalty(weight, one_sided=True, **more),
        of_lipschitz(True),
        torch_lipschitz(True),
        [],
        outputs=1,
    ),
]
