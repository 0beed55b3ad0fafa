"""The way of an optimizer over a surface, and two surfaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..engine.core import Tensor
from ..nn.parameter import Parameter
from ..nn.utils import clip_grad_norm_
from ..ops.activations import sigmoid


def walk(
    height: Callable[..., Tensor],
    start: Sequence[float],
    make: Callable[[list[Parameter]], Any],
    steps: int,
    max_norm: float = math.inf,
) -> np.ndarray:
    """Minimize a function of a few numbers, eagerly, in float64.

    Args:
        height: of as many tensors of shape () as there are coordinates.
        start: the coordinates (d,).
        make: gives the optimizer of a list of one parameter (d,); its step takes a closure.
        steps: how many.
        max_norm: longer gradients are clipped to this length.

    Returns:
        The points (steps + 1, d), the start first.
    """
    p = Parameter(np.array(start, np.float64))
    optimizer = make([p])

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = height(*(p[i] for i in range(len(start))))
        value.backward()
        if max_norm < math.inf:
            clip_grad_norm_([p], max_norm)
        return value

    points = [p.numpy().copy()]
    for _ in range(steps):
        optimizer.step(closure)
        points.append(p.numpy().copy())
    return np.array(points)


def beale(x: Any, y: Any) -> Any:
    """Beale's function of numbers, arrays or tensors: a bent flat valley, least (0) at (3, .5)."""
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def recurrent_cliff(w: Tensor, b: Tensor, steps: int = 50, target: float = 0.7) -> Tensor:
    """(h − target)² of a recurrent unit, h ← σ(w h + b) so many times from h = ½; its slopes are steep where
    h leaves for another fixed point (Pascanu, Mikolov, Bengio, arXiv 1211.5063, figure 6).
    """
    h: Any = 0.5
    for _ in range(steps):
        h = sigmoid(w * h + b)
    return (h - target) ** 2
