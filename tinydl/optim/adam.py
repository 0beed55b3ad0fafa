"""Adam and AdamW: steps scaled by running moments of the gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..engine.core import Tensor
from ..nn.parameter import Buffer
from ..ops import update
from .optimizer import Group, Optimizer


class Adam(Optimizer):
    """Adam, as torch.optim.Adam. Kingma & Ba, arXiv 1412.6980, algorithm 1.

        g = grad + weight_decay param
        exp_avg = beta1 exp_avg + (1 - beta1) g;   exp_avg_sq = beta2 exp_avg_sq + (1 - beta2) g²
        param -= lr exp_avg / (1 - beta1^step) / (√(exp_avg_sq / (1 - beta2^step)) + eps)

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: >= 0.
        weight_decay: coefficient of the L2 penalty, >= 0.
    """

    decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            if not options[name] >= 0:
                raise ValueError(f"{cls.__name__}: {name}: expected at least 0, got {options[name]}")
        if len(options["betas"]) != 2 or not all(0 <= beta < 1 for beta in options["betas"]):
            raise ValueError(f"{cls.__name__}: betas: expected two numbers in [0, 1), got {options['betas']}")

    @staticmethod
    def moments(options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], *state: list[Buffer]) -> None:
        first, second, steps = state
        options = {"eps": group["eps"], "weight_decay": group["weight_decay"], "decoupled": self.decoupled}
        beta1, beta2 = group["betas"]
        update.adam(group["lr"], params, grads, first, second, steps, beta1=beta1, beta2=beta2, **options)


class AdamW(Adam):
    """Adam with weight decay taken off the parameter, apart from the moments; as torch.optim.AdamW.

        param -= lr weight_decay param;   then Adam's step with g = grad

    Loshchilov & Hutter, Decoupled weight decay regularization, arXiv 1711.05101.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
