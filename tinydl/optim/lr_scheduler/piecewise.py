"""Schedules: a learning rate that depends on the step.

A schedule counts its steps in a Buffer and writes the rates by an effect, so `schedule.step()` may stand
inside a recorded step or outside of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ...devices import follow
from ...engine.core import no_grad
from ...nn.parameter import Buffer
from ...ops.update import assign, increment, piecewise
from ..optimizer import Optimizer


class PiecewiseConstant:
    """The rate of each group times factors[i] from step boundaries[i] on, and as it
    was before the first of them.

        schedule = PiecewiseConstant(optimizer, boundaries=(n // 2, 3 * n // 4), factors=(0.1, 0.01))
        for _ in range(n):
            ...
            optimizer.step()
            schedule.step()

    Args:
        optimizer: whose `lr` are multiplied; what they are now is their base.
        boundaries: numbers of steps, ascending.
        factors: as many, of the base, not of the rate before.

    Raises:
        ValueError: boundaries that do not ascend, or factors of another number or below 0.
    """

    def __init__(self, optimizer: Optimizer, boundaries: Sequence[int], factors: Sequence[float]) -> None:
        who = type(self).__name__
        if any(a >= b for a, b in pairwise((-1, *boundaries))):
            raise ValueError(f"{who}: boundaries: expected steps in ascending order, got {list(boundaries)}")
        if len(factors) != len(boundaries) or not all(factor >= 0 for factor in factors):
            raise ValueError(
                f"{who}: factors: expected {len(boundaries)} numbers of at least 0, got {list(factors)}"
            )
        self.optimizer = optimizer
        self.count = Buffer(0)
        self.base_lrs = [Buffer(group.buffer("lr")) for group in optimizer.param_groups]
        self.boundaries = Buffer(np.array(boundaries, np.int64))
        self.factors = Buffer(np.array([1.0, *factors]))
        self._write()

    def step(self) -> None:
        """Count one step and set the rates of the next."""
        follow([self.count], self.optimizer.param_groups[0].buffer("lr").device)
        increment(self.count)
        self._write()

    def get_last_lr(self) -> list[float]:
        """The present rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The steps counted, the base rates, and the settings they go with; the arrays
        share memory with the schedule.
        """
        return {
            "count": self.count.item(),
            "base_lrs": [lr.item() for lr in self.base_lrs],
            **self._settings(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from the `state_dict` of a schedule of the same settings, in place.

        Raises:
            ValueError: other settings, or another number of groups.
        """
        who = f"{type(self).__name__}.load_state_dict"
        own = self.state_dict()
        if own.keys() != state_dict.keys():
            raise ValueError(f"{who}: expected the keys {sorted(own)}, got {sorted(state_dict)}")
        for name, ours in self._settings().items():
            if state_dict[name] != ours:
                raise ValueError(f"{who}: {name}: expected {ours}, got {state_dict[name]}")
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise ValueError(
                f"{who}: expected {len(self.base_lrs)} groups, got {len(state_dict['base_lrs'])}"
            )
        with no_grad():
            assign(self.count, state_dict["count"])
            for mine, theirs in zip(self.base_lrs, state_dict["base_lrs"], strict=True):
                assign(mine, theirs)
        self._write()

    def _settings(self) -> dict[str, Any]:
        return {"boundaries": self.boundaries.tolist(), "factors": self.factors.tolist()}

    def _write(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            follow([base, self.count, self.boundaries, self.factors], group.buffer("lr").device)
            piecewise(group.buffer("lr"), base, self.count, self.boundaries, self.factors)


class MultiStepLR(PiecewiseConstant):
    """The rate of each group times `gamma` once more at each of the milestones; as
    torch.optim.lr_scheduler.MultiStepLR.
    """

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        super().__init__(optimizer, milestones, [gamma ** (i + 1) for i in range(len(milestones))])
