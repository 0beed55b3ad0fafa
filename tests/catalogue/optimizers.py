"""The optimizers: a row for each public class, and for what its structural options make of it.

tests/optim/test_optimizer_rows.py walks the rows. An optimizer is its file in tinydl/optim/ and its rows
here:

    Row("Momentum", {"lr": 0.1}, oracle)

The oracle is a function of the options that returns step(p, g, own): the update in NumPy and float64, written
apart from the class, with `own` a dict of the parameter's own that begins empty. PyTorch's class of the name
is a second one, where it is installed, unless `torch` says False.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Step = Callable[[np.ndarray, np.ndarray, dict[str, Any]], np.ndarray]


@dataclass(frozen=True)
class Row:
    name: str  # of the class in tinydl.optim; then what tells variants apart
    options: Mapping[str, Any]
    oracle: Callable[[Mapping[str, Any]], Step]
    dynamic: Mapping[str, Any] = field(default_factory=lambda: {"lr": 0.03})  # changes that a replay sees
    structural: Mapping[str, Any] = field(default_factory=dict)  # changes that record the step anew
    bad: Sequence[tuple[Mapping[str, Any], str]] = ()  # (options, message of the ValueError)
    torch: bool = True

    @property
    def kind(self) -> str:
        return self.name.split()[0]


def sgd(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        if o.get("momentum", 0):
            first = "b" not in own
            own["b"] = d if first else o["momentum"] * own["b"] + (1 - o.get("dampening", 0)) * d
            d = d + o["momentum"] * own["b"] if o.get("nesterov") else own["b"]
        return p - o.get("lr", 1e-3) * d

    return step


def adam(o: Mapping[str, Any], decay: float = 0.0, decoupled: bool = False) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, (beta1, beta2), eps = o.get("lr", 1e-3), o.get("betas", (0.9, 0.999)), o.get("eps", 1e-8)
        weight_decay = o.get("weight_decay", decay)
        d = -g if o.get("maximize") else g
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            d = d + weight_decay * p
        own["t"] = own.get("t", 0) + 1
        own["m"] = beta1 * own.get("m", 0) + (1 - beta1) * d
        own["v"] = own["x"] = beta2 * own.get("v", 0) + (1 - beta2) * d**2
        if o.get("amsgrad"):
            own["x"] = own["most"] = np.maximum(own.get("most", 0), own["v"])
        mean, square = own["m"] / (1 - beta1 ** own["t"]), own["x"] / (1 - beta2 ** own["t"])
        return p - lr * mean / (np.sqrt(square) + eps)

    return step


def adamw(o: Mapping[str, Any]) -> Step:
    return adam(o, decay=1e-2, decoupled=True)


def rmsprop(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        alpha = o.get("alpha", 0.99)
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        own["v"] = w = alpha * own.get("v", 0) + (1 - alpha) * d**2
        if o.get("centered"):
            own["a"] = alpha * own.get("a", 0) + (1 - alpha) * d
            w = np.maximum(w - own["a"] ** 2, 0)
        u = d / (np.sqrt(w) + o.get("eps", 1e-8))
        if o.get("momentum", 0):
            own["b"] = u = o["momentum"] * own.get("b", 0) + u
        return p - o.get("lr", 1e-2) * u

    return step


def negative(*names: str) -> list[tuple[dict[str, Any], str]]:
    """Options that are refused below 0, and when they are NaN."""
    return [
        ({name: x}, f"{name}: expected at least 0, got {x}") for name in names for x in (-1, float("nan"))
    ]


NESTEROV = "nesterov: expected a momentum and no dampening, got momentum="
BETAS = r"betas: expected two numbers in \[0, 1\), got \("
SGD_BAD = [
    *negative("lr", "momentum", "weight_decay"),
    ({"nesterov": True}, f"{NESTEROV}0.0, dampening=0.0"),
    ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, f"{NESTEROV}0.9, dampening=0.1"),
]
ADAM_BAD = [
    *negative("lr", "eps", "weight_decay"),
    ({"betas": (1.0, 0.9)}, BETAS),
    ({"betas": (0.9, -0.1)}, BETAS),
    ({"betas": (0.9,)}, BETAS),
]
RMSPROP_BAD = [
    *negative("lr", "eps", "weight_decay", "momentum"),
    ({"alpha": 1.0}, r"alpha: expected a number in \[0, 1\), got 1.0"),
    ({"alpha": -0.1}, r"alpha: expected a number in \[0, 1\), got -0.1"),
]

ROWS = [
    Row("SGD", {"lr": 0.1}, sgd, structural={"momentum": 0.5}, bad=SGD_BAD),
    Row("SGD decay", {"lr": 0.1, "weight_decay": 0.2, "maximize": True}, sgd, {"weight_decay": 0.1}),
    Row("SGD momentum", {"lr": 0.1, "momentum": 0.9}, sgd, {"momentum": 0.5}, {"momentum": 0.0}),
    Row(
        "SGD dampening",
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.2},
        sgd,
        {"dampening": 0.1},
        {"maximize": True},
    ),
    Row("SGD nesterov", {"lr": 0.1, "momentum": 0.8, "nesterov": True}, sgd, structural={"nesterov": False}),
    Row("Adam", {"lr": 0.1, "weight_decay": 0.2}, adam, {"betas": (0.7, 0.9)}, {"maximize": True}, ADAM_BAD),
    Row(
        "Adam amsgrad", {"lr": 0.1, "amsgrad": True, "betas": (0.5, 0.8)}, adam, structural={"amsgrad": False}
    ),
    Row("Adam maximize", {"lr": 0.1, "eps": 1e-3, "maximize": True}, adam, {"eps": 1e-4}),
    Row("AdamW", {"lr": 0.1}, adamw, {"weight_decay": 0.2}, {"amsgrad": True}, ADAM_BAD),
    Row("AdamW amsgrad", {"lr": 0.1, "weight_decay": 0.3, "amsgrad": True, "maximize": True}, adamw),
    Row("RMSprop", {}, rmsprop, {"alpha": 0.9}, {"momentum": 0.5}, RMSPROP_BAD),
    Row(
        "RMSprop momentum",
        {"momentum": 0.9, "weight_decay": 0.1},
        rmsprop,
        {"momentum": 0.5},
        {"momentum": 0.0},
    ),
    Row(
        "RMSprop centered",
        {"momentum": 0.5, "centered": True, "alpha": 0.9, "maximize": True},
        rmsprop,
        structural={"centered": False},
    ),
]
