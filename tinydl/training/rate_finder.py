"""Which learning rate to begin with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..data import DataLoader
from .trainer import Trainer

__all__ = ["RateTest", "find_learning_rate"]


@dataclass(frozen=True)
class RateTest:
    """What `find_learning_rate` has seen.

    Attributes:
        rates: float64 (n,), growing; of the first group.
        losses: float64 (n,), the total of the step taken at each rate.
        smoothed: the same as a moving average, corrected for its beginning.
        suggestion: where the smoothed loss falls most steeply over the logarithm of the rate, before its
            minimum; a tenth of the rate at the minimum is another rule.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float

    def plot(self) -> Any:
        """Losses against rates, with the suggestion. Returns matplotlib's Figure.

        Raises:
            ImportError: no matplotlib.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, alpha=0.3, label="loss of a step")
        axes.plot(self.rates, self.smoothed, label="smoothed")
        axes.axvline(self.suggestion, color="black", linestyle="--", label=f"{self.suggestion:.2g}")
        low, high = self.smoothed.min(), self.smoothed[0]
        margin = max(high - low, 1e-12)
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(low - margin / 4, high + margin))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        return figure


def find_learning_rate(
    trainer: Trainer,
    loader: DataLoader,
    start: float = 1e-6,
    end: float = 1.0,
    steps: int = 100,
    *,
    smoothing: float = 0.9,
    diverged: float = 4.0,
) -> RateTest:
    """Train for a few steps while the rate grows from `start` to `end` by a constant factor, and look where
    the loss falls best (Smith 2017, arXiv 1506.01186, section 3.3). Afterwards model, optimizer, loader and
    streams are as they were.

    Args:
        trainer: its schedules take no part.
        loader: of training batches, from its position on, through as many epochs as it takes.
        start, end: of the first group; the rates of others keep their ratio to it.
        steps: at most.
        smoothing: of the moving average, 0 to below 1.
        diverged: stop where the smoothed loss is so many times the least one before, or not finite.

    Raises:
        ValueError: settings out of range.
        ShapeError: the loss never fell: start is too high, or the model does not learn.
    """
    if not 0 < start < end or steps < 3 or not 0 <= smoothing < 1 or not diverged > 1:
        raise ValueError(
            "find_learning_rate: expected 0 < start < end, steps >= 3, smoothing in [0, 1) and diverged > 1, "
            f"got {start}, {end}, {steps}, {smoothing} and {diverged}"
        )
    groups = trainer.optimizer.param_groups
    ratios = [group["lr"] / groups[0]["lr"] if groups[0]["lr"] else 1.0 for group in groups]
    rates, losses, smoothed = [], [], []
    average = 0.0
    epoch, position = loader.epoch, loader.position
    with trainer.trial() as step:
        for number in range(steps):
            rate = start * (end / start) ** (number / (steps - 1))
            for group, ratio in zip(groups, ratios, strict=True):
                group["lr"] = rate * ratio
            loss = step(loader.batch(epoch, position))
            epoch, position = (epoch, position + 1) if position + 1 < len(loader) else (epoch + 1, 0)
            average = smoothing * average + (1 - smoothing) * loss
            mean = average / (1 - smoothing ** (number + 1))
            if not math.isfinite(loss):
                break
            rates.append(rate)
            losses.append(loss)
            smoothed.append(mean)
            if mean > diverged * min(smoothed) and number > 2:
                break
    return RateTest(np.array(rates), np.array(losses), np.array(smoothed), _steepest(rates, smoothed))


def _steepest(rates: list[float], smoothed: list[float]) -> float:
    """The rate at the steepest fall before the minimum."""
    lowest = int(np.argmin(smoothed)) if smoothed else 0
    if lowest < 1:
        raise ShapeError(
            f"find_learning_rate: expected a loss that falls at some rate, got {len(smoothed)} finite steps "
            "of which the first was the best"
        )
    slopes = np.gradient(smoothed[: lowest + 1], np.log(rates[: lowest + 1]))
    return float(rates[int(np.argmin(slopes))])
