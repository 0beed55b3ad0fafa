"""Embedding(max_norm=): rows are scaled down in place where they are asked for, as in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from comparisons import comparison

import tinydl as td
from tinydl import nn

TABLE = np.random.default_rng(0).standard_normal((6, 3))
INDEX = np.array([[0, 2, 2], [5, 0, 1]])


@pytest.mark.parametrize("norm_type", [2.0, 1.0, np.inf, 3.0])
@pytest.mark.parametrize("max_norm", [0.5, 1.2, 100.0])
def test_max_norm(max_norm: float, norm_type: float) -> None:
    torch = pytest.importorskip("torch")
    ours = nn.Embedding.from_pretrained(TABLE, False, 2, max_norm, norm_type)
    theirs = torch.nn.Embedding.from_pretrained(torch.tensor(TABLE), False, 2, max_norm, norm_type)
    for _ in range(2):  # the second time the rows are short enough
        with comparison():
            found, expected = ours(td.tensor(INDEX)), theirs(torch.tensor(INDEX))
        np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-12)
        np.testing.assert_allclose(ours.weight.detach().numpy(), theirs.weight.detach().numpy(), rtol=1e-12)
    np.testing.assert_array_equal(ours.weight.detach().numpy()[3:5], TABLE[3:5])  # not asked for
    (found**2).sum().backward()
    (expected**2).sum().backward()
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-12)


def test_as_a_function() -> None:
    torch = pytest.importorskip("torch")
    own, twin = td.tensor(TABLE), torch.tensor(TABLE)
    with comparison():
        found = td.embedding(td.tensor(INDEX), own, max_norm=0.3, norm_type=1.0)
        expected = torch.nn.functional.embedding(torch.tensor(INDEX), twin, max_norm=0.3, norm_type=1.0)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12)
    np.testing.assert_allclose(own.numpy(), twin.numpy(), rtol=1e-12)


def test_a_recorded_step_scales_too() -> None:
    layer = nn.Embedding(6, 3, max_norm=0.5, _weight=TABLE, dtype=np.float64)
    step = td.record(lambda index: layer(index).square().sum())
    for index in ([0, 1], [2, 3], [4, 5]):
        assert step(np.array(index)).item() <= 2 * 0.25 + 1e-9
    assert (np.linalg.norm(layer.weight.detach().numpy(), axis=1) <= 0.5).all()


def test_a_table_that_is_given() -> None:
    layer = nn.Embedding(6, 3, _weight=TABLE, _freeze=True)
    np.testing.assert_array_equal(layer.weight.numpy(), TABLE)
    assert not layer.weight.requires_grad
    assert repr(nn.Embedding(4, 2, max_norm=1.0, norm_type=1.0)) == (
        "Embedding(4, 2, max_norm=1.0, norm_type=1.0)"
    )
    with pytest.raises(ValueError, match=r"Embedding: expected _weight \(5, 3\), got \(6, 3\)"):
        nn.Embedding(5, 3, _weight=TABLE)
