"""The loss on a plane through a network's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import on_host
from ..engine.core import Tensor, no_grad
from ..nn.module import Module, functional_call
from ..ops.creation import tensor
from ..ops.random import Generator, randn
from .looking import as_input, looking

__all__ = ["LossSurface", "filter_normalized_direction", "loss_surface"]

Direction = Mapping[str, np.ndarray]


class LossSurface(NamedTuple):
    """The loss at weights + a · first + b · second."""

    a: np.ndarray  # float64 (points,), the middle one 0
    b: np.ndarray
    loss: np.ndarray  # float64 (points, points): loss[i, j] at a[j], b[i]
    directions: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def filter_normalized_direction(model: Module, generator: Generator | None = None) -> dict[str, np.ndarray]:
    """A Gaussian direction by the parameters' names, each filter (row along axis 0) as long as the model's
    own: d ↦ d ‖w‖ / ‖d‖. What has fewer than two axes, biases and the scales of norms, stays. Li et al.
    (arXiv 1712.09913).

    Args:
        generator: of the numbers; None: one of seed 0.
    """
    source = generator or Generator()
    found = {}
    for name, p in model.named_parameters():
        w = on_host(p)
        d = np.zeros(w.shape, w.dtype)
        if w.ndim > 1 and w.size:
            with no_grad():
                d = on_host(randn(*w.shape, dtype=w.dtype, generator=source))
            rows, own = d.reshape(len(d), -1), w.reshape(len(w), -1)
            lengths = np.linalg.norm(own, axis=1) / np.maximum(np.linalg.norm(rows, axis=1), 1e-10)
            d = (rows * lengths[:, None]).reshape(w.shape).astype(w.dtype)
        found[name] = d
    return found


def loss_surface(
    model: Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Any,
    target: Any,
    *,
    span: float = 1.0,
    points: int = 21,
    directions: Sequence[Direction] | None = None,
    generator: Generator | None = None,
) -> LossSurface:
    """The loss in eval mode on a square of the plane that two directions span at the model's weights, which
    nothing writes to.

    Args:
        loss: of (output, target), a scalar tensor.
        x, target: the batch that it is taken on.
        span: the square is -span to span along both.
        points: along a side, odd, so that the weights themselves are the middle.
        directions: two, by the parameters' names (those left out stay); None: two that are
            `filter_normalized_direction`.
        generator: of these; None: one of seed 0.

    Raises:
        ValueError: an even number of points, a span that is not positive.
        ShapeError: not two directions, or an array that does not fit its parameter.
    """
    if points < 1 or points % 2 == 0 or not span > 0:
        raise ValueError(f"loss_surface: expected an odd number of points and span > 0, got {points}, {span}")
    source = generator or Generator()
    given = directions or [filter_normalized_direction(model, source) for _ in range(2)]
    if len(given) != 2:
        raise ShapeError(f"loss_surface: expected two directions, got {len(given)}")
    own = {name: (p, on_host(p)) for name, p in model.named_parameters()}
    first, second = ({name: np.asarray(d) for name, d in one.items()} for one in given)
    for name, d in (*first.items(), *second.items()):
        if name not in own or d.shape != own[name][1].shape:
            wanted = f"{own[name][1].shape} for {name!r}" if name in own else f"a parameter, not {name!r}"
            raise ShapeError(f"loss_surface: expected a direction {wanted}, got {d.shape}")
    moved = [name for name in own if name in first or name in second]
    line = np.linspace(-span, span, points)
    line[points // 2] = 0.0
    found = np.zeros((points, points))
    with looking(model), no_grad():
        inputs, labels = as_input(model, x), _like(model, target)
        for i, b in enumerate(line):
            for j, a in enumerate(line):
                weights = {name: _at(*own[name], a, b, first.get(name), second.get(name)) for name in moved}
                found[i, j] = float(loss(functional_call(model, weights, inputs), labels))
    return LossSurface(line, line.copy(), found, (first, second))


def _at(p: Tensor, w: np.ndarray, a: float, b: float, first: Any, second: Any) -> Tensor:
    moved = w + (0 if first is None else a * first) + (0 if second is None else b * second)
    return tensor(moved.astype(w.dtype), device=p.device)


def _like(model: Module, target: Any) -> Tensor:
    first = next(model.parameters(), None)
    return tensor(on_host(target), device="cpu" if first is None else first.device)
