"""A net with every kind of state that a step moves, and a loop whose step may be recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.training import checkpoint

Wrap = Callable[[Any], Any]


def plain(step: Any) -> Any:
    return step


class Loop:
    """Training with a closure: running statistics, dropout, a parameter without a gradient."""

    def __init__(self, make: Callable[[Any], Any], wrap: Wrap = plain, dtype: Any = np.float32) -> None:
        td.manual_seed(3)
        self.model = nn.Sequential(
            nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.4), nn.Linear(5, 2)
        ).to(dtype)
        self.unused = nn.Parameter(np.ones(2, dtype))
        self.optimizer = make([*self.model.parameters(), self.unused])
        self.data = np.random.default_rng(1).standard_normal((7, 8, 3)).astype(dtype)
        self.step = wrap(self._step)

    def _step(self, x: td.Tensor) -> td.Tensor:
        def closure() -> td.Tensor:
            self.optimizer.zero_grad()
            loss = (self.model(x) - 0.3).square().mean()
            loss.backward()
            return loss

        return self.optimizer.step(closure)

    def run(self, steps: range) -> list[bytes]:
        """The losses, the parameters and the running statistics, bit for bit."""
        losses = [self.step(td.tensor(self.data[i % 7])).numpy() for i in steps]
        return [x.tobytes() for x in (*losses, *self.arrays())]

    def arrays(self) -> list[np.ndarray]:
        kept = (*self.model.parameters(), self.unused, *self.model.buffers())
        return [x.numpy() for x in kept]

    def save(self, path: Path) -> None:
        checkpoint.save(path, model=self.model, optimizer=self.optimizer)

    def load(self, path: Path) -> None:
        checkpoint.load(path, model=self.model, optimizer=self.optimizer)


def require_recorded_is_eager(make: Callable[[Any], Any], dtype: Any, change: Callable[[Any], Any]) -> None:
    """Bit for bit, also after a change of the optimizer, which records anew."""
    found = []
    for wrap in (plain, td.record):
        loop = Loop(make, wrap, dtype)
        found.append(loop.run(range(8)))
        change(loop.optimizer)
        found[-1] += [*loop.run(range(8, 14)), repr(td.noise_generator.state_dict()).encode()]
    assert found[0] == found[1]
    assert sum(map(len, loop.step.recordings.values())) == 2


def require_resumes(make: Callable[[Any], Any], path: Path, wrap: Wrap) -> None:
    """From a checkpoint, with the same bits, in the middle of whatever the optimizer counts."""
    first = Loop(make, wrap)
    first.run(range(7))
    first.save(path)
    expected = first.run(range(7, 13))
    second = Loop(make, wrap)
    second.run(range(3))
    second.load(path)
    assert second.run(range(7, 13)) == expected
