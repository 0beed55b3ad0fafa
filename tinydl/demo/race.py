"""Optimizers on surfaces over the plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..nn.parameter import Parameter
from ..optim import SGD, Adagrad, Adam, Lion, Optimizer, RMSprop
from ..record.recorder import record
from .asked import number, numbers, whole, word

GRID, FAR = 64, 1e6


class Surface(NamedTuple):
    height: Callable[[Any, Any], Any]  # of x and y, arrays or tensors
    start: tuple[float, float]
    box: tuple[float, float, float, float]  # x, y from; x, y to
    minima: list[tuple[float, float]]
    formula: str


SURFACES = {
    "valley": Surface(
        lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
        (-1.2, 1.0),
        (-2.0, -1.0, 2.0, 3.0),
        [(1.0, 1.0)],
        "(1 - x)² + 100 (y - x²)²",
    ),
    "saddle": Surface(
        lambda x, y: (x**2 - y**2) / 2 + y**4 / 4,
        (-1.5, 1e-3),
        (-2.0, -2.0, 2.0, 2.0),
        [(0.0, 1.0), (0.0, -1.0)],
        "(x² - y²) / 2 + y⁴ / 4",
    ),
    "bowl": Surface(
        lambda x, y: 0.05 * x**2 + y**2, (-4.0, 1.5), (-5.0, -5.0, 5.0, 5.0), [(0.0, 0.0)], "x² / 20 + y²"
    ),
    "four hollows": Surface(
        lambda x, y: (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2,
        (0.0, 0.0),
        (-5.0, -5.0, 5.0, 5.0),
        [(3.0, 2.0), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)],
        "(x² + y - 11)² + (x + y² - 7)², Himmelblau's",
    ),
}
RACERS: dict[str, tuple[Callable[..., Optimizer], dict[str, Any], dict[str, float]]] = {
    "gradient descent": (SGD, {}, {"valley": 1e-3, "saddle": 0.1, "bowl": 0.3, "four hollows": 3e-3}),
    "momentum": (SGD, {"momentum": 0.9}, {"valley": 3e-4, "saddle": 0.05, "bowl": 0.1, "four hollows": 2e-3}),
    "Nesterov": (
        SGD,
        {"momentum": 0.9, "nesterov": True},
        {"valley": 3e-4, "saddle": 0.05, "bowl": 0.1, "four hollows": 2e-3},
    ),
    "Adagrad": (Adagrad, {}, {"valley": 0.3, "saddle": 0.3, "bowl": 0.5, "four hollows": 0.5}),
    "RMSprop": (RMSprop, {}, {"valley": 0.01, "saddle": 0.02, "bowl": 0.05, "four hollows": 0.05}),
    "Adam": (Adam, {}, {"valley": 0.05, "saddle": 0.05, "bowl": 0.1, "four hollows": 0.1}),
    "Lion": (Lion, {}, {"valley": 0.01, "saddle": 0.02, "bowl": 0.05, "four hollows": 0.03}),
}
"""Class, options, and a sensible rate on each surface."""


def walk(
    make: Callable[..., Optimizer],
    options: dict[str, Any],
    rate: float,
    surface: Surface,
    start: Any,
    steps: int,
) -> np.ndarray:
    """The points (at most steps + 1, 2) from the start on; it ends where a step leads far away."""
    p = Parameter(np.array(start, np.float64))
    optimizer = make([p], lr=rate, **options)
    points = [p.numpy().copy()]

    @record
    def step() -> None:
        optimizer.zero_grad()
        surface.height(p[0], p[1]).backward()
        optimizer.step()

    for _ in range(steps):
        step()
        at = p.numpy().copy()
        if not np.isfinite(at).all() or np.abs(at).max() > FAR:
            break
        points.append(at)
    return np.array(points)


def race(body: Mapping[str, Any]) -> dict[str, Any]:
    """{"surface": "valley", "start": [x, y], "rate": times the usual rates, "steps"} -> heights of the
    surface on a grid and the way of each optimizer.
    """
    name = word(body, "surface", SURFACES, "valley")
    surface = SURFACES[name]
    left, low, right, high = surface.box
    start = list(surface.start)
    if "start" in body:
        numbers(body, "start", 2, -1e3, 1e3)
        x, y = body["start"]
        start = [number({"x": x}, "x", left, right), number({"y": y}, "y", low, high)]
    factor, steps = number(body, "rate", 0.01, 100.0, 1.0), whole(body, "steps", 1, 500, 200)
    side = (np.arange(GRID) + 0.5) / GRID
    plane = np.meshgrid(left + (right - left) * side, high - (high - low) * side)
    heights = surface.height(*plane)
    lowest = min(float(surface.height(*place)) for place in surface.minima)
    ways = {}
    for racer, (make, options, rates) in RACERS.items():
        points = walk(make, options, factor * rates[name], surface, start, steps)
        ways[racer] = {
            "points": np.round(np.clip(points, -1e4, 1e4), 4).tolist(),
            "height": float(f"{surface.height(*points[-1]) - lowest:.4g}"),
            "lost": len(points) <= steps,
            "rate": float(f"{factor * rates[name]:.3g}"),
        }
    shade = np.log10(heights - lowest + 1e-2)
    return {
        "surface": name,
        "formula": surface.formula,
        "box": list(surface.box),
        "start": start,
        "minima": surface.minima,
        "grid": GRID,
        "heights": np.round(shade, 3).ravel().tolist(),
        "ways": ways,
    }
