"""RAdam: Adam that waits with its second moment until that is known well enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import maximum, sqrt, where

from .optimizer import Optimizer, at_least_0, betas_below_1, decayed

__all__ = ["RAdam"]


class RAdam(Optimizer):
    """RAdam, as torch.optim.RAdam. Liu et al., On the variance of the adaptive learning rate and beyond,
    arXiv 1908.03265, algorithm 2.

        g = grad + weight_decay param
        exp_avg = beta1 exp_avg + (1 - beta1) g;   exp_avg_sq = beta2 exp_avg_sq + (1 - beta2) g²
        m = exp_avg / (1 - beta1^step);   r_inf = 2 / (1 - beta2) - 1
        r = r_inf - 2 step beta2^step / (1 - beta2^step)
        param -= lr √((r - 4) (r - 2) r_inf / ((r_inf - 4) (r_inf - 2) r))
                    √(1 - beta2^step) m / (√exp_avg_sq + eps)               if r > 5
        param -= lr m                                                       else

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        betas: (beta1, beta2), each in [0, 1). With the default beta2 the first five steps are plain.
        eps: >= 0.
        weight_decay: >= 0: coefficient of the L2 penalty, or of the decoupled decay.
        decoupled_weight_decay: take lr weight_decay param off the parameter, apart from the moments.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
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
        return {"exp_avg": State(), "exp_avg_sq": State(), "step": State("parameter", whole=True)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        beta1, beta2 = o.betas
        s.step = s.step + 1
        power = beta2**s.step
        left = 1.0 - power
        most = 2.0 / (1.0 - beta2) - 1.0
        length = most - 2.0 * s.step * power / left
        known = (length - 4.0) * (length - 2.0) * most / ((most - 4.0) * (most - 2.0) * length)
        rate = o.lr / (1.0 - beta1**s.step)
        return {"adapts": length > 5.0, "plain": rate, "rate": rate * sqrt(maximum(known, 0.0) * left)}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        beta1, beta2 = o.betas
        p, d = decayed(o, p, g, o.decoupled_weight_decay)
        s.exp_avg = beta1 * s.exp_avg + (1.0 - beta1) * d
        s.exp_avg_sq = beta2 * s.exp_avg_sq + (1.0 - beta2) * d * d
        scaled = c.rate * s.exp_avg / (sqrt(s.exp_avg_sq) + o.eps)
        return p - where(c.adapts, scaled, c.plain * s.exp_avg)
