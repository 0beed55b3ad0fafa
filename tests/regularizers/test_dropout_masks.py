"""Dropout by all of its masks: exact means, no statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import M

import tinydl as td
from tinydl import nn
from tinydl.regularizers import GaussianDropout


def by_masks(layer: nn.Module, n: int, of: Callable[[np.ndarray], Any], p: float) -> Any:
    """The exact mean of a function of the mask (n,), 1/(1-p) or 0: each mask that the layer drew by its
    weight, all 2^n of them.
    """
    found: dict[bytes, tuple[float, Any]] = {}
    maps = {nn.Dropout1d: (2,), nn.Dropout2d: (2, 2), nn.Dropout3d: (2, 2, 2)}
    shape = (1, n, *maps.get(type(layer), ()))
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


@pytest.mark.parametrize("layer", [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d])
def test_the_mean_over_all_masks_is_the_identity_with_bernoullis_variance(layer: Any) -> None:
    drop = layer(0.3, generator=td.Generator(1))
    np.testing.assert_allclose(by_masks(drop, 3, lambda mask: mask, 0.3), 1, rtol=1e-12)
    np.testing.assert_allclose(by_masks(drop, 3, lambda mask: (mask - 1) ** 2, 0.3), 0.3 / 0.7, rtol=1e-12)


def test_gaussian_dropout_has_bernoullis_mean_and_variance_and_is_the_identity_in_evaluation() -> None:
    x = td.tensor(np.random.default_rng(0).standard_normal(3))
    layer = GaussianDropout(0.3, generator=td.Generator(1))
    factors = layer(td.ones(200_000, dtype="float64")).numpy()
    assert abs(factors.mean() - 1) < 0.01
    assert abs(factors.var() - 0.3 / 0.7) < 0.01
    drawn = td.randn(3, generator=td.Generator(2), dtype="float64").numpy()
    found = GaussianDropout(0.3, generator=td.Generator(2))(x).numpy()
    np.testing.assert_allclose(found, x.numpy() * (1 + np.sqrt(0.3 / 0.7) * drawn), rtol=1e-12)
    assert layer.eval()(x) is x
    assert GaussianDropout(0.0)(x) is x
    leaf = x.detach().requires_grad_()
    same = GaussianDropout(0.3, generator=td.Generator(2))
    (slope,) = td.grad(same(leaf).sum(), leaf)
    np.testing.assert_allclose(slope.numpy(), found / x.numpy(), rtol=1e-12)
    with pytest.raises(ValueError, match=r"^GaussianDropout: expected p in \[0, 1\), got 1"):
        GaussianDropout(1.0)


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
