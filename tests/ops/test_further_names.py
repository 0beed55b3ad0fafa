"""Shapes by NumPy's names, differences, running extremes, traces and negative numbers as uint8 beside
PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from comparisons import comparison
from tinydl_kernels.machine.errors import DtypeError

import tinydl as td

rng = np.random.default_rng(0)
X, CUBE = rng.standard_normal((3, 4)), rng.standard_normal((2, 3, 4))
TIES = np.array(
    [[1.0, 3, 3, 2, 3], [np.nan, 1, 5, 5, 0], [2, np.nan, 7, 1, 1], [np.inf, 2, np.inf, -np.inf, 0]]
)

CASES: dict[str, tuple[Any, list[np.ndarray]]] = {
    "ravel": (lambda t, x: t.ravel(x) ** 2, [CUBE]),
    "ravel strided": (lambda t, x: t.ravel(x.transpose(0, 1)) ** 2, [X]),
    "ravel 0-d": (lambda t, x: t.ravel(x) ** 2, [np.array(2.0)]),
    "swapaxes": (lambda t, x: t.swapaxes(x, axis0=0, axis1=-1) ** 2, [CUBE]),
    "swapdims": (lambda t, x: t.swapdims(x, dim0=-2, dim1=0) ** 2, [CUBE]),
    "unflatten": (lambda t, x: t.unflatten(x, dim=-1, sizes=(2, -1)) ** 2, [CUBE]),
    "unflatten to one": (lambda t, x: t.unflatten(x, 0, (-1,)) ** 2, [CUBE]),
    "diff": (lambda t, x: t.diff(x) ** 2, [CUBE]),
    "diff n": (lambda t, x, a, b: t.diff(x, n=2, dim=1, prepend=a, append=b) ** 2, [CUBE, CUBE[:, :1], CUBE]),
    "diff 0": (lambda t, x, a: t.diff(x, n=0, prepend=a) ** 2, [X, X]),
    "diff more than there are": (lambda t, x: t.diff(x, n=6), [X]),
    "diff of integers": (lambda t, x: t.diff(x, dim=0), [np.arange(12).reshape(3, 4) ** 2]),
    "diff of masks": (lambda t, x: t.diff(x), [np.array([True, True, False, True])]),
    "cummax": (lambda t, x: t.cummax(x, dim=1), [CUBE]),
    "cummin": (lambda t, x: t.cummin(x, dim=-3), [CUBE]),
    "cummax of ties": (lambda t, x: t.cummax(x, 1), [TIES]),
    "cummin of ties": (lambda t, x: t.cummin(x, 1), [TIES]),
    "cummax of integers": (lambda t, x: t.cummax(x, 0), [rng.integers(0, 4, (9, 2))]),
    "cummin of integers": (lambda t, x: t.cummin(x, 0), [rng.integers(0, 4, (9, 2))]),
    "cummax 0-d": (lambda t, x: t.cummax(x, 0), [np.array(2.0)]),
    "cummin empty": (lambda t, x: t.cummin(x, 1), [np.zeros((2, 0))]),
    "trace": (lambda t, x: t.trace(x) ** 2, [X]),
    "trace of integers": (lambda t, x: t.trace(x), [np.arange(6).reshape(2, 3)]),
    "argwhere": (lambda t, x: t.argwhere(x > 0), [X]),
    "argwhere 0-d": (lambda t, x: t.argwhere(x), [np.array(1.0)]),
}


@pytest.mark.parametrize("case", CASES)
def test_as_pytorch(case: str) -> None:
    torch = pytest.importorskip("torch")
    expression, arrays = CASES[case]
    assert_agree(lambda *x: expression(td, *x), lambda *x: expression(torch, *x), arrays)


def test_numel() -> None:
    torch = pytest.importorskip("torch")
    for shape in ((), (0, 3), (2, 3)):
        with comparison():
            ours, theirs = td.numel(td.zeros(shape)), torch.numel(torch.zeros(shape))
        assert ours == theirs == td.zeros(shape).numel()


@pytest.mark.parametrize("value", [-1, -255])
def test_a_negative_number_as_uint8(value: int) -> None:
    torch = pytest.importorskip("torch")
    expected = torch.full((2,), value, dtype=torch.uint8).tolist()
    zeros = td.zeros(2, dtype="uint8")
    for made in (
        td.full((2,), value, dtype="uint8"),
        td.full_like(zeros, value),
        zeros.new_full((2,), value),
        zeros.clone().fill_(value),
    ):
        assert made.dtype == np.uint8
        assert made.tolist() == expected
    assert td.tensor(value, dtype="uint8").item() == torch.tensor(value, dtype=torch.uint8).item()


def test_numbers_that_do_not_fit_are_refused() -> None:
    for value, dtype in ((-256, "uint8"), (256, "uint8"), (300, "int8"), (-1000, "int8")):
        with pytest.raises(DtypeError, match=f"full: expected numbers that {dtype} can hold"):
            td.full((2,), value, dtype=dtype)
        with pytest.raises(DtypeError, match=f"fill_: expected a number that {dtype} can hold"):
            td.zeros(2, dtype=dtype).fill_(value)
