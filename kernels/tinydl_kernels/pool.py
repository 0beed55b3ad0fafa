"""Max and average pooling over windows of the spatial axes.

    max_forward(x, window)                  y[p] = max over the window's taps, and where it stood: i[p], flat in x's plane
    gather(x, i), scatter(g, i, plane)      y[p] = x[i[p]]  and its transpose  dx[j] = Σ g[p] over p with i[p] = j
    avg_forward(x, window, include_pad)     y[p] = (1 / d[p]) Σ x over the window's taps, d[p] the number of taps counted
    avg_backward(g, window, include_pad)    its transpose

With the indices fixed, max pooling is the linear map `gather`; so each pair is differentiated by its partner.
Shapes, for any number of spatial axes: x (N, C, *input), y and g (N, C, *out) in float32 or float64, i int64, plane = the input
sizes. Each is bound by memory: it moves its inputs and outputs once.
"""

from __future__ import annotations

from functools import lru_cache, reduce
from math import prod
from typing import Any

import numpy as np

from .dispatch import operation
from .window import Window, padded, seen_by, taps, unpadded

# --- NumPy reference: for each tap of the window, a strided slice of the padded input


@operation
def max_forward(x: Any, window: Window) -> tuple[Any, Any]:
    """(values, indices): the first largest tap in row-major order; a NaN wins (the last, if several), as in PyTorch."""
    planes = padded(x, window, 0)
    positions = padded(np.arange(prod(window.input)).reshape(window.input), window, -1)
    values = np.full(x.shape[:2] + window.out, -np.inf, x.dtype)
    indices = np.full(values.shape, -1)
    for tap in taps(window):
        value, position = planes[seen_by(tap, window)], positions[seen_by(tap, window)]
        wins = (position >= 0) & ((value > values) | np.isnan(value) | (indices < 0))
        np.copyto(values, value, where=wins)
        np.copyto(indices, position, where=wins)
    return values, indices


@operation
def gather(x: Any, indices: Any) -> Any:
    """y (N, C, *out): the values of x (N, C, *plane) at `indices` of each plane."""
    N, C = indices.shape[:2]
    rows = x.reshape(N, C, prod(x.shape[2:]))
    return np.take_along_axis(rows, indices.reshape(N, C, prod(indices.shape[2:])), axis=2).reshape(indices.shape)


@operation
def scatter(g: Any, indices: Any, plane: tuple[int, ...]) -> Any:
    """dx (N, C, *plane): each g (N, C, *out) is added where its index points, in row-major order of g."""
    N, C = indices.shape[:2]
    dx = np.zeros((N * C, prod(plane)), g.dtype)
    np.add.at(dx, (np.arange(N * C)[:, None], indices.reshape(N * C, prod(g.shape[2:]))), g.reshape(N * C, prod(g.shape[2:])))
    return dx.reshape(N, C, *plane)


@operation
def avg_forward(x: Any, window: Window, include_pad: bool) -> Any:
    """The mean over each window (N, C, *out): of its taps in the input, or with `include_pad` in the input and its pads."""
    planes = padded(x, window, 0)
    total = np.zeros(x.shape[:2] + window.out, x.dtype)
    for tap in taps(window):
        total += planes[seen_by(tap, window)]
    return total / _divisors(window, include_pad, x.dtype)


@operation
def avg_backward(g: Any, window: Window, include_pad: bool) -> Any:
    """dx (N, C, *input): the transpose of `avg_forward`."""
    planes = np.zeros(g.shape[:2] + window.extent, g.dtype)
    share = g / _divisors(window, include_pad, g.dtype)
    for tap in taps(window):
        planes[seen_by(tap, window)] += share
    return unpadded(planes, window)


@lru_cache(maxsize=256)
def _divisors(window: Window, include_pad: bool, dtype: Any) -> np.ndarray:
    """(*out): by how much each window's sum is divided. A constant: callers must not write to it."""
    return reduce(np.multiply.outer, window.counts(include_pad)).astype(dtype)
