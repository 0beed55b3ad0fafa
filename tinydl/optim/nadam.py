"""NAdam: Adam whose first moment looks one step ahead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import sqrt

from .optimizer import Optimizer, at_least_0, betas_below_1, decayed

__all__ = ["NAdam"]


class NAdam(Optimizer):
    """NAdam, as torch.optim.NAdam. Dozat, Incorporating Nesterov momentum into Adam (ICLR workshop 2016).

        g = grad + weight_decay param
        mu(t) = beta1 (1 - 0.96^(t momentum_decay) / 2);   mu_product = mu_product mu(step)
        exp_avg = beta1 exp_avg + (1 - beta1) g;   exp_avg_sq = beta2 exp_avg_sq + (1 - beta2) g²
        n = (1 - mu(step)) / (1 - mu_product) g
        m = mu(step + 1) / (1 - mu_product mu(step + 1)) exp_avg
        param -= lr (n + m) / (√(exp_avg_sq / (1 - beta2^step)) + eps)

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: >= 0.
        weight_decay: >= 0: coefficient of the L2 penalty, or of the decoupled decay.
        momentum_decay: how fast the momentum mu rises from beta1 / 2 to beta1, >= 0.
        decoupled_weight_decay: take lr weight_decay param off the parameter, apart from the moments.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        options |= {"momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, options | {"maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "eps", "weight_decay", "momentum_decay")
        betas_below_1(cls, options)

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        moments = {"exp_avg": State(), "exp_avg_sq": State()}
        product = State("parameter", initial=1.0)
        return {**moments, "mu_product": product, "step": State("parameter", whole=True)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        beta1, beta2 = o.betas
        s.step = s.step + 1
        now, ahead = (
            beta1 * (1.0 - 0.5 * 0.96 ** (step * o.momentum_decay)) for step in (s.step, s.step + 1)
        )
        s.mu_product = s.mu_product * now
        return {
            "fresh": o.lr * (1.0 - now) / (1.0 - s.mu_product),
            "kept": o.lr * ahead / (1.0 - s.mu_product * ahead),
            "spread": 1.0 / sqrt(1.0 - beta2**s.step),
        }

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        beta1, beta2 = o.betas
        p, d = decayed(o, p, g, o.decoupled_weight_decay)
        s.exp_avg = beta1 * s.exp_avg + (1.0 - beta1) * d
        s.exp_avg_sq = beta2 * s.exp_avg_sq + (1.0 - beta2) * d * d
        return p - (c.fresh * d + c.kept * s.exp_avg) / (sqrt(s.exp_avg_sq) * c.spread + o.eps)
