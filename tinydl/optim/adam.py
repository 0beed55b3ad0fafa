"""Adam and AdamW: steps scaled by running moments of the gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import maximum, sqrt

from .optimizer import Optimizer, at_least_0, betas_below_1, decayed

__all__ = ["Adam", "AdamW"]


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
        amsgrad: the largest exp_avg_sq so far in the place of the present one (Reddi, Kale & Kumar, On the
            convergence of Adam and beyond, arXiv 1904.09237).
        maximize: step up the gradient.
    """

    decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options | {"amsgrad": amsgrad, "maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "eps", "weight_decay")
        betas_below_1(cls, options)

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        largest = {"max_exp_avg_sq": State()} if options["amsgrad"] else {}
        return {"exp_avg": State(), "exp_avg_sq": State(), **largest, "step": State("parameter", whole=True)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        beta1, beta2 = o.betas
        s.step = s.step + 1
        return {"rate": o.lr / (1.0 - beta1**s.step), "spread": 1.0 / sqrt(1.0 - beta2**s.step)}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        beta1, beta2 = o.betas
        p, d = decayed(o, p, g, cls.decoupled)
        s.exp_avg = beta1 * s.exp_avg + (1.0 - beta1) * d
        s.exp_avg_sq = beta2 * s.exp_avg_sq + (1.0 - beta2) * d * d
        if o.amsgrad:
            s.max_exp_avg_sq = maximum(s.max_exp_avg_sq, s.exp_avg_sq)
        square = s.max_exp_avg_sq if o.amsgrad else s.exp_avg_sq
        return p - c.rate * s.exp_avg / (sqrt(square) * c.spread + o.eps)


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
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
