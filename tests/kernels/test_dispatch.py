"""Which implementation an operation runs."""

from __future__ import annotations

import numpy as np
import pytest
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.dispatch import Operation
from tinydl_kernels.machine.errors import BackendError


@pytest.fixture
def probe():
    """An operation that tells which backend ran it."""

    def named(*args):
        return np.array(0)

    made = Operation(named, portable=False)
    made.cpu(lambda *args: "cpu")
    yield made
    del dispatch.operations[made.name]


def test_the_first_array_decides_though_none_or_a_list_stands_before_it(probe):
    x = np.zeros(3)
    assert probe(x) == "cpu"
    assert probe(None, x) == "cpu"
    assert probe([x, x], 1) == "cpu"
    assert probe(None, [x]) == "cpu"


def test_a_scope_overrides_the_array(probe):
    with dispatch.use("reference"):
        assert isinstance(probe(None, np.zeros(3)), np.ndarray)
        with dispatch.use(None):
            assert probe(np.zeros(3)) == "cpu"


def test_a_backend_without_an_implementation_is_named(probe):
    with (
        dispatch.use("cuda-emulated"),
        pytest.raises(BackendError, match="named: no implementation on backend 'cuda-emulated'"),
    ):
        probe(np.zeros(3))


def test_unknown_backends_are_refused():
    with (
        pytest.raises(
            BackendError, match="expected one of 'reference', 'cpu', 'cuda', 'cuda-emulated', got 'tpu'"
        ),
        dispatch.use("tpu"),
    ):
        pass


def test_outputs_of_references_lie_in_the_allocators_arrays():
    from tinydl_kernels import elementwise
    from tinydl_kernels.machine import memory

    given = []

    def supply(shape, dtype, like):
        given.append(memory.fresh(shape, dtype, like))
        return given[-1]

    for backend in ("reference", "cpu"):
        with dispatch.use(backend), memory.supplied_by(supply):
            out = elementwise.exp(np.ones((2, 3)))
            assert out is given[-1] or out.base is given[-1]
