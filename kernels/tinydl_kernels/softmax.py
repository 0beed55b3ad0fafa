"""Softmax, its logarithm, their transposed derivatives, and cross-entropy.

    softmax           y_k = exp(x_k - m) / Σ_j exp(x_j - m),  m = max_j x_j
    softmax_dx        y (g - Σ g y)
    log_softmax       y_k = x_k - m - log Σ_j exp(x_j - m)
    log_softmax_dx    g - exp(y) Σ g
    cross_entropy     loss_n = -Σ_k t'_nk log_softmax(x_n)_k
    cross_entropy_dx  g_n (softmax(x_n) Σ t'_n - t'_n)

with t' = (1 - ε) t + ε / K, t the one-hot row of a class index or a soft target, ε the label smoothing
(Szegedy et al., arXiv 1512.00567, section 7). A class with t' = 0 counts nothing, even where its logit is
-inf. The index `ignored` makes a row whose loss and derivative are 0, any other index that is no class one of
NaN; `counted` says how many are not ignored. x of the first four is (outer, size, inner) around the axis
`dim`; of cross-entropy (N, K). Sums are float64.
Cost: one exp per element; x is read two or three times, but a line at a time, from the first cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .cpu.compiler import kernel, parallel
from .cpu.exponential import exp_line
from .cpu.lane_reductions import largest_of_row
from .cuda import launching
from .machine import memory
from .machine.dispatch import operation
from .machine.validate import report

Array = Any
GRAIN = 1 << 14


# ---- Softmax


@operation
def softmax(x, dim):
    """exp(x) normalized to sum 1 along `dim`."""
    return np.exp(_log_softmax_wide(x, dim)).astype(x.dtype)


@softmax.loops
def _(x, dim):
    return _softmax(x, x, dim)


@softmax.cuda
def _(x, dim):
    return _along_on_cuda("softmax", dim, x)


@operation
def log_softmax(x, dim):
    """log of `softmax`."""
    return _log_softmax_wide(x, dim).astype(x.dtype)


@log_softmax.loops
def _(x, dim):
    return _log_softmax(x, x, dim)


@log_softmax.cuda
def _(x, dim):
    return _along_on_cuda("log_softmax", dim, x)


@operation
def softmax_dx(g, y, dim):
    """Transposed derivative of y = softmax(x)."""
    return (y * (g - (y * g.astype(np.float64)).sum(dim, keepdims=True))).astype(y.dtype)


@softmax_dx.loops
def _(g, y, dim):
    return _softmax_dx(g, y, dim)


@softmax_dx.cuda
def _(g, y, dim):
    return _along_on_cuda("softmax_dx", dim, g, y)


@operation
def log_softmax_dx(g, y, dim):
    """Transposed derivative of y = log_softmax(x)."""
    return (g - np.exp(y) * g.sum(dim, dtype=np.float64, keepdims=True)).astype(y.dtype)


@log_softmax_dx.loops
def _(g, y, dim):
    return _log_softmax_dx(g, y, dim)


@log_softmax_dx.cuda
def _(g, y, dim):
    return _along_on_cuda("log_softmax_dx", dim, g, y)


# ---- Cross-entropy


@operation
def cross_entropy(x, target, label_smoothing, ignored):
    """Losses (N,) of logits x (N, K) for class indices (N,) int64 or soft targets (N, K) of x's dtype."""
    t = _smoothed(x, target, label_smoothing, ignored)
    with np.errstate(all="ignore"):
        return -np.where(t == 0, 0, t * _log_softmax_wide(x, 1)).sum(1).astype(x.dtype)


@cross_entropy.loops
def _(x, target, label_smoothing, ignored):
    n, classes = x.shape
    losses = memory.empty((n,), x.dtype, x) if classes else memory.zeros((n,), x.dtype, x)
    arguments = (
        x.reshape(-1),
        target.reshape(-1),
        target.ndim == 2,
        losses,
        classes,
        float(label_smoothing),
        ignored,
    )
    _cross_entropy_loop(n if classes else 0, 1 + GRAIN // (1 + classes), *arguments)
    return losses


@cross_entropy.cuda
def _(x, target, label_smoothing, ignored):
    losses = memory.empty(x.shape[:1], x.dtype, x) if x.shape[1] else memory.zeros(x.shape[:1], x.dtype, x)
    _cross_entropy_on_cuda("cross_entropy", (x,), target, label_smoothing, ignored, losses)
    return losses


@operation
def cross_entropy_dx(g, x, target, label_smoothing, ignored):
    """Transposed derivative of `cross_entropy` for the cotangent g (N,) of the losses: (N, K)."""
    t = _smoothed(x, target, label_smoothing, ignored)
    with np.errstate(all="ignore"):  # where all are ignored, their mean gives g = inf
        dx = g[:, None] * (np.exp(_log_softmax_wide(x, 1)) * t.sum(1, keepdims=True) - t)
    return np.where(t.any(1, keepdims=True), dx, 0).astype(x.dtype)


@cross_entropy_dx.loops
def _(g, x, target, label_smoothing, ignored):
    dx = memory.empty_like(x)
    n, classes = x.shape
    settings = classes, float(label_smoothing), ignored
    arguments = g, x.reshape(-1), target.reshape(-1), target.ndim == 2, dx.reshape(-1), *settings
    _cross_entropy_dx_loop(n if classes else 0, 1 + GRAIN // (1 + classes), *arguments)
    return dx


@cross_entropy_dx.cuda
def _(g, x, target, label_smoothing, ignored):
    dx = memory.empty_like(x)
    _cross_entropy_on_cuda("cross_entropy_dx", (g, x), target, label_smoothing, ignored, dx)
    return dx


@operation
def counted(target, ignored, dtype):
    """How many of the class indices (N,) are not `ignored`: a number of a floating dtype."""
    return (target != ignored).sum(dtype=dtype)


@counted.loops
def _(target, ignored, dtype):
    count = memory.empty((), dtype, target)
    _counted_loop(1, 1, target, count.reshape(1), ignored)
    return count


@counted.cuda
def _(target, ignored, dtype):
    count = memory.empty((), dtype, target)
    arguments = target, np.int64(ignored), count, np.int64(target.size)
    launching.launch_teams("softmax", "counted", 1, target.size, 1, *arguments, real=count.dtype)
    return count


# ---- What the references share


def _log_softmax_wide(x: Array, dim: int) -> Array:
    with np.errstate(all="ignore"):
        wide = x - x.max(dim, keepdims=True, initial=-np.inf).astype(np.float64)
        return wide - np.log(np.exp(wide).sum(dim, keepdims=True))


def _smoothed(x: Array, target: Array, label_smoothing: float, ignored: int) -> Array:
    """t' (N, K), float64."""
    classes = x.shape[1]
    index = target[:, None] if target.ndim == 1 else None
    t = (target if index is None else index == np.arange(classes)).astype(np.float64)
    t = (1 - label_smoothing) * t + label_smoothing / max(classes, 1)
    if index is None:
        return t
    return np.where(index == ignored, 0, np.where((index >= 0) & (index < classes), t, np.nan))


# ---- Numba: one line, contiguous


@kernel
def _softmax_line(x, _, y):
    scale = y.dtype.type(1 / exp_line(x, largest_of_row(x), y))
    for k in range(x.size):
        y[k] *= scale


@kernel
def _log_softmax_line(x, _, y):
    top = largest_of_row(x)
    log_total = y.dtype.type(math.log(exp_line(x, top, y)))
    for k in range(x.size):
        y[k] = x[k] - top - log_total


@kernel(fastmath={"reassoc"})
def _softmax_dx_line(g, y, dx):
    total = 0.0
    for k in range(g.size):
        total += g[k] * y[k]
    mean = dx.dtype.type(total)
    for k in range(g.size):
        dx[k] = y[k] * (g[k] - mean)


@kernel(fastmath={"reassoc"})
def _log_softmax_dx_line(g, y, dx):
    total = 0.0
    for k in range(g.size):
        total += g[k]
    sum_g = dx.dtype.type(total)
    exp_line(y, dx.dtype.type(0), dx)
    for k in range(g.size):
        dx[k] = g[k] - dx[k] * sum_g


def _along(name: str, line: Any) -> Callable[[Array, Array, int], Array]:
    """run(a, b, dim): `line` over every line of a and b along `dim`; lines with a stride pass through
    contiguous ones.
    """

    def loop(start, stop, a, b, out, size, inner):
        line_a, line_b, line_out = np.empty(size, a.dtype), np.empty(size, b.dtype), np.empty(size, out.dtype)
        for item in range(start, stop):
            if inner == 1:
                at, end = item * size, (item + 1) * size
                line(a[at:end], b[at:end], out[at:end])
            else:
                at = item // inner * inner * size + item % inner
                for k in range(size):
                    line_a[k], line_b[k] = a[at + k * inner], b[at + k * inner]
                line(line_a, line_b, line_out)
                for k in range(size):
                    out[at + k * inner] = line_out[k]

    loop.__name__ = loop.__qualname__ = f"{name}_loop"
    compiled = parallel(loop)

    def run(a: Array, b: Array, dim: int) -> Array:
        out = memory.empty_like(a)
        if a.size:
            size, inner = a.shape[dim], math.prod(a.shape[dim % a.ndim + 1 :])
            compiled(
                a.size // size, 1 + GRAIN // size, a.reshape(-1), b.reshape(-1), out.reshape(-1), size, inner
            )
        return out

    return run


_softmax = _along("softmax", _softmax_line)
_log_softmax = _along("log_softmax", _log_softmax_line)
_softmax_dx = _along("softmax_dx", _softmax_dx_line)
_log_softmax_dx = _along("log_softmax_dx", _log_softmax_dx_line)


# ---- Numba: cross-entropy


@kernel
def _constant(target, soft, n, classes, ignored):
    """Is t'_n 0 or NaN whatever the logits are?"""
    return not soft and (target[n] == ignored or not 0 <= target[n] < classes)


@parallel
def _cross_entropy_loop(start, stop, x, target, soft, losses, classes, smoothing, ignored):
    line = np.empty(classes, x.dtype)
    for n in range(start, stop):
        if _constant(target, soft, n, classes, ignored):
            losses[n] = 0 if target[n] == ignored else np.nan
            continue
        row = x[n * classes : (n + 1) * classes]
        top = largest_of_row(row)
        log_total, loss, share = math.log(exp_line(row, top, line)), 0.0, smoothing / classes
        for k in range(classes if soft or share != 0 else 0):
            weight = (1 - smoothing) * target[n * classes + k] + share if soft else share
            if weight != 0:
                loss += weight * (log_total - (row[k] - top))
        if not soft and smoothing != 1:
            loss += (1 - smoothing) * (log_total - (row[np.int64(target[n])] - top))
        losses[n] = loss


@parallel
def _cross_entropy_dx_loop(start, stop, g, x, target, soft, dx, classes, smoothing, ignored):
    for n in range(start, stop):
        row, logits = dx[n * classes : (n + 1) * classes], x[n * classes : (n + 1) * classes]
        if _constant(target, soft, n, classes, ignored):
            row[:] = 0 if target[n] == ignored else np.nan
            continue
        total, share = exp_line(logits, largest_of_row(logits), row), smoothing / classes
        if soft:
            t, weights = target[n * classes : (n + 1) * classes], 0.0
            for k in range(classes):
                weights += (1 - smoothing) * t[k] + share
            for k in range(classes):
                row[k] = g[n] * (row[k] * (weights / total) - ((1 - smoothing) * t[k] + share))
        else:
            index = np.int64(target[n])
            own = g[n] * (row[index] / total - (1 - smoothing + share))
            scale, shift = row.dtype.type(g[n] / total), row.dtype.type(g[n] * share)
            for k in range(classes):
                row[k] = row[k] * scale - shift
            row[index] = own


@parallel
def _counted_loop(start, stop, target, count, ignored):
    """One piece, so that a recorded step has no call between the loops around it."""
    for _ in range(start, stop):
        total = 0
        for n in range(target.size):
            total += target[n] != ignored
        count[0] = total


# ---- CUDA


def _along_on_cuda(kernel: str, dim: int, *arrays: Array) -> Array:
    """Launch a kernel on the lines of the arrays along `dim`."""
    x = arrays[0]
    out = memory.empty_like(x)
    if out.size:
        size, inner = x.shape[dim], math.prod(x.shape[dim % x.ndim + 1 :])
        lines = x.size // size
        shape = np.int64(lines), np.int64(size), np.int64(inner)
        launching.launch_teams("softmax", kernel, lines, size, inner, *arrays, out, *shape, real=x.dtype)
    return out


def _cross_entropy_on_cuda(
    kernel: str, arrays: tuple[Array, ...], target: Array, smoothing: float, ignored: int, out: Array
) -> None:
    """Launch a kernel on the rows of logits, which are the last of `arrays`."""
    x = arrays[-1]
    rows, classes = x.shape
    soft, indices = (target, None) if target.ndim == 2 else (None, target)
    arguments = (
        *arrays,
        indices,
        soft,
        x.dtype.type(smoothing),
        np.int64(ignored),
        out,
        np.int64(rows),
        np.int64(classes),
    )
    launching.launch_teams("softmax", kernel, rows if classes else 0, classes, 1, *arguments, real=x.dtype)


def main() -> None:
    """Validate every operation against its reference, then time it."""
    random = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        g, x = random.standard_normal((2, 1000, 100)).astype(dtype)
        y, target = softmax(x, 1), random.integers(0, 100, 1000)
        for op in (softmax, log_softmax):
            report(op, x, 1)
            report(op, x, 0)
        report(softmax_dx, g, y, 1)
        report(log_softmax_dx, g, np.log(y), 1)
        for t in (target, y):
            report(cross_entropy, x, t, 0.1, -100)
            report(cross_entropy_dx, g[:, 0].copy(), x, t, 0.1, -100)


if __name__ == "__main__":
    main()
