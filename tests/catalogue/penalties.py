"""The penalties: a row for each public one, and for a setting of it that is another formula.

regularizers/test_penalty_rows.py walks the table and says what is left out. A row says how to make the
penalty, its closed form on a linear model (value and gradients, in NumPy), and the same in PyTorch's words on
any model. A penalty that draws does so from DRAWS, so that a form can draw the same numbers first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    L2,
    ConfidencePenalty,
    DataGrad,
    FrobeniusJacobian,
    Objective,
    Penalty,
    SpectReg,
)

Form = tuple[float, np.ndarray, np.ndarray]  # the value and its gradients by W and c
DRAWS = (7, 11)  # seed and stream


@dataclass(frozen=True)
class Linear:
    """z = W x + c and a batch: W (m, d), c (m,), x (B, d), classes y (B,), all float64 but y."""

    W: np.ndarray
    c: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def p(self) -> np.ndarray:
        """(B, m), the softmax of the logits."""
        z = self.x @ self.W.T + self.c
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    @property
    def delta(self) -> np.ndarray:
        """(B, m), the derivatives of the losses by the logits."""
        return self.p - np.eye(len(self.c))[self.y]

    def by_logits(self, value: float, dz: np.ndarray) -> Form:
        """The form of a value whose derivative by the logits is dz (B, m)."""
        return value, dz.T @ self.x, dz.sum(0)


@dataclass(frozen=True)
class TorchPass:
    """What a penalty sees, in PyTorch: x requires grad, losses (B,)."""

    torch: Any
    model: Any
    x: Any
    y: Any
    logits: Any
    losses: Any
    start: Any  # the model's state_dict before the pass

    def slopes(self, outputs: Any, seed: Any = None) -> Any:
        """(B, features): rows of the derivative of <outputs, seed> by x, on the tape."""
        return self.torch.autograd.grad(outputs, self.x, seed, create_graph=True)[0].flatten(1)


@dataclass(frozen=True)
class PenaltyRow:
    name: str  # of the class; then what tells variants apart
    make: Callable[..., Penalty]  # of the weight, with every= and name= as they come
    linear: Callable[[Linear], Form]
    torch: Callable[[TorchPass], Any]
    # (what is done, the error, its message)
    bad: Sequence[tuple[Callable[[], Any], type[Exception], str]]
    coupled: bool = False  # is the value of a batch no mean over its parts?
    # Its value where every parameter of the linear model is zero; None: what `linear` gives there.
    at_zero: float | None = 0.0
    flat_at_zero: bool = True  # is its gradient zero there?
    outputs: int = 3  # of the model
    draws_per_sample: bool = True  # is the first dim of what it draws the samples'?
    third_order: bool = False  # is its gradient a third derivative of the net?
    records: bool = True  # False where a recorded step refuses it
    extra: bool = False  # does it make passes of the model besides the objective's?
    held: tuple[str, ...] = ()  # methods whose results count as constants in the derivative
    of_model: bool = False  # does `make` take the model too, as model=?
    given: Callable[[Any], dict[str, Any]] = lambda x: {}  # what else the Objective is called with, of x

    def of(self, model: Any, weight: Any, **more: Any) -> Penalty:
        """The penalty for a model."""
        return self.make(weight, **({"model": model} if self.of_model else {}), **more)


def drawn(*shape: int) -> np.ndarray:
    """The first normal numbers of DRAWS, float64."""
    return td.randn(shape, generator=td.Generator(*DRAWS), dtype="float64").numpy()


def spect_reg(**settings: Any) -> Callable[..., Penalty]:
    return lambda weight, **more: SpectReg(weight, generator=td.Generator(*DRAWS), **settings, **more)


# On linear models
# ------------------------------------------------------------------------------------------------------------


def of_data_grad(at: Linear) -> Form:
    p, delta, B = at.p, at.delta, len(at.x)
    g = delta @ at.W
    h = g @ at.W.T  # W g
    SWg = p * h - p * (p * h).sum(1, keepdims=True)
    dW, dc = 2 / B * (delta.T @ g + SWg.T @ at.x), 2 / B * SWg.sum(0)
    return (g**2).sum(1).mean(), dW, dc


def of_spect_reg(per: str) -> Callable[[Linear], Form]:
    def form(at: Linear) -> Form:
        B, m = len(at.x), len(at.c)
        r = np.broadcast_to(drawn(B if per == "sample" else 1, m), (B, m))
        g = r @ at.W
        return (g**2).sum(1).mean(), 2 / B * r.T @ g, np.zeros(m)

    return form


def of_confidence(at: Linear) -> Form:
    log_p = np.log(at.p)
    entropy = -(at.p * log_p).sum(1, keepdims=True)
    return at.by_logits(-entropy.mean(), at.p * (log_p + entropy) / len(at.x))


# In PyTorch
# ------------------------------------------------------------------------------------------------------------


def torch_spect_reg(per: str) -> Callable[[TorchPass], Any]:
    def form(seen: TorchPass) -> Any:
        B, m = seen.logits.shape
        r = seen.torch.from_numpy(drawn(B if per == "sample" else 1, m)).expand(B, m)
        return (seen.slopes(seen.logits, r) ** 2).sum(1).mean()

    return form


def torch_frobenius(seen: TorchPass) -> Any:
    columns = seen.logits.sum(0)
    return sum((seen.slopes(column) ** 2).sum(1).mean() for column in columns)


# What is refused
# ------------------------------------------------------------------------------------------------------------


def objective(*terms: Penalty, model: Any = None) -> Objective:
    return Objective(nn.Linear(4, 3) if model is None else model, td.cross_entropy, terms)


def on_images(penalty: Penalty) -> Callable[[], Any]:
    """Logits (B, m, H, W)."""
    target = td.tensor(np.zeros((2, 3, 3), np.int64))
    return lambda: objective(penalty, model=nn.Conv2d(1, 3, 1))(td.ones(2, 1, 3, 3), target)


def on_tokens(penalty: Penalty) -> Callable[[], Any]:
    """Integer inputs."""
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 3))
    return lambda: objective(penalty, model=model)(td.tensor([[0, 4], [1, 2]]), td.tensor([0, 1]))


def frozen(penalty: Penalty) -> Callable[[], Any]:
    """A model without trainable parameters."""
    model = nn.Linear(4, 3).requires_grad_(False)
    return lambda: objective(penalty, model=model)(td.ones(2, 4), td.tensor([0, 1]))


def negative(make: Callable[..., Penalty], who: str) -> tuple[Callable[[], Any], type[Exception], str]:
    return lambda: make(-1.0), ValueError, f"{who}: expected a weight of at least 0, got -1.0"


def mean_loss() -> Any:
    """A loss that ignores `reduction`."""
    model = nn.Linear(4, 3)
    scalar = lambda z, y, reduction: td.cross_entropy(z, y)  # noqa: E731
    return Objective(model, scalar, [DataGrad(1.0)])(td.ones(2, 4), td.tensor([0, 1]))


CONSTANT = "expected a penalty that parameters can change"
INTEGERS = r"expected an input to follow, got none of int64; wrt= names a layer"
IMAGES = r"expected logits \(B, m\), got \(2, 3, 3, 3\)"

ROWS = [
    PenaltyRow(
        "DataGrad",
        DataGrad,
        of_data_grad,
        lambda seen: (seen.slopes(seen.losses.sum()) ** 2).sum(1).mean(),
        [
            negative(DataGrad, "DataGrad"),
            (
                lambda: objective(DataGrad(1.0, wrt="hidden"))(td.ones(2, 4), td.tensor([0, 1])),
                AttributeError,
                "get_submodule: expected one of no children in Linear, got 'hidden'",
            ),
            (
                mean_loss,
                td.ShapeError,
                r"Pass: expected losses of the 2 samples \(reduction='none'\), got \(\)",
            ),
            (on_tokens(DataGrad(1.0)), td.GraphError, f"data_grad: {INTEGERS}"),
            (frozen(DataGrad(1.0)), td.GraphError, f"data_grad: {CONSTANT}"),
        ],
    ),
    PenaltyRow(
        "SpectReg",
        spect_reg(),
        of_spect_reg("sample"),
        torch_spect_reg("sample"),
        [
            negative(SpectReg, "SpectReg"),
            (
                lambda: SpectReg(1.0, per="pixel"),
                ValueError,
                r"SpectReg: expected per in \('sample', 'batch'\), got 'pixel'",
            ),
            (
                lambda: SpectReg(1.0, forward="third"),
                ValueError,
                r"SpectReg: expected forward in \('shared', 'second'\), got 'third'",
            ),
            (on_images(SpectReg(1.0)), td.ShapeError, f"SpectReg: {IMAGES}"),
            (on_tokens(SpectReg(1.0)), td.GraphError, f"spect_reg: {INTEGERS}"),
            (frozen(SpectReg(1.0)), td.GraphError, f"spect_reg: {CONSTANT}"),
        ],
    ),
    PenaltyRow(
        "SpectReg, the authors'",
        spect_reg(per="batch", forward="second"),
        of_spect_reg("batch"),
        torch_spect_reg("batch"),
        [(on_images(SpectReg(1.0, forward="second")), td.ShapeError, f"SpectReg: {IMAGES}")],
        extra=True,
        coupled=True,
    ),
    PenaltyRow(
        "FrobeniusJacobian",
        FrobeniusJacobian,
        lambda at: ((at.W**2).sum(), 2 * at.W, np.zeros_like(at.c)),
        torch_frobenius,
        [
            negative(FrobeniusJacobian, "FrobeniusJacobian"),
            (on_images(FrobeniusJacobian(1.0)), td.ShapeError, f"FrobeniusJacobian: {IMAGES}"),
            (on_tokens(FrobeniusJacobian(1.0)), td.GraphError, f"frobenius_jacobian: {INTEGERS}"),
            (frozen(FrobeniusJacobian(1.0)), td.GraphError, f"frobenius_jacobian: {CONSTANT}"),
        ],
    ),
    PenaltyRow(
        "ConfidencePenalty",
        ConfidencePenalty,
        of_confidence,
        lambda seen: -seen.torch.distributions.Categorical(logits=seen.logits).entropy().mean(),
        [
            negative(ConfidencePenalty, "ConfidencePenalty"),
            (frozen(ConfidencePenalty(1.0)), td.GraphError, f"confidence_penalty: {CONSTANT}"),
            (
                lambda: Objective(nn.Flatten(0), td.mse_loss, [ConfidencePenalty(1.0)])(
                    td.ones(2, 4), td.ones(8)
                ),
                td.ShapeError,
                r"ConfidencePenalty: expected logits \(B, m, \*\), got \(8,\)",
            ),
        ],
        at_zero=-np.log(3),
    ),
    PenaltyRow(
        "L2",
        L2,
        lambda at: ((at.W**2).sum() / 2, at.W, np.zeros_like(at.c)),
        lambda seen: sum((p**2).sum() / 2 for p in seen.model.parameters() if p.ndim > 1),
        [
            negative(L2, "L2"),
            (frozen(L2(1.0)), td.GraphError, f"l2: {CONSTANT}"),
            (
                lambda: objective(L2(1.0, params="wieght"))(td.ones(2, 4), td.tensor([0, 1])),
                ValueError,
                r"l2: expected parameters out of \['weight', 'bias'\], got \['wieght'\]",
            ),
            (
                lambda: objective(L2(1.0, params=lambda name, p: False))(td.ones(2, 4), td.tensor([0, 1])),
                ValueError,
                r"l2: expected parameters to act on, got none out of \['weight', 'bias'\]",
            ),
        ],
    ),
    PenaltyRow(
        "L2 of a bias",
        lambda weight, **more: L2(weight, params=lambda name, p: p.shape == (3,), **more),
        lambda at: ((at.c**2).sum() / 2, np.zeros_like(at.W), at.c),
        lambda seen: sum((p**2).sum() / 2 for p in seen.model.parameters() if p.shape == (3,)),
        [],
    ),
]
