"""Momentum: steps along an average of the gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State

from .optimizer import Optimizer, at_least_0, below_1

__all__ = ["Momentum"]


class Momentum(Optimizer):
    """Gradient descent with momentum, in its averaging form.

        g = grad + weight_decay param
        average = beta average + (1 - beta) g
        param -= lr average

    The average begins at 0 and is not corrected for that. It is Polyak's heavy ball (Some methods of speeding
    up the convergence of iteration methods, 1964), SGD with momentum=beta, at the rate lr (1 - beta).

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        beta: how much of the average stays, in [0, 1).
        weight_decay: coefficient of the L2 penalty, >= 0.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        beta: float = 0.9,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "beta": beta, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, options)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "weight_decay")
        below_1(cls, options, "beta")

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"average": State()}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        d = (-g if o.maximize else g) + o.weight_decay * p
        s.average = o.beta * s.average + (1.0 - o.beta) * d
        return p - o.lr * s.average
