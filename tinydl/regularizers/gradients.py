"""Gradient regularization by double backpropagation: penalties on the derivative with respect to the input.

Varga, Csiszárik and Zombori, "Gradient regularization improves accuracy of discriminative models",
arXiv 1712.09936. The functions take a forward pass that is there already; the classes are what an
`Objective` adds to its loss.

A penalty is a tensor on the tape, and trains nothing if its graph is cut. So each function refuses an input
that the forward pass did not follow, a pass made under no_grad, and a penalty that no parameter can change.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tinydl_kernels.machine.errors import GraphError, ShapeError

from ..engine.backward import grad
from ..engine.core import Tensor, state
from ..engine.tape import Slot, ancestors
from ..nn.extra_forward import extra_forward
from ..nn.module import Module
from ..ops.elementwise import div, square
from ..ops.random import Generator, randn
from ..ops.reduce import sum
from ..ops.shape import broadcast_to

PENALTY_STREAM = 4


def squared_gradient(who: str, outputs: Tensor, seed: Tensor | None, x: Tensor) -> Tensor:
    """mean_b ‖row b of ∂<outputs, seed>/∂x‖₂², on the tape. x is (B, *)."""
    if not state.grad:
        raise GraphError(
            f"{who}: expected a forward pass on the tape, got no_grad: the penalty would train nothing"
        )
    if not x.requires_grad:
        raise GraphError(
            f"{who}: expected an input x that requires grad before the forward pass, got one that does not"
        )
    if not outputs.requires_grad:
        raise GraphError(
            f"{who}: expected outputs computed from x on the tape, got {outputs.shape} without a graph"
        )
    (g,) = grad(outputs, x, seed, create_graph=True, allow_unused=True)
    if g is None:
        raise GraphError(
            f"{who}: expected outputs computed from x on the tape, got {outputs.shape} that do not depend "
            "on it"
        )
    penalty = div(sum(square(g)), float(max(x.shape[0], 1)))
    if not _leaves(penalty) - {x.slot}:
        raise GraphError(
            f"{who}: expected a penalty that parameters can change, got one in which every parameter is "
            "constant"
        )
    return penalty


def _leaves(x: Tensor) -> set[Slot | None]:
    """The leaves that require grad and that x was computed from."""
    nodes = ancestors([x.node] if x.node is not None else [])
    return {
        edge.slot for node in nodes for edge in node.edges or () if edge is not None and edge.slot is not None
    }


def data_grad(losses: Tensor, x: Tensor) -> Tensor:
    """DataGrad: mean_b ‖row b of ∂(Σ losses)/∂x‖₂², x (B, *), losses (B,).

    Double backpropagation, Drucker & LeCun, IJCNN 1991. The gradient is that of the *sum* of the losses:
    under batch statistics row b holds the other samples' losses too, and that is the definition.
    """
    if losses.shape != x.shape[:1]:
        raise ShapeError(
            f"data_grad: expected one loss a sample {x.shape[:1]} (reduction='none'), got {losses.shape}"
        )
    return squared_gradient("data_grad", sum(losses), None, x)


def spect_reg(logits: Tensor, x: Tensor, r: Tensor) -> Tensor:
    """SpectReg: mean_b ‖r_bᵀ J_b‖₂² with J_b = ∂logits_b/∂x_b, x (B, *), logits and r (B, m).

    For r ~ N(0, I) its expectation is mean_b ‖J_b‖_F². The authors' slides print a factor 1/√m in r, which
    makes that equality off by m; their published λ belong to the form without it, which this is.
    """
    if logits.ndim != 2 or logits.shape[0] != x.shape[0]:
        raise ShapeError(
            f"spect_reg: expected logits (B, m) of the {x.shape[0]} samples of x, got {logits.shape}"
        )
    if r.shape != logits.shape:
        raise ShapeError(f"spect_reg: expected r shaped as the logits {logits.shape}, got {r.shape}")
    return squared_gradient("spect_reg", logits, r, x)


class Pass(NamedTuple):
    """One forward pass, as penalties see it."""

    model: Module
    x: Tensor  # a leaf that requires grad
    target: Tensor
    logits: Tensor
    losses: Tensor  # (B,)


class Penalty:
    """A term of an `Objective`: `weight` · penalty(pass). Owns the generator that it draws from."""

    def __init__(self, weight: float, generator: Generator | None = None) -> None:
        if not weight >= 0:
            raise ValueError(f"{type(self).__name__}: expected a weight of at least 0, got {weight}")
        self.weight = weight
        self.generator = Generator(stream=PENALTY_STREAM) if generator is None else generator

    def __call__(self, seen: Pass) -> Tensor:
        """The penalty without its weight."""
        raise NotImplementedError(f"{type(self).__name__}.__call__")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.weight})"


class DataGrad(Penalty):
    """λ · mean_b ‖row b of ∂(Σ losses)/∂x‖₂² on the same forward pass, dropout
    mask included. See `data_grad`.
    """

    def __call__(self, seen: Pass) -> Tensor:
        return data_grad(seen.losses, seen.x)


class SpectReg(Penalty):
    """λ · mean_b ‖rᵀJ_b‖₂², r ~ N(0, I). See `spect_reg`.

    per      "sample": one r a sample, which has less variance; "batch": one r for all, as the authors had it
    forward  "shared": the pass of the loss; "second": a pass of its own with its own dropout mask, as the
             authors had it,
             which moves neither running statistics nor any stream of random numbers but the penalty's
    """

    def __init__(
        self, weight: float, per: str = "sample", forward: str = "shared", generator: Generator | None = None
    ) -> None:
        super().__init__(weight, generator)
        for name, value, choices in (
            ("per", per, ("sample", "batch")),
            ("forward", forward, ("shared", "second")),
        ):
            if value not in choices:
                raise ValueError(f"SpectReg: expected {name} in {choices}, got {value!r}")
        self.per, self.forward = per, forward

    def __call__(self, seen: Pass) -> Tensor:
        logits = seen.logits
        if self.forward == "second":
            with extra_forward(self.generator):
                logits = seen.model(seen.x)
        if logits.ndim != 2:
            raise ShapeError(f"SpectReg: expected logits (B, m), got {logits.shape}")
        drawn = logits.shape if self.per == "sample" else (1, logits.shape[1])
        r = randn(drawn, generator=self.generator, dtype=logits.dtype, device=logits.device)
        return spect_reg(logits, seen.x, broadcast_to(r, logits.shape))


class Terms(NamedTuple):
    """What an `Objective` returns: total = loss + Σ weight · penalty."""

    total: Tensor
    loss: Tensor
    penalties: tuple[Tensor, ...]
    logits: Tensor


class Objective:
    """The mean loss plus weighted penalties of one forward pass: total, loss, penalties,
    logits = objective(x, target).

    The pass runs on a copy of x's handle that requires grad, so that no penalty can miss its
    input; x itself stays as it is.
    """

    def __init__(self, model: Module, loss: Any, penalties: tuple[Penalty, ...] | list[Penalty] = ()) -> None:
        self.model, self.loss, self.penalties = model, loss, tuple(penalties)

    def __call__(self, x: Tensor, target: Tensor) -> Terms:
        if self.penalties and not state.grad:
            raise GraphError(
                f"Objective: expected grad mode for {', '.join(map(repr, self.penalties))}, got no_grad"
            )
        followed = Tensor(x.array, x.version)
        followed.requires_grad = bool(self.penalties)
        logits = self.model(followed)
        losses = self.loss(logits, target, reduction="none")
        mean = div(sum(losses), float(max(losses.array.size, 1)))
        seen = Pass(self.model, followed, target, logits, losses)
        penalties = tuple(penalty(seen) for penalty in self.penalties)
        total = mean
        for penalty, value in zip(self.penalties, penalties, strict=True):
            total = total + value * penalty.weight
        return Terms(total, mean, penalties, logits)

    def generators(self) -> dict[str, Generator]:
        """The penalties' generators by name, for a checkpoint."""
        return {f"penalty{i}": penalty.generator for i, penalty in enumerate(self.penalties)}
