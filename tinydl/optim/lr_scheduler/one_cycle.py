"""Rates that go up once and down for long."""

from __future__ import annotations

from collections.abc import Sequence

from ...engine.core import Tensor
from ...ops.elementwise import minimum, where
from ..optimizer import Optimizer
from .cosine import half_wave
from .schedule import INITIAL, LRScheduler, begin_momentum, of_group

__all__ = ["OneCycleLR"]


class OneCycleLR(LRScheduler):
    """From max_lr / div_factor up to max_lr, then down to a small part of where it began, and no further; as
    torch.optim.lr_scheduler.OneCycleLR.

    With N = total_steps and p = pct_start N - 1 (not rounded) the rate is max_lr at step p and least at step
    N - 1, where it stays. With three_phase it is back where it began at step 2 p, and goes down from there.
    What the rates were before is of no matter. Smith & Topin 2017 (arXiv 1708.07120).

    Args:
        optimizer: whose rates are set.
        max_lr: the largest rate, a number or one for each group.
        total_steps: N; or else epochs and steps_per_epoch, whose product it is.
        epochs: see there.
        steps_per_epoch: see there.
        pct_start: the part of the steps on the way up, in [0, 1].
        anneal_strategy: "cos" or "linear".
        cycle_momentum: does the momentum (or the first of the betas) go the other way?
        base_momentum: the least momentum, at max_lr, a number or one for each group.
        max_momentum: the largest.
        div_factor: max_lr over the first rate.
        final_div_factor: the first rate over the last.
        three_phase: back to the first rate, as long as up, before it falls to the last?
        last_epoch: as in `LRScheduler`.

    Raises:
        ValueError: no number of steps or one below 2, pct_start out of its range, another strategy, factors
            not above 0, fewer rates than groups, or no momentum to cycle.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        steps = (epochs or 0) * (steps_per_epoch or 0) if total_steps is None else total_steps
        if steps < 2:
            raise ValueError(
                "OneCycleLR: expected total_steps, or epochs and steps_per_epoch, of at least 2, got "
                f"{total_steps}, {epochs} and {steps_per_epoch}"
            )
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start: expected a part in [0, 1], got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"OneCycleLR: anneal_strategy: expected 'cos' or 'linear', got {anneal_strategy!r}"
            )
        if not (div_factor > 0 and final_div_factor > 0):
            raise ValueError(
                "OneCycleLR: expected div_factor and final_div_factor above 0, got "
                f"{div_factor} and {final_div_factor}"
            )
        self.max_lr = list(max_lr) if isinstance(max_lr, Sequence) else max_lr
        self.total_steps, self.pct_start, self.anneal_strategy = steps, pct_start, anneal_strategy
        self.div_factor, self.final_div_factor, self.three_phase = div_factor, final_div_factor, three_phase
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.base_momentum = list(base_momentum) if isinstance(base_momentum, Sequence) else base_momentum
            self.max_momentum = list(max_momentum) if isinstance(max_momentum, Sequence) else max_momentum
            begin_momentum("OneCycleLR", optimizer, self.max_momentum)
        if last_epoch == -1:
            for i, group in enumerate(optimizer.param_groups):
                group[INITIAL] = self._rates(i)[0]
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        first, most, least = self._rates(group)
        return self._along(step, first, most, first if self.three_phase else least, least)

    def momentum(self, step: Tensor, group: int = 0) -> Tensor | None:
        if not self.cycle_momentum:
            return None
        low = of_group("OneCycleLR: base_momentum", self.base_momentum, group)
        high = of_group("OneCycleLR: max_momentum", self.max_momentum, group)
        return self._along(step, high, low, high, high)

    def _along(self, step: Tensor, first: float, peaked: float, back: float, last: float) -> Tensor:
        """From first to peaked to back, and in a third phase to last."""
        peak, end = self.pct_start * self.total_steps - 1, self.total_steps - 1
        phases = [(0, peak, first, peaked), (peak, end, peaked, back)]
        if self.three_phase:
            phases[1:] = [(peak, 2 * peak, peaked, back), (2 * peak, end, back, last)]
        step = minimum(step, float(end))
        value: Tensor | None = None
        for start, stop, a, b in reversed(phases):
            if stop > max(start, 0):  # else it is over before it begins
                q = (step - start) / (stop - start)
                way = half_wave(a, b, q) if self.anneal_strategy == "cos" else a + (b - a) * q
                value = way if value is None else where(step <= stop, way, value)
        assert value is not None  # total_steps is at least 2
        return value

    def _rates(self, group: int) -> tuple[float, float, float]:
        """The first rate of a group, its largest and its last."""
        most = of_group("OneCycleLR: max_lr", self.max_lr, group)
        return most / self.div_factor, most, most / self.div_factor / self.final_div_factor
