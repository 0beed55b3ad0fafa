"""Tensors: the dtypes of results, operators, copies and views, tensors of every kind."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl.engine.core import Tensor

pytestmark = pytest.mark.usefixtures("reference")


# ---- Promotion: a line of DESIGN's table each


F32, F64, I64, I32, BOOL = np.float32, np.float64, np.int64, np.int32, np.bool_


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (td.ones(2), 2, F32),  # Python numbers are weak
        (td.ones(2), 2.0, F32),
        (td.ones(2), True, F32),
        (td.ones(2), np.float64(2.0), F32),  # NumPy scalars too
        (td.ones(2), np.float64(1e30) * 0, F32),
        (td.ones(2), np.int64(2), F32),
        (td.ones(2), td.tensor(np.array(2.0)), F32),  # and 0-d tensors
        (td.ones(2), np.array(2.0), F32),
        (td.ones(2, dtype=F64), td.tensor(2.0), F64),
        (td.tensor([1, 2]), 2, I64),
        (td.tensor([1, 2]), 2.0, F32),  # an integer array and a Python float
        (td.tensor([1, 2]), td.tensor(2.0), F32),
        (td.tensor([1, 2]), td.tensor(np.array(2.0)), F64),
        (td.tensor(np.array([1, 2], I32)), 2, I32),
        (td.tensor(np.array([1, 2], I32)), td.tensor(2), I32),
        (td.tensor([True]), 2, I64),
        (td.tensor([True]), 2.0, F32),
        (td.tensor([True]), td.tensor([True]), BOOL),
        (td.ones(2), td.ones(2, dtype=F64), F64),  # arrays decide among themselves
        (td.tensor([1, 2]), td.ones(2), F32),
        (td.tensor([True]), td.ones(2), F32),
        (td.tensor(1.0), td.ones((), dtype=F64), F64),  # 0-d among themselves
        (td.tensor(1.0), 2.0, F32),
        (td.tensor(1), 2.0, F32),
    ],
)
def test_promotion(left: Any, right: Any, expected: Any) -> None:
    assert (left * right).dtype == expected
    assert (right * left).dtype == expected
    assert td.maximum(left, right).dtype == expected


def test_division_gives_floating_point() -> None:
    assert (td.tensor([3]) / td.tensor([2])).tolist() == [1.5]
    assert (td.tensor([3]) / 2).dtype == F32
    assert (td.tensor([True]) / td.tensor([2])).dtype == F32
    assert td.exp(td.tensor([0])).dtype == F32
    assert td.exp(td.ones(1, dtype=F64)).dtype == F64
    assert td.mean(td.tensor([1, 2])).item() == 1.5


def test_dtype_of_a_new_tensor() -> None:
    assert td.tensor([1.0]).dtype == F32
    assert td.tensor(1.0).dtype == F32
    assert td.tensor([[1, 2]]).dtype == I64
    assert td.tensor([True]).dtype == BOOL
    assert td.tensor(np.ones(2)).dtype == F64
    assert td.tensor(np.float64(1.0)).dtype == F64
    assert td.tensor([np.float64(1.0)]).dtype == F64
    assert td.tensor(np.ones(2, ">f4")).dtype == F32
    assert td.tensor([1.0], dtype="float64").dtype == F64


def test_gradients_keep_the_dtype_of_what_they_are_taken_of() -> None:
    a, b = td.ones(2, requires_grad=True), td.ones(2, dtype=F64, requires_grad=True)
    (td.sum(a * b)).backward()
    assert (a.grad.dtype, b.grad.dtype) == (F32, F64)


def test_weak_numbers_keep_their_gradient() -> None:
    scale, x = td.tensor(np.array(2.0), requires_grad=True), td.ones(3)
    td.sum(x * scale).backward()
    assert scale.grad.dtype == F64
    assert scale.grad.item() == 3.0


def test_operators_and_their_swapped_forms() -> None:
    x, n = td.tensor([1.0, 4.0]), np.array([2.0, 3.0], F32)
    for other in (2.0, n, td.tensor(n)):
        value = other.numpy() if isinstance(other, Tensor) else other
        for op in ("add", "sub", "mul", "truediv", "pow"):
            forward, swapped = (getattr(np.ndarray, f"__{side}{op}__") for side in ("", "r"))
            np.testing.assert_allclose(
                getattr(Tensor, f"__{op}__")(x, other).numpy(), forward(x.numpy(), value), rtol=1e-6
            )
            np.testing.assert_allclose(
                getattr(Tensor, f"__r{op}__")(x, other).numpy(), swapped(x.numpy(), value), rtol=1e-6
            )
    assert isinstance(n * x, Tensor)  # an array leaves it to the tensor
    assert (n - x).tolist() == [1.0, -1.0]
    assert (~(x > 2.0)).tolist() == [True, False]
    assert ((x > 0.0) & (x < 2.0)).tolist() == [True, False]
    assert ((x < 2.0) | (x > 3.0)).tolist() == [True, True]
    assert (x == 4.0).tolist() == [False, True]
    assert (-x).tolist() == [-1.0, -4.0]
    assert abs(-x).tolist() == [1.0, 4.0]


# ---- Tensors of every kind


def test_integers_and_booleans_carry_no_gradient() -> None:
    x = td.tensor([1.0, -1.0], requires_grad=True)
    mask = x > 0.0
    assert mask.dtype == BOOL
    assert not mask.requires_grad
    td.sum(x * mask).backward()
    assert x.grad.tolist() == [1.0, 0.0]
    indices = td.max(x, 0)[1]
    assert indices.dtype == I64
    assert not indices.requires_grad


def test_0d_and_empty() -> None:
    x = td.tensor(3.0, requires_grad=True)
    (x * x).backward()
    assert x.grad.shape == ()
    assert x.grad.item() == 6.0
    e = td.zeros(0, 3, requires_grad=True)
    td.sum(e * 2.0).backward()
    assert e.grad.shape == (0, 3)
    assert (float(x), int(x), bool(x)) == (3.0, 3, True)
    with pytest.raises(TypeError, match="len: expected at least one dim"):
        len(x)


def test_broadcast_gradients_come_back_in_shape() -> None:
    a, b = td.ones(2, 1, 3, requires_grad=True), td.ones(4, 1, requires_grad=True)
    td.sum(a * b).backward()
    assert a.grad.tolist() == np.full((2, 1, 3), 4.0).tolist()
    assert b.grad.tolist() == np.full((4, 1), 6.0).tolist()


def test_copies_and_shares() -> None:
    array = np.zeros(2, np.float32)
    copied, shared = td.tensor(array), td.from_numpy(array)
    array[0] = 1.0
    assert copied.tolist() == [0.0, 0.0]
    assert shared.tolist() == [1.0, 0.0]
    with pytest.raises(DtypeError, match=r"from_numpy: expected a numpy\.ndarray, got list"):
        td.from_numpy([1.0])


def test_numpy_is_read_only_where_the_tape_relies_on_it() -> None:
    x = td.ones(2)
    x.numpy()[0] = 5.0
    assert x.tolist() == [5.0, 1.0]
    w = td.tensor([1.0, 2.0], requires_grad=True)
    y = td.sum(x * w)
    for tensor in (x, x.detach(), w, y):
        with pytest.raises(ValueError, match="read-only"):
            tensor.numpy()[...] = 0.0
    assert np.asarray(x).tolist() == [5.0, 1.0]
    np.array(x)[0] = 7.0  # a copy
    assert x.tolist() == [5.0, 1.0]


def test_deepcopy_is_a_leaf_of_its_own() -> None:
    x = td.tensor([1.0, 2.0], requires_grad=True)
    x.register_hook(lambda g: g * 100.0)
    td.sum(x).backward()
    twin = copy.deepcopy(x)
    assert twin.requires_grad
    assert twin.slot is not x.slot
    assert not np.shares_memory(twin.array, x.array)
    td.sum(twin * 2.0).backward()
    assert x.grad.tolist() == [100.0, 100.0]
    pair = copy.deepcopy([x, x])
    assert pair[0] is pair[1]


def test_setitem_on_plain_tensors() -> None:
    x = td.zeros(2, 3)
    x[0, 1:] = td.ones(2)
    x[1] = 5
    assert x.tolist() == [[0.0, 1.0, 1.0], [5.0, 5.0, 5.0]]
    with pytest.raises((ShapeError, ValueError)):
        x[0] = td.ones(4)
