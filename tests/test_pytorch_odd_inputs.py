"""Odd inputs: nothing, one element, integers, mixed dtypes, NaN. Values, dtypes and shapes are PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
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
    "index_fill from the end": lambda t: t.index_fill(t.zeros(3), 0, t.tensor([-1, 0]), 2.0),
    "sign of NaN": lambda t: t.sign(t.tensor([NAN, -INF])),
    "nansum of nothing": lambda t: t.nansum(t.zeros(0, 2), 0),
    "nansum of booleans": lambda t: t.nansum(t.tensor([True, True])),
    "nansum of uint8": lambda t: t.tensor([3, 200], dtype=t.uint8).nansum(),
    "nanmean of NaN": lambda t: t.nanmean(t.tensor([[NAN, NAN], [1, NAN]]), 1),
    "nanmean in double": lambda t: t.nanmean(t.tensor([1, NAN]), dtype=t.float64),
    "nanmedian of NaN": lambda t: t.nanmedian(t.tensor([[NAN, NAN], [1, NAN]]), 1)[0],
    "nanmedian of nothing": lambda t: t.nanmedian(t.zeros(0)),
    "nanmedian of integers": lambda t: t.nanmedian(t.tensor([3, 1, 2, 9])),
    "take from a number": lambda t: t.tensor(3.0).take(t.tensor([0, -1, 0])),
    "take of nothing": lambda t: t.take(t.zeros(0, 2), t.zeros(0, 3, dtype=t.int64)),
    "std_mean of one": lambda t: t.std_mean(t.tensor([2.0]), unbiased=False),
    "isin nothing": lambda t: t.isin(t.tensor([1, 2]), t.tensor([])),
    "isin of a number": lambda t: t.isin(2.5, t.tensor([1, 2])),
    "isin of two dtypes": lambda t: t.isin(t.tensor([1, 2]), t.tensor([2.0, NAN])),
    "gather by nothing of another rank": lambda t: t.gather(t.ones(3, 4), 1, t.zeros(0, dtype=t.int64)),
    "gather by nothing, too wide": lambda t: t.ones(3, 4).gather(0, t.zeros(0, 9, dtype=t.int64)),
    "gather by nothing of no integers": lambda t: t.ones(3).gather(0, t.zeros(0, 2)),
    "scatter_ by nothing": lambda t: t.ones(3, 4).scatter_(1, t.zeros(0, dtype=t.int64), 2.0),
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
    "bernoulli above 1": lambda t: t.bernoulli(t.tensor([0.5, 1.5])),
    "bernoulli below 0": lambda t: t.bernoulli(t.tensor([-0.1, 0.5], dtype=t.float64)),
    "bernoulli of NaN": lambda t: t.bernoulli(t.tensor(NAN)),
    "bernoulli_ above 1": lambda t: t.zeros(2).bernoulli_(t.tensor([0.5, 1.5])),
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


SCATTERED: dict[str, Callable[..., Any]] = {
    "gather": lambda t, x, i, y: t.gather(x, 1, i) * x.sum(),
    "scatter": lambda t, x, i, y: t.scatter(x, 1, i, y),
    "scatter of a number": lambda t, x, i, y: t.scatter(x, 1, i, 2.0),
    "scatter_add": lambda t, x, i, y: t.scatter_add(x, 1, i, y),
    "scatter_reduce": lambda t, x, i, y: t.scatter_reduce(x, 1, i, y, "prod", include_self=False),
}


@pytest.mark.parametrize("shape", [(0,), (0, 9), (3, 0), (0, 4, 1)])
@pytest.mark.parametrize("name", SCATTERED)
def test_an_index_of_nothing_has_any_shape(name: str, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    arrays = [np.arange(12.0).reshape(3, 4), np.zeros(shape, np.int64), np.arange(12.0).reshape(3, 4)]
    call, order = SCATTERED[name], 0 if name == "scatter_reduce" else 2  # PyTorch's fails in its backward
    assert_agree(
        lambda x, i, y: call(td, x**2, i, y),
        lambda x, i, y: call(torch, x**2, i, y),
        arrays,
        order=order,
        fixed=(2,),
    )


def test_bernoulli_in_a_replay_gives_nan_for_what_is_no_probability() -> None:
    step = td.record(lambda p: td.bernoulli(p))
    step(td.tensor([0.0, 1.0, 1.0]))
    drawn = step(td.tensor([0.0, 1.5, NAN])).numpy()
    np.testing.assert_array_equal(drawn, [0.0, NAN, NAN])


# ---- x[index] = value, with a gradient

INDICES: dict[str, Callable[[Any], Any]] = {
    "integer": lambda t: -1,
    "all": lambda t: ...,
    "slices": lambda t: (slice(None), slice(1, 3)),
    "new dim": lambda t: (None, slice(1, None)),
    "nothing": lambda t: slice(2, 1),
    "places": lambda t: t.tensor([2, 0]),
    "places behind a slice": lambda t: (slice(None), [3, 1]),
    "places of two dims": lambda t: (t.tensor([[0], [1]]), t.tensor([0, 3])),
    "mask": lambda t: t.tensor([True, False, True]),
    "mask of two dims": lambda t: t.tensor([[True, False, True, False]] * 3),
    "mask of the last dim": lambda t: (..., t.tensor([False, True])),
}
VALUES: dict[str, Callable[[Any, Any], Any]] = {
    "a number": lambda t, size: 2.5,
    "an element": lambda t, size: t.tensor(1.5, dtype=t.float64),
    "a row": lambda t, size: t.tensor(np.arange(1.0, 1 + size[-1])),
    "a row in two dims": lambda t, size: t.tensor(np.arange(1.0, 1 + size[-1])[None]),
    "each": lambda t, size: t.tensor(np.arange(1.0, 1 + np.prod(size)).reshape(size)),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("index", INDICES)
def test_assignment_carries_gradients(index: str, value: str) -> None:
    torch = pytest.importorskip("torch")
    arrays = [np.random.default_rng(0).standard_normal(shape) for shape in ((3, 4, 2), (3, 1, 2))]

    def written(t: Any) -> Callable[..., Any]:
        def f(x: Any, w: Any) -> Any:
            y, place = x * w, INDICES[index](t)
            given = VALUES[value](t, tuple(y[place].shape))
            y[place] = given if isinstance(given, float) else given * w[1, 0, 1] ** 2
            return y

        return f

    assert_agree(written(td), written(torch), arrays)
