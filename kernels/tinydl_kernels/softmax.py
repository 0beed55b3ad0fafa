"""Softmax, its logarithm, and cross-entropy.

softmax        y_k = exp(x_k - m) / Σ_j exp(x_j - m),  m = max_j x_j
log_softmax    y_k = x_k - m - log Σ_j exp(x_j - m)
cross_entropy  loss_n = -Σ_k t'_nk log_softmax(x_n)_k,  t' = (1 - ε) t + ε / K,  t one-hot or soft, ε the label smoothing
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .dispatch import operation
from .memory import array_module

Array = Any


@operation(portable=True)
def softmax(x, dim):
    """exp(x) normalized to sum 1 along `dim`."""
    e = np.exp(x - x.max(dim, keepdims=True, initial=-np.inf))
    return e / e.sum(dim, keepdims=True)


@operation(portable=True)
def log_softmax(x, dim):
    """log of `softmax`."""
    shifted = x - x.max(dim, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(dim, keepdims=True))


@operation(portable=True)
def softmax_dx(g, y, dim):
    """Transposed derivative of y = softmax(x): y (g - Σ g y)."""
    return y * (g - (g * y).sum(dim, keepdims=True))


@operation(portable=True)
def log_softmax_dx(g, y, dim):
    """Transposed derivative of y = log_softmax(x): g - exp(y) Σ g."""
    return g - np.exp(y) * g.sum(dim, keepdims=True)


@operation(portable=True)
def cross_entropy(x, target, label_smoothing):
    """Losses (N,) of logits x (N, K) against class indices (N,) int64 or soft targets (N, K)."""
    shifted = x - x.max(1, keepdims=True, initial=-np.inf)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -(_smoothed(x, target, label_smoothing) * log_p).sum(1)


@operation(portable=True)
def cross_entropy_dx(g, x, target, label_smoothing):
    """Transposed derivative of `cross_entropy`: g_n (softmax(x)_n - t'_n), for targets that sum to 1."""
    e = np.exp(x - x.max(1, keepdims=True, initial=-np.inf))
    return g[:, None] * (e / e.sum(1, keepdims=True) - _smoothed(x, target, label_smoothing))


def _smoothed(x: Array, target: Array, label_smoothing: float) -> Array:
    classes = x.shape[1]
    if target.dtype.kind in "iu":
        target = (target[:, None] == array_module(x).arange(classes)).astype(x.dtype)
    return (1 - label_smoothing) * target + label_smoothing / classes
