"""LAMB: Adam's direction, in each tensor as long as the tensor itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import length, sqrt, where

from .optimizer import Optimizer, at_least_0, betas_below_1

__all__ = ["LAMB"]


class LAMB(Optimizer):
    """LAMB. You et al., Large batch optimization for deep learning: training BERT in 76 minutes, arXiv
    1904.00962, algorithm 2.

        exp_avg = beta1 exp_avg + (1 - beta1) g;   exp_avg_sq = beta2 exp_avg_sq + (1 - beta2) g²
        u = exp_avg / (1 - beta1^step) / (√(exp_avg_sq / (1 - beta2^step)) + eps) + weight_decay param
        param -= lr |param| / |u| u, and lr u where either length is 0

    |x| is the 2-norm of a whole tensor: so a step is lr |param| long.

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: >= 0.
        weight_decay: coefficient of the decay in u, >= 0.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 1e-2,
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
        return {"exp_avg": State(), "exp_avg_sq": State(), "step": State("parameter", whole=True)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        beta1, beta2 = o.betas
        s.step = s.step + 1
        return {"mean": 1.0 / (1.0 - beta1**s.step), "spread": 1.0 / sqrt(1.0 - beta2**s.step)}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        beta1, beta2 = o.betas
        d = -g if o.maximize else g
        s.exp_avg = beta1 * s.exp_avg + (1.0 - beta1) * d
        s.exp_avg_sq = beta2 * s.exp_avg_sq + (1.0 - beta2) * d * d
        u = c.mean * s.exp_avg / (sqrt(s.exp_avg_sq) * c.spread + o.eps) + o.weight_decay * p
        weights, update = length(p), length(u)
        ratio = where(weights > 0.0, where(update > 0.0, weights / update, 1.0), 1.0)
        return p - o.lr * ratio * u
