"""Rates that Python functions multiply step by step."""

from __future__ import annotations

from collections.abc import Sequence

from ..optimizer import Optimizer
from .lambdas import Function, LambdaLR

__all__ = ["MultiplicativeLR"]


class MultiplicativeLR(LambdaLR):
    """base f(1) f(2) ... f(step); as torch.optim.lr_scheduler.MultiplicativeLR. Arguments and errors are
    LambdaLR's; f gives the same number whenever it is asked for a step.
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Function | Sequence[Function], last_epoch: int = -1
    ) -> None:
        self._products: dict[int, tuple[int, float]] = {}  # by group: the last step asked for, its product
        super().__init__(optimizer, lr_lambda, last_epoch)

    def _factor(self, function: Function, step: int, group: int) -> float:
        done, product = self._products.get(group, (0, 1.0))
        if done > step:
            done, product = 0, 1.0
        for k in range(done + 1, step + 1):
            product *= function(k)
        self._products[group] = step, product
        return product
