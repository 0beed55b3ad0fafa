"""Integers keep all of their bits, and compare with numbers that their dtype cannot hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinydl as td

BACKENDS = pytest.mark.parametrize("backend", ["reference", "cpu", "cuda-emulated"])
KINDS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@BACKENDS
@pytest.mark.parametrize("dtype", KINDS)
def test_sign(dtype: str, backend: str) -> None:
    limits = np.iinfo(dtype)
    x = np.array([limits.min, 0, 1, limits.max // 2 + 50, limits.max - 1], dtype)
    if dtype == "uint64" and backend == "cuda-emulated":
        x = x[:3]  # computed in int64 there
    with td.backend(backend):
        y = td.sign(td.tensor(x))
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.numpy(), np.sign(x))


@BACKENDS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sign_of_floats(dtype: str, backend: str) -> None:
    x = np.array([-np.inf, -2, -0.0, 0, 1e-30, np.inf, np.nan], dtype)
    with td.backend(backend):
        y = td.sign(td.tensor(x)).numpy()
    np.testing.assert_array_equal(y, np.sign(x))


@BACKENDS
@pytest.mark.parametrize("name", ["round", "floor", "ceil", "trunc"])
@pytest.mark.parametrize("dtype", KINDS)
def test_integers_are_round(name: str, dtype: str, backend: str) -> None:
    limits = np.iinfo(dtype)
    x = td.tensor(np.array([limits.min, 1, limits.max - 2, limits.max], dtype))
    with td.backend(backend):
        y = getattr(td, name)(x)
        recorded = td.record(lambda x: getattr(td, name)(x))
        again = [recorded(x), recorded(x)]
    for found in (y, *again):
        assert found.dtype == x.dtype
        np.testing.assert_array_equal(found.numpy(), x.numpy())
    assert not np.shares_memory(y.numpy(), x.numpy())


@BACKENDS
@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
@pytest.mark.parametrize("dtype", KINDS)
def test_comparisons_with_numbers_beyond_the_dtype(name: str, dtype: str, backend: str) -> None:
    limits = np.iinfo(dtype)
    x = np.array([limits.min, 1, min(limits.max, 2**63 - 1)], dtype)
    numbers = [-1, -100, limits.min - 1, limits.max + 1, 2**70, -(2**70), 1]
    with td.backend(backend):
        for number in numbers:
            ours, theirs = (
                getattr(td, name),
                getattr(
                    np,
                    {
                        "eq": "equal",
                        "ne": "not_equal",
                        "lt": "less",
                        "le": "less_equal",
                        "gt": "greater",
                        "ge": "greater_equal",
                    }[name],
                ),
            )
            wide = x.astype(object)
            np.testing.assert_array_equal(
                ours(td.tensor(x), number).numpy(), theirs(wide, number).astype(bool)
            )
            np.testing.assert_array_equal(
                ours(number, td.tensor(x)).numpy(), theirs(number, wide).astype(bool)
            )


def test_operators_compare_too() -> None:
    x = td.tensor(np.array([1, 255], np.uint8))
    assert (x == -1).tolist() == [False, False]
    assert (x != -1).tolist() == (x > -1).tolist() == (x < 256).tolist() == (x > -1).tolist() == [True, True]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_of_any_integer_dtype(dtype: str, weighted: bool) -> None:
    random = np.random.default_rng(0)
    x, w = random.standard_normal((3, 4)), td.tensor(random.uniform(1, 2, 4)) if weighted else None
    narrow, wide = (td.tensor(np.array([0, 3, 1], d)) for d in (dtype, "int64"))
    losses: list[Any] = [td.cross_entropy, lambda x, t, w: td.nll_loss(td.log_softmax(x, 1), t, w)]
    for loss in losses:
        found, expected = (loss(td.tensor(x), t, w).item() for t in (narrow, wide))
        assert found == expected


@BACKENDS
def test_bounds_beyond_the_dtype_limit_nothing(backend: str) -> None:
    x = td.tensor(np.array([0, 7, 255], np.uint8))
    with td.backend(backend):
        assert td.clip(x, -5, 300).tolist() == [0, 7, 255]
        assert td.clip(x, 3, 300).tolist() == [3, 7, 255]
        assert td.clip(x, max=-1).tolist() == [0, 0, 0]
