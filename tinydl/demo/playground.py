"""A network on points in the plane, trained a few steps at a time, under penalties that may change."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.datasets import spirals, two_moons, xor
from ..engine.backward import grad
from ..engine.core import no_grad
from ..nn import Linear, Sequential, Tanh
from ..ops.creation import tensor
from ..ops.elementwise import sub
from ..ops.random import Generator, random_from
from ..ops.reduce import sum
from ..ops.softmax import cross_entropy, softmax
from ..optim import AdamW
from ..record.recorder import record
from ..regularizers import VAT, DataGrad, Objective, SpectReg
from .asked import number, whole, word

POINTS, HELD, GRID, SESSIONS = 120, 400, 44, 8
DATA: dict[str, Any] = {"moons": two_moons, "spirals": spirals, "XOR": xor}
WEIGHTS = {"datagrad": 10.0, "spectreg": 1.0, "vat": 10.0, "decay": 10.0}
"""What may be changed while it trains, and the largest value."""


class Training:
    """One network: 2-32-32-2, tanh, AdamW, on all points at once."""

    def __init__(self, data: str, noise: float, seed: int) -> None:
        made, held = (DATA[data](n, noise=noise, seed=s) for n, s in ((POINTS, seed), (HELD, seed + 1)))
        self.data, self.noise, self.seed = data, noise, seed
        self.x, self.y = made.inputs, made.targets
        self.held = held.inputs, held.targets
        low, high = self.x.min(0) - 0.5, self.x.max(0) + 0.5
        half = float((high - low).max()) / 2
        middle = (low + high) / 2
        self.box = [*(middle - half).tolist(), *(middle + half).tolist()]  # x, y from; x, y to
        source = Generator(seed)
        with random_from(source):
            self.model = Sequential(Linear(2, 32), Tanh(), Linear(32, 32), Tanh(), Linear(32, 2))
        self.terms = {
            "datagrad": DataGrad(0.0),
            "spectreg": SpectReg(0.0, generator=Generator(seed, 1)),
            "vat": VAT(0.0, eps=0.3, generator=Generator(seed, 2)),
        }
        self.adam = AdamW(self.model.parameters(), lr=0.01, weight_decay=0.0)
        objective = Objective(self.model, cross_entropy, list(self.terms.values()))
        inputs, labels = tensor(self.x), tensor(self.y)

        @record
        def step() -> Any:
            self.adam.zero_grad()
            terms = objective(inputs, labels)
            terms.total.backward()
            self.adam.step()
            return terms.loss

        self._step, self.steps, self.loss = step, 0, float("nan")

    def advance(self, steps: int, weights: Mapping[str, float]) -> None:
        for name, term in self.terms.items():
            term.weight = weights[name]
        self.adam.param_groups[0]["weight_decay"] = weights["decay"]
        for _ in range(steps):
            self.loss = float(self._step())
            self.steps += 1

    def surface(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """At each point (n, 2) the probability of class 1, and ‖∂f/∂x‖ of f, the logits' difference."""
        at = tensor(points.astype(np.float32)).requires_grad_()
        z = self.model(at)
        slope: Any = grad(sum(sub(z[:, 1], z[:, 0])), at)[0]
        with no_grad():
            return softmax(z, 1)[:, 1].detach().numpy(), np.linalg.norm(slope.numpy(), axis=1)

    def shown(self) -> dict[str, Any]:
        left, low, right, high = self.box
        side = (np.arange(GRID) + 0.5) / GRID
        plane = np.stack(np.meshgrid(left + (right - left) * side, high - (high - low) * side), -1)
        p, slope = self.surface(plane.reshape(-1, 2))
        own, held = (self.surface(x)[0] for x in (self.x, self.held[0]))
        alive = bool(np.isfinite(p).all() and np.isfinite(slope).all() and np.isfinite([self.loss]).all())
        return {
            "steps": self.steps,
            "alive": alive or self.steps == 0,
            "loss": round(self.loss, 5) if np.isfinite(self.loss) else None,
            "train": round(float(((own > 0.5) == self.y).mean()), 4),
            "test": round(float(((held > 0.5) == self.held[1]).mean()), 4),
            "slope_at_test": _finite(self.surface(self.held[0])[1].mean(keepdims=True))[0],
            "grid": GRID,
            "box": [round(edge, 4) for edge in self.box],
            "surface": _finite(p),
            "slope": _finite(slope),
            "points": [[round(float(a), 4), round(float(b), 4), int(c)] for (a, b), c in zip(self.x, self.y)],
        }


def _finite(values: np.ndarray) -> list[float]:
    return np.round(np.nan_to_num(values.astype(float), nan=0.0, posinf=1e6, neginf=-1e6), 3).tolist()


class Playground:
    """The trainings of some browser windows, the one that was asked longest ago given up first."""

    def __init__(self) -> None:
        self.sessions: OrderedDict[str, Training] = OrderedDict()

    def play(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """{"session": a name, "data", "noise", "seed", "steps", "restart", "datagrad", "spectreg", "vat",
        "decay"} -> how the network stands after so many steps more.
        """
        name = body.get("session", "")
        name = name if isinstance(name, str) and len(name) <= 64 else ""
        data, noise = word(body, "data", DATA, "moons"), number(body, "noise", 0.0, 1.0, 0.15)
        seed, steps = whole(body, "seed", 0, 2**31, 0), whole(body, "steps", 0, 200, 10)
        weights = {key: number(body, key, 0.0, most, 0.0) for key, most in WEIGHTS.items()}
        held = self.sessions.pop(name, None)
        same = held is not None and (held.data, held.noise, held.seed) == (data, noise, seed)
        if held is None or not same or body.get("restart") is True:
            held = Training(data, noise, seed)
        self.sessions[name] = held
        while len(self.sessions) > SESSIONS:
            self.sessions.popitem(last=False)
        held.advance(steps, weights)
        return held.shown()
