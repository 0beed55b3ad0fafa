"""Gradients are carried or refused by name; old signatures that would mean something else are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError, GraphError, ShapeError

import tinydl as td

BACKENDS = pytest.mark.parametrize("backend", ["reference", "cpu"])


def leaf(values: Any) -> Any:
    return td.tensor(np.array(values, np.float64), requires_grad=True)


# ---- Carried


CARRIED: list[tuple[str, Callable[[Any], Any]]] = [
    ("full", lambda w: td.full((2, 3), w * w)),
    ("full_like", lambda w: td.full_like(td.zeros(4, dtype="float64"), w * w)),
    ("pad", lambda w: td.pad(td.ones(1, 2, 2, dtype="float64"), (1, 0, 2, 1), value=w * w)),
    ("pad and crop", lambda w: td.pad(td.ones(3, 3, dtype="float64"), (2, -1, 0, 0), value=w * w)),
    (
        "scatter",
        lambda w: td.scatter(td.zeros(3, dtype="float64"), 0, td.tensor([0, 2]), td.full((2,), w * w)),
    ),
    (
        "masked_fill",
        lambda w: td.masked_fill(td.zeros(3, dtype="float64"), td.tensor([True, False, True]), w * w),
    ),
    ("clip", lambda w: td.clip(td.zeros(3, dtype="float64"), min=w * w)),
    ("assign", lambda w: assigned(td.zeros(3, dtype="float64"), 1, w * w)),
    ("assign to a result", lambda w: assigned(w * td.ones(3, dtype="float64"), [0, 2], w * w)),
    ("assign a number", lambda w: assigned(w * td.ones(3, dtype="float64"), slice(1, None), 2.0)),
    ("assign rows", lambda w: assigned(w * td.ones(3, 2, dtype="float64"), [1, 1], td.full((1, 2), w * w))),
]


def assigned(x: Any, index: Any, value: Any) -> Any:
    x[index] = value
    return x


@BACKENDS
@pytest.mark.parametrize(("name", "f"), CARRIED, ids=[name for name, _ in CARRIED])
def test_a_value_carries_its_gradient(name: str, f: Callable[[Any], Any], backend: str) -> None:
    with td.backend(backend):
        assert td.gradcheck(f, leaf(1.5), 2)
        recorded = td.record(lambda w: td.grad((f(w) ** 2).sum(), w)[0])
        for value in (1.5, 0.5, 2.0):  # a value that froze would show
            w = leaf(value)
            np.testing.assert_allclose(recorded(w).numpy(), td.grad((f(w) ** 2).sum(), w)[0].numpy())


def test_full_of_a_tensor() -> None:
    y = td.full((2, 3), td.tensor(2))
    assert (y.dtype, y.tolist()) == (np.int64, [[2, 2, 2]] * 2)
    assert td.full_like(td.zeros(2), td.tensor(3)).dtype == np.float32
    with pytest.raises(ShapeError, match=r"full: expected one fill_value, got \(2,\)"):
        td.full((2,), td.ones(2))
    with pytest.raises(ShapeError, match=r"pad: expected value a number or a 0-d tensor, got \(2,\)"):
        td.pad(td.ones(2), (1, 1), value=td.ones(2))


def test_full_of_a_number_in_a_recorded_step() -> None:
    step = td.record(lambda x: x + td.full((2,), 1.5) + td.full_like(x, 2))
    for _ in range(3):
        assert step(td.ones(2)).tolist() == [4.5, 4.5]


# ---- Refused


@pytest.mark.parametrize("index", [0, slice(0, 1), [0], td.tensor([True, False])], ids=str)
def test_a_write_off_the_tape_lets_go_of_the_gradient(index: Any) -> None:
    w, o = leaf([2.0, 3.0]), td.zeros(2, dtype="float64")
    o[index] = (w[0] ** 2).detach()
    with td.no_grad():
        o[index] = w[0] ** 2
    assert (o.tolist(), o.requires_grad) == ([4, 0], False)


def test_a_write_refuses_what_shares_memory_or_is_a_leaf() -> None:
    w, o = leaf([2.0, 3.0]), td.zeros(2, 2, dtype="float64")
    row = o[0]
    for refused in (o, row, w):
        with pytest.raises(GraphError, match=r"^indexing assignment: expected "):
            refused[0] = w[1] ** 2
    with pytest.raises(DtypeError, match="indexing assignment: expected a value that int64 can hold"):
        td.zeros(2, dtype="int64")[0] = w[0]


def test_a_buffer_refuses_what_requires_grad() -> None:
    w = leaf([2.0])
    with pytest.raises(GraphError, match="Buffer: expected data without gradient"):
        td.nn.Buffer(w * 2)
    assert td.nn.Buffer((w * 2).detach()).tolist() == [4]
    with td.no_grad():
        assert td.nn.Buffer(w).tolist() == [2]


# ---- Old signatures

X, V, N = td.ones(2), td.ones(2), td.ones(2)
CUBE = td.ones(2, 3, 4)
OLD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: td.addcdiv(X, 1.0, V, N),
        DtypeError,
        "addcdiv: expected (input, tensor1, tensor2, value) with a number",
    ),
    (
        lambda: td.addcmul(X, 1.0, V, N),
        DtypeError,
        "addcmul: expected (input, tensor1, tensor2, value) with a number",
    ),
    (
        lambda: td.nn.CrossEntropyLoss(None, False),
        TypeError,
        "CrossEntropyLoss: expected ignore_index an integer",
    ),
    (lambda: td.nn.NLLLoss(None, False), TypeError, "NLLLoss: expected ignore_index an integer, got False"),
    (
        lambda: td.cross_entropy(td.ones(2, 2), td.tensor([0, 1]), None, True),
        TypeError,
        "cross_entropy: expected ignore",
    ),
    (
        lambda: td.nll_loss(td.ones(2, 2), td.tensor([0, 1]), None, None),
        TypeError,
        "nll_loss: expected ignore_index",
    ),
    (
        lambda: td.poisson_nll_loss(X, V, True, False, True),
        TypeError,
        "poisson_nll_loss: expected eps a number",
    ),
    (lambda: td.softmax(CUBE), ShapeError, "softmax: expected dim for (2, 3, 4), got None"),
    (lambda: td.log_softmax(CUBE), ShapeError, "log_softmax: expected dim for (2, 3, 4), got None"),
    (lambda: td.softmin(CUBE), ShapeError, "softmin: expected dim for (2, 3, 4), got None"),
    (lambda: CUBE.softmax(), ShapeError, "softmax: expected dim for (2, 3, 4), got None"),
    (lambda: td.nn.Softmax()(CUBE), ShapeError, "softmax: expected dim for (2, 3, 4), got None"),
    (lambda: td.Tensor([1.0, 2.0]), DtypeError, "Tensor: expected an array, got list: use tinydl.tensor"),
    (lambda: td.Tensor(3), DtypeError, "Tensor: expected an array, got int: use tinydl.tensor"),
]


@pytest.mark.parametrize(("call", "error", "message"), OLD, ids=[message[:40] for *_, message in OLD])
def test_what_would_mean_something_else_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as refused:
        call()
    assert str(refused.value).startswith(message)


def test_softmax_of_two_dims_needs_no_dim() -> None:
    x = td.tensor(np.random.default_rng(0).standard_normal((2, 3)))
    assert td.softmax(x).tolist() == td.softmax(x, 1).tolist()
    assert td.log_softmax(x[0]).tolist() == td.log_softmax(x[0], 0).tolist()
