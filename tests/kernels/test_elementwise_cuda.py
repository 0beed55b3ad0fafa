"""Elementwise kernels on the emulator: every operation and dtype, every kind of operand."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from emulated import agrees, agrees_checked, needs_compiler
from hypothesis import given, settings
from hypothesis import strategies as st
from test_elementwise import SPECIAL, operand, operands
from tinydl_kernels import elementwise
from tinydl_kernels.cuda import launching
from tinydl_kernels.elementwise import functions
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.validate import agree

pytestmark = needs_compiler
once = functools.partial(agree, only="cuda-emulated")
FLOATS = (np.float32, np.float64)
OPERATIONS = {
    name.partition(".")[2]: op
    for name, op in dispatch.operations.items()
    if name.startswith(("elementwise.", "functions."))
}
BINARY = [
    *("add", "sub", "mul", "div", "pow", "maximum", "minimum", "gate", "weighted", "atan2", "hypot"),
    *("floor_divide", "remainder", "fmod"),
    *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"),
]
OF_MASKS = ["abs", "copy", "isfinite", "isinf", "isnan", "logical_not", "relu"]
BITS = ["bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"]
UNARY = sorted(
    set(OPERATIONS) - {*BINARY, *BITS, "bitwise_not", "where", "clip", "between", "cast", "polygamma"}
)


def values(dtype):
    if dtype in FLOATS:
        return np.concatenate([np.array(SPECIAL, dtype), np.linspace(-20, 20, 101, dtype=dtype)])
    return np.arange(-3, 4).astype(dtype)


def tolerance(dtype):
    return 1e-5 if dtype == np.float32 else 1e-12


@pytest.mark.parametrize("name", OF_MASKS)
def test_unary_on_masks(name):
    once(OPERATIONS[name], values(bool))


@pytest.mark.parametrize("dtype", [*FLOATS, np.int64])
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, dtype):
    x = values(dtype)
    if name in ("erf", "erfc", "lgamma", "digamma"):
        x = (
            x[np.abs(x) < 1e4].astype(np.result_type(x, np.float32))
            if dtype in FLOATS
            else x.astype(np.float64)
        )
    once(OPERATIONS[name], x, tolerance=tolerance(dtype))


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8])
def test_bits(dtype):
    x, by = values(dtype), np.arange(-70, 70, dtype=np.int64).astype(dtype)
    once(OPERATIONS["bitwise_not"], x)
    for name in BITS:
        once(OPERATIONS[name], x[:, None], by)


@pytest.mark.parametrize("dtype", [*FLOATS, np.int64, bool])
@pytest.mark.parametrize("name", BINARY)
def test_binary(name, dtype):
    if dtype is bool and name == "sub":
        return  # NumPy does not subtract truth values
    x = values(dtype)[:16]
    exponents = np.abs(x) if name == "pow" and dtype is np.int64 else x
    once(OPERATIONS[name], x[:, None], exponents, tolerance=tolerance(dtype))


@pytest.mark.parametrize("dtype", [*FLOATS, np.int64, bool])
def test_three_and_four_operands(dtype):
    x, y = (np.random.default_rng(0).integers(-3, 4, (2, 5, 7))).astype(dtype)
    once(elementwise.where, x[:1] > 0, x, y)
    once(elementwise.where, x[:1], x, y)
    low, high = np.asarray(-1).astype(dtype), np.asarray(1).astype(dtype)
    once(elementwise.clip, x, low, high)
    once(elementwise.between, y, x, low, high)


def test_polygamma():
    x = np.array([0.3, 1.0, 2.5, 30.0, -1.0, 0.0, -0.5])
    for n in (1, 2, 5):
        once(functions.polygamma, np.asarray(float(n)), x)
        once(functions.polygamma, np.asarray(n), x.astype(np.float32), tolerance=1e-5)


def test_mixed_dtypes_are_numpys():
    whole, mask, x = np.arange(-3, 4), np.arange(7) % 2 == 0, np.linspace(-1, 1, 7)
    for name in ("add", "mul", "div", "lt", "logical_and", "maximum"):
        for a in (whole, mask, x, whole.astype(np.uint8), whole.astype(np.int32)):
            once(getattr(elementwise, name), a, whole)
            once(getattr(elementwise, name), mask, a)


def test_powers_of_integers():
    base = np.arange(-3, 4)[:, None]
    once(elementwise.pow, base, np.arange(70))


@pytest.mark.parametrize("target", [*FLOATS, np.int64, bool, np.uint8])
@pytest.mark.parametrize("source", [*FLOATS, np.int64, bool, np.uint8])
def test_cast(source, target):
    x = np.array([[0, 1, 2], [3, 0, 5]]).astype(source)
    once(elementwise.cast, x.T, target)
    once(elementwise.copy, x[:, ::-1])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_broadcast_of_any_strides(data):
    once(elementwise.copy, *data.draw(operands(1, np.float32)))
    once(elementwise.sub, *data.draw(operands(2, np.float32)))
    condition, a, b = data.draw(operands(3, np.float32))
    once(elementwise.where, condition > 0, a, b)
    once(elementwise.between, *data.draw(operands(4, np.float32)))


def test_rows_of_many_sizes():
    random = np.random.default_rng(0)
    for shape in ((3, 1000), (1000, 3), (7, 1, 91), (2, 3, 4, 3, 2, 3)):
        x, y = random.standard_normal((2, *shape)).astype(np.float32)
        agrees(elementwise.sub, x, y)
        agrees(elementwise.sub, x, y[:1])
        agrees(elementwise.sub, y[..., :1], x)
        agrees(elementwise.sub, x.T, y.T)
        agrees(elementwise.between, x, y, y[:1, :1], x[..., -1:])


def test_arrays_off_the_vector_alignment():
    x = np.arange(1, 103, dtype=np.float32)
    agrees(elementwise.add, x[1:-1], x[2:])


def test_more_items_than_threads(monkeypatch):
    monkeypatch.setattr(launching, "MAX_BLOCKS", 1)
    agrees(elementwise.add, np.arange(5000.0), np.arange(5000.0))


@pytest.mark.parametrize("kind", ["contiguous", "permuted", "sliced", "flipped", "expanded"])
def test_checked(kind):
    random = np.random.default_rng(0)
    x, y = (operand(random, (3, 5, 6), kind, np.float32) for _ in range(2))
    agrees_checked(elementwise.sub, x, y)
    agrees_checked(elementwise.where, x > 0, x, y[:1])
    agrees_checked(elementwise.between, x, y, y[..., :1], x[0])
    agrees_checked(elementwise.logical_and, x > 0, y > 0)
    agrees_checked(functions.atan2, x, y)


def test_every_operation_checked():
    x = np.linspace(0.1, 0.9, 7, dtype=np.float32)
    for name in UNARY:
        agrees_checked(OPERATIONS[name], x, tolerance=1e-5)
    for name in BINARY:
        agrees_checked(OPERATIONS[name], x, x[::-1], tolerance=1e-5)
        if name not in ("sub", "div", "pow", "atan2", "hypot", "gate", "weighted"):
            agrees_checked(OPERATIONS[name], x > 0.5, x < 0.2)
    for target in (np.float32, np.float64, np.int64, bool):
        agrees_checked(elementwise.cast, x, target)
        agrees_checked(elementwise.cast, x > 0.5, target)
    agrees_checked(elementwise.clip, x, x, x)
    agrees_checked(elementwise.where, x > 0.5, x > 0.2, x < 0.2)
    agrees_checked(functions.polygamma, np.float32([2]), x, tolerance=1e-5)


def test_shapes_that_do_not_broadcast():
    x = np.ones((2, 3), np.float32)
    with dispatch.use("cuda-emulated"):
        with pytest.raises(ShapeError, match=r"add: expected shapes that broadcast, got \(2, 3\), \(2,\)"):
            elementwise.add(x, x[:, 0])
        with pytest.raises(ShapeError, match="at most 8 axes"):
            elementwise.add(np.ones((2,) * 10), np.ones((2, 1) * 5))
