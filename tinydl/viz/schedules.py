"""A schedule of rates, as a curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..engine.core import no_grad
from ..nn.parameter import Buffer
from ..optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from .experiment import COLORS


def schedule(
    schedule: LRScheduler | ReduceLROnPlateau,
    steps: int | None = None,
    *,
    metrics: Sequence[float] | np.ndarray | None = None,
    log: bool = False,
    title: str = "",
) -> Figure:
    """The rate of each step from the first on, a curve for each group; below it the momentum (or the first of
    the betas) where the schedule cycles it. The schedule and its optimizer stay as they are.

        viz.schedule(OneCycleLR(optimizer, max_lr=0.1, total_steps=1000), 1000)
        viz.schedule(ReduceLROnPlateau(optimizer, patience=3), metrics=losses)

    Args:
        schedule: any of `tinydl.optim.lr_scheduler`.
        steps: how many; of a ReduceLROnPlateau, which goes by what it is told, the `metrics` say it.
        metrics: (steps,) what a ReduceLROnPlateau is told after each step, and nobody else.
        log: a logarithmic scale for the rates.
        title: above; the schedule with its settings unless said.

    Raises:
        TypeError: a schedule that is none; `metrics` that are missing, or `steps`.
        ValueError: fewer than one step.
    """
    told = isinstance(schedule, ReduceLROnPlateau)
    if not isinstance(schedule, (LRScheduler, ReduceLROnPlateau)):
        raise TypeError(f"viz.schedule: expected a schedule, got {type(schedule).__name__}")
    if (metrics is not None) is not told or (steps is None) is not told:
        wanted = "metrics and no steps" if told else "steps and no metrics"
        got = f"steps={steps}, metrics={'None' if metrics is None else 'given'}"
        raise TypeError(f"viz.schedule: {type(schedule).__name__}: expected {wanted}, got {got}")
    count = int(len(metrics) if metrics is not None else steps or 0)
    if count < 1:
        raise ValueError(f"viz.schedule: expected at least one step, got {count}")
    if isinstance(schedule, ReduceLROnPlateau):
        rates, momenta = _told(schedule, np.asarray(metrics, np.float64)), None
    else:
        rates, momenta = _closed(schedule, count)
    panels = {"learning rate": rates} | ({} if momenta is None else {"momentum": momenta})
    figure = Figure(figsize=(6.4, 1.4 + 2.4 * len(panels)), layout="constrained")
    figure.suptitle(title or type(schedule).__name__)
    column = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, curves) in zip(column, panels.items(), strict=True):
        for group, curve in enumerate(curves.T):
            style = {"color": COLORS[(group + 1) % len(COLORS)], "label": f"group {group}"}
            axes.plot(np.arange(count), curve, drawstyle="steps-post", **style)
        axes.set(ylabel=label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    column[0].set_yscale("log" if log else "linear")
    if rates.shape[1] > 1:
        column[0].legend(frameon=False)
    column[-1].set(xlabel="steps done before", xlim=(0, max(1, count - 1)))
    return figure


def _closed(schedule: LRScheduler, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Rates and momenta (steps, groups), from the closed forms alone."""
    bases = [Buffer(base, np.float64) for base in schedule.base_lrs]
    with no_grad():
        at = [Buffer(step, np.float64) for step in range(count)]
        rates = [[float(schedule.rate(base, t, i)) for i, base in enumerate(bases)] for t in at]
        momenta = [[schedule.momentum(t, i) for i in range(len(bases))] for t in at]
        if momenta[0][0] is None:
            return np.array(rates), None
    return np.array(rates), np.array([[float(m) for m in row if m is not None] for row in momenta])


def _told(schedule: ReduceLROnPlateau, metrics: np.ndarray) -> np.ndarray:
    """The rates (steps, groups), by steps that are taken back."""
    groups = schedule.optimizer.param_groups
    before, kept = schedule.state_dict(), schedule.get_last_lr()
    rates = []
    try:
        for value in metrics:
            rates.append(schedule.get_last_lr())
            schedule.step(value)
    finally:
        schedule.load_state_dict(before)
        for group, rate in zip(groups, kept, strict=True):
            group["lr"] = rate
    return np.array(rates)
