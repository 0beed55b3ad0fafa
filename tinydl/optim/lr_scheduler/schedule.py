"""What all schedules share: a count of steps, the rates that the groups began with, and a closed form.

A rate is computed from the base rate and the count alone, never from the rate before, so a schedule resumes
and jumps by setting one number, nothing drifts, and schedules compose as functions do. The count is a Buffer,
moved by an effect, and the closed form is made of primitives, so `schedule.step()` may stand inside a
recorded step or outside of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import GraphError

from ...devices import follow, on_host
from ...engine.core import Tensor, no_grad, state
from ...nn.parameter import Buffer
from ...ops.elementwise import to_dtype
from ...ops.shape import cat, reshape
from ...ops.update import assign, increment
from ..optimizer import Optimizer

__all__ = ["LRScheduler"]

INITIAL = "initial_lr"
"""The key under which a group keeps the rate that it began with, PyTorch's."""


class LRScheduler:
    """Base of all schedules. A subclass keeps its settings as attributes (numbers, strings, lists of
    them; they are saved), then calls this constructor, and gives `rate`.

        schedule = CosineAnnealingLR(optimizer, T_max=n)
        for _ in range(n):
            ...
            optimizer.step()
            schedule.step()

    The base rate of a group is what it has under "initial_lr", as a schedule of PyTorch leaves it, else its
    rate when the schedule first sees it, which is then left there: at construction, or at the next step
    for a group that was added later. A rate that is set by hand holds until the next step, which overwrites
    it with the closed form.

    Args:
        optimizer: whose rates are set, at once and after each step.
        last_epoch: the number of the last step done, -1 for none; the schedule goes on after it.

    Attributes:
        count: the steps done, an int64 Buffer; 0 gives the rate of the first step.
        bases: the base rate of each group, float64 Buffers.
        records: may `step` stand inside a recorded step?

    Raises:
        TypeError: an optimizer without groups.
        KeyError: last_epoch of 0 or more and a group without "initial_lr".
        GraphError: a step inside a recorded step where the schedule calls Python functions.
    """

    records: bool = True

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        who = type(self).__name__
        if not hasattr(optimizer, "param_groups"):
            raise TypeError(f"{who}: expected an optimizer, got {type(optimizer).__name__}")
        if last_epoch >= 0 and not all(INITIAL in group for group in optimizer.param_groups):
            raise KeyError(f"{who}: expected {INITIAL!r} in every group, since last_epoch is {last_epoch}")
        self.optimizer = optimizer
        self.count = Buffer(last_epoch + 1)
        self.bases: list[Buffer] = []
        self._write()

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        """The rate after `step` steps, by primitives on 0-d float64 tensors.

        Args:
            base: the rate that the group began with.
            step: how many steps are done, a whole number of at least 0.
            group: the number of the group, for settings that differ between groups.
        """
        raise NotImplementedError

    def momentum(self, step: Tensor, group: int = 0) -> Tensor | None:
        """The momentum (or the first of the betas) after `step` steps; None where it is left alone."""
        return None

    def step(self) -> None:
        """Count one step and set the rates of the next."""
        if state.recorder is not None and not self.records:
            raise GraphError(
                f"{type(self).__name__}.step: expected a call outside a recorded step, got one inside: "
                "its rates come from Python, which a recording does not call again"
            )
        follow([self.count], self.optimizer.param_groups[0].buffer("lr").device)
        increment(self.count)
        self._write()

    def set_step(self, step: int) -> None:
        """Set the number of steps done, and the rates of the next.

        Raises:
            ValueError: a number below 0.
        """
        if step < 0:
            raise ValueError(
                f"{type(self).__name__}.set_step: expected a number of steps of at least 0, got {step}"
            )
        with no_grad():
            assign(self.count, step)
        self._write()

    @property
    def last_epoch(self) -> int:
        """The steps done, by PyTorch's name."""
        return int(self.count.item())

    @property
    def base_lrs(self) -> list[float]:
        """The base rate of each group."""
        return [base.item() for base in self.bases]

    def get_last_lr(self) -> list[float]:
        """The present rate of each group."""
        return [group.buffer("lr").item() for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The steps counted, the base rates, and the settings they go with, ready for JSON."""
        return {"count": self.last_epoch, "base_lrs": self.base_lrs, **self.settings()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from the `state_dict` of a schedule of the same settings, in place.

        Raises:
            ValueError: other settings, or another number of groups.
        """
        who = f"{type(self).__name__}.load_state_dict"
        self._see_groups()
        own = self.state_dict()
        if own.keys() != state_dict.keys():
            raise ValueError(f"{who}: expected the keys {sorted(own)}, got {sorted(state_dict)}")
        for name, ours in self.settings().items():
            if state_dict[name] != ours:
                raise ValueError(f"{who}: {name}: expected {ours}, got {state_dict[name]}")
        if len(state_dict["base_lrs"]) != len(self.bases):
            raise ValueError(f"{who}: expected {len(self.bases)} groups, got {len(state_dict['base_lrs'])}")
        with no_grad():
            for mine, theirs in zip(self.bases, state_dict["base_lrs"], strict=True):
                assign(mine, theirs)
        self.set_step(state_dict["count"])

    def settings(self) -> dict[str, Any]:
        """What the constructor was told, ready for JSON."""
        own = {"optimizer", "count", "bases"}
        return {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in vars(self).items()
            if name not in own and name[0] != "_"
        }

    def _see_groups(self) -> None:
        for group in self.optimizer.param_groups[len(self.bases) :]:
            base = group.setdefault(INITIAL, float(on_host(group.buffer("lr"))))
            self.bases.append(Buffer(base, np.float64))

    def _write(self) -> None:
        self._see_groups()
        with no_grad():
            for i, (group, base) in enumerate(zip(self.optimizer.param_groups, self.bases, strict=True)):
                rate = group.buffer("lr")
                follow([base, self.count], rate.device)
                step = to_dtype(self.count, np.float64)
                assign(rate, self.rate(base, step, i))
                momentum = self.momentum(step, i)
                if momentum is not None:
                    _write_momentum(group, momentum)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings().items())
        return f"{type(self).__name__}({settings})"


def begin_momentum(who: str, optimizer: Optimizer, momentum: Any) -> None:
    """Set the momentum of every group to what its cycle begins with, so that its states are there. ValueError
    where an optimizer has none.
    """
    if not {"momentum", "betas"} & optimizer.defaults.keys():
        raise ValueError(
            f"{who}: expected an optimizer with momentum or betas, or cycle_momentum=False, got {optimizer}"
        )
    for i, group in enumerate(optimizer.param_groups):
        value = of_group(f"{who}: max_momentum", momentum, i)
        if "betas" in group:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


def _write_momentum(group: Any, momentum: Tensor) -> None:
    if "betas" in group.buffers:
        betas = group.buffer("betas")
        follow([betas], momentum.device)
        assign(betas, cat([reshape(momentum, (1,)), betas[1:]]))
    else:
        follow([group.buffer("momentum")], momentum.device)
        assign(group.buffer("momentum"), momentum)


def of_group(who: str, setting: Any, group: int) -> Any:
    """The setting of one group, where a list has one for each. ValueError where it has none for this one."""
    if not isinstance(setting, Sequence):
        return setting
    if group >= len(setting):
        raise ValueError(f"{who}: expected one for each group, got {len(setting)} and a group {group}")
    return setting[group]
