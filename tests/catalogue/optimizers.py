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


def root(square: Any, o: Mapping[str, Any], default: float) -> Any:
    eps = o.get("eps", default)
    return np.sqrt(square + eps) if o.get("eps_inside") else np.sqrt(square) + eps


def rmsprop(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        alpha = o.get("alpha", 0.99)
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        own["v"] = w = alpha * own.get("v", 0) + (1 - alpha) * d**2
        if o.get("centered"):
            own["a"] = alpha * own.get("a", 0) + (1 - alpha) * d
            w = np.maximum(w - own["a"] ** 2, 0)
        u = d / root(w, o, 1e-8)
        if o.get("momentum", 0):
            own["b"] = u = o["momentum"] * own.get("b", 0) + u
        return p - o.get("lr", 1e-2) * u

    return step


def momentum(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        beta = o.get("beta", 0.9)
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        own["all"] = [(beta * weight, x) for weight, x in own.get("all", [])] + [(1 - beta, d)]
        return p - o.get("lr", 1e-2) * sum(weight * x for weight, x in own["all"])

    return step


def asgd(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, lambd = o.get("lr", 1e-2), o.get("lambd", 1e-4)
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        eta, mu, own["t"] = own.get("eta", lr), own.get("mu", 1.0), own.get("t", 0) + 1
        p = p - eta * lambd * p - eta * d
        own["ax"] = p if mu == 1 else (1 - mu) * own["ax"] + mu * p
        own["eta"] = lr / (1 + lambd * lr * own["t"]) ** o.get("alpha", 0.75)
        own["mu"] = 1 / max(1, own["t"] - o.get("t0", 1e6))
        return p

    return step


def adagrad(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        own["t"], own["s"] = (
            own.get("t", 0) + 1,
            own.get("s", o.get("initial_accumulator_value", 0)) + d**2,
        )
        rate = o.get("lr", 1e-2) / (1 + (own["t"] - 1) * o.get("lr_decay", 0))
        return p - rate * d / root(own["s"], o, 1e-10)

    return step


def adadelta(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        rho, eps = o.get("rho", 0.9), o.get("eps", 1e-6)
        d = (-g if o.get("maximize") else g) + o.get("weight_decay", 0) * p
        own["v"] = rho * own.get("v", 0) + (1 - rho) * d**2
        u = np.sqrt((own.get("a", 0) + eps) / (own["v"] + eps)) * d
        own["a"] = rho * own.get("a", 0) + (1 - rho) * u**2
        return p - o.get("lr", 1.0) * u

    return step


def rprop(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        d = -g if o.get("maximize") else g
        product = d * own.get("prev", 0 * d)
        size = own.get("size", np.full(np.shape(p), o.get("lr", 1e-2)))
        (shrink, grow), between = o.get("etas", (0.5, 1.2)), o.get("step_sizes", (1e-6, 50.0))
        size = size * np.select([product > 0, product < 0], [grow, shrink], 1.0)
        own["size"], own["prev"] = np.clip(size, *between), np.where(product < 0, 0, d)
        return p - np.sign(own["prev"]) * own["size"]

    return step


def prepared(o: Mapping[str, Any], p: Any, g: Any, lr: float, decoupled: bool) -> tuple[Any, Any]:
    """The parameter and the gradient once the decay has acted, on one of the two."""
    d, decay = -g if o.get("maximize") else g, o.get("weight_decay", 0)
    return ((1 - lr * decay) * p, d) if decoupled else (p, d + decay * p)


def moments(o: Mapping[str, Any], d: Any, own: dict[str, Any]) -> tuple[float, float]:
    """The Adam family's: m, v and t in `own`; returns 1 - beta^t for each beta."""
    beta1, beta2 = o.get("betas", (0.9, 0.999))
    own["t"] = own.get("t", 0) + 1
    own["m"] = beta1 * own.get("m", 0) + (1 - beta1) * d
    own["v"] = beta2 * own.get("v", 0) + (1 - beta2) * d**2
    return 1 - beta1 ** own["t"], 1 - beta2 ** own["t"]


def adamax(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, (_, beta2) = o.get("lr", 2e-3), o.get("betas", (0.9, 0.999))
        p, d = prepared(o, p, g, lr, False)
        left, _ = moments(o, d, own)
        own["u"] = np.maximum(beta2 * own.get("u", 0), np.abs(d) + o.get("eps", 1e-8))
        return p - lr * own["m"] / left / own["u"]

    return step


def nadam(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, (beta1, _) = o.get("lr", 2e-3), o.get("betas", (0.9, 0.999))
        p, d = prepared(o, p, g, lr, o.get("decoupled_weight_decay", False))
        _, left = moments(o, d, own)
        now, ahead = (
            beta1 * (1 - 0.96 ** (t * o.get("momentum_decay", 4e-3)) / 2) for t in (own["t"], own["t"] + 1)
        )
        own["product"] = own.get("product", 1) * now
        mean = (1 - now) * d / (1 - own["product"]) + ahead * own["m"] / (1 - own["product"] * ahead)
        return p - lr * mean / (np.sqrt(own["v"] / left) + o.get("eps", 1e-8))

    return step


def radam(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, (_, beta2) = o.get("lr", 1e-3), o.get("betas", (0.9, 0.999))
        p, d = prepared(o, p, g, lr, o.get("decoupled_weight_decay", False))
        left1, left2 = moments(o, d, own)
        most = 2 / (1 - beta2) - 1
        length = most - 2 * own["t"] * beta2 ** own["t"] / left2
        if length <= 5:
            return p - lr * own["m"] / left1
        ratio = (length - 4) / (most - 4) * (length - 2) / (most - 2) * most / length
        return p - lr * np.sqrt(ratio * left2) * own["m"] / left1 / (np.sqrt(own["v"]) + o.get("eps", 1e-8))

    return step


def adabelief(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, eps, (_, beta2) = o.get("lr", 1e-3), o.get("eps", 1e-16), o.get("betas", (0.9, 0.999))
        p, d = prepared(o, p, g, lr, o.get("decoupled_weight_decay", True))
        left1, left2 = moments(o, d, own)
        own["s"] = beta2 * own.get("s", 0) + (1 - beta2) * (d - own["m"]) ** 2 + eps
        return p - lr * own["m"] / left1 / (np.sqrt(own["s"] / left2) + eps)

    return step


def lion(o: Mapping[str, Any]) -> Step:
    def step(p: Any, g: Any, own: dict[str, Any]) -> Any:
        lr, (beta1, beta2) = o.get("lr", 1e-4), o.get("betas", (0.9, 0.99))
        p, d = prepared(o, p, g, lr, True)
        u = np.sign(beta1 * own.get("m", 0) + (1 - beta1) * d)
        own["m"] = beta2 * own.get("m", 0) + (1 - beta2) * d
        return p - lr * u

    return step


def negative(*names: str) -> list[tuple[dict[str, Any], str]]:
    """Options that are refused below 0, and when they are NaN."""
    return [
        ({name: x}, f"{name}: expected at least 0, got {x}") for name in names for x in (-1, float("nan"))
    ]


UNIT = r"expected a number in \[0, 1\), got "
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
    ({"alpha": 1.0}, f"alpha: {UNIT}1.0"),
    ({"alpha": -0.1}, f"alpha: {UNIT}-0.1"),
]
ADAGRAD_BAD = negative("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")
ETAS = r"etas: expected 0 < etas\[0\] < 1 < etas\[1\], got \("
SIZES = r"step_sizes: expected 0 <= step_sizes\[0\] <= step_sizes\[1\], got \("
RPROP_BAD = [
    *negative("lr"),
    *(({"etas": etas}, ETAS) for etas in ((1.0, 1.2), (0.5, 1.0), (0.0, 2.0), (0.5,))),
    *(({"step_sizes": sizes}, SIZES) for sizes in ((2.0, 1.0), (-1.0, 1.0), (1.0,))),
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
    Row("RMSprop lecture", {"eps_inside": True, "eps": 1e-3}, rmsprop, {"eps": 1e-2}, torch=False),
    Row("Adagrad", {"lr": 0.1, "lr_decay": 0.1}, adagrad, {"lr_decay": 0.3}, {"maximize": True}, ADAGRAD_BAD),
    Row(
        "Adagrad begun",
        {"lr": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.2, "maximize": True},
        adagrad,
    ),
    Row(
        "Adagrad theory",
        {"lr": 0.1, "eps": 1e-2, "eps_inside": True},
        adagrad,
        {"eps": 1e-3},
        {"eps_inside": False},
        torch=False,
    ),
    Row(
        "Adadelta",
        {},
        adadelta,
        {"rho": 0.8},
        {"maximize": True},
        [*negative("lr", "eps", "weight_decay"), ({"rho": 1.0}, f"rho: {UNIT}1.0")],
    ),
    Row("Adadelta decay", {"lr": 0.5, "eps": 1e-3, "weight_decay": 0.2, "maximize": True}, adadelta),
    Row(
        "Adamax",
        {"lr": 0.1, "weight_decay": 0.2},
        adamax,
        {"betas": (0.7, 0.9)},
        {"maximize": True},
        ADAM_BAD,
    ),
    Row("Adamax maximize", {"eps": 0.1, "maximize": True}, adamax, {"eps": 0.2}),
    Row(
        "NAdam",
        {"lr": 0.1, "weight_decay": 0.2},
        nadam,
        {"momentum_decay": 0.1},
        {"maximize": True},
        [*ADAM_BAD, *negative("momentum_decay")],
    ),
    Row(
        "NAdam decoupled",
        {"weight_decay": 0.3, "decoupled_weight_decay": True, "maximize": True},
        nadam,
        structural={"decoupled_weight_decay": False},
    ),
    Row(
        "RAdam", {"lr": 0.1, "weight_decay": 0.2}, radam, {"betas": (0.7, 0.95)}, {"maximize": True}, ADAM_BAD
    ),
    Row(
        "RAdam decoupled",
        {
            "lr": 0.1,
            "betas": (0.8, 0.9),
            "weight_decay": 0.3,
            "decoupled_weight_decay": True,
            "maximize": True,
        },
        radam,
        structural={"decoupled_weight_decay": False},
    ),
    Row(
        "AdaBelief",
        {"lr": 0.1, "weight_decay": 0.2},
        adabelief,
        {"betas": (0.7, 0.9)},
        {"maximize": True},
        ADAM_BAD,
        torch=False,
    ),
    Row(
        "AdaBelief coupled",
        {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.3, "decoupled_weight_decay": False, "maximize": True},
        adabelief,
        {"eps": 1e-4},
        torch=False,
    ),
    Row(
        "Lion",
        {"lr": 0.01, "weight_decay": 0.2},
        lion,
        {"betas": (0.7, 0.9)},
        {"maximize": True},
        [*negative("lr", "weight_decay"), *ADAM_BAD[-3:]],
        torch=False,
    ),
    Row(
        "Momentum",
        {"lr": 0.1},
        momentum,
        {"beta": 0.5},
        {"maximize": True},
        [*negative("lr", "weight_decay"), ({"beta": 1.0}, f"beta: {UNIT}1.0")],
        torch=False,
    ),
    Row(
        "Momentum decay",
        {"weight_decay": 0.2, "maximize": True},
        momentum,
        {"weight_decay": 0.4},
        torch=False,
    ),
    Row(
        "ASGD",
        {"lr": 0.1, "t0": 20},
        asgd,
        {"lr": 0.03, "alpha": 0.5},
        {"maximize": True},
        negative("lr", "lambd", "alpha", "t0", "weight_decay"),
    ),
    Row("ASGD decay", {"lambd": 0.1, "weight_decay": 0.2, "maximize": True}, asgd, {"lambd": 0.2}),
    Row("Rprop", {}, rprop, {"etas": (0.4, 1.3)}, {"maximize": True}, RPROP_BAD),
    Row(
        "Rprop bounded",
        {"lr": 0.1, "step_sizes": (0.05, 0.3), "maximize": True},
        rprop,
        {"step_sizes": (0.01, 0.4)},
    ),
]
