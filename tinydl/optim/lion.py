"""Lion: the sign of a momentum that looks one gradient ahead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import sign

from .optimizer import Optimizer, at_least_0, betas_below_1

__all__ = ["Lion"]


class Lion(Optimizer):
    """Lion. Chen et al., Symbolic discovery of optimization algorithms, arXiv 2302.06675, program 1.

        param -= lr weight_decay param
        param -= lr sign(beta1 exp_avg + (1 - beta1) g)
        exp_avg = beta2 exp_avg + (1 - beta2) g

    Every element moves by lr, so a good rate is a third to a tenth of AdamW's, and the decay as much larger.

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        betas: (beta1, beta2), each in [0, 1).
        weight_decay: coefficient of the decoupled decay, >= 0.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        super().__init__(params, options | {"maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "weight_decay")
        betas_below_1(cls, options)

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"exp_avg": State()}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        beta1, beta2 = o.betas
        d = -g if o.maximize else g
        u = sign(beta1 * s.exp_avg + (1.0 - beta1) * d)
        s.exp_avg = beta2 * s.exp_avg + (1.0 - beta2) * d
        return (1.0 - o.lr * o.weight_decay) * p - o.lr * u
