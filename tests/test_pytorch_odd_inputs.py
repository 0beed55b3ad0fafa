"""Odd inputs: nothing, one element, integers, mixed dtypes, NaN. Values, dtypes and shapes are PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from comparisons import comparison

import tinydl as td

pytestmark = pytest.mark.torch
NAN, INF = float("nan"), float("inf")

CASES: dict[str, Callable[[Any], Any]] = {
    "median of nothing": lambda t: t.median(t.zeros(0)),
    "median of nothing, double": lambda t: t.zeros(0, 3, dtype=t.float64).median(),
    "any of uint8": lambda t: t.any(t.tensor([0, 3], dtype=t.uint8)),
    "any of uint8 over dim": lambda t: t.tensor([[0, 3], [0, 0]], dtype=t.uint8).any(1, keepdim=True),
    "all of uint8": lambda t: t.all(t.tensor([0, 3], dtype=t.uint8)),
    "all of int8": lambda t: t.all(t.tensor([1, 3], dtype=t.int8)),
    "any of NaN": lambda t: t.any(t.tensor([NAN])),
    "random_ of 1": lambda t: t.ones(2).random_(1),
    "random_ between": lambda t: t.zeros(2).random_(3, 4),
    "chunks of nothing": lambda t: t.chunk(t.zeros(2, 0), 3, 1),
    "cat of two dtypes": lambda t: t.cat([t.ones(1), t.tensor([2])]),
    "cat of two widths": lambda t: t.cat([t.ones(1), t.ones(1, dtype=t.float64)]),
    "cat with bool": lambda t: t.cat([t.tensor([True]), t.tensor([2], dtype=t.uint8)]),
    "stack of two dtypes": lambda t: t.stack([t.tensor(1), t.tensor(2.5)]),
    "stack of integers": lambda t: t.stack([t.tensor([1], dtype=t.int8), t.tensor([200], dtype=t.uint8)]),
    "hstack of two dtypes": lambda t: t.hstack([t.tensor(1), t.tensor(2.5)]),
    "logsumexp of integers": lambda t: t.logsumexp(t.tensor([0, 1]), 0),
    "xlogy of integers": lambda t: t.xlogy(t.tensor([0, 2, 0]), t.tensor([0, 2, 3])),
    "xlogy of an integer and a number": lambda t: t.xlogy(t.tensor([0, 2]), 2),
    "sign of NaN": lambda t: t.sign(t.tensor([NAN, -INF])),
}


def shown(y: Any) -> Any:
    if isinstance(y, tuple):
        return tuple(map(shown, y))
    if not hasattr(y, "detach"):
        return y
    return str(y.dtype).removeprefix("torch."), tuple(y.shape), repr(y.detach().tolist())


@pytest.mark.parametrize("name", CASES)
def test_values_dtypes_and_shapes(name: str) -> None:
    torch = pytest.importorskip("torch")
    with comparison():
        assert shown(CASES[name](td)) == shown(CASES[name](torch))


REFUSED: dict[str, Callable[[Any], Any]] = {
    "random_ of 0": lambda t: t.zeros(2).random_(0),
    "random_ between equals": lambda t: t.zeros(2).random_(3, 3),
    "arange without end": lambda t: t.arange(0, INF),
    "arange from NaN": lambda t: t.arange(NAN, 3),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    torch = pytest.importorskip("torch")
    with comparison():
        with pytest.raises((RuntimeError, IndexError, ValueError)):
            REFUSED[name](torch)
        with pytest.raises(ValueError, match=r"^\w+: expected "):
            REFUSED[name](td)


def test_gradients_through_a_cat_of_two_widths() -> None:
    a, b = td.ones(2, requires_grad=True), td.ones(1, dtype="float64", requires_grad=True)
    (td.cat([a, b, td.tensor([3])]) ** 3).sum().backward()
    assert (a.grad.dtype, a.grad.tolist(), b.grad.dtype, b.grad.tolist()) == (
        "float32",
        [3.0, 3.0],
        "float64",
        [3.0],
    )
