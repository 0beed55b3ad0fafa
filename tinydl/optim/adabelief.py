"""AdaBelief: steps scaled by how far gradients are from what was expected of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import sqrt

from .optimizer import Optimizer, at_least_0, betas_below_1, decayed

__all__ = ["AdaBelief"]


class AdaBelief(Optimizer):
    """AdaBelief. Zhuang et al., AdaBelief optimizer: adapting stepsizes by the belief in observed gradients,
    arXiv 2010.07468, algorithm 2.

        exp_avg = beta1 exp_avg + (1 - beta1) g
        exp_avg_var = beta2 exp_avg_var + (1 - beta2) (g - exp_avg)² + eps
        param -= lr weight_decay param
        param -= lr exp_avg / (1 - beta1^step) / (√(exp_avg_var / (1 - beta2^step)) + eps)

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: >= 0; what is added to exp_avg_var stays in it.
        weight_decay: >= 0: coefficient of the decoupled decay, or of the L2 penalty.
        decoupled_weight_decay: if False, g = grad + weight_decay param instead.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        flags = {"decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize}
        super().__init__(params, options | flags)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "eps", "weight_decay")
        betas_below_1(cls, options)

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"exp_avg": State(), "exp_avg_var": State(), "step": State("parameter", whole=True)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        beta1, beta2 = o.betas
        s.step = s.step + 1
        return {"rate": o.lr / (1.0 - beta1**s.step), "spread": 1.0 / sqrt(1.0 - beta2**s.step)}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        beta1, beta2 = o.betas
        p, d = decayed(o, p, g, o.decoupled_weight_decay)
        s.exp_avg = beta1 * s.exp_avg + (1.0 - beta1) * d
        surprise = d - s.exp_avg
        s.exp_avg_var = beta2 * s.exp_avg_var + (1.0 - beta2) * surprise * surprise + o.eps
        return p - c.rate * s.exp_avg / (sqrt(s.exp_avg_var) * c.spread + o.eps)
