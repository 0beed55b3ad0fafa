"""A fit that is killed by SIGKILL at any moment and resumes ends with the bits of one that was not: weights,
optimizer, history with its metrics, checkpoints, log, augmented pictures and streams of random numbers.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killed_run.py")
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(SCRIPT), str(folder), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> dict[str, str] | None:
    """What a run found; None if it was killed."""
    out, _ = process.communicate(timeout=120)
    if process.returncode == -signal.SIGKILL:
        return None
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """What the uninterrupted run finds, and the seconds from its first step on."""
    process = start(tmp_path_factory.mktemp("whole"))
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    begin = time.monotonic()
    found = finished(process)
    assert found is not None
    assert {"weights", "history", "last.safetensors", "log.csv"} <= found.keys()
    assert sum(name.startswith("best-") for name in found) == 2
    return found, time.monotonic() - begin


def killed(folder: Path, kills: int, seed: int, seconds: float) -> tuple[int, list[dict[str, str]]]:
    """Kill runs until there were so many kills: half of them at a moment of their steps, half within a write.
    Returns the number, and what each run that came to its end found.
    """
    moments = random.Random(seed)
    results, count, chain = [], 0, 0
    while count < kills:
        where = folder / str(chain)
        if count % 2:
            process = start(where, str(moments.randint(1, 12)))
        else:
            process = start(where)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(moments.uniform(0, 0.6 * seconds))
            process.kill()
        found = finished(process)
        count += found is None
        if found is not None:
            results.append(found)
            chain += 1
    last = finished(start(folder / str(chain)))
    assert last is not None
    return count, [*results, last]


def test_killed_five_times(whole: tuple[dict[str, str], float], tmp_path: Path) -> None:
    expected, seconds = whole
    count, results = killed(tmp_path, 5, 0, seconds)
    assert count == 5
    assert all(found == expected for found in results), (expected, results)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1, 6))
def test_killed_a_hundred_times(whole: tuple[dict[str, str], float], tmp_path: Path, seed: int) -> None:
    expected, seconds = whole
    count, results = killed(tmp_path, 20, seed, seconds)
    assert count == 20
    assert all(found == expected for found in results), (expected, results)
