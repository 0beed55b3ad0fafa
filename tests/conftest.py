"""What every test folder shares: no default stream, backend or grad mode leaks from one test into the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tinydl_kernels import cuda, dispatch, emulator
from tinydl_kernels.emulator import nvrtc

import tinydl as td
from tinydl.core import state

# ---- The kernels of the .cu files: which of them ran in a test that passed

compared: Counter[tuple[str, str]] = Counter()
"""In how many tests that passed a kernel ran, by module and name. A test that launches kernels compares what they give."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kernels", metavar="FILE", help="write the page of CUDA kernels, launched and compared, to FILE")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[Any]:
    before = emulator.launched.copy()
    result = yield
    compared.update((emulator.launched - before).keys())
    return result


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks back on the other tests comes last."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


def kernels() -> list[tuple[str, str]]:
    """Every `__global__` of the package in each of its modules, which are its template instances."""
    return [(module.name, kernel) for module in cuda.modules() for kernel in module.signatures]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what, reason in (("CUDA sources were not run", emulator.unavailable()), ("nor compiled", nvrtc.unavailable())):
        if reason:
            terminalreporter.write_line(f"{what}: {reason}", yellow=True)
    if file := config.getoption("--kernels"):
        lines = [f"| {module} | {kernel} | {emulator.launched[module, kernel]} | {compared[module, kernel]} |"
                 for module, kernel in kernels()]  # fmt: skip
        head = ["# CUDA kernels", "", "| module | kernel | launches | compared in tests |", "|---|---|---|---|"]
        Path(file).write_text("\n".join([*head, *lines, ""]), encoding="utf-8")


@pytest.fixture(scope="session")
def never_compared() -> list[tuple[str, str]]:
    """The kernels that ran in no test so far. One without `real` in its signature is the same in every module of its file."""
    same = {(module.split("-")[0], kernel) for module, kernel in compared}
    fixed = {
        (module.name, kernel): all(parameter.type not in ("real", "number") for parameter in parameters)
        for module in cuda.modules()
        for kernel, parameters in module.signatures.items()
    }
    return [k for k in kernels() if not compared[k] and not (fixed[k] and (k[0].split("-")[0], k[1]) in same)]


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
def reference() -> Iterator[None]:
    """For tests of what is made of operations, not of their kernels: `pytestmark = pytest.mark.usefixtures("reference")`."""
    with td.backend("reference"):
        yield
