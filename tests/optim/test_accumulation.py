"""Gradients from micro-batches are those of the batch."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import nn
from tinydl.optim import SGD, micro_batches

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.standard_normal((11, 3)), RANDOM.integers(0, 4, 11)
WEIGHT = np.array([0.3, 1.0, 2.0, 0.1])  # of each class


def network() -> nn.Module:
    td.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 4)).double()


def gradients(model: nn.Module) -> list[np.ndarray]:
    return [p.grad.numpy().copy() for p in model.parameters()]


@pytest.mark.parametrize("size", [1, 3, 4, 11, 50])
@pytest.mark.parametrize("wrap", [lambda step: step, td.record])
def test_gradients_of_the_batch(size: int, wrap: Any, backend: str) -> None:
    model = network()
    td.cross_entropy(model(td.tensor(X)), td.tensor(Y)).backward()
    expected = gradients(model)
    optimizer = SGD(model.parameters(), lr=0.0)

    @wrap
    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        total = td.zeros((), dtype=np.float64)
        for part, labels, share in micro_batches(size, x, y):
            loss = share * td.cross_entropy(model(part), labels)
            loss.backward()
            total = total + loss.detach()
        return total

    for _ in range(3):
        total = step(td.tensor(X), td.tensor(Y))
        for got, g in zip(gradients(model), expected, strict=True):
            np.testing.assert_allclose(got, g, rtol=1e-12, atol=1e-14)
    whole = td.cross_entropy(model(td.tensor(X)), td.tensor(Y)).item()
    np.testing.assert_allclose(total.item(), whole, rtol=1e-12)


@pytest.mark.parametrize("size", [2, 4])
def test_weighted_losses(size: int) -> None:
    """Weights of classes: PyTorch's losses are means by them."""
    model, x, y, weight = network(), td.tensor(X), td.tensor(Y), td.tensor(WEIGHT)
    td.cross_entropy(model(x), y, weight).backward()
    expected = gradients(model)
    model.zero_grad()
    for part, labels, weights, share in micro_batches(size, x, y, weights=weight[y]):
        np.testing.assert_array_equal(weights.numpy(), WEIGHT[labels.numpy()])
        (share * td.cross_entropy(model(part), labels, weight)).backward()
    for got, g in zip(gradients(model), expected, strict=True):
        np.testing.assert_allclose(got, g, rtol=1e-12, atol=1e-14)


def test_what_it_yields() -> None:
    parts = list(micro_batches(4, X, Y))
    assert [share for *_, share in parts] == [4 / 11, 4 / 11, 3 / 11]
    np.testing.assert_array_equal(np.concatenate([x for x, *_ in parts]), X)
    np.testing.assert_array_equal(np.concatenate([y for _, y, _ in parts]), Y)
    assert list(micro_batches(4, X[:0])) == []


def test_refusals() -> None:
    for size in (0, -1, 2.5):
        with pytest.raises(ValueError, match=f"micro_batches: size: expected a whole number .*, got {size}"):
            micro_batches(size, X)  # type: ignore[arg-type]
    expected = "micro_batches: expected arrays of as many samples along dim 0, got "
    for arrays in ((), (X, Y[:5]), (X, np.array(3.0))):
        shapes = [x.shape for x in arrays]
        with pytest.raises(ShapeError, match=re.escape(f"{expected}{shapes}")):
            micro_batches(3, *arrays)
    with pytest.raises(ShapeError, match=re.escape(f"{expected}[(11, 3), (5,)]")):
        micro_batches(3, td.tensor(X), weights=td.ones(5))
    with pytest.raises(ShapeError, match=r"micro_batches: expected weights \(B,\), got \(11, 3\)"):
        micro_batches(3, X, weights=td.tensor(X))
