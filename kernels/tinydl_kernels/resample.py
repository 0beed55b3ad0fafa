"""Linear maps along one axis in which each output is a weighted sum of a few inputs.

    resample(x, rows, dim)      y[..., i, ...] = Σ_t weights[t] x[..., columns[t], ...]      for t of row i

The weights are a constant sparse matrix (`Rows`), made by one of the functions below: means of spans,
nearest neighbours, linear and cubic interpolation, kernels that widen as outputs are fewer. The
transpose of such a map is one too, so that a gradient is the same kernel on the transposed matrix, and an
output is always gathered by one task. An image is resampled axis by axis. x and y have float32 or float64;
sums are in float64. 2 · entries flops for each line of x along `dim`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from .cpu.compiler import parallel
from .cpu.tiles import fill
from .cuda import launching
from .machine import memory
from .machine.dispatch import operation
from .machine.errors import ShapeError
from .machine.validate import report
from .machine.window import adaptive_spans

Array = Any

GRAIN = 1 << 14
"""Products that a piece of a loop over outputs makes."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A sparse matrix of constants, row by row: the entries of row i are those from starts[i] to starts[i +
    1].
    """

    shape: tuple[int, int]
    starts: np.ndarray  # (rows + 1,) int64
    columns: np.ndarray  # (entries,) int64
    weights: np.ndarray  # (entries,) float64

    def __post_init__(self) -> None:
        """What loops trust: ShapeError for rows or columns that are not there."""
        rows, columns = self.shape
        starts, entries = self.starts, len(self.columns)
        whole = len(starts) == rows + 1 and starts[0] == 0 and starts[-1] == entries == len(self.weights)
        if not whole or (np.diff(starts) < 0).any():
            raise ShapeError(f"Rows: expected starts of {rows} rows from 0 to {entries}, got {starts}")
        if entries and not 0 <= self.columns.min() <= self.columns.max() < columns:
            raise ShapeError(f"Rows: expected columns from 0 to {columns - 1}, got others")

    @cached_property
    def transposed(self) -> Rows:
        """The same entries by columns."""
        order = np.argsort(self.columns, kind="stable")
        row_of = np.repeat(np.arange(self.shape[0]), np.diff(self.starts))
        made = _rows(
            self.shape[::-1],
            np.bincount(self.columns, minlength=self.shape[1]),
            row_of[order],
            self.weights[order],
        )
        made.__dict__["transposed"] = self
        return made

    @cached_property
    def _tables(self) -> dict[Any, tuple[Array, ...]]:
        return {}

    def tables(self, like: Array) -> tuple[Array, ...]:
        """starts, columns and weights where `like` is, the weights in its dtype.

        They get to a GPU once, in an eager call, since a capture admits no copies; and live as long as the
        matrix, which a recorded step holds: its graph reads them.
        """
        module = memory.array_module(like)
        place = module.__name__, getattr(like.device, "id", 0), like.dtype
        if place not in self._tables:
            self._tables[place] = tuple(
                map(module.asarray, (self.starts, self.columns, self.weights.astype(like.dtype)))
            )
        return self._tables[place]


def _rows(shape: tuple[int, int], counts: Any, columns: Any, weights: Any) -> Rows:
    """`counts` entries per row, in order."""
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return Rows(shape, starts, np.asarray(columns, np.int64), np.asarray(weights, np.float64))


# ---- Matrices (out, size) of the usual maps. `ratio` is by how many positions an output is further
# on than the one before it.


@lru_cache(maxsize=256)
def means(size: int, out: int) -> Rows:
    """The means of the `out` spans of adaptive pooling."""
    starts, stops = adaptive_spans(size, out)
    counts = stops - starts
    columns = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
    return _rows((out, size), counts, columns, np.repeat(1 / counts, counts))


@lru_cache(maxsize=256)
def nearest(size: int, out: int, ratio: float, centred: bool, dtype: Any = np.float64) -> Rows:
    """The element at floor(i ratio), or `centred` at floor((i + ½) ratio): a product in `dtype`
    (PyTorch takes the image's), rounded to float32, so that the same element is chosen where the
    exact product is a whole number.
    """
    places = (np.arange(out, dtype=dtype) + np.asarray(0.5 if centred else 0, dtype)) * np.asarray(
        ratio, dtype
    )
    columns = np.minimum(np.floor(places.astype(np.float32)).astype(np.int64), size - 1)
    return _rows((out, size), np.ones(out, np.int64), columns, np.ones(out))


@lru_cache(maxsize=256)
def linear(size: int, out: int, ratio: float, align_corners: bool) -> Rows:
    """The mean of the two elements around each place, by their distance from it."""
    place = np.maximum(_places(out, ratio, align_corners), 0)
    low = np.minimum(np.floor(place).astype(np.int64), size - 1)
    share = np.clip(place - low, 0, 1)
    columns = np.stack([low, np.minimum(low + 1, size - 1)], 1)
    return _rows(
        (out, size), np.full(out, 2), columns.reshape(-1), np.stack([1 - share, share], 1).reshape(-1)
    )


@lru_cache(maxsize=256)
def cubic(size: int, out: int, ratio: float, align_corners: bool) -> Rows:
    """Convolution with Keys' kernel (IEEE Trans. ASSP 29, 1981), a = -¾, on the four elements around; edges
    are repeated.
    """
    place = _places(out, ratio, align_corners)
    low = np.minimum(np.floor(place).astype(np.int64), size - 1)
    columns = low[:, None] + np.arange(-1, 3)
    t = np.abs(np.clip(place - low, 0, 1)[:, None] - np.arange(-1, 3))
    return _rows(
        (out, size),
        np.full(out, 4),
        np.clip(columns, 0, size - 1).reshape(-1),
        _keys(t, -0.75).reshape(-1),
    )


@lru_cache(maxsize=256)
def antialiased(mode: str, size: int, out: int, ratio: float) -> Rows:
    """The mean of all elements that a kernel covers: "linear" (a hat), "cubic" (Keys' with a = -½) or
    "lanczos" (a window of three lobes), as wide as the outputs are apart where there are fewer of them.
    """
    reach, kernel = _KERNELS[mode]
    wide = max(ratio, 1.0)
    centre = (np.arange(out) + 0.5) * ratio
    low = np.maximum(np.trunc(centre - reach * wide + 0.5).astype(np.int64), 0)
    high = np.minimum(np.trunc(centre + reach * wide + 0.5).astype(np.int64), size)
    counts = high - low
    columns = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)])
    row_of = np.repeat(np.arange(out), counts)
    weights = kernel((columns + 0.5 - centre[row_of]) / wide)
    return _rows((out, size), counts, columns, weights / np.bincount(row_of, weights)[row_of])


def _keys(t: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic kernel at distances t of up to 2."""
    near, far = ((a + 2) * t - (a + 3)) * t * t + 1, ((t - 5) * t + 8) * t * a - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


_KERNELS = {
    "linear": (1.0, lambda t: np.maximum(1 - np.abs(t), 0.0)),
    "cubic": (2.0, lambda t: _keys(np.abs(t), -0.5)),
    "lanczos": (3.0, lambda t: np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0.0)),
}
"""By name, how far a kernel reaches and what it is."""


def _places(out: int, ratio: float, align_corners: bool) -> np.ndarray:
    """Where outputs stand among the inputs: corners on corners, or edges on edges."""
    return np.arange(out) * ratio if align_corners else (np.arange(out) + 0.5) * ratio - 0.5


# ---- The map


@operation
def resample(x: Array, rows: Rows, dim: int) -> Array:
    """x with `dim`, of size rows.shape[1], turned into one of size rows.shape[0]."""
    lines, y = np.moveaxis(x, dim, 0), np.zeros((rows.shape[0], *x.shape[:dim], *x.shape[dim + 1 :]))
    for i in range(rows.shape[0]):
        for t in range(rows.starts[i], rows.starts[i + 1]):
            y[i] += rows.weights[t] * lines[rows.columns[t]]
    return np.moveaxis(y, 0, dim).astype(x.dtype)


@resample.loops
def _(x: Array, rows: Rows, dim: int) -> Array:
    (m, n), outer, inner = rows.shape, prod(x.shape[:dim]), prod(x.shape[dim + 1 :])
    y = memory.empty((*x.shape[:dim], m, *x.shape[dim + 1 :]), x.dtype, x)
    grain = 1 + GRAIN * m // max(1, inner * rows.weights.size)
    totals = memory.empty((-(-outer * m // grain), inner), np.float64, x)
    lines = x.reshape(outer, n, inner), y.reshape(outer, m, inner)
    _resample(outer * m, grain, *lines, rows.starts, rows.columns, rows.weights, totals, grain)
    return y


@parallel
def _resample(start, stop, x, y, starts, columns, weights, totals, grain):
    m, inner = y.shape[1:]
    total = totals[start // grain]
    outer, i = start // m, start % m
    for _ in range(start, stop):
        if inner == 1:
            line, value = x[outer, :, 0], 0.0
            for t in range(np.uint64(starts[i]), np.uint64(starts[i + 1])):
                value += weights[t] * line[np.uint64(columns[t])]
            y[outer, i, 0] = value
        else:
            fill(total, 0, 0.0, inner)
            for t in range(starts[i], starts[i + 1]):
                weight, line = weights[t], x[outer, columns[t]]
                for c in range(inner):
                    total[c] += weight * line[c]
            for c in range(inner):
                y[outer, i, c] = total[c]
        i += 1
        if i == m:
            outer, i = outer + 1, 0


@resample.cuda
def _(x: Array, rows: Rows, dim: int) -> Array:
    m, n = rows.shape
    y = memory.empty((*x.shape[:dim], m, *x.shape[dim + 1 :]), x.dtype, x)
    sizes = np.int64(y.size), np.int64(m), np.int64(n), np.int64(prod(x.shape[dim + 1 :]))
    launching.launch("resample", "resample", y.size, x, *rows.tables(x), y, *sizes, real=x.dtype)
    return y


def main() -> None:
    """Validate against the reference, then time doubling, halving and a mean of uneven spans along rows and
    columns.
    """
    x = np.random.default_rng(0).standard_normal((50, 16, 32, 32)).astype(np.float32)
    for name, rows in (
        ("linear 32 to 64", linear(32, 64, 0.5, False)),
        ("cubic 32 to 64", cubic(32, 64, 0.5, False)),
        ("nearest 32 to 16", nearest(32, 16, 2.0, False)),
        ("means 32 to 7", means(32, 7)),
        ("a wide cubic kernel 32 to 7", antialiased("cubic", 32, 7, 32 / 7)),
        ("their transpose", means(7, 32).transposed),
    ):
        print(name)
        report(resample, x, rows, 2)
        report(resample, x, rows, 3)


if __name__ == "__main__":
    main()
