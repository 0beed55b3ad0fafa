"""Matrix product, batched with broadcasting.

    y[..., i, j] = Σ_k A[..., i, k] B[..., k, j]        A = aᵀ if transpose_a else a (last two axes), B likewise

Flops 2·batch·I·K·J. The transposition is a flag of BLAS: nothing is copied.
"""

from __future__ import annotations

import numpy as np

from .dispatch import operation


@operation(portable=True)
def matmul(a, b, transpose_a=False, transpose_b=False):
    """a (..., I, K) times b (..., K, J), or their transposes; the leading axes broadcast."""
    return np.matmul(_oriented(a, transpose_a), _oriented(b, transpose_b))


def _oriented(a, transpose):
    return a.swapaxes(-1, -2) if transpose else a
