"""Several ranks on this machine, started by mpiexec here: ranks.py has what they do.

Each launch takes seconds, so that one does all checks that are not said to be of `full`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ranks
from tinydl_kernels import emulator

pytest.importorskip("mpi4py", reason="mpi4py is absent: pip install 'tinydl[mpi]'")

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
MPIEXEC = Path(sys.executable).with_name("mpiexec")
pytestmark = pytest.mark.skipif(not MPIEXEC.exists(), reason="mpiexec is absent: pip install 'tinydl[mpi]'")

TOLERANCE = {"collectives": 1e-7}
"""Finite differences. All else agrees to 1e-12; what counts as wrong, or compares bits, is 0."""


@contextmanager
def started(n: int, *arguments: Any) -> Iterator[Any]:
    """mpiexec with n ranks of one thread, off the network; it ends with the scope."""
    path = os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "kernels", ROOT / "tests", HERE))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PMI", "MPI", "HYDRA"))}
    environment = {**kept, "PYTHONPATH": path, "TINYDL_NUM_THREADS": "1", "FI_PROVIDER": "tcp"}
    command = [MPIEXEC, "-iface", "lo", "-n", n, sys.executable, "-W", "error", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(list(map(str, command)), env=environment, **pipes) as program:
        try:
            yield program
        finally:
            if program.poll() is None:
                program.terminate()


def compare(n: int, *arguments: Any, program: str = "ranks.py") -> dict[str, Any]:
    """Start n ranks, hold what they say of each check against what is allowed, and return it."""
    with started(n, HERE / program, *arguments) as process:
        out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err[-5000:]
    said = json.loads(out.strip().splitlines()[-1])
    assert said["size"] == n
    wrong = {
        (name, key): x
        for name, numbers in said["results"].items()
        for key, x in numbers.items()
        if not x <= TOLERANCE.get(name, 1e-12)
    }
    assert wrong == {}
    return said["results"]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_ranks(n: int, tmp_path: Path) -> None:
    """Together they do what one process does: gradients, ten steps, recorded ones to the bit."""
    assert compare(n, tmp_path).keys() >= {*ranks.QUICK, "collectives", "checkpoints"}


@pytest.mark.full
@pytest.mark.parametrize("n", [2, 3])
def test_more_of_ranks(n: int, tmp_path: Path) -> None:
    assert compare(n, tmp_path, "full").keys() == {*ranks.OTHERS}


needs_emulator = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))


@needs_emulator
@pytest.mark.parametrize("which", ["quick", pytest.param("full", marks=pytest.mark.full)])
def test_nccl_on_a_stand_in(which: str) -> None:
    """The same cases, on no device: CuPy, NCCL and the GPU are stand-ins."""
    assert len(compare(2, which, program="nccl_ranks.py")) > 2


# Endings
# ------------------------------------------------------------------------------------------------------------

ENDING = """
import os, sys, time
import tinydl as td
group = td.distributed.world(timeout=60.0)
x = td.ones(3)
group.all_reduce(x)
if group.rank == 1:
    {}
if group.rank == 0:
    print("waiting", flush=True)
while True:
    group.all_reduce(x)
    time.sleep(0.01)
"""
SECONDS = 20.0
"""On a busy machine. The ranks themselves notice within a tenth of a second."""


@pytest.mark.parametrize(
    ("end", "line"),
    [
        pytest.param('raise ValueError("too large")', "rank 1 of 2: ValueError: too large", id="exception"),
        pytest.param("os.kill(os.getpid(), 9)", None, id="killed"),  # MPI and its launcher race to say so
        pytest.param(
            "sys.exit(3)", "rank 0 waits for rank 1, which has ended", id="exit", marks=pytest.mark.full
        ),
    ],
)
def test_a_rank_that_dies_ends_the_others(end: str, line: str | None, tmp_path: Path) -> None:
    script = tmp_path / "ending.py"
    script.write_text(ENDING.format(end))
    with started(2, script) as program:
        before = program.stdout.readline()  # "waiting", or nothing where all have ended already
        since = time.monotonic()
        out, err = program.communicate(timeout=60)
    assert time.monotonic() - since < SECONDS
    said = (before + out + err).splitlines()
    assert said
    assert line is None or [line in each for each in said].count(True) == 1
    assert program.returncode != 0


def test_an_interrupt_ends_all(tmp_path: Path) -> None:
    script = tmp_path / "ending.py"
    script.write_text(ENDING.format("pass"))
    with started(2, script) as program:
        assert program.stdout.readline().strip() == "waiting"
        since = time.monotonic()
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=60)
    assert time.monotonic() - since < SECONDS
    assert program.returncode != 0
