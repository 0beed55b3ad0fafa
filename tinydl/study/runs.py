"""Runs of several nets: the plain loop, differences in pairs, and a picture of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..nn.module import Module
from ..nn.utils.gradients import clip_grad_norm_
from ..ops.softmax import cross_entropy
from ..record import record
from .statistics import Estimate, estimate, paired_difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def train(
    model: Module,
    optimizer: Any,
    batches: Any,
    steps: int,
    loss: Callable[[Any, Any], Any] = cross_entropy,
    schedule: Any = None,
    clip: float | None = None,
) -> np.ndarray:
    """The plain loop, recorded: so many steps on ``batches.next_batch()``, one of the schedule after each;
    the gradient's norm at most `clip`.

    Returns:
        The loss of each minibatch before its step, float64 (steps,).
    """

    @record
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        found = loss(model(x), y)
        found.backward()
        if clip is not None:
            clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        return found

    model.train()
    return np.array([step(*batches.next_batch()).item() for _ in range(steps)], np.float64)


def differences(
    values: Mapping[str, Sequence[float]], pairs: Iterable[tuple[str, str]]
) -> dict[str, Estimate]:
    """The paired difference a - b of each pair of names, told in a line each (see `Estimate.told`).

    Args:
        values: name -> a value for each run, the same runs for all.
        pairs: (a, b).

    Returns:
        "a - b" -> the difference.
    """
    found = {f"{a} - {b}": paired_difference(values[a], values[b]) for a, b in pairs}
    width = max(map(len, found), default=0)
    for name, difference in found.items():
        print(f"  {name:{width}}  {difference.told()}")
    return found


def draw_runs(axes: Axes, values: Mapping[str, Sequence[float]], colors: Mapping[str, Any] = {}) -> None:
    """A row for each name, from above: a dot for each run, a bar and a number at their mean."""
    for row, (name, own) in enumerate(values.items()):
        color, mean = colors.get(name, "#2166ac"), estimate(own).mean
        axes.plot(own, [row] * len(own), "o", ms=6, color=color, alpha=0.5, mew=0)
        axes.plot([mean, mean], [row - 0.3, row + 0.3], color=color, lw=3)
        axes.annotate(f"{mean:.3g}", (mean, row - 0.32), ha="center", va="bottom", fontsize=9)
    axes.set(yticks=range(len(values)), yticklabels=list(values), ylim=(len(values) - 0.5, -0.8))
    axes.grid(alpha=0.25, axis="x", which="both")
