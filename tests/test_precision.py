"""td.set_float32_matmul_precision: who listens to it, and what a recorded step makes of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tinydl_kernels import emulator

import tinydl as td


@pytest.fixture(autouse=True)
def highest() -> Iterator[None]:
    """The default again afterwards."""
    yield
    td.set_float32_matmul_precision("highest")


def test_the_words_are_pytorchs() -> None:
    assert td.get_float32_matmul_precision() == "highest"
    td.set_float32_matmul_precision("high")
    assert td.get_float32_matmul_precision() == "high"
    for word in ("medium", "low", None):
        with pytest.raises(ValueError, match="expected 'highest' or 'high', got"):
            td.set_float32_matmul_precision(word)


def product(x: td.Tensor) -> td.Tensor:
    return td.matmul(x, x) + td.conv2d(x.reshape(1, 1, 1, 1), x.reshape(1, 1, 1, 1)).reshape(1, 1)


X = np.float32([[1 + 2**-12]])
EXACT, ROUNDED = 2 * (X.astype(np.float64) ** 2).astype(np.float32), np.float32([[2]])


@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
def test_it_is_for_the_gpu() -> None:
    for precision, on_gpu in (("highest", EXACT), ("high", ROUNDED)):
        td.set_float32_matmul_precision(precision)
        for backend, expected in (("reference", EXACT), ("cpu", EXACT), ("cuda-emulated", on_gpu)):
            with td.backend(backend):
                np.testing.assert_array_equal(product(td.tensor(X)).numpy(), expected)


@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
def test_a_step_is_recorded_for_each() -> None:
    step = td.record(product)
    with td.backend("cuda-emulated"):
        for _ in range(2):
            for precision, expected in (("highest", EXACT), ("high", ROUNDED)):
                td.set_float32_matmul_precision(precision)
                np.testing.assert_array_equal(step(td.tensor(X)).numpy(), expected)


def test_it_is_constant_within_a_recorded_step() -> None:
    def step(x: td.Tensor) -> td.Tensor:
        td.set_float32_matmul_precision("high")
        return x * 2

    with pytest.raises(td.GraphError, match="expected to be called outside of a recorded step"):
        td.record(step)(td.tensor(X))
