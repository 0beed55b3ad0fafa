"""Jobs: which calls are kept as loops, and what they do when they run again."""

import threading

import numpy as np
import pytest
from tinydl_kernels import elementwise, indexing, random, rejection
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


def test_draws_and_gathers_are_loops():
    """So a recorded step with dropout or with mixed samples needs no Python between them."""
    key, counter, x = np.array([1, 2], np.uint64), np.zeros(1, np.uint64), np.arange(6.0)

    def of(function, *args, like):
        y = np.zeros(like.shape, like.dtype)

        def call():
            with memory.supplied_by(lambda shape, dtype, like: y):
                function(*args)

        return call, y

    reserve, before = of(random.reserve, counter, 3, like=counter)
    uniform, u = of(random.uniform, key, before, (6,), np.float64, like=x)
    dropout, d = of(random.dropout, x, key, before, 0.5, like=x)
    beta, b = of(rejection.beta, key, before, (6,), np.float64, 0.5, 2.0, like=x)
    order = np.array([5, 0, 0])
    gather, g = of(indexing.gather, x, order, 0, like=np.zeros(3))
    parts = jobs.compiled([reserve, uniform, dropout, beta, gather])
    assert [type(part) for part in parts] == [jobs.Jobs]
    for start in (3, 6):  # each run goes on where the last one stopped
        parts[0]()
        at = np.array([start], np.uint64)
        assert (before[0], counter[0]) == (start, start + 3)
        np.testing.assert_array_equal(u, random.uniform(key, at, (6,), np.float64))
        np.testing.assert_array_equal(d, random.dropout(x, key, at, 0.5))
        np.testing.assert_array_equal(b, rejection.beta(key, at, (6,), np.float64, 0.5, 2.0))
    order[:] = 4, 1, 2
    parts[0]()
    np.testing.assert_array_equal(g, x[order])
    for bad in (6, -1):
        order[1] = bad
        with pytest.raises(IndexError, match=r"^gather: expected indices within the dim"):
            parts[0]()


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
