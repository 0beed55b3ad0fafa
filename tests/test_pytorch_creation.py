"""What makes tensors, draws random numbers and initializes parameters, against PyTorch: shapes, dtypes, and
values where there is no chance in them; spreads where there is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from comparisons import comparison

import tinydl as td

LIKE = np.arange(6, dtype=np.float32).reshape(2, 3)

# The same expression of `t`, tinydl or torch.
CREATED: dict[str, Callable[..., Any]] = {
    "zeros": lambda t: t.zeros(2, 3),
    "zeros of integers": lambda t: t.zeros((2,), dtype=t.int64),
    "ones": lambda t: t.ones((2, 3)),
    "full": lambda t: t.full((2, 3), 2.5),
    "full of an integer": lambda t: t.full((2, 3), 7),
    "full of a bool": lambda t: t.full((2,), True),
    "eye": lambda t: t.eye(3),
    "eye of two sizes": lambda t: t.eye(3, 5),
    "arange": lambda t: t.arange(5),
    "arange from": lambda t: t.arange(1, 4),
    "arange by": lambda t: t.arange(1.0, 2.5, 0.5),
    "zeros_like": lambda t: t.zeros_like(t.tensor(LIKE)),
    "ones_like": lambda t: t.ones_like(t.tensor(LIKE)),
    "full_like": lambda t: t.full_like(t.tensor(LIKE), 3),
    "tensor of numbers": lambda t: t.tensor([[1.0, 2.0], [3.0, 4.0]]),
    "tensor of integers": lambda t: t.tensor([1, 2, 3]),
    "tensor of bools": lambda t: t.tensor([True, False]),
    "tensor of a number": lambda t: t.tensor(3.5),
    "as_tensor": lambda t: t.as_tensor(LIKE),
    "as_tensor of a list": lambda t: t.as_tensor([1.5, 2.0]),
    "from_numpy": lambda t: t.from_numpy(LIKE),
    "from_dlpack": lambda t: t.from_dlpack(LIKE.copy()),
    # random, but with one outcome
    "bernoulli": lambda t: t.bernoulli(t.tensor([0.0, 1.0, 1.0])),
    "randint": lambda t: t.randint(3, 4, (2, 3)),
    "randint from 0": lambda t: t.randint(1, (4,)),
    "randperm": lambda t: t.randperm(1),
    "normal": lambda t: t.normal(t.tensor([1.0, 2.0]), t.tensor([0.0, 0.0])),
}
SHAPED: dict[str, Callable[..., Any]] = {
    "empty": lambda t: t.empty(2, 3),
    "empty_like": lambda t: t.empty_like(t.tensor(LIKE)),
    "rand": lambda t: t.rand(2, 3),
    "rand_like": lambda t: t.rand_like(t.tensor(LIKE)),
    "randn": lambda t: t.randn((2, 3)),
    "randn_like": lambda t: t.randn_like(t.tensor(LIKE)),
    "randperm": lambda t: t.randperm(5),
    "normal": lambda t: t.normal(0.0, 1.0, (2, 3)),
    "randint": lambda t: t.randint(0, 9, (2, 3)),
}


@pytest.fixture
def torch() -> Any:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch


def twins(call: Callable[..., Any], torch: Any) -> tuple[np.ndarray, np.ndarray]:
    with comparison():
        ours, theirs = call(td), call(torch)
    found, expected = ours.detach().numpy(), theirs.detach().numpy()
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    return found, expected


@pytest.mark.parametrize("call", CREATED.values(), ids=CREATED)
def test_created(torch: Any, call: Callable[..., Any]) -> None:
    np.testing.assert_array_equal(*twins(call, torch))


def test_is_tensor(torch: Any) -> None:
    for make in (lambda t: t.ones(2), lambda t: 2.0, lambda t: np.ones(2)):
        with comparison():
            assert td.is_tensor(make(td)) == torch.is_tensor(make(torch))


def test_linspace(torch: Any) -> None:
    np.testing.assert_allclose(*twins(lambda t: t.linspace(-3, 7, 23), torch), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("call", SHAPED.values(), ids=SHAPED)
def test_shapes_and_dtypes_of_what_is_not_determined(torch: Any, call: Callable[..., Any]) -> None:
    twins(call, torch)


# Initialization
# ------------------------------------------------------------------------------------------------------------


def initialized(name: str, settings: dict[str, Any], torch: Any) -> tuple[np.ndarray, np.ndarray]:
    """A matrix and a convolution's weight of 12,000 elements each, side by side."""
    return tuple(  # type: ignore[return-value]
        np.concatenate([w.ravel() for w in drawn])
        for drawn in zip(
            *(
                twins(lambda t: getattr(t.nn.init, name)(t.zeros(shape), **settings), torch)  # noqa: B023
                for shape in ((120, 100), (60, 40, 5))
            ),
            strict=True,
        )
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("constant_", {"val": 0.3}),
        ("ones_", {}),
        ("zeros_", {}),
        ("uniform_", {"a": 2.0, "b": 2.0}),
        ("normal_", {"mean": 3.0, "std": 0.0}),
    ],
)
def test_initial_values(torch: Any, name: str, settings: dict[str, Any]) -> None:
    np.testing.assert_array_equal(*initialized(name, settings, torch))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("uniform_", {"a": -1.0, "b": 3.0}),
        ("normal_", {"mean": 1.0, "std": 2.0}),
        ("trunc_normal_", {"std": 2.0, "a": -1.0, "b": 3.0}),
        ("xavier_uniform_", {"gain": 2.0}),
        ("xavier_normal_", {}),
        ("kaiming_uniform_", {"a": 0.5}),
        ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "relu"}),
        ("kaiming_normal_", {"mode": "fan_out"}),
        ("kaiming_normal_", {"nonlinearity": "tanh"}),
    ],
)
def test_spread_of_initial_values(torch: Any, name: str, settings: dict[str, Any]) -> None:
    """Standard deviations, means and quantiles of 24,000 numbers; the statistical error is a percent."""
    ours, theirs = initialized(name, settings, torch)
    scale = theirs.std()
    assert abs(ours.std() / scale - 1) < 0.03
    assert abs(ours.mean() - theirs.mean()) < 0.04 * scale
    for levels, tolerance in (([0.1, 0.3, 0.5, 0.7, 0.9], 0.06), ([0.001, 0.999], 0.3)):
        a, b = np.quantile(ours, levels), np.quantile(theirs, levels)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def test_orthogonal_initialization(torch: Any) -> None:
    for w in twins(lambda t: t.nn.init.orthogonal_(t.zeros(5, 8), gain=3.0), torch):
        np.testing.assert_allclose(w @ w.T, 9 * np.eye(5), atol=1e-5)


def test_sparse_initialization(torch: Any) -> None:
    ours, theirs = twins(lambda t: t.nn.init.sparse_(t.zeros(50, 30), sparsity=0.33, std=0.5), torch)
    np.testing.assert_array_equal((ours == 0).sum(0), (theirs == 0).sum(0))
