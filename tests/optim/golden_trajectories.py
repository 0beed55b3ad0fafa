"""Trajectories of SGD, Adam and AdamW as they were when each had kernels written by hand, in
golden_trajectories.npz.

    python tests/optim/golden_trajectories.py       # writes the file anew, from the code that is imported

A case is a class with its options, for each dtype. Kept are the last parameters and states of the small
shapes, and a digest of all parameters after each step, those of a tensor of several pieces included. The
loops add, multiply, divide and take roots in the order that they state, so the bits are those of any
processor.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np

import tinydl as td

FILE = Path(__file__).with_suffix(".npz")
SHAPES = [(3, 4), (4,), (), (2, 3, 1, 5), (9001,)]
STEPS = 25
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd decay": ("SGD", {"lr": 0.1, "weight_decay": 0.2}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "dampening": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.2}),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    "nesterov decay": ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.2}),
    "adam": ("Adam", {}),
    "adam decay": ("Adam", {"lr": 0.1, "weight_decay": 0.2}),
    "adam options": ("Adam", {"lr": 0.1, "betas": (0.5, 0.8), "eps": 1e-3}),
    "adamw": ("AdamW", {"lr": 0.1}),
    "adamw options": ("AdamW", {"lr": 0.1, "betas": (0.5, 0.8), "weight_decay": 0.3}),
}


def trajectory(name: str, dtype: Any, record: bool = False) -> tuple[bytes, np.ndarray]:
    """The digest of a case; the last parameters and states of the small shapes in one line."""
    kind, options = CASES[name]
    random = np.random.default_rng(0)

    def drawn() -> list[np.ndarray]:
        return [np.asarray(random.random(shape) - 0.5, dtype) for shape in SHAPES]

    params = [td.nn.Parameter(a) for a in drawn()]
    optimizer = getattr(td.optim, kind)(params, **options)
    gradients = [td.zeros_like(p) for p in params]

    def update() -> None:
        for p, g in zip(params, gradients, strict=True):
            p.grad = g
        optimizer.step()

    step = td.record(update) if record else update
    digest = hashlib.sha256()
    for i in range(STEPS):
        if i == 9:
            optimizer.param_groups[0]["lr"] = 0.03
        for g, new in zip(gradients, drawn(), strict=True):
            g.array[...] = new
        step()
        for p in params:
            digest.update(p.numpy().tobytes())
    kept = [t.numpy() for p in params[:-1] for t in (p, *optimizer.state[p].values())]
    return digest.digest(), np.concatenate([x.reshape(-1).astype(np.float64) for x in kept])


def main() -> None:
    found = {}
    with td.backend("cpu"):
        for name, dtype in itertools.product(CASES, ("float32", "float64")):
            digest, found[f"{name} {dtype}"] = trajectory(name, dtype)
            found[f"{name} {dtype} digest"] = np.frombuffer(digest, np.uint8)
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main()
