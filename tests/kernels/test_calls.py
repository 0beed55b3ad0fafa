"""Calls that are kept do what their implementation does, bit for bit: those of the catalogue's rows to second
order, of optimizers, of exceptions, of several threads.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from catalogue import ROWS, Row
from tinydl_kernels import conv, elementwise, indexing, reduce
from tinydl_kernels.cpu import calls, threads
from tinydl_kernels.cpu.calls import Call, Calls
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.dispatch import operations
from tinydl_kernels.machine.window import Window

import tinydl as td

original = Calls.__call__


def copied(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return x.copy()
    return type(x)(map(copied, x)) if type(x) in (tuple, list) else x


def bits(x: Any) -> Any:
    """What can be compared, of arrays their bytes."""
    if isinstance(x, np.ndarray):
        return x.shape, x.dtype, x.tobytes()
    return tuple(map(bits, x)) if isinstance(x, (tuple, list)) else None


class Watched:
    """Calls each implementation on copies, plainly and kept, and compares; which have been kept?"""

    def __init__(self) -> None:
        self.kept: set[Any] = set()
        self.met: set[Any] = set()

    def __call__(self, own: Calls, *args: Any) -> Any:
        if memory.planned():
            return own.implementation(*args)
        self.met.add(own)
        given = copied(args)
        expected = bits([own.implementation(*given), given])
        again = Calls(own.implementation)
        for _ in range(4):  # met, kept, and twice what is kept
            given = copied(args)
            assert bits([original(again, *given), given]) == expected
        if any(type(found) is Call for found in again.known.values()):
            self.kept.add(own)
        return original(own, *args)


@pytest.fixture
def watched(monkeypatch):
    watched = Watched()
    monkeypatch.setattr(Calls, "__call__", lambda own, *args: watched(own, *args))
    return watched


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def kept(operation: Any, *args: Any) -> list[Any]:
    """What is known of an operation after some equal calls."""
    for _ in range(3):
        operation(*args)
    return list(operation.kept.known.values())


@pytest.fixture(autouse=True)
def _forgotten():
    for operation in operations.values():
        if operation.kept:
            operation.kept.known.clear()


def test_what_is_kept_is_the_implementation():
    kept = {name: operation.kept for name, operation in operations.items() if operation.kept}
    assert len(kept) > 100
    assert {
        name for name, own in kept.items() if own.implementation is operations[name].implementations["cpu"]
    } == {*kept}


def test_what_is_kept_runs_no_python(monkeypatch):
    x, w = array(2, 3, 8, 8), array(4, 3, 3, 3)
    window = Window.conv("conv", x.shape, w.shape, padding=1)
    expected = conv.forward(x, w, None, window)
    conv.forward(x, w, None, window)
    monkeypatch.setattr(conv.forward.kept, "implementation", None)
    np.testing.assert_array_equal(conv.forward(x, w, None, window), expected)
    other = array(2, 3, 8, 8)[::-1].copy()
    np.testing.assert_array_equal(conv.forward(other, w, None, window), expected[::-1])


@pytest.mark.parametrize(
    "alter",
    [
        lambda x: x[:, :5].copy(),
        lambda x: x.astype(np.float64),
        lambda x: x[None],
        lambda x: x.T,
        lambda x: x[::2],
        lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),  # read-only
        lambda x: np.frombuffer(b"0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
    ],
    ids=["shape", "dtype", "rank", "turned", "strided", "read-only", "unaligned"],
)
def test_another_kind_of_array_is_another_call(alter):
    x = array(6, 7)
    kept(reduce.sum, x, (0,))
    other = alter(x)
    with np.errstate(all="ignore"):
        expected = other.sum(axis=0, dtype=np.float64)
    np.testing.assert_allclose(reduce.sum(other, (0,)).reshape(expected.shape), expected, 1e-5, 1e-5)


def test_settings_are_told_apart():
    """By type and by sign, where == does not."""
    x = array(5)
    seen = []
    own = Calls(lambda x, setting: seen.append(setting) or x)
    for setting in (1, 1.0, True, np.float32(1), 0.0, -0.0, (1,), [1], (1.0,), "1", None):
        own(x, setting)
    assert len(own.known) == len(seen) == 11
    own(x, {})  # cannot be hashed
    assert len(own.known) == 11


def test_one_array_for_two_inputs():
    """It does not tell which address is whose, so such a call is never written down."""
    x, y = array(100), 2 * array(100)
    for _ in range(4):
        np.testing.assert_array_equal(elementwise.mul(x, x), x * x)
    for _ in range(4):
        np.testing.assert_array_equal(elementwise.mul(x, y), x * y)
    np.testing.assert_array_equal(elementwise.mul(y, y), y * y)
    whole = array(100)
    np.testing.assert_array_equal(elementwise.mul(whole[:60], whole[40:]), whole[:60] * whole[40:])


def test_results_are_arrays_of_their_own():
    x = array(100)
    results = [elementwise.exp(x + i) for i in range(5)]
    for i, result in enumerate(results):
        np.testing.assert_array_equal(result, elementwise.exp(x + i))
        assert result.base is None
        assert result.flags.owndata


def test_an_exception_comes_through_each_time():
    x, good, bad = array(4, 3), np.array([[0, 1, 2]]), np.array([[0, 7, 2]])
    for _ in range(4):
        indexing.gather(x, good, 0)
        with pytest.raises(IndexError):
            indexing.gather(x, bad, 0)


def test_the_number_of_threads_is_part_of_the_kind():
    before = threads.get_num_threads()
    x = array(1000)
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            kept(elementwise.exp, x)
        assert len(elementwise.exp.kept.known) == 3
    finally:
        threads.set_num_threads(before)


def test_several_threads_have_blocks_of_their_own():
    x, w = array(4, 8, 12, 12), array(8, 8, 3, 3)
    window = Window.conv("conv", x.shape, w.shape, padding=1)
    expected = {i: conv.forward(x * i, w, None, window) for i in range(4)}
    wrong = []

    def work(i: int) -> None:
        for _ in range(50):
            if not np.array_equal(conv.forward(x * np.float32(i), w, None, window), expected[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_no_more_than_so_many_kinds(monkeypatch):
    monkeypatch.setattr(calls, "KINDS", 8)
    for i in range(1, 30):
        kept(elementwise.exp, array(i))
        assert len(elementwise.exp.kept.known) <= 8


def test_without_what_it_stands_on(monkeypatch):
    """Where a tuple or an array is laid out otherwise, every call is a plain one."""
    monkeypatch.setattr(calls, "_verdict", None)
    monkeypatch.setattr(calls, "DATA", calls.DATA + 8)
    x = array(10)
    assert kept(elementwise.exp, x) == [calls.SEEN]
    assert not calls._readable()


def to_second_order(row: Row) -> None:
    """Values, gradients and their gradients of a row's usual case."""
    inputs = row.tensors(row.arrays(row.samples[0]))
    found = row.call(*inputs)
    found = [y for y in (found if isinstance(found, (tuple, list)) else [found]) if y.requires_grad]
    moving = [x for x in inputs if x.requires_grad]
    for _ in range(min(row.order, 2)):
        if found and moving:
            total = sum(((y * y).sum() for y in found[1:]), (found[0] * found[0]).sum())
            found = td.grad(total, moving, create_graph=True, allow_unused=True)
            found = [g for g in found if g is not None and g.requires_grad]


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=[pytest.mark.nightly] * row.name.startswith("nn.")) for row in ROWS],
    ids=[row.name.replace(" ", "-") for row in ROWS],
)
def test_rows_of_the_catalogue(row, watched):
    """Kept calls give the bits of plain ones, to second order; layers call what functions call."""
    to_second_order(row)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "LAMB"])
def test_optimizers_write_the_same(name, watched):
    model = td.nn.Sequential(td.nn.Linear(5, 300), td.nn.ReLU(), td.nn.Linear(300, 2))
    optimizer = getattr(td.optim, name)(model.parameters(), 0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model(td.randn(4, 5)).square().mean().backward()
        optimizer.step()
    assert operations["update.optimizer_step"].kept in watched.kept
