"""What every test folder shares: no default stream, backend or grad mode leaks
from one test into the next.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_cupy
import numpy as np
import pytest
from catalogue.optimizers import ROWS
from tinydl_kernels import emulator
from tinydl_kernels.cpu import threads
from tinydl_kernels.cuda import launching
from tinydl_kernels.emulator import nvrtc
from tinydl_kernels.machine import dispatch
from tinydl_kernels.update import cuda_module

import tinydl as td
from tinydl.engine.core import state

pytest_plugins = ["comparisons"]

# ---- Costs


def pytest_configure(config: pytest.Config) -> None:
    """The processes of pytest-xdist share the processors: each loop of each gets its part. The kernels
    of the optimizers are made, so that all tests know them.
    """
    if workers := getattr(config, "workerinput", {}).get("workercount"):
        threads.set_num_threads(max(1, threads.get_num_threads() // workers))
    for row in ROWS:  # launching.modules() has what is made of their formulas, wherever it is asked
        (rule,) = getattr(td.optim, row.kind)([td.nn.Parameter(np.ones((1, 1)))], **row.options).rules()
        for real in launching.REAL:
            cuda_module(rule, real)


def pytest_collection_finish() -> None:
    """Thousands of tests stay until the end: the garbage collector, which compilations keep
    busy, need not look at them.
    """
    gc.collect()
    gc.freeze()


# ---- The kernels of the .cu files and of the optimizers: which of them ran in a test that passed

QUICK = "not full and not nightly and not gpu"  # pyproject.toml

compared: Counter[tuple[str, str]] = Counter()
"""In how many tests that passed a kernel ran, by module and name. A test that launches
kernels compares what they give.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kernels", metavar="FILE", help="write the page of CUDA kernels, launched and compared, to FILE"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[Any]:
    before = emulator.launched.copy()
    result = yield
    compared.update((emulator.launched - before).keys())
    return result


def kernels() -> list[tuple[str, str]]:
    """Every `__global__` of the package in each of its modules, which are its template instances."""
    return [(module.name, kernel) for module in launching.modules() for kernel in module.signatures]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    for what, reason in (
        ("CUDA sources were not run", emulator.unavailable()),
        ("nor compiled", nvrtc.unavailable()),
    ):
        if reason:
            terminalreporter.write_line(f"{what}: {reason}", yellow=True)
    if exitstatus == pytest.ExitCode.OK and (missing := unproven(config)):
        terminalreporter.write_line(f"CUDA kernels that no test compared: {missing}", red=True)
    if file := config.getoption("--kernels"):
        lines = [f"| {module} | {kernel} | {emulator.launched[module, kernel]} | {compared[module, kernel]} |"
                 for module, kernel in kernels()]  # fmt: skip
        head = [
            "# CUDA kernels",
            "",
            "| module | kernel | launches | compared in tests |",
            "|---|---|---|---|",
        ]
        Path(file).write_text("\n".join([*head, *lines, ""]), encoding="utf-8")


def never_compared() -> list[tuple[str, str]]:
    """The kernels that ran in no test. One without `real` in its signature is the same
    in every module of its file.
    """
    same = {(module.split("-")[0], kernel) for module, kernel in compared}
    fixed = {
        (module.name, kernel): all(parameter.type not in ("real", "number") for parameter in parameters)
        for module in launching.modules()
        for kernel, parameters in module.signatures.items()
    }
    return [k for k in kernels() if not compared[k] and not (fixed[k] and (k[0].split("-")[0], k[1]) in same)]


def unproven(config: pytest.Config) -> list[tuple[str, str]]:
    """The same after a run of all quick tests; nothing after a run of some, or without an emulator."""
    every = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.getoption("-k")
    quick = config.getoption("-m") == QUICK
    quick = quick and not config.getoption("--torch")
    return never_compared() if every and quick and emulator.unavailable() is None else []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of pytest-xdist has ended: what it compared counts here."""
    for kernel, count in node.workeroutput.get("compared", ()) if hasattr(node, "workeroutput") else ():
        compared[tuple(kernel)] += count


def pytest_sessionfinish(session: pytest.Session) -> None:
    """No kernel goes unproven: each `__global__` of each module ran in a test that compared what it gives."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["compared"] = list(compared.items())
    elif session.exitstatus == pytest.ExitCode.OK and unproven(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# ---- Scopes


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Seed the default generator; afterwards every scope must have been left."""
    td.manual_seed(0)
    yield
    assert dispatch.override() is None
    assert state.grad
    assert state.recorder is None
    assert state.tracer is None


@pytest.fixture
def gpu() -> Iterator[Any]:
    """A stand-in for a GPU and CuPy; afterwards the default generators are on the CPU again."""
    with fake_cupy.installed() as machine:
        yield machine
        for generator in (td.default_generator, td.noise_generator):
            generator.counter.on("cpu")
            generator.key.on("cpu")


@pytest.fixture
def reference() -> Iterator[None]:
    """For tests of what is made of operations, not of their kernels: `pytestmark =
    pytest.mark.usefixtures("reference")`.
    """
    with td.backend("reference"):
        yield


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """For tests that run with NumPy and with Numba."""
    with td.backend(request.param):
        yield request.param
