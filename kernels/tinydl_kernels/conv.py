"""Convolution (cross-correlation) and its two gradients: the partial gradients of one trilinear form.

    T(x, w, g) = Σ  g[n, o, p] · w[o, c, t] · x[n, c, p·stride + t·dilation - low]         over n, o, p, t and c of o's group

    forward(x, w, b, window)       ∂T/∂g, plus a bias
    grad_input(g, w, window)       ∂T/∂x: the transposed convolution
    grad_weight(x, g, window)      ∂T/∂w

so each is differentiated by the other two. Shapes, for any number of spatial axes: x (N, C, *input), w (O, C / G, *kernel),
b (O,), g and y (N, O, *out), all of one dtype, float32 or float64. Each costs `window.flops(N, C, O)`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .dispatch import operation
from .window import Window, padded, seen_by, taps, unpadded

# --- NumPy reference: for each tap of the kernel, a product of matrices over a strided slice of the padded input


@operation
def forward(x: Any, w: Any, b: Any, window: Window) -> Any:
    """y = conv(x, w) + b, (N, O, *out); b may be None."""
    N, O, G = x.shape[0], w.shape[0], window.groups
    planes, y = padded(x, window, 0), np.zeros((N, G, O // G, prod(window.out)), x.dtype)
    for tap in taps(window):
        y += _grouped(w[(..., *tap)], G) @ _flat(planes[seen_by(tap, window)], G)
    y = y.reshape(N, O, *window.out)
    return y if b is None else y + b.reshape(-1, *(1,) * len(window.out))


@operation
def grad_input(g: Any, w: Any, window: Window) -> Any:
    """dx = ∂T/∂x, (N, C, *input), of a cotangent g of y."""
    N, C, G = g.shape[0], w.shape[1] * window.groups, window.groups
    planes, rows = np.zeros((N, C, *window.extent), g.dtype), _flat(g, G)
    for tap in taps(window):
        product = _grouped(w[(..., *tap)], G).swapaxes(1, 2) @ rows
        planes[seen_by(tap, window)] += product.reshape(N, C, *window.out)
    return unpadded(planes, window)


@operation
def grad_weight(x: Any, g: Any, window: Window) -> Any:
    """dw = ∂T/∂w, (O, C / G, *kernel), of a cotangent g of y."""
    C, O, G = x.shape[1], g.shape[1], window.groups
    planes, rows = padded(x, window, 0), _flat(g, G)
    dw: Any = np.empty((O, C // G, *window.kernel), x.dtype)
    for tap in taps(window):
        product = rows @ _flat(planes[seen_by(tap, window)], G).swapaxes(2, 3)
        dw[(..., *tap)] = product.sum(axis=0).reshape(O, C // G)
    return dw


def _flat(planes: Any, G: int) -> Any:
    """(N, C, *sizes) -> (N, G, C / G, positions)"""
    N, C, *sizes = planes.shape
    return planes.reshape(N, G, C // G, prod(sizes))


def _grouped(w: Any, G: int) -> Any:
    """(O, C / G) -> (G, O / G, C / G)"""
    return w.reshape(G, w.shape[0] // G, w.shape[1])
