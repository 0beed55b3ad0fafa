"""The rows of the penalties in weights.py, spectral.py and layerwise.py that penalties.py has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    L1,
    L2SP,
    SRIP,
    ElasticNet,
    GroupLasso,
    LayerwiseL2,
    Orthogonality,
    Penalty,
    SpectralNormPenalty,
)

from .penalties import CONSTANT, DRAWS, Form, Linear, PenaltyRow, TorchPass, frozen, negative, objective
from .penalties_of_gradients import seeded

LAST = "2.weight", "8.weight", "11.weight"  # of the MLP, of the convolutions, of the network


def only_weight(value: Callable[[np.ndarray], tuple[float, np.ndarray]]) -> Callable[[Linear], Form]:
    return lambda at: (*value(at.W), np.zeros_like(at.c))


def matrices(seen: TorchPass) -> list[Any]:
    return [p.flatten(1) for p in seen.model.parameters() if p.ndim > 1]


def of_elastic_net(ratio: float) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    return lambda W: (
        ratio * np.abs(W).sum() + (1 - ratio) / 2 * (W**2).sum(),
        ratio * np.sign(W) + (1 - ratio) * W,
    )


def of_groups(axis: Any) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    def form(W: np.ndarray) -> tuple[float, np.ndarray]:
        norms = np.sqrt((W**2).sum(axis, keepdims=True) + 1e-16)
        size = W.size // norms.size
        return np.sqrt(size) * norms.sum(), np.sqrt(size) * W / norms

    return form


def torch_groups(turn: Callable[[Any], Any]) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        rows = [turn(p) for p in seen.model.parameters() if p.ndim > 1]
        return sum(W.shape[1] ** 0.5 * ((W**2).sum(1) + 1e-16).sqrt().sum() for W in rows)

    return form


def start_of(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Where a weight starts: nowhere for the last layer of a net of several."""
    return None if name in LAST else np.random.default_rng(8).standard_normal(shape)


def start(model: Any) -> dict[str, np.ndarray]:
    named = {name: start_of(name, tuple(p.shape)) for name, p in model.named_parameters() if p.ndim > 1}
    return {name: value for name, value in named.items() if value is not None}


def of_start(W: np.ndarray) -> tuple[float, np.ndarray]:
    away = W - start_of("weight", W.shape)
    return (away**2).sum() / 2, away


def torch_start(seen: TorchPass) -> Any:
    known, value = start(seen.model), 0
    for name, p in seen.model.named_parameters():
        if name in known:
            value = value + ((p - seen.torch.from_numpy(known[name])) ** 2).sum() / 2
        elif p.ndim > 1:
            value = value + 0.3 * (p**2).sum() / 2
    return value


def of_orthogonality(diagonal: bool) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    def form(W: np.ndarray) -> tuple[float, np.ndarray]:
        rest = W @ W.T - np.eye(len(W))
        rest = rest if diagonal else rest * (1 - np.eye(len(W)))
        return (rest**2).sum(), 4 * rest @ W

    return form


def smaller_gram(W: Any, identity: Any) -> Any:
    gram = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
    return gram - identity(len(gram))


def torch_orthogonality(diagonal: bool) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        eye = lambda n: seen.torch.eye(n, dtype=seen.x.dtype)  # noqa: E731
        rests = [smaller_gram(W, eye) for W in matrices(seen)]
        return sum(((rest if diagonal else rest * (1 - eye(len(rest)))) ** 2).sum() for rest in rests)

    return form


def of_srip(W: np.ndarray) -> tuple[float, np.ndarray]:
    """Two iterations, and backwards through them: Mv = M u/‖u‖, u = M v₀."""
    M = W @ W.T - np.eye(len(W))
    v0 = td.randn((len(W),), generator=td.Generator(*DRAWS), dtype="float64").numpy()
    v0 = v0 / np.sqrt(v0 @ v0 + 1e-16)
    u = M @ v0
    length = np.sqrt(u @ u + 1e-16)
    v = u / length
    last = M @ v
    sigma = np.sqrt(last @ last + 1e-16)
    dlast = last / sigma
    dv = M @ dlast
    du = dv / length - u * (u @ dv) / length**3
    dM = np.outer(dlast, v) + np.outer(du, v0)
    return sigma, (dM + dM.T) @ W


def torch_srip(seen: TorchPass) -> Any:
    generator, value = td.Generator(*DRAWS), 0
    for W in matrices(seen):
        M = smaller_gram(W, lambda n: seen.torch.eye(n, dtype=seen.x.dtype))
        v = seen.torch.from_numpy(td.randn((len(M),), generator=generator, dtype="float64").numpy())
        v = M @ (v / v.norm())
        value = value + (M @ (v / v.norm())).norm()
    return value


def of_spectral_norm(W: np.ndarray) -> tuple[float, np.ndarray]:
    left, s, right = np.linalg.svd(W)
    return s[0] ** 2 / 2, s[0] * np.outer(left[:, 0], right[0])


def layer_ratios(model: Any) -> dict[str, float]:
    names = [name for name, p in model.named_parameters() if p.ndim > 1]
    return {name: 0.7 + i for i, name in enumerate(names)}


def torch_layerwise(seen: TorchPass) -> Any:
    ratios = layer_ratios(seen.model)
    return sum(ratios[name] * (p**2).sum() / 2 for name, p in seen.model.named_parameters() if name in ratios)


# The rows
# ------------------------------------------------------------------------------------------------------------


def usual(penalty: Callable[..., Penalty], name: str) -> list[Any]:
    """What all penalties on weights refuse."""
    return [
        negative(penalty, penalty.__name__),
        (frozen(penalty(1.0)), td.GraphError, f"{name}: {CONSTANT}"),
        (
            lambda: objective(penalty(1.0, params="wieght"))(td.ones(2, 4), td.tensor([0, 1])),
            ValueError,
            rf"{name}: expected parameters out of \['weight', 'bias'\], got \['wieght'\]",
        ),
    ]


def of_model(make: Callable[..., Penalty]) -> Callable[..., Penalty]:
    """A penalty that is made for a model: `make` of the weight and the model."""
    return lambda weight, model, **more: make(weight, model, **more)


def spectral_of_others() -> Any:
    penalty = SpectralNormPenalty(1.0, params=lambda name, p: p.ndim > 1)
    penalty.attach(nn.Linear(4, 3))
    return objective(penalty, model=nn.Sequential(nn.Linear(4, 3)))(td.ones(2, 4), td.tensor([0, 1]))


ROWS = [
    PenaltyRow(
        "L1",
        L1,
        only_weight(of_elastic_net(1.0)),
        lambda seen: sum(W.abs().sum() for W in matrices(seen)),
        usual(L1, "l1"),
    ),
    PenaltyRow(
        "ElasticNet",
        lambda weight, **more: ElasticNet(weight, 0.3, **more),
        only_weight(of_elastic_net(0.3)),
        lambda seen: sum(0.3 * W.abs().sum() + 0.35 * (W**2).sum() for W in matrices(seen)),
        [
            *usual(ElasticNet, "elastic_net"),
            (
                lambda: ElasticNet(1.0, 1.5),
                ValueError,
                r"ElasticNet: expected l1_ratio in \[0, 1\], got 1.5",
            ),
        ],
    ),
    PenaltyRow(
        "GroupLasso",
        GroupLasso,
        only_weight(of_groups(1)),
        torch_groups(lambda p: p.flatten(1)),
        [
            *usual(GroupLasso, "group_lasso"),
            (
                lambda: GroupLasso(1.0, "rows"),
                ValueError,
                r"GroupLasso: expected groups in \('out', 'in', 'layer'\), got 'rows'",
            ),
        ],
        at_zero=3 * 2e-8,
    ),
    PenaltyRow(
        "GroupLasso of columns",
        lambda weight, **more: GroupLasso(weight, "in", **more),
        only_weight(of_groups(0)),
        torch_groups(lambda p: p.transpose(0, 1).flatten(1)),
        [],
        at_zero=None,
    ),
    PenaltyRow(
        "GroupLasso of layers",
        lambda weight, **more: GroupLasso(weight, "layer", **more),
        only_weight(of_groups((0, 1))),
        torch_groups(lambda p: p.reshape(1, -1)),
        [],
        at_zero=None,
    ),
    PenaltyRow(
        "L2SP",
        of_model(lambda weight, model, **more: L2SP(1.0, 0.3, start(model), weight=weight, **more)),
        only_weight(of_start),
        torch_start,
        [
            (
                lambda: L2SP(1.0, 0.1, {}, weight=-1.0),
                ValueError,
                "L2SP: expected a weight of at least 0, got -1.0",
            ),
            (
                lambda: L2SP(1.0, -0.1, {}),
                ValueError,
                "L2SP: expected alpha and beta of at least 0, got 1.0 and",
            ),
            (frozen(L2SP(1.0, 0.1, nn.Linear(4, 3))), td.GraphError, f"l2_sp: {CONSTANT}"),
        ],
        at_zero=None,
        flat_at_zero=False,
        of_model=True,
    ),
    PenaltyRow(
        "Orthogonality",
        Orthogonality,
        only_weight(of_orthogonality(True)),
        torch_orthogonality(True),
        usual(Orthogonality, "orthogonality"),
        at_zero=3.0,
    ),
    PenaltyRow(
        "Orthogonality, angles",
        lambda weight, **more: Orthogonality(weight, diagonal=False, **more),
        only_weight(of_orthogonality(False)),
        torch_orthogonality(False),
        [],
    ),
    PenaltyRow(
        "SRIP",
        seeded(SRIP),
        only_weight(of_srip),
        torch_srip,
        [
            *usual(SRIP, "srip"),
            (
                lambda: SRIP(1.0, iterations=0),
                ValueError,
                "SRIP: expected iterations as a whole number of at least 1, got 0",
            ),
        ],
        at_zero=1.0,
        draws_per_sample=False,
    ),
    PenaltyRow(
        "SpectralNormPenalty",
        SpectralNormPenalty,
        only_weight(of_spectral_norm),
        lambda seen: sum(seen.torch.linalg.matrix_norm(W, 2) ** 2 / 2 for W in matrices(seen)),
        [
            negative(SpectralNormPenalty, "SpectralNormPenalty"),
            (frozen(SpectralNormPenalty()), td.GraphError, f"spectral_norm_penalty: {CONSTANT}"),
            (
                spectral_of_others,
                ValueError,
                r"spectral_norm_penalty: expected parameters out of \['weight'\], got '0.weight'",
            ),
        ],
        held=("_right",),
    ),
    PenaltyRow(
        "LayerwiseL2",
        of_model(lambda weight, model, **more: LayerwiseL2(weight, layer_ratios(model), **more)),
        only_weight(lambda W: (0.7 * (W**2).sum() / 2, 0.7 * W)),
        torch_layerwise,
        [
            (
                lambda: LayerwiseL2(1.0, {"weight": -1.0}),
                ValueError,
                r"LayerwiseL2: expected ratios of at least 0 by name, got \{'weight': -1.0\}",
            ),
            (
                lambda: LayerwiseL2(1.0, {}),
                ValueError,
                r"LayerwiseL2: expected ratios of at least 0 by name, got",
            ),
            (
                lambda: objective(LayerwiseL2(1.0, {"w": 1.0}))(td.ones(2, 4), td.tensor([0, 1])),
                ValueError,
                r"layerwise_l2: expected parameters out of \['weight', 'bias'\], got \['w'\]",
            ),
        ],
        of_model=True,
    ),
]
