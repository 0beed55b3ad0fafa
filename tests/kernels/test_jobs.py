"""Jobs: which calls are kept as loops, and what they do when they run again."""

import threading

import numpy as np
import pytest
from tinydl_kernels import elementwise
from tinydl_kernels.cpu import jobs, threads
from tinydl_kernels.cpu.compiler import parallel
from tinydl_kernels.machine import dispatch, memory


@parallel
def double(start, stop, x, y):
    for i in range(start, stop):
        y[i] = 2 * x[i]


@parallel
def refuse(start, stop, x):
    if x[0] > 1:
        raise ValueError("too large")


@dispatch.operation
def doubled(x):
    return 2 * x


@doubled.loops
def _(x):
    y = memory.empty(x.shape, x.dtype, x)
    double(x.size, 7, x, y)
    return y


@dispatch.operation
def numpys(x):
    return 2 * x


@pytest.fixture(autouse=True)
def _only_here():
    yield
    for name in ("doubled", "numpys"):
        dispatch.operations.pop(f"test_jobs.{name}", None)


def supplied(function, *args):
    """A call that takes its one array from a source, and that array."""
    y = np.zeros(args[0].shape, args[0].dtype)

    def call():
        with memory.supplied_by(lambda shape, dtype, like: y):
            function(*args)

    return call, y


@pytest.mark.parametrize("count", [1, 2, 3])
def test_loops_in_a_row_become_one_part(count):
    outer = threads.get_num_threads()
    threads.set_num_threads(count)
    try:
        x = np.arange(100.0)
        first, y = supplied(doubled, x)
        second, z = supplied(elementwise.add, x, y)
        parts = jobs.compiled([first, second])
        assert [type(part) for part in parts] == [jobs.Jobs]
        np.testing.assert_array_equal(z, 3 * np.arange(100.0))
        x += 1  # the same arrays, whatever they hold
        y[:], z[:] = 0, 0
        parts[0]()
        np.testing.assert_array_equal(y, 2 * np.arange(1, 101.0))
        np.testing.assert_array_equal(z, 3 * np.arange(1, 101.0))
    finally:
        threads.set_num_threads(outer)


def by_numpy(x):
    x += 0


def around_a_loop(x):
    y = memory.empty(x.shape, x.dtype, x)  # outside of an implementation that promises to be loops
    double(x.size, 7, x, y)


def zeros_first(x):
    jobs.looping(lambda: double(x.size, 7, x, memory.zeros(x.shape, x.dtype, x)))


@pytest.mark.parametrize("function", [by_numpy, numpys, around_a_loop, zeros_first])
def test_what_is_more_than_loops_stays_a_call(function):
    x = np.arange(10.0)
    before, y = supplied(doubled, x)
    between, _ = supplied(function, x)
    after, z = supplied(doubled, y)
    parts = jobs.compiled([before, between, after])
    assert [part is between or type(part) for part in parts] == [jobs.Jobs, True, jobs.Jobs]
    x += 1
    for part in parts:
        part()
    np.testing.assert_array_equal(z, 4 * x)


@pytest.mark.parametrize("grain", [0, -1, -3, -(2**63)])
def test_a_grain_below_one_counts_as_one(grain):
    x, y = np.arange(5.0), np.zeros(5)
    [part] = jobs.compiled([lambda: double(5, grain, x, y), lambda: double(-5, grain, x, y)])
    np.testing.assert_array_equal(y, 2 * x)
    x += 1
    part()
    np.testing.assert_array_equal(y, 2 * x)


def test_an_error_ends_the_run_and_the_next_begins_anew():
    x, y = np.zeros(3), np.zeros(3)
    parts = jobs.compiled([lambda: refuse(3, 1, x), lambda: double(3, 1, x, y)])
    x[:] = 5
    with pytest.raises(ValueError, match="too large"):
        parts[0]()
    np.testing.assert_array_equal(y, 0)
    x[:] = 1
    parts[0]()
    np.testing.assert_array_equal(y, 2)


def test_a_call_that_raises_is_no_longer_looked_at():
    def call():
        double(1, 1, np.zeros(1), np.zeros(1))
        raise KeyError

    with pytest.raises(KeyError):
        jobs.compiled([call])
    assert not jobs.capturing


def test_a_call_with_more_loops_than_the_log_holds_stays_a_call():
    x, y = np.ones(3), np.zeros(3)

    def call():
        for _ in range(jobs.LOG // 10):  # each takes more than ten words
            double(3, 3, x, y)

    parts = jobs.compiled([call, lambda: double(3, 3, x, y)])
    assert parts[0] is call
    assert type(parts[1]) is jobs.Jobs


def test_loops_of_other_threads_are_not_kept():
    x, y, z = np.ones(3), np.zeros(3), np.zeros(3)

    def call():
        other = threading.Thread(target=lambda: double(3, 3, x, z))
        other.start()
        other.join()
        double(3, 3, x, y)

    (part,) = jobs.compiled([call])
    y[:] = z[:] = 0
    part()
    np.testing.assert_array_equal(y, 2)
    np.testing.assert_array_equal(z, 0)


def test_without_a_compiler_calls_stay_calls(monkeypatch):
    monkeypatch.setattr(jobs, "jit_disabled", lambda: True)
    x, y = np.ones(3), np.zeros(3)
    calls = [lambda: double(3, 3, x, y)]
    assert jobs.compiled(calls) == calls
    np.testing.assert_array_equal(y, 2)
