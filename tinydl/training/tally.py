"""Measurements of an epoch that is under way: sums and weights kept apart, metrics over all samples."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..devices import on_host
from ..metrics import Metric, UndefinedMetricWarning

LAZY = 64
"""Steps whose numbers may wait on the device before the host asks for them."""
View = Callable[[np.ndarray], Any]
TAKEN = {"epoch", "loss", "unweighted_loss", "total", "lr"}
"""Names of other columns of the history."""
PIECE = 1 << 16
"""Numbers of outputs that metrics are fed together: they cost more by the call than by the sample."""


class Tally:
    """Means over all samples of what steps return, and metrics of their outputs.

    The order and grouping of every sum depends on the batches alone, not on when somebody asked, so that a
    resumed epoch ends with the same bits.

    Args:
        metrics: by name.
        views: by a metric's name, what it gets of the outputs, arrays (n, ...), where that is not all.

    Attributes:
        batches: how many of the loader's were taken in.
    """

    state_grows = True  # (checkpoint.py)

    def __init__(self, metrics: Mapping[str, Metric], views: Mapping[str, View]) -> None:
        self.metrics, self.views = metrics, views
        self.reset()

    def reset(self) -> None:
        self.batches = 0
        self._sums: dict[str, list[float]] = {}  # name -> [sum of weight * value, sum of weights]
        self._waiting: list[tuple[Mapping[str, Any], Any]] = []
        self._outputs: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []
        self._held = 0  # numbers of outputs that wait for the metrics
        self._broken = False  # were there outputs that are not finite?
        for metric in self.metrics.values():
            metric.reset()

    def add(self, found: Mapping[str, Any], target: Any, batches: int = 1) -> None:
        """What a step returned (`steps.Found`) on so many batches, with the targets of its outputs."""
        self.batches += batches
        self._waiting.append((found, target))
        if len(self._waiting) >= LAZY:
            self._settle()

    def values(self) -> dict[str, Any]:
        """Numbers by name: the means, then the metrics. Ends the epoch's sums: `reset` follows."""
        self._settle()
        self._feed()
        means = {name: total / weight if weight else np.nan for name, (total, weight) in self._sums.items()}
        if self._broken and self.metrics:
            warnings.warn(
                f"Trainer: the model's outputs are not finite: {', '.join(self.metrics)} is NaN "
                "(NaNGuard says where it begins)",
                UndefinedMetricWarning,
                stacklevel=4,
            )
            return means | dict.fromkeys(self.metrics, float("nan"))
        return means | {name: plain(metric.compute()) for name, metric in self.metrics.items()}

    def _settle(self) -> None:
        for found, target in self._waiting:
            samples = float(found["outputs"].shape[0])
            for name, value in found["means"].items():
                weight = found["weights"].get(name)
                w = samples if weight is None else float(on_host(weight))
                sums = self._sums.setdefault(name, [0.0, 0.0])
                sums[0] += float(on_host(value)) * w
                sums[1] += w
            if self.metrics:
                outputs = on_host(found["outputs"])
                self._outputs.append(outputs)
                self._targets.append(on_host(target))
                self._held += outputs.size
                if self._held >= PIECE:
                    self._feed()
        self._waiting.clear()

    def _feed(self) -> None:
        if self._outputs:
            outputs, targets = np.concatenate(self._outputs), np.concatenate(self._targets)
            self._outputs.clear()
            self._targets.clear()
            self._held = 0
            self._broken = self._broken or not np.isfinite(outputs).all()
            if self._broken:  # metrics refuse them; a fit that diverges goes on to its end
                return
            for name, metric in self.metrics.items():
                view = self.views.get(name)
                metric.update(outputs if view is None else view(outputs), targets)

    def state_dict(self) -> dict[str, Any]:
        self._settle()
        waiting = (
            {"outputs": np.concatenate(self._outputs), "targets": np.concatenate(self._targets)}
            if self._outputs
            else {}
        )
        return {
            "batches": self.batches,
            "broken": bool(self._broken),
            "sums": {name: list(sums) for name, sums in self._sums.items()},
            "waiting": waiting,
            "metrics": {name: metric.state_dict() for name, metric in self.metrics.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved = state["metrics"]
        if saved.keys() != self.metrics.keys():
            raise ValueError(f"Trainer: metrics: expected {sorted(self.metrics)}, got {sorted(saved)}")
        self.reset()
        self.batches, self._broken = int(state["batches"]), state["broken"]
        self._sums = {name: list(sums) for name, sums in state["sums"].items()}
        if state["waiting"]:
            self._outputs, self._targets = [state["waiting"]["outputs"]], [state["waiting"]["targets"]]
            self._held = self._outputs[0].size
        for name, metric in self.metrics.items():
            metric.load_state_dict(saved[name])


def named_metrics(metrics: Mapping[str, Any] | Iterable[Metric]) -> tuple[dict[str, Metric], dict[str, View]]:
    """Metrics by the names given, or their own, and the views of those that came with one."""
    given: dict[str, Any] = {}
    pairs = (
        metrics.items() if isinstance(metrics, Mapping) else ((getattr(m, "name", ""), m) for m in metrics)
    )
    for name, metric in pairs:
        if name in given or name in TAKEN:
            raise ValueError(f"Trainer: metrics: expected names of their own, got {name!r}")
        given[name] = metric
    views = {name: m[1] for name, m in given.items() if isinstance(m, tuple) and len(m) == 2}
    named = {name: m[0] if name in views else m for name, m in given.items()}
    for name, metric in named.items():
        if not isinstance(metric, Metric) or not callable(views.get(name, callable)):
            raise TypeError(
                f"Trainer: metrics: {name}: expected a Metric or (Metric, function of the outputs), got "
                f"{given[name]!r}"
            )
    return named, views


def plain(value: Any) -> Any:
    """Numbers and lists of them, for JSON."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    return value
