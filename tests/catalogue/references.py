"""NumPy and SciPy references of the catalogue: short, slow, and written without a look at the kernels.

Where nothing is said shapes are those of the function of the same name. All take complex numbers where they
are differentiable, so that `pullback` gives their derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = Any


def pullback(
    function: Callable[..., Any], inputs: Sequence[Array], cotangents: Sequence[Array], at: int
) -> Array:
    """The gradient of Σ <function(*inputs), cotangents> for inputs[at], by complex
    steps (Squire & Trapp 1998).
    """
    gradient = np.empty(inputs[at].shape)
    for e in np.ndindex(gradient.shape):
        moved = [x + 0j if i == at else x for i, x in enumerate(inputs)]
        moved[at][e] += 1e-30j
        outputs = function(*moved)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        gradient[e] = (
            sum((y * c).sum() for y, c in zip(outputs, cotangents, strict=True) if c is not None).imag * 1e30
        )
    return gradient


def rows(x: Array) -> Array:
    """(N, K, *) as (N · prod(*), K)."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def cross_entropy(x: Array, target: Array, label_smoothing: float = 0.0, ignored: int = -100) -> Array:
    """(N,) for logits (N, K) and classes (N,) or soft targets (N, K)."""
    soft = np.eye(x.shape[1])[target] if target.ndim == 1 else target
    soft = (1 - label_smoothing) * soft + label_smoothing / x.shape[1]
    if target.ndim == 1:
        soft = soft * (target != ignored)[:, None]
    return -(soft * (x - np.log(np.exp(x).sum(1, keepdims=True)))).sum(1)


def batch_norm(x: Array, gamma: Array | None = None, beta: Array | None = None, eps: float = 1e-5) -> Array:
    """In training mode."""
    y = centred(x) * deviation(x, eps)
    return channels(1.0 if gamma is None else gamma, x) * y + channels(0.0 if beta is None else beta, x)


def batch_norm_dx(g: Array, x: Array, gamma: Array, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """dx, dgamma, dbeta: Ioffe & Szegedy, arXiv 1502.03167, section 3, with the sums carried out."""
    dims = _spatial(x)
    normal = centred(x) * deviation(x, eps)
    along = (g * normal).mean(dims, keepdims=True)
    dx = channels(gamma, x) * deviation(x, eps) * (g - g.mean(dims, keepdims=True) - normal * along)
    return dx, (g * normal).sum(dims), g.sum(dims)


def centred(x: Array) -> Array:
    return x - x.mean(_spatial(x), keepdims=True)


def deviation(x: Array, eps: float) -> Array:
    """1 / √(var + eps) a channel."""
    return ((centred(x) ** 2).mean(_spatial(x), keepdims=True) + eps) ** -0.5


def channels(c: Any, x: Array) -> Array:
    """(C,) to broadcast against (N, C, *)."""
    return np.reshape(c, (1, -1, *(1,) * (x.ndim - 2)))


def _spatial(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def windows(
    x: Array, kernel: Any, stride: Any = 1, pads: Any = 0, dilation: Any = 1, fill: float = 0.0
) -> Array:
    """(N, C, *input) to (N, C, *out, K), K the taps of a window; settings are an int, or one
    an axis (pads may be pairs).
    """
    axes = x.ndim - 2
    kernel, stride, dilation = (each(setting, axes) for setting in (kernel, stride, dilation))
    pads = [(p, p) if isinstance(p, int) else p for p in each(pads, axes)]
    x = np.pad(x, ((0, 0), (0, 0), *pads), constant_values=fill)
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    seen = sliding_window_view(x, spans, tuple(range(2, x.ndim)))
    seen = seen[(slice(None), slice(None), *(slice(None, None, step) for step in (*stride, *dilation)))]
    return seen.reshape(*seen.shape[: axes + 2], int(np.prod(kernel)))


def each(setting: Any, axes: int) -> tuple[Any, ...]:
    return (setting,) * axes if isinstance(setting, int) else tuple(setting)


def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Any = 1,
    pads: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """Cross-correlation over any number of axes."""
    seen = windows(x, w.shape[2:], stride, pads, dilation)
    seen = seen.reshape(len(x), groups, x.shape[1] // groups, *seen.shape[2:])
    y = np.einsum("ngc...k,gock->ngo...", seen, w.reshape(groups, -1, w.shape[1], seen.shape[-1]))
    y = y.reshape(len(x), len(w), *y.shape[3:])
    return y if b is None else y + channels(b, y)


def conv_transpose(
    x: Array, w: Array, b: Array, stride: Any = 1, pads: Any = 0, output_padding: int = 0
) -> Array:
    """The gradient of `conv` for its input."""
    axes = x.ndim - 2
    settings = zip(x.shape[2:], w.shape[2:], each(stride, axes), each(pads, axes), strict=True)
    size = tuple((n - 1) * s - 2 * p + k + output_padding for n, k, s, p in settings)
    y = pullback(lambda y: conv(y, w, None, stride, pads), [np.zeros((len(x), w.shape[1], *size))], [x], 0)
    return y + channels(b, y)


def max_pool(x: Array, kernel: Any, stride: Any, pads: Any = 0, dilation: Any = 1) -> Array:
    """The values. A last partial window (ceil_mode) is stated as a larger pad."""
    return windows(x, kernel, stride, pads, dilation, -np.inf).max(-1)


def avg_pool(
    x: Array,
    kernel: Any,
    stride: Any,
    pads: Any = 0,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Array:
    counts = windows(np.ones((1, 1, *x.shape[2:])), kernel, stride, pads, 1, float(count_include_pad)).sum(-1)
    return windows(x, kernel, stride, pads).sum(-1) / (counts if divisor is None else divisor)


def adaptive_pool(x: Array, size: tuple[int, ...], reduction: Any) -> Array:
    """By np.mean or np.max, which may be taken one axis after another."""
    for dim, m in enumerate(size, 2):
        n = x.shape[dim]
        spans = [range(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
        x = np.stack([reduction(x.take(span, dim), dim) for span in spans], dim)
    return x


def max_unpool(x: Array, indices: Array, size: tuple[int, ...]) -> Array:
    planes = np.zeros((*x.shape[:2], int(np.prod(size))))
    np.put_along_axis(planes, _flat(indices), _flat(x), 2)
    return planes.reshape(*x.shape[:2], *size)


def unfold(x: Array, kernel: Any, stride: Any = 1, pads: Any = 0, dilation: Any = 1) -> Array:
    """(N, C, H, W) to (N, C·K, L)."""
    seen = windows(x, kernel, stride, pads, dilation)
    return np.moveaxis(seen, -1, 2).reshape(len(x), x.shape[1] * seen.shape[-1], -1)


def resize(x: Array, size: tuple[int, ...], weight: Callable[[float], float], reach: int) -> Array:
    """Interpolation along each axis with the kernel `weight`, over the 2 · reach
    neighbours; the edge is repeated.
    """
    for dim, m in enumerate(size, 2):
        n = x.shape[dim]
        matrix = np.zeros((m, n))
        for i in range(m):
            place = (i + 0.5) * n / m - 0.5
            for j in range(int(np.floor(place)) - reach + 1, int(np.floor(place)) + reach + 1):
                matrix[i, min(max(j, 0), n - 1)] += weight(abs(place - j))
        x = np.moveaxis(np.moveaxis(x, dim, -1) @ matrix.T, -1, dim)
    return x


def shrunk(x: Array, size: tuple[int, ...], kernel: Callable[[float], float]) -> Array:
    """Means of all elements along each axis, by a kernel as wide as the outputs are apart, 1 at least."""
    for dim, m in enumerate(size, 2):
        n = x.shape[dim]
        shares = [[kernel((j + 0.5 - (i + 0.5) * n / m) / max(1, n / m)) for j in range(n)] for i in range(m)]
        matrix = np.array(shares) / np.sum(shares, axis=1, keepdims=True)
        x = np.moveaxis(np.moveaxis(x, dim, -1) @ matrix.T, -1, dim)
    return x


def cubic(t: float, a: float = -0.75) -> float:
    """Keys, 1981."""
    return (a + 2) * t**3 - (a + 3) * t**2 + 1 if t <= 1 else a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a


def gather(x: Array, indices: Array) -> Array:
    """Positions in the flattened planes of (N, C, *plane)."""
    return np.take_along_axis(_flat(x), _flat(indices), 2).reshape(indices.shape)


def pixel_shuffle(x: Array) -> Array:
    """By 2."""
    N, C, H, W = x.shape
    return x.reshape(N, C // 4, 2, 2, H, W).transpose(0, 1, 4, 2, 5, 3).reshape(N, C // 4, 2 * H, 2 * W)


def normalized(x: Array, dims: Any, eps: float) -> Array:
    """(x - mean) / √(var + eps) over dims."""
    return (x - x.mean(dims, keepdims=True)) / np.sqrt(x.var(dims, keepdims=True) + eps)


def attention(q: Array, k: Array, v: Array, seen: Any = True) -> Array:
    weights = np.where(seen, np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])), 0.0)
    return weights / weights.sum(-1, keepdims=True) @ v


def _flat(planes: Array) -> Array:
    return planes.reshape(*planes.shape[:2], int(np.prod(planes.shape[2:])))


def logsumexp(x: Array, dim: Any, keepdim: bool = False) -> Array:
    return np.log(np.exp(x).sum(dim, keepdims=keepdim))
