"""Update rules for the tests of kernels, and groups of arrays for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tinydl_kernels.update import Rule, State, trace
from tinydl_kernels.update.expression import (
    dot,
    exp,
    leading,
    length,
    log,
    maximum,
    minimum,
    sign,
    sqrt,
    total,
    where,
)

SHAPES = ((), (0, 2), (7,), (3, 1000), (2049,), (1, 1))
NUMBER, COUNT = State("parameter"), State("parameter", whole=True)


def plain() -> Rule:
    """p - lr g, with nothing to remember."""
    return trace("plain", {"lr": None}, {}, {}, lambda o, s: None, lambda o, s, c, p, g: p - o.lr * g)


def mean() -> Rule:
    """A moment and a count."""

    def scalars(o: Any, s: Any) -> dict[str, Any]:
        s.step = s.step + 1
        return {"rate": o.lr / (1.0 - o.betas[0] ** s.step)}

    def element(o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        s.mean = o.betas[0] * s.mean + (1.0 - o.betas[0]) * g
        s.square = o.betas[1] * s.square + (1.0 - o.betas[1]) * g * g
        return p - c.rate * s.mean / (sqrt(s.square) + 1e-3)

    states = {"mean": State(), "square": State(), "step": COUNT}
    return trace("mean", {"lr": None, "betas": 2}, {}, states, scalars, element)


def everything() -> Rule:
    """Every operation and every kind of state, as many per element as there may be, of awkward names."""

    def scalars(o: Any, s: Any) -> dict[str, Any]:
        s.calls = s.calls + 1
        s.total = s.total + o.lr * s.calls
        s.step = s.step + 2 - 1
        s.product = s.product * exp(-o.lr) + log(1.0 + o.lr) - abs(sign(-o.lr)) / 8.0
        late = s.step >= 3
        rate = where(late, minimum(o.lr, s.total), maximum(o.lr, s.product)) / (1.0 + s.step)
        return {"rate": rate, "late": late, "power": 0.5**s.step, "some": where(s.step == 1, 0.25, 0.75)}

    def element(o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        d = where(c.late, g, -g)
        s.k = c.some * s.k + d
        s.n = maximum(abs(s.n), minimum(s.k, 1.5))
        s.number = where(g < p, s.number + 0.25, exp(-abs(s.k)))
        s.t0 = where(p != g, s.t0 + sign(d) * c.power, -s.t0)
        return p - c.rate * (s.k + log(1.0 + s.n) + sqrt(abs(s.number)) + s.t0) ** 2 / (s.total + 3.0)

    per_element = {name: State() for name in ("k", "n", "number", "t0")}
    others = {
        "calls": State("optimizer", whole=True),
        "total": State("group"),
        "step": COUNT,
        "product": NUMBER,
    }
    return trace("everything", {"lr": None}, {}, per_element | others, scalars, element)


def summed() -> Rule:
    """Two passes: sums over a parameter and over all of them, and a state at every level that follows."""

    def scalars(o: Any, s: Any) -> dict[str, Any]:
        s.step = s.step + 1
        return {"first": s.step == 1}

    def element(o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        s.mean = o.betas[0] * s.mean + (1.0 - o.betas[0]) * where(c.first, p, g)
        size, product = length(s.mean), dot(p, g)
        s.seen = s.seen + leading(o.lr) * total(abs(p), "optimizer")
        s.rate = o.lr * s.seen
        s.largest = maximum(s.largest, size)
        s.late = s.late + product * g / (1.0 + size)
        return p - s.rate / (1.0 + s.largest + s.seen) * (s.mean + s.late) * where(c.first, 1.0, 0.5)

    states = {"mean": State(), "late": State(), "largest": NUMBER, "step": COUNT}
    states |= {"seen": State("optimizer"), "rate": State("group")}
    return trace("summed", {"lr": None, "betas": 2}, {}, states, scalars, element)


def again(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a second pass."""
    sums = np.random.default_rng(1).random((len(arguments[0]), len(arguments[6].sums)))
    return (*arguments, sums, sums.sum(0))


def group(
    rule: Rule, dtypes: Sequence[Any], shapes: Sequence[Any] = SHAPES, options: Any = None
) -> tuple[Any, ...]:
    """Arguments of `optimizer_step`: arrays of these dtypes and shapes, one of each per parameter."""
    random = np.random.default_rng(0)

    def drawn(positive: bool = False) -> list[np.ndarray]:
        arrays = [random.standard_normal(shape) for shape in shapes]
        return [np.asarray(np.abs(x) if positive else x, d) for x, d in zip(arrays, dtypes, strict=True)]

    def number(name: str, i: int) -> np.ndarray:
        return np.array(i) if name in rule.whole else np.array(0.5 + i)

    moments = [drawn(positive=True) for _ in rule.moments]
    numbers = [[number(name, i) for i in range(len(shapes))] for name in rule.numbers]
    shared = [number(name, 2) for name in rule.shared]
    values = {"lr": np.array(0.1), "betas": np.array([0.9, 0.99])} | (options or {})
    given = [values.get(name, np.array(0.25)) for name in rule.options]
    return drawn(), drawn(), moments, numbers, shared, given, rule, True
