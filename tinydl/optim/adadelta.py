"""Adadelta: steps scaled by the ratio of two running means, of squared steps and of squared gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import sqrt

from .optimizer import Optimizer, at_least_0, below_1

__all__ = ["Adadelta"]


class Adadelta(Optimizer):
    """Adadelta, as torch.optim.Adadelta. Zeiler, arXiv 1212.5701, algorithm 1.

        g = grad + weight_decay param
        square_avg = rho square_avg + (1 - rho) g²
        u = √(acc_delta + eps) / √(square_avg + eps) g
        acc_delta = rho acc_delta + (1 - rho) u²
        param -= lr u

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0; 1 in the paper.
        rho: how much of the means stays, in [0, 1).
        eps: >= 0. The first step is about √eps long.
        weight_decay: coefficient of the L2 penalty, >= 0.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options | {"maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "eps", "weight_decay")
        below_1(cls, options, "rho")

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"square_avg": State(), "acc_delta": State(), "step": State("parameter", whole=True)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        s.step = s.step + 1
        return {}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        d = (-g if o.maximize else g) + o.weight_decay * p
        s.square_avg = o.rho * s.square_avg + (1.0 - o.rho) * d * d
        u = sqrt(s.acc_delta + o.eps) / sqrt(s.square_avg + o.eps) * d
        s.acc_delta = o.rho * s.acc_delta + (1.0 - o.rho) * u * u
        return p - o.lr * u
