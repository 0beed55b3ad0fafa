"""Integers keep all of their bits, and compare with numbers that their dtype cannot hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError

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
    """PyTorch's: 0 of NaN, where NumPy has NaN."""
    x = np.array([-np.inf, -2, -0.0, 0, 1e-30, np.inf, np.nan], dtype)
    with td.backend(backend):
        y = td.sign(td.tensor(x)).numpy()
    np.testing.assert_array_equal(y, [-1, -1, 0, 0, 1, 1, 0])


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


X, AT, MASK = td.tensor([0, 1, 100], dtype=td.uint8), td.tensor([0]), td.tensor([True, False, True])
WRITES: dict[str, Any] = {
    "masked_fill": lambda v: X.masked_fill(MASK, v),
    "index_fill": lambda v: X.index_fill(0, AT, v),
    "scatter": lambda v: X.scatter(0, AT, v),
    "pad": lambda v: td.pad(X, (1, 1), value=v),
    "searchsorted": lambda v: td.searchsorted(X, v),
    "fill_": lambda v: X.clone().fill_(v),
    "masked_fill_": lambda v: X.clone().masked_fill_(MASK, v),
    "assign": lambda v: X.clone().__setitem__(0, v),
    "indexing assignment": lambda v: X.clone().__setitem__(AT, v),
    "full": lambda v: td.full((2,), v, dtype="uint8"),
    "full_like": lambda v: td.full_like(X, v),
}
SUMS: dict[str, Any] = {
    "add": lambda v: X + v,
    "sub": lambda v: v - X,
    "mul": lambda v: X * v,
    "floor_divide": lambda v: X // v,
    "remainder": lambda v: X % v,
    "fmod": lambda v: td.fmod(X, v),
    "maximum": lambda v: td.maximum(X, v),
    "minimum": lambda v: td.minimum(X, v),
    "where": lambda v: td.where(MASK, X, v),
    "add_": lambda v: X.clone().add_(v),
    "threshold": lambda v: td.threshold(X, v, v),
}


@pytest.mark.parametrize("name", [*WRITES, *SUMS])
@pytest.mark.parametrize("number", [300, 2**70])
def test_a_number_that_an_integer_dtype_cannot_hold_is_refused_by_name(name: str, number: int) -> None:
    call = {**WRITES, **SUMS}[name]
    with pytest.raises(
        DtypeError, match=r"^\w+( assignment)?: expected (a number|numbers) that u?int\d+ can hold"
    ):
        call(number)


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("number", [1e10, -1.5e3, np.inf, np.nan])
def test_a_fraction_that_an_integer_dtype_cannot_hold_is_refused_by_name(name: str, number: float) -> None:
    with pytest.raises(DtypeError, match=r"expected (a number|numbers) that uint8 can hold"):
        WRITES[name](number)


def test_what_an_integer_dtype_can_hold_is_cut_to_a_whole_number() -> None:
    assert X.clone().fill_(2.7).tolist() == [2, 2, 2]
    assert X.masked_fill(MASK, 254.9).tolist() == [254, 1, 254]
    assert X.clone().fill_(-1).tolist() == [255] * 3  # counted down from 256, as in PyTorch
    y = X.clone()
    y[0] = -1
    assert y.tolist() == [255, 1, 100]
    assert td.zeros(2, dtype="int64").fill_(2**62 + 1).tolist() == [2**62 + 1] * 2
    assert td.zeros(1, dtype="bool").fill_(300).tolist() == [True]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: td.pow(x, td.tensor([-1, -3, -2, 2])), [0, -1, 1, 9]),
        (lambda x: td.pow(2, x), [4, 0, 2, 8]),
        (lambda x: td.hardtanh(x), [1, -1, 1, 1]),
        (lambda x: td.relu6(x * 4), [6, 0, 4, 6]),
        (lambda x: td.threshold(x, 1.0, 20.0), [2, 20, 20, 3]),
        (lambda x: td.addcmul(x, x, x, value=2.0), [10, 1, 3, 21]),
        (lambda x: td.addmm(x[:1], x[None], x[:, None], beta=-1.0)[0], [13]),
        (lambda x: td.index_add(x, 0, td.tensor([0, 0]), x[:2], alpha=2.0), [4, -1, 1, 3]),
        (lambda x: td.cat([x, td.zeros(0, dtype="int64")]), [2, -1, 1, 3]),
    ],
)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_integers_stay_integers(call: Any, expected: list[int], backend: str) -> None:
    """As PyTorch has them; beside whole numbers, too."""
    x = td.tensor([2, -1, 1, 3])
    with td.backend(backend):
        step = td.record(call)
        for found in (call(x), step(x), step(x), step(x)):
            assert found.dtype == x.dtype
            assert found.tolist() == expected


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_sums_by_index_keep_the_dtype(dtype: str) -> None:
    x, index = td.tensor(np.array([1, 0, 1], dtype)), td.tensor([0, 0, 2])
    assert td.scatter_add(x, 0, index, x).dtype == x.dtype
    assert td.scatter_reduce(x, 0, index, x, "sum").dtype == x.dtype


def test_what_is_joined_has_the_common_dtype() -> None:
    x, n = td.ones(2), td.tensor([1, 2])
    assert td.cat([n, x]).dtype == td.stack([n, x]).dtype == td.hstack([x, n]).dtype == td.float32
    assert td.cat([x, x.double()]).dtype == td.float64
    assert td.cat([td.ones(2, 3), td.zeros(0)]).shape == (2, 3)
    w = td.tensor([0.5], requires_grad=True)
    assert td.grad((td.cat([w, n.double()]) ** 2).sum(), [w])[0].tolist() == [1.0]
    with pytest.raises(DtypeError, match="index_add: expected a whole alpha for int64"):
        td.index_add(n, 0, n - 1, n, alpha=0.5)


@pytest.mark.parametrize("name", ["logaddexp", "xlogy", "pairwise_distance"])
def test_an_integer_beside_a_float_has_its_dtype(name: str) -> None:
    x, y = np.array([[1.5, 2.0]]), np.array([[2, 3]])
    found = getattr(td, name)(td.tensor(x), td.tensor(y))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found.numpy(), getattr(td, name)(td.tensor(x), td.tensor(y * 1.0)).numpy())


BITS: dict[str, Any] = {
    "&": lambda x, y: x & y,
    "|": lambda x, y: x | y,
    "^": lambda x, y: x ^ y,
    "<<": lambda x, y: x << y,
    ">>": lambda x, y: x >> y,
    "~": lambda x, y: ~x,
    "r&": lambda x, y: 5 & x,
    "r|": lambda x, y: 5 | x,
    "r^": lambda x, y: 5 ^ x,
    "r<<": lambda x, y: 5 << x,
    "r>>": lambda x, y: 100 >> x,
}


@BACKENDS
@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize("dtype", KINDS)
def test_operators_of_bits_are_numpys(name: str, dtype: str, backend: str) -> None:
    limits = np.iinfo(dtype)
    x = np.array([limits.min, 3, 100, limits.max], dtype)
    y = np.array([1, 0, 70, 9], dtype)
    if dtype == "uint64" and backend == "cuda-emulated":
        x = x[:3]  # computed in int64 there
        y = y[:3]
    with td.backend(backend):
        found = BITS[name](td.tensor(x), td.tensor(y))
        recorded = td.record(BITS[name])
        again = [recorded(x, y), recorded(td.tensor(x), td.tensor(y))]
    with np.errstate(all="ignore"):
        expected = BITS[name](x, y)
    for each in (found, again[1]):
        assert each.dtype == expected.dtype
        np.testing.assert_array_equal(each.numpy(), expected)


def test_bits_in_place_and_of_two_dtypes() -> None:
    x = td.tensor(np.array([6, 3], np.uint8))
    view = x[:1]
    x &= 5
    x |= 8
    x ^= 1
    x <<= 2
    x >>= 1
    assert (x.dtype, x.tolist(), view.tolist()) == ("uint8", [26, 16], [26])
    assert x.bitwise_and_(24).bitwise_not_().tolist() == [231, 239]
    assert (x & td.tensor([True, False])).tolist() == [1, 0]
    assert (td.tensor([True, False]) << 1).tolist() == [2, 0]
    assert (x | td.tensor(np.array([256], np.int16))).dtype == np.int16
    with pytest.raises(DtypeError, match="bitwise_and: expected a number that uint8 can hold, got 256"):
        x & 256
