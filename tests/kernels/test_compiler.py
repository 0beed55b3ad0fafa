"""Kernels come to life at their first call, find each other, keep code on disk that is never
stale, run as plain Python too.
"""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from tinydl_kernels.cpu import cache, internals, lazy
from tinydl_kernels.cpu.compiler import Kernel, Parallel, kernel, kernels, parallel

PACKAGES = Path(cache.__file__).parents[2]


@kernel
def area(h, w):
    return h * w


@parallel
def scale(start, stop, x, y, factor):
    for i in range(start, stop):
        y[i] = area(x[i], factor)


@kernel
def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


@lazy.intrinsic
def successor(typing, number):
    def code(context, builder, signature, args):
        return builder.add(args[0], args[0].type(1))

    return lazy.nb.int64(lazy.nb.int64), code


@kernel
def fourth(n):
    return successor(successor(successor(n)))


def _shifted(offset, scalar):
    def loop(start, stop, x):
        for i in range(start, stop):
            x[i] = scalar(x[i]) + offset

    return parallel(loop)


def _call(loop, x, *args):
    loop(len(x), 2, x, *args)
    return x


def test_kernels_call_each_other_through_globals_and_closures():
    x = np.arange(5.0)
    y = np.empty(5)
    scale(5, 2, x, y, 3.0)
    np.testing.assert_array_equal(y, 3 * x)
    square = kernel(lambda v: v * v)
    np.testing.assert_array_equal(_call(_shifted(1, square), x.copy()), x * x + 1)
    np.testing.assert_array_equal(_call(_shifted(2, square), x.copy()), x * x + 2)
    assert factorial(10) == 3628800
    assert fourth(1) == 4


def test_only_what_runs_is_compiled():
    unused = kernel(lambda: 0)
    assert unused in kernels
    assert not unused._dispatchers
    _call(_shifted(0, kernel(lambda v: v)), np.ones(3))
    assert not unused._dispatchers


def test_a_kernel_looks_like_its_function():
    assert (area.__name__, scale.__module__, Kernel.__doc__ is not None) == ("area", __name__, True)
    assert isinstance(scale, Parallel)
    assert pickle.loads(pickle.dumps(scale)) is scale
    assert copy.deepcopy({"f": area})["f"] is area
    assert kernel(fastmath={"nsz"})(lambda x: x).options == {"fastmath": {"nsz"}}
    assert parallel(fastmath=True)(lambda start, stop: None).options == {"fastmath": True}


def test_read_only_arrays_share_the_code_of_writable_ones():
    total = kernel(lambda x: x.sum())
    x = np.arange(4.0)
    assert total(x) == 6
    x.flags.writeable = False
    assert total(x) == 6
    assert len(total.dispatcher.signatures) == 1
    first = kernel(lambda x: x[0])
    assert first(x) == 0
    assert first(x.copy()) == 0
    assert len(first.dispatcher.signatures) == 1


def test_dtypes_and_layouts():
    for x in (np.arange(6, dtype=np.float32), np.arange(6), np.arange(12.0)[::2]):
        y = np.empty_like(x)
        scale(6, 4, x, y, x.dtype.type(2))
        np.testing.assert_array_equal(y, 2 * x)


def test_first_call_from_several_threads():
    loop = _shifted(5, kernel(lambda v: v - 1))
    results: list[np.ndarray] = []
    barrier = threading.Barrier(4)

    def call():
        barrier.wait()
        results.append(_call(loop, np.zeros(7)))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    np.testing.assert_array_equal(results, np.full((4, 7), 4.0))
    assert len(loop.dispatcher.signatures) == 1


def test_options_reach_numba():
    x = np.array([np.nan, 1.0])
    assert not kernel(lambda x: x[0] == x[0])(x)
    assert kernel(lambda a, b: a / b)(1.0, 0.0) == np.inf


# --- In other processes
# -------------------------------------------------------------------------------------------------------


def _python(*arguments: str, path: Path | None = None, **environment: str) -> str:
    search = os.pathsep.join(map(str, filter(None, (PACKAGES, path))))
    env = {name: value for name, value in os.environ.items() if not name.startswith("TINYDL_")}
    env |= {"PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_importing_every_module_leaves_numba_out():
    files = [
        file.relative_to(PACKAGES).with_suffix("") for file in (PACKAGES / "tinydl_kernels").rglob("*.py")
    ]
    modules = [
        ".".join(file.parts) for file in files if file.name != "__main__" and "emulator" not in file.parts
    ]
    script = (
        f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nprint('numba' in "
        "sys.modules)"
    )
    assert _python("-c", script).splitlines()[-1] == "False"


def test_disable_jit_runs_plain_python():
    script = """
        import sys
        import numpy as np
        from tinydl_kernels.cpu.compiler import kernel, parallel
        @kernel
        def half(v): return v / 2
        @parallel
        def loop(start, stop, x):
            seen.append((start, stop))
            for i in range(start, stop): x[i] = half(x[i])
        seen, x = [], np.ones(5)
        loop(5, 2, x)
        print(x.sum(), seen, "numba" in sys.modules)
    """
    assert (
        _python("-c", textwrap.dedent(script), TINYDL_DISABLE_JIT="1")
        == "2.5 [(0, 2), (2, 4), (4, 5)] False\n"
    )


LIBRARY = """
from tinydl_kernels.cpu.compiler import kernel, parallel

FACTOR = 3

def make(constant):  # its compiled forms are namesakes
    @kernel
    def scalar(v):
        return v * FACTOR + constant
    @parallel
    def loop(start, stop, x):
        for i in range(start, stop):
            x[i] = scalar(x[i])
    return loop

loops = {"a": make(1.0), "b": make(7.0)}
"""
CALL = """
import sys
import numpy as np
import library
for name in sys.argv[1]:
    x = np.arange(5.0)
    library.loops[name](5, 2, x)
    dispatcher = library.loops[name].dispatcher
    symbol = dispatcher.overloads[dispatcher.signatures[0]].fndesc.llvm_func_name
    print(name, x.sum(), "hit" if dispatcher.stats.cache_hits.total() else "miss", symbol)
"""


@pytest.fixture
def library(tmp_path):
    (tmp_path / "library.py").write_text(LIBRARY)

    def call(names: str) -> list[list[str]]:
        output = _python("-c", CALL, names, path=tmp_path, TINYDL_CACHE_DIR=str(tmp_path / "cache"))
        return [line.split() for line in output.splitlines()]

    return call


def test_compiled_code_is_kept_for_the_next_process(library, tmp_path):
    [a] = library("a")
    [b] = library("b")
    assert a[:3] == ["a", "35.0", "miss"]
    assert b[:3] == ["b", "65.0", "miss"]
    assert (
        a[3] != b[3]
        # LLVM knows functions by their symbols: were these two the same, a third
        # process could run the wrong one
    )
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.nbc")}
    a[2] = b[2] = "hit"
    assert library("ab") == [a, b]
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.nbc")} == files

    for file in files:  # files that were cut short
        file.write_bytes(file.read_bytes()[:100])
    assert library("a")[0][:3] == ["a", "35.0", "miss"]
    assert library("a")[0][:3] == ["a", "35.0", "hit"]

    for file in files:  # one bit is another
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert library("a")[0][:3] == ["a", "35.0", "miss"]
    assert library("a")[0][:3] == ["a", "35.0", "hit"]


def test_a_changed_global_of_a_called_kernel_is_seen(library, tmp_path):
    assert library("a")[0][:3] == ["a", "35.0", "miss"]
    (tmp_path / "library.py").write_text(LIBRARY.replace("FACTOR = 3", "FACTOR = 4"))
    assert library("a")[0][:3] == ["a", "45.0", "miss"]


def test_code_for_another_type_of_the_same_name_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "build_directory", lambda: tmp_path)

    def first(pair):
        return pair[0]

    for size in (4.0, 5.0):
        pair = namedtuple("Pair", ["height", "width"])
        assert kernel(first)(pair(size, 1.0)) == size
        assert kernel(first)(pair(size, 2.0)) == size


def test_no_directory_that_can_be_written(library, tmp_path):
    nowhere = str(tmp_path / "library.py" / "below a file")
    output = _python(
        "-c",
        CALL,
        "a",
        path=tmp_path,
        TINYDL_CACHE_DIR=nowhere,
        XDG_CACHE_HOME=nowhere,
        TMPDIR=str(tmp_path / "t"),
    )
    assert "a " in output  # TMPDIR does not exist: another temporary directory serves

    script = "from tinydl_kernels.cpu import cache; cache._candidates = lambda: []\n" + CALL
    output = _python("-W", "always", "-c", script, "ab", path=tmp_path)
    assert (
        output.count("UserWarning: tinydl: no directory to keep compiled kernels in; set TINYDL_CACHE_DIR")
        == 1
    )


def test_a_changed_source_is_another_build(monkeypatch, tmp_path):
    key = cache._build_key()
    assert key == cache._build_key()
    copy = tmp_path / "tinydl_kernels"
    shutil.copytree(PACKAGES / "tinydl_kernels", copy)
    monkeypatch.setattr(cache, "__file__", str(copy / "cpu" / "cache.py"))
    copied = cache._build_key()
    with (copy / "cpu" / "lazy.py").open("a") as file:
        file.write("# changed\n")
    assert cache._build_key() != copied
    monkeypatch.setenv("NUMBA_OPT", "1")
    assert cache._build_key() not in (key, copied)


@pytest.fixture
def fresh_directory(monkeypatch, tmp_path):
    monkeypatch.setattr(internals, "distinguish_names", lambda: None)
    monkeypatch.setattr(cache, "_candidates", lambda: iter([tmp_path / "first", tmp_path / "second"]))
    return cache.build_directory.__wrapped__


def test_the_first_directory_that_can_be_used(fresh_directory, tmp_path):
    (tmp_path / "first").write_text("not a directory")
    chosen = fresh_directory()
    assert chosen.parent == tmp_path / "second"
    assert fresh_directory() == chosen


def test_builds_that_nobody_uses_are_removed(fresh_directory, tmp_path):
    old, recent, other = (tmp_path / "first" / name for name in ("numba-old", "numba-recent", "data"))
    for folder in (old, recent, other):
        folder.mkdir(parents=True)
        (folder / "file").write_text("")
    month_ago = time.time() - (cache.KEEP_DAYS + 1) * 24 * 3600
    os.utime(old, (month_ago, month_ago))
    os.utime(other, (month_ago, month_ago))
    fresh_directory()
    assert (old.exists(), recent.exists(), other.exists()) == (False, True, True)


def test_what_cannot_be_described_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "build_directory", lambda: tmp_path)
    holder = type("Holder", (), {"value": 3})()

    def refers_to_an_object(x):
        return x if holder is None else 0

    table = np.arange(3)

    def refers_to_an_array(x):
        return table[x] + np.float32(len("abc")) + successor(1)

    assert kernel(refers_to_an_object).store() is None
    before = kernel(refers_to_an_array).store()
    table[1] = 7
    after = kernel(refers_to_an_array).store()
    assert before._file(()) != after._file(())
    assert kernel(refers_to_an_array, fastmath=True).store()._file(()) != after._file(())
    assert kernel(refers_to_an_array).store()._file("other types") != after._file(())
    assert kernel(refers_to_an_array).store()._file(()) == after._file(())


def test_descriptions_do_not_depend_on_the_process(tmp_path):
    (tmp_path / "library.py").write_text(LIBRARY)
    script = "import library\nprint(library.loops['a'].store()._file('types').name)"
    names = {
        _python("-c", script, path=tmp_path, PYTHONHASHSEED=seed, TINYDL_CACHE_DIR=str(tmp_path))
        for seed in "123"
    }
    assert len(names) == 1
