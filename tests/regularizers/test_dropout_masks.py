"""Dropout by all of its masks: exact means, no statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import M

import tinydl as td
from tinydl import nn


def by_masks(layer: nn.Module, n: int, of: Callable[[np.ndarray], Any], p: float) -> Any:
    """The exact mean of a function of the mask (n,), 1/(1-p) or 0: each mask that the layer drew by its
    weight, all 2^n of them.
    """
    found: dict[bytes, tuple[float, Any]] = {}
    shape = {nn.Dropout: (1, n), nn.Dropout2d: (1, n, 2, 2), nn.Dropout1d: (1, n, 2)}.get(type(layer), (1, n))
    for _ in range(400 * 2**n):
        drawn = layer(td.ones(*shape, dtype="float64")).numpy()[0].reshape(n, -1)
        assert (drawn == drawn[:, :1]).all()  # a channel is dropped whole
        mask = drawn[:, 0]
        if mask.tobytes() not in found:
            found[mask.tobytes()] = p ** (mask == 0).sum() * (1 - p) ** (mask != 0).sum(), of(mask)
        if len(found) == 2**n:
            break
    assert len(found) == 2**n
    return sum(weight * value for weight, value in found.values())


@pytest.mark.parametrize("layer", [nn.Dropout, nn.Dropout1d, nn.Dropout2d])
def test_the_mean_over_all_masks_is_the_identity_with_bernoullis_variance(layer: Any) -> None:
    drop = layer(0.3, td.Generator(1))
    np.testing.assert_allclose(by_masks(drop, 3, lambda mask: mask, 0.3), 1, rtol=1e-12)
    np.testing.assert_allclose(by_masks(drop, 3, lambda mask: (mask - 1) ** 2, 0.3), 0.3 / 0.7, rtol=1e-12)


def test_dropout_of_inputs_is_a_ridge_of_a_linear_model() -> None:
    """E‖y - X̃w‖² = ‖y - Xw‖² + p/(1-p) Σ_j w_j² Σ_b x_bj², and its gradient; one mask for all samples has
    the same mean (Wager et al., arXiv 1307.1493).
    """
    r = np.random.default_rng(0)
    X, w, y, p = r.standard_normal((4, 3)), r.standard_normal(3), r.standard_normal(4), 0.4
    value = by_masks(
        nn.Dropout(p, generator=td.Generator(1)), 3, lambda mask: ((y - (X * mask) @ w) ** 2).sum(), p
    )
    expected = ((y - X @ w) ** 2).sum() + p / (1 - p) * (w**2 * (X**2).sum(0)).sum()
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    slope = by_masks(
        nn.Dropout(p, generator=td.Generator(1)), 3, lambda mask: -2 * (X * mask).T @ (y - (X * mask) @ w), p
    )
    np.testing.assert_allclose(
        slope, -2 * X.T @ (y - X @ w) + 2 * p / (1 - p) * w * (X**2).sum(0), rtol=1e-11
    )


def test_the_geometric_mean_of_softmax_over_masks_is_the_evaluated_net() -> None:
    r, p = np.random.default_rng(0), 0.4
    W, b, x = r.standard_normal((M, 3)), r.standard_normal(M), r.standard_normal(3)

    def log_softmax(z: np.ndarray) -> np.ndarray:
        return z - np.log(np.exp(z).sum())

    mean = by_masks(
        nn.Dropout(p, generator=td.Generator(1)), 3, lambda mask: log_softmax(W @ (x * mask) + b), p
    )
    np.testing.assert_allclose(log_softmax(mean), log_softmax(W @ x + b), rtol=1e-12)
