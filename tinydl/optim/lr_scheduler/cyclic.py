"""Rates that go up and down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...engine.core import Tensor
from ...ops.elementwise import pow, where
from ...ops.functions import floor
from ..optimizer import Optimizer
from .schedule import LRScheduler, begin_momentum, of_group

__all__ = ["CyclicLR"]

MODES = ("triangular", "triangular2", "exp_range")


class CyclicLR(LRScheduler):
    """From base_lr up to max_lr and down again, over and over; as torch.optim.lr_scheduler.CyclicLR.

        base_lr + (max_lr - base_lr) height scale

    The height goes from 0 to 1 in step_size_up steps and back in step_size_down. The scale is 1 in the mode
    "triangular", halved with every cycle in "triangular2", gamma^step in "exp_range". What the rates were
    before is of no matter. Smith 2015 (arXiv 1506.01186).

    Args:
        optimizer: whose rates are set.
        base_lr: the least rate, a number or one for each group.
        max_lr: the largest rate, a number or one for each group.
        step_size_up: the steps of the way up.
        step_size_down: of the way down; as many unless said.
        mode: "triangular", "triangular2" or "exp_range".
        gamma: of "exp_range".
        scale_fn: a function that gives the scale in place of the mode's. A recorded step refuses it.
        scale_mode: what scale_fn is called with: "cycle", the number of the cycle from 1 on, or "iterations",
            the steps done.
        cycle_momentum: does the momentum (or the first of the betas) go the other way?
        base_momentum: the least momentum, a number or one for each group.
        max_momentum: the largest, at base_lr.
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: steps not above 0, another mode, fewer rates than groups, or no momentum to cycle.
        GraphError: a step inside a recorded step where there is a scale_fn.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: float = 2000,
        step_size_down: float | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[int], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        down = step_size_up if step_size_down is None else step_size_down
        if not (step_size_up > 0 and down > 0):
            raise ValueError(
                "CyclicLR: expected step_size_up and step_size_down above 0, got "
                f"{step_size_up} and {step_size_down}"
            )
        if mode not in MODES:
            raise ValueError(f"CyclicLR: mode: expected one of {list(MODES)}, got {mode!r}")
        if scale_mode not in ("cycle", "iterations"):
            raise ValueError(f"CyclicLR: scale_mode: expected 'cycle' or 'iterations', got {scale_mode!r}")
        self.base_lr = list(base_lr) if isinstance(base_lr, Sequence) else base_lr
        self.max_lr = list(max_lr) if isinstance(max_lr, Sequence) else max_lr
        self.step_size_up, self.step_size_down = step_size_up, down
        self.mode, self.gamma, self.scale_mode = mode, gamma, scale_mode
        self._scale_fn = scale_fn
        self.records = scale_fn is None
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.base_momentum = list(base_momentum) if isinstance(base_momentum, Sequence) else base_momentum
            self.max_momentum = list(max_momentum) if isinstance(max_momentum, Sequence) else max_momentum
            begin_momentum("CyclicLR", optimizer, self.max_momentum)
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        low = of_group("CyclicLR: base_lr", self.base_lr, group)
        high = of_group("CyclicLR: max_lr", self.max_lr, group)
        return low + (high - low) * self._height(step)

    def momentum(self, step: Tensor, group: int = 0) -> Tensor | None:
        if not self.cycle_momentum:
            return None
        low = of_group("CyclicLR: base_momentum", self.base_momentum, group)
        high = of_group("CyclicLR: max_momentum", self.max_momentum, group)
        return high - (high - low) * self._height(step)

    def _height(self, step: Tensor) -> Tensor:
        length = self.step_size_up + self.step_size_down
        cycles = floor(step / length)
        x = step - cycles * length
        height = where(x <= self.step_size_up, x / self.step_size_up, (length - x) / self.step_size_down)
        return height * self._scale(cycles, step)

    def _scale(self, cycles: Tensor, step: Tensor) -> Tensor | float:
        if self._scale_fn is not None:
            number = step if self.scale_mode == "iterations" else cycles + 1.0
            return float(self._scale_fn(int(number.item())))
        if self.mode == "triangular2":
            return pow(0.5, cycles)
        return pow(self.gamma, step) if self.mode == "exp_range" else 1.0
