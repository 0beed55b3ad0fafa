"""Validate an update rule, Adam's, against its reference, then time it."""

from typing import Any

import numpy as np

from ..machine.validate import report
from . import State, optimizer_step, trace
from .expression import sqrt


def scalars(o: Any, s: Any) -> dict[str, Any]:
    s.step = s.step + 1
    return {"rate": o.lr / (1.0 - o.beta1**s.step), "spread": 1.0 / sqrt(1.0 - o.beta2**s.step)}


def element(o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
    s.mean = o.beta1 * s.mean + (1.0 - o.beta1) * g
    s.square = o.beta2 * s.square + (1.0 - o.beta2) * g * g
    return p - c.rate * s.mean / (sqrt(s.square) * c.spread + 1e-8)


def main() -> None:
    random = np.random.default_rng(0)
    states = {"mean": State(), "square": State(), "step": State("parameter", whole=True)}
    rule = trace("adam", dict.fromkeys(("lr", "beta1", "beta2")), {}, states, scalars, element)
    options = [np.array({"lr": 1e-3, "beta1": 0.9, "beta2": 0.999}[name]) for name in rule.options]
    for dtype in (np.float32, np.float64):
        shapes = ((500, 800), (500,))
        params, grads, mean, square = (
            [np.abs(random.standard_normal(shape)).astype(dtype) for shape in shapes] for _ in range(4)
        )
        steps = [np.array(3), np.array(4)]
        report(optimizer_step, params, grads, [mean, square], [steps], [], options, rule, True)


if __name__ == "__main__":
    main()
