"""Rates that fall when a number no longer gets better: the one schedule with a memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tinydl_kernels.machine.errors import GraphError

from ...devices import on_host
from ...engine.core import Tensor, no_grad, state
from ...ops.update import assign
from ..optimizer import Optimizer
from .schedule import of_group

__all__ = ["ReduceLROnPlateau"]

MEMORY = {"best", "num_bad_epochs", "cooldown_counter", "last_epoch"}
"""What changes from step to step."""


class ReduceLROnPlateau:
    """The rate of each group times factor after more than `patience` steps that were no better than the best;
    as torch.optim.lr_scheduler.ReduceLROnPlateau.

        schedule = ReduceLROnPlateau(optimizer, patience=5)
        for epoch in range(epochs):
            ...
            schedule.step(validation_loss)

    It has no closed form: what it was told decides. So it takes no part in a sequence or a chain and stands
    outside of recorded steps (which see the rates that it sets). It starts from the rates that it finds, also
    from those set by hand.

    Args:
        optimizer: whose rates are multiplied.
        mode: "min" if less is better, or "max".
        factor: of the rates, below 1.
        patience: how many steps in a row that are no better are put up with.
        threshold: what counts as better: in "min" metrics < best (1 - threshold), or best - threshold.
        threshold_mode: "rel" for the first, "abs" for the second. For numbers below 0 "rel" takes a worse one
            for better: use "abs".
        cooldown: steps after a fall that are not counted.
        min_lr: the least rate, a number or one for each group.
        eps: a fall by no more than this is left out.

    Attributes:
        best: the best number so far.
        num_bad_epochs: the steps since then that are counted.
        cooldown_counter: the steps left of the cooldown.
        last_epoch: the steps done.

    Raises:
        TypeError: an optimizer without groups.
        ValueError: an option out of its range.
        GraphError: a step inside a recorded step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if not hasattr(optimizer, "param_groups"):
            raise TypeError(f"ReduceLROnPlateau: expected an optimizer, got {type(optimizer).__name__}")
        if not 0 <= factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor: expected a number in [0, 1), got {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: mode: expected 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"ReduceLROnPlateau: threshold_mode: expected 'rel' or 'abs', got {threshold_mode!r}"
            )
        for group in range(len(optimizer.param_groups)):
            of_group("ReduceLROnPlateau: min_lr", min_lr, group)
        self.optimizer = optimizer
        self.mode, self.factor, self.patience, self.cooldown = mode, factor, patience, cooldown
        self.threshold, self.threshold_mode, self.eps = threshold, threshold_mode, eps
        self.min_lr = list(min_lr) if isinstance(min_lr, Sequence) else min_lr
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def step(self, metrics: float | Tensor) -> None:
        """Take note of a number, and let the rates fall if it is time.

        Args:
            metrics: a number or a tensor of one.
        """
        if state.recorder is not None:
            raise GraphError(
                "ReduceLROnPlateau.step: expected a call outside a recorded step, got one inside: its rates "
                "come from Python, which a recording does not call again"
            )
        value = metrics.item() if isinstance(metrics, Tensor) else float(metrics)
        self.last_epoch += 1
        if self._better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def get_last_lr(self) -> list[float]:
        """The present rate of each group."""
        return [float(on_host(group.buffer("lr"))) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The memory and the settings, ready for JSON. The rates are in the optimizer's."""
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from the `state_dict` of a schedule of the same settings.

        Raises:
            ValueError: other settings.
        """
        who, own = "ReduceLROnPlateau.load_state_dict", self.state_dict()
        if own.keys() != state_dict.keys():
            raise ValueError(f"{who}: expected the keys {sorted(own)}, got {sorted(state_dict)}")
        for name in own.keys() - MEMORY:
            if state_dict[name] != own[name]:
                raise ValueError(f"{who}: {name}: expected {own[name]}, got {state_dict[name]}")
        vars(self).update(state_dict)

    def _better(self, value: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "rel":
            bound = self.best * (1 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return value < bound if self.mode == "min" else value > bound

    def _reduce(self) -> None:
        with no_grad():
            for i, group in enumerate(self.optimizer.param_groups):
                rate = group.buffer("lr")
                before = float(on_host(rate))
                least = of_group("ReduceLROnPlateau: min_lr", self.min_lr, i)
                after = max(before * self.factor, least)
                if before - after > self.eps:
                    assign(rate, after)
