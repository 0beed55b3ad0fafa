"""Adagrad: steps scaled by the sum of all squared gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import sqrt

from .optimizer import Optimizer, at_least_0

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Adagrad, as torch.optim.Adagrad. Duchi, Hazan & Singer, Adaptive subgradient methods for online
    learning and stochastic optimization, JMLR 12 (2011).

        g = grad + weight_decay param
        sum = sum + g²
        param -= lr / (1 + (step - 1) lr_decay) g / (√sum + eps)

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        lr_decay: how fast the rate falls with the steps, >= 0.
        weight_decay: coefficient of the L2 penalty, >= 0.
        initial_accumulator_value: the sum before the first step, >= 0.
        eps: >= 0.
        eps_inside: g / √(sum + eps), the form of theory.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        eps_inside: bool = False,
        maximize: bool = False,
    ) -> None:
        numbers = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        numbers["initial_accumulator_value"] = initial_accumulator_value
        super().__init__(params, numbers | {"eps_inside": eps_inside, "maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        initial = options["initial_accumulator_value"]
        return {"sum": State(initial=initial), "step": State("parameter", whole=True)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        s.step = s.step + 1
        return {"rate": o.lr / (1.0 + (s.step - 1) * o.lr_decay)}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        d = (-g if o.maximize else g) + o.weight_decay * p
        s.sum = s.sum + d * d
        return p - c.rate * d / (sqrt(s.sum + o.eps) if o.eps_inside else sqrt(s.sum) + o.eps)
