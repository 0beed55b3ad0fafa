"""The pool: same bits for any number of threads, several callers, loops in loops, forks,
exit, sleep, Ctrl-C; OpenBLAS.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tinydl_kernels.cpu import blas, processors, threads
from tinydl_kernels.cpu.compiler import kernel, parallel
from tinydl_kernels.machine.errors import ShapeError

N = 100_003


@parallel
def wave(start, stop, x, y):
    for i in range(start, stop):
        y[i] = np.sin(x[i]) * i


@parallel
def partial_sums(start, stop, x, sums, grain):
    total = 0.0
    for i in range(start, stop):
        total += x[i]
    sums[start // grain] = total


@parallel
def rows(start, stop, x, y):
    for i in range(start, stop):
        wave(x.shape[1], 10, x[i], y[i])


@kernel
def twice(x, y):
    wave(x.size, 100, x, y)
    wave(x.size, 100, y, x)


@parallel
def refuse(start, stop, x):
    for i in range(start, stop):
        if x[i] < 0:
            raise ValueError("refuse: a negative number")


@parallel
def meet(start, stop, arrived, count, met):
    """Each piece waits for all, some seconds at most: how many has it met?"""
    for i in range(start, stop):
        arrived[i] = 1
        for _ in range(1 << 20):
            met[i] = 0
            for other in range(count):
                met[i] += arrived[other]
            if met[i] == count:
                break
            threads.give_way()


@pytest.fixture(autouse=True)
def _three_threads():
    before = threads.get_num_threads()
    threads.set_num_threads(3)
    yield
    threads.set_num_threads(before)


def _run(script: str, *arguments: str, **environment: str) -> str:
    """The output of a Python process that runs `script`; nothing may be said on its error stream."""
    path = os.pathsep.join([str(Path(threads.__file__).parents[2]), str(Path(__file__).parent)])
    env = {**os.environ, "PYTHONPATH": path, **environment}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=env, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _waves(x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    wave(x.size, 1000, x, y)
    return y


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).random(N)


@pytest.mark.parametrize("count", [2, 3, 4, 8, 17])
def test_all_that_sleep_are_woken(count):
    """Each of the pieces holds a thread until all have come: also those that others have woken."""
    threads.set_num_threads(count)
    for _ in range(3):
        met = np.zeros(count, np.int64)
        meet(count, 1, np.zeros(count, np.int64), count, met)
        np.testing.assert_array_equal(met, count)
        asleep = [threads.ASLEEP + threads.LINE * worker for worker in range(count - 1)]
        deadline = time.monotonic() + 20
        while not all(threads.words[flag] for flag in asleep) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert all(threads.words[flag] for flag in asleep)


def test_same_bits_for_any_number_of_threads(x):
    results = []
    for count in (1, 2, 3, 8):
        threads.set_num_threads(count)
        assert threads.get_num_threads() == count
        sums = np.empty(-(-N // 777))
        partial_sums(N, 777, x, sums, 777)
        results.append((_waves(x), sums))
    for y, sums in results:
        np.testing.assert_array_equal(y, results[0][0])
        np.testing.assert_array_equal(sums, results[0][1])
    np.testing.assert_allclose(results[0][0], np.sin(x) * np.arange(N), rtol=1e-14)


@pytest.mark.parametrize(
    ("n", "grain"), [(0, 10), (3, 10), (10, 10), (11, 10), (5, 1), (5, 0), (5, -2), (1000, 1)]
)
def test_every_index_once(n, grain):
    x = np.ones(n)
    for run in (wave, lambda *args: wave.interpreted(*args, 0)):
        y = np.full(n + 1, -1.0)
        run(n, grain, x, y)
        np.testing.assert_array_equal(y, [*(np.sin(1) * np.arange(n)), -1.0])


@pytest.mark.parametrize("grain", [10, 1, 0, -1, -10, -(2**63)])
def test_a_negative_number_of_indices_is_none(grain):
    y = np.zeros(5)
    for n in (-1, -5, -(2**63)):
        wave(n, grain, y, y)
        wave.interpreted(n, grain, y, y, 0)
    np.testing.assert_array_equal(y, 0)


def test_many_short_loops():
    """Workers come late, early and not at all; nothing is lost, nothing is run twice."""
    counts = np.zeros(7)
    for step in range(3000):
        increment(7, 1, counts)
        if step % 500 == 0:
            time.sleep(0.002)  # they fall asleep
    np.testing.assert_array_equal(counts, 3000)


@parallel
def increment(start, stop, counts):
    for i in range(start, stop):
        counts[i] += 1


CHANGING = """
import os, threading, warnings
import numpy as np
import test_threads as t

warnings.simplefilter("ignore", DeprecationWarning)  # of forks while threads run, which Python >= 3.12 gives
counts, loops, over = np.zeros(4096), 0, threading.Event()
t.increment(4096, 16, counts)

def loop():
    global loops
    while not over.is_set():
        t.increment(4096, 16, counts)
        loops += 1

def change():
    for i in range(200):
        t.threads.set_num_threads(1 + i % 4)

def fork():
    for _ in range(50 if hasattr(os, "fork") else 0):
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)

looping, *others = [threading.Thread(target=target) for target in (loop, change, fork)]
for thread in (looping, *others):
    thread.start()
for thread in others:
    thread.join()
over.set()
looping.join()
print((counts != 1 + loops).sum(), loops > 0)
"""


def test_the_number_of_threads_changes_under_a_loop():
    """An increment shows a piece that was run twice, and one that was not run."""
    assert _run(CHANGING, TINYDL_NUM_THREADS="3") == "0 True\n"


def test_python_threads_call_at_once(x):
    expected = _waves(x)
    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(lambda _: _waves(x), range(40)):
            np.testing.assert_array_equal(y, expected)


def test_loops_in_loops(x):
    x, y = x[:9000].reshape(30, 300), np.empty((30, 300))
    rows(30, 1, x, y)
    np.testing.assert_allclose(y, np.sin(x) * np.arange(300), rtol=1e-14)
    line, out = x[0].copy(), np.empty(300)
    twice(line, out)
    np.testing.assert_allclose(line, np.sin(np.sin(x[0]) * np.arange(300)) * np.arange(300), rtol=1e-12)


def test_an_exception_in_a_piece_reaches_the_caller(x):
    bad = x.copy()
    refuse(N, 100, bad)
    bad[N // 2] = -1
    with pytest.raises(ValueError, match="a negative number"):
        refuse(N, 100, bad)
    with pytest.raises(ValueError, match="a negative number"):
        refuse(N, N, bad)
    np.testing.assert_array_equal(_waves(x), _waves(x))  # the pool is as it was


def test_number_of_threads_is_checked():
    for bad in (0, -1, 2.0, "2", True, threads.MAX_THREADS + 1):
        with pytest.raises(ShapeError, match=r"set_num_threads: expected a whole number from 1 to 256, got"):
            threads.set_num_threads(bad)
    assert threads.get_num_threads() == 3
    threads.set_num_threads(np.int64(2))
    assert threads.get_num_threads() == 2


def test_threads_that_cannot_be_started(x, monkeypatch):
    def fail(self):
        raise RuntimeError("can't start new thread")

    expected = _waves(x)
    threads.set_num_threads(3)
    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.warns(UserWarning, match="kernels run on 1 of 3 threads: can't start new thread"):
        y = _waves(x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(_waves(x), expected)  # without another warning


def _interrupted(call):
    """Does what `call` does, and then hears of Ctrl-C."""

    def interrupted(*args, **keywords):
        call(*args, **keywords)
        raise KeyboardInterrupt

    return interrupted


@pytest.mark.parametrize(
    "where", [(threads, "dismiss"), (threading.Thread, "join"), (threading.Thread, "start")]
)
def test_the_pool_comes_back_after_ctrl_c(where, x, monkeypatch):
    def end_and_begin():
        threads.stop()
        _waves(x)

    expected = _waves(x)
    assert len(threads._workers) == 2
    with monkeypatch.context() as patch:
        patch.setattr(*where, _interrupted(getattr(*where)))
        with pytest.raises(KeyboardInterrupt):
            end_and_begin()
    np.testing.assert_array_equal(_waves(x), expected)
    assert (len(threads._workers), threads.words[threads.WORKERS], threads.words[threads.CLAIMED]) == (
        2,
        2,
        0,
    )
    assert all(worker.is_alive() for worker in threads._workers)
    assert sum(thread.name.startswith("tinydl-") for thread in threading.enumerate()) == 2


CTRL_C = """
import random, signal, threading, time
import numpy as np
import test_threads as t

counts, serial, inside, over = np.zeros(64), 0, False, False
t.increment(64, 1, counts)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

def disturb():
    global inside, over
    for _ in range(100):
        while not inside:  # a signal outside of the try would end the script
            time.sleep(0.0001)
        inside = False
        time.sleep(random.uniform(0, 0.003))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    while not inside:  # the last one has been heard
        time.sleep(0.0001)
    over = True

threading.Thread(target=disturb).start()
i = 0
while not over:
    try:
        inside = True
        while not over:
            i += 1
            t.increment(64, 1, counts)
            serial += t.threads.words[t.threads.WORKERS] != t.threads.get_num_threads() - 1
            t.threads.set_num_threads(2 + i % 3)
    except KeyboardInterrupt:
        pass
print(np.ptp(counts), counts[0] > 1, serial)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to threads")
def test_ctrl_c_at_any_time():
    assert _run(CTRL_C) == "0.0 True 0\n"


def test_idle_workers_sleep(x):
    _waves(x)
    time.sleep(0.02)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.05


SUM = (
    "import numpy as np, test_threads as t; print(t.threads.get_num_threads(), "
    "t._waves(np.ones(5000)).sum().hex())"
)


def test_environment_sets_the_number_and_the_process_ends():
    outputs = [_run(SUM, TINYDL_NUM_THREADS=count).split() for count in ("1", "2", "3")]
    assert [count for count, _ in outputs] == ["1", "2", "3"]
    assert len({total for _, total in outputs}) == 1
    script = "import test_threads as t\ntry: t.threads.get_num_threads()\nexcept ValueError as e: print(e)"
    assert (
        _run(script, TINYDL_NUM_THREADS="many")
        == "TINYDL_NUM_THREADS: expected a whole number from 1 to 256, got 'many'\n"
    )


def test_a_loop_inside_a_kernel_from_the_disk(tmp_path):
    script = (
        "import numpy as np, test_threads as t; x, y = np.ones((2, 9000)); t.twice(x, y); "
        "print(x.sum().hex())"
    )
    first, second = (_run(script, TINYDL_NUM_THREADS="2", TINYDL_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert first == second


FORK = """
import multiprocessing, os, threading, warnings
import numpy as np
import test_threads as t

warnings.simplefilter("ignore", DeprecationWarning)  # of forks while threads run, which Python >= 3.12 gives
t.threads.set_num_threads(3)
x = np.arange(5000.0)
expected = t._waves(x)
stop = threading.Event()

def busy():
    while not stop.is_set():
        assert (t._waves(x) == expected).all()

def right(_=None):
    good = t.threads.get_num_threads() == 1 and (t._waves(x) == expected).all()
    t.threads.set_num_threads(2)  # a child may have threads of its own
    return bool(good and (t._waves(x) == expected).all() and len(t.threads._workers) == 1)

other = threading.Thread(target=busy)
other.start()
codes = []
for _ in range(5):
    if (child := os.fork()) == 0:
        os._exit(0 if right() else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
other.join()
with multiprocessing.get_context("fork").Pool(2) as pool:
    same = (t._waves(x) == expected).all()
    print(codes, pool.map(right, range(2), chunksize=1), t.threads.get_num_threads(), same)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork():
    codes = [0] * 5
    output = _run(FORK)
    assert output.startswith(f"{codes} [True, ")
    assert output.endswith("3 True\n")


FIRST_KERNEL = """
import os, signal, sys, threading, time, warnings
import numpy as np
import test_threads as t

warnings.simplefilter("ignore", DeprecationWarning)  # of forks while threads run, which Python >= 3.12 gives
entered, y = threading.Event(), np.zeros(4)

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            entered.set()
            time.sleep(0.2)

sys.meta_path.insert(0, Slow())
other = threading.Thread(target=lambda: t.increment(4, 10, y))
other.start()
entered.wait()
if (child := os.fork()) == 0:
    t.increment(4, 10, y)
    os._exit(0)
signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
signal.alarm(60)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
other.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("module", ["numba", "numba.np", "numba.core.compiler_lock"])
def test_fork_while_another_thread_imports_numba(module):
    assert _run(FIRST_KERNEL, module) == "0\n"


INTERRUPTED_FORK = """
import os, sys, warnings
import numpy as np
import test_threads as t

warnings.simplefilter("ignore", DeprecationWarning)  # of forks while threads run, which Python >= 3.12 gives
x = np.arange(5000.0)
expected = t._waves(x)
dismiss, said = t.threads.dismiss, []

def interrupted(workers):
    raise KeyboardInterrupt

t.threads.dismiss = interrupted
sys.unraisablehook = said.append
child = os.fork()
sys.unraisablehook = sys.__unraisablehook__
t.threads.dismiss = dismiss
alone = child or (t.threads.words[t.threads.WORKERS] == 0 and not t.threads._workers)
t.threads.set_num_threads(2)
good = alone and (t._waves(x) == expected).all() and len(t.threads._workers) == 1
if child == 0:
    os._exit(0 if good else 1)
print(len(said), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), good)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_ctrl_c_before_a_fork():
    """Python says so and forks all the same: the workers that the child remembers are not there."""
    assert _run(INTERRUPTED_FORK, TINYDL_NUM_THREADS="3") == "1 0 True\n"


def test_available_cpus_heed_the_control_groups(tmp_path, monkeypatch):
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    assert list(processors._quotas(tmp_path)) == []
    write("proc/self/cgroup", "4:memory:/\n3:cpu,cpuacct:/box\n0::/a/b\n")
    write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    write("sys/fs/cgroup/a/cpu.max", "250000 100000\n")
    write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "150000\n")
    write("sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n")
    write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert sorted(processors._quotas(tmp_path)) == [1.5, 2.5]

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    monkeypatch.setattr(processors, "_quotas", lambda: [1.5, 2.5])
    assert processors.available_cpus() == 2
    monkeypatch.setattr(processors, "_quotas", lambda: [0.1])
    assert processors.available_cpus() == 1


def test_single_threaded_blas():
    get, put = blas._blas._functions
    outer = get()
    put(2)
    try:
        several = get()  # 1 where NumPy runs without OpenBLAS
        with blas.single_threaded_blas():
            assert get() == 1
            with blas.single_threaded_blas():
                assert get() == 1
            assert get() == 1
        assert get() == several

        inside, leave = threading.Event(), threading.Event()

        def hold():
            with blas.single_threaded_blas():
                inside.set()
                leave.wait()

        other = threading.Thread(target=hold)
        other.start()
        inside.wait()
        with blas.single_threaded_blas():
            pass
        assert get() == 1
        leave.set()
        other.join()
        assert get() == several
    finally:
        put(outer)
