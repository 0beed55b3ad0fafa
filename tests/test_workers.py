"""Several processes at once, of joblib, of multiprocessing and of MPI: one thread each, one compile cache."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tinydl_kernels.cpu import processors, threads

ROOT = Path(__file__).parents[1]
LIBRARY = """
from tinydl_kernels.cpu.compiler import kernel, parallel


@kernel
def halved(v):
    return 0.5 * v + 1.0


@parallel
def halve(start, stop, x):
    for i in range(start, stop):
        x[i] = halved(x[i])
"""
WORK = """
import json, sys
import numpy as np


def work(number):
    import library
    from tinydl_kernels.cpu import threads

    x = np.arange(600.0)
    library.halve(600, 50, x)
    stats = library.halve.dispatcher.stats
    return threads.get_num_threads(), x.tobytes().hex(), sum(stats.cache_hits.values())


if __name__ == "__main__":
    if sys.argv[1] == "joblib":
        from joblib import Parallel, delayed

        found = Parallel(n_jobs=2, backend="loky", pre_dispatch="all", batch_size=1)(
            delayed(work)(number) for number in range(2)
        )
    elif sys.argv[1] == "spawn":
        import multiprocessing

        with multiprocessing.get_context("spawn").Pool(2) as pool:
            found = pool.map(work, range(2), chunksize=1)
    else:
        found = [work(0)]
    print(json.dumps(found))
"""


def start(tmp_path: Path, how: str, cache: Path, **environment: str) -> Any:
    script = tmp_path / "work.py"
    script.write_text(WORK)
    (tmp_path / "library.py").write_text(LIBRARY)
    left = {key: value for key, value in os.environ.items() if key != "TINYDL_NUM_THREADS"}
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "kernels")])
    env = {**left, "PYTHONPATH": path, "TINYDL_CACHE_DIR": str(cache), **environment}
    command = [sys.executable, "-W", "error", str(script), how]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results(process: Any) -> list[list[Any]]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.mark.parametrize("how", ["joblib", pytest.param("spawn", marks=pytest.mark.full)])
def test_two_workers_share_a_cold_cache(how: str, tmp_path: Path) -> None:
    """Both compile and write what the other does; then a third one finds all of it, whole."""
    if how == "joblib":
        pytest.importorskip("joblib")
    cache = tmp_path / "cache"
    two = results(start(tmp_path, how, cache))
    third = results(start(tmp_path, "alone", cache))[0]
    assert [count for count, *_ in two] == [1, 1]
    assert {bits for _, bits, _ in (*two, third)} == {third[1]}
    assert third[2] == 1  # it was not compiled again


def test_two_processes_of_mpi(tmp_path: Path) -> None:
    """As mpiexec starts them: at the same moment, with their number in the environment."""
    cache = tmp_path / "cache"
    both = [start(tmp_path, "alone", cache, OMPI_COMM_WORLD_SIZE="2") for _ in range(2)]
    (one,), (other,) = map(results, both)
    assert one[0] == other[0] == 1
    assert one[1] == other[1]
    assert results(start(tmp_path, "alone", cache))[0][1:] == [one[1], 1]


@pytest.mark.parametrize("name", processors.RANKS)
def test_who_is_one_of_many(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in processors.RANKS:
        monkeypatch.delenv(other, raising=False)
    assert not processors.one_of_many()
    for size, many in (("1", False), ("", False), ("two", False), ("2", True)):
        monkeypatch.setenv(name, size)
        assert processors.one_of_many() is many
    monkeypatch.delenv(name)
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    assert processors.one_of_many()


def test_a_number_that_is_given_counts_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_count", None)
    monkeypatch.setattr(threads, "one_of_many", lambda: True)
    monkeypatch.delenv("TINYDL_NUM_THREADS", raising=False)
    assert threads.get_num_threads() == 1
    monkeypatch.setattr(threads, "_count", None)
    monkeypatch.setenv("TINYDL_NUM_THREADS", "3")
    assert threads.get_num_threads() == 3
