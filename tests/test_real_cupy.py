"""`pytest -m gpu` on the real CuPy without a GPU (host_driver.py): so that the stand-in is
not all that is known of CuPy.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from tinydl_kernels import emulator
from tinydl_kernels.machine import device

TESTS = Path(__file__).parent


def missing() -> str | None:
    """Why it cannot be done here, or None."""
    try:
        found = version("cupy-cuda13x")
    except PackageNotFoundError:
        return "the real CuPy is absent: pip install cupy-cuda13x==14.2.0"
    if not found.startswith("14.") or device.is_available():
        return (
            f"there is CuPy {found}, with a GPU"
            if device.is_available()
            else f"made for CuPy 14, there is {found}"
        )
    return emulator.unavailable()


pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def run(chosen: str, *options: str, driver: bool = True) -> str:
    """The report of the tests of the GPU whose names fit, which must pass, in a process of their own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    plugin = ("-p", "host_driver") if driver else ()
    command = [
        sys.executable,
        "-m",
        "pytest",
        *plugin,
        "-p",
        "no:cacheprovider",
        "-m",
        "gpu",
        str(TESTS / "gpu"),
        "-k",
        chosen,
    ]
    done = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, check=False, cwd=TESTS.parent
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


def test_streams_memory_and_some_graphs() -> None:
    rows = "conv2d or max_pool2d or dropout or batch_norm or interpolate or cross_entropy or sort or scatter"
    assert " passed" in run(f"streams or pinned or as_graphs and ({rows})", "-o", "addopts=--strict-markers")


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_all_but_the_long_runs() -> None:
    assert " passed" in run("not leak and not sanitizer", "-o", "addopts=--strict-markers")


def test_without_a_driver() -> None:
    """The tests are skipped, with the reason."""
    assert "cuda: expected " in run("streams", "-rs", "-o", "addopts=--strict-markers", driver=False)
