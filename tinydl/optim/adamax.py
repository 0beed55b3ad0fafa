"""Adamax: Adam with the largest gradient in the place of the second moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import maximum

from .optimizer import Optimizer, at_least_0, betas_below_1

__all__ = ["Adamax"]


class Adamax(Optimizer):
    """Adamax, as torch.optim.Adamax. Kingma & Ba, arXiv 1412.6980, algorithm 2.

        g = grad + weight_decay param
        exp_avg = beta1 exp_avg + (1 - beta1) g
        exp_inf = max(beta2 exp_inf, |g| + eps)
        param -= lr / (1 - beta1^step) exp_avg / exp_inf

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: >= 0. With 0 a gradient that has always been 0 gives NaN.
        weight_decay: coefficient of the L2 penalty, >= 0.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options | {"maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "eps", "weight_decay")
        betas_below_1(cls, options)

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"exp_avg": State(), "exp_inf": State(), "step": State("parameter", whole=True)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        beta1, _ = o.betas
        s.step = s.step + 1
        return {"rate": o.lr / (1.0 - beta1**s.step)}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        beta1, beta2 = o.betas
        d = (-g if o.maximize else g) + o.weight_decay * p
        s.exp_avg = beta1 * s.exp_avg + (1.0 - beta1) * d
        s.exp_inf = maximum(beta2 * s.exp_inf, abs(d) + o.eps)
        return p - c.rate * s.exp_avg / s.exp_inf
