"""Rates that a Python function of the step gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...engine.core import Tensor
from ..optimizer import Optimizer
from .schedule import LRScheduler, of_group

__all__ = ["LambdaLR"]

Function = Callable[[int], float]


class LambdaLR(LRScheduler):
    """base f(step); as torch.optim.lr_scheduler.LambdaLR. It is refused inside a recorded step, and its
    functions are not saved.

    Args:
        optimizer: whose rates are multiplied.
        lr_lambda: f, or a list with one for each group.
        last_epoch: as in `LRScheduler`.

    Raises:
        TypeError: something that is not called.
        ValueError: fewer functions than groups.
        GraphError: a step inside a recorded step.
    """

    records = False

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Function | Sequence[Function], last_epoch: int = -1
    ) -> None:
        self._functions = lr_lambda
        for function in lr_lambda if isinstance(lr_lambda, Sequence) else [lr_lambda]:
            if not callable(function):
                raise TypeError(
                    f"{type(self).__name__}: lr_lambda: expected functions of the step, got "
                    f"{type(function).__name__}"
                )
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        function = of_group(f"{type(self).__name__}: lr_lambda", self._functions, group)
        return base * self._factor(function, int(step.item()), group)

    def _factor(self, function: Function, step: int, group: int) -> float:
        return float(function(step))
