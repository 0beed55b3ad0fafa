"""The run that compares with PyTorch: what it selects, what it refuses, and what it counts as compared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import comparisons
import pytest
from comparisons import comparison
from keywords import remember_constructors

import tinydl as td

FILES = {
    "conftest.py": """
import pathlib, sys
import comparisons
comparisons.TESTS = pathlib.Path(__file__).parent
if "no_torch" in sys.argv:
    sys.modules["torch"] = None
""",
    "helper.py": """
import pytest

def values():
    return pytest.importorskip("torch")
""",
    "test_some.py": """
import pytest
import helper

@pytest.fixture
def theirs():
    return pytest.importorskip("torch")

def test_inside(): pytest.importorskip("torch")
def test_by_a_helper(): helper.values()
def test_by_a_fixture(theirs): pass
def test_without(): pass
""",
    "torch.py": "",
    "test_skipping.py": """
import pytest

def test_skipped():
    pytest.importorskip("torch")
    pytest.skip("on a whim")
""",
    "test_hidden.py": """
import pytest

def test_unseen(): pytest.importorskip("".join(["tor", "ch"]))
""",
}


def ran(folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and the last words of a pytest in a folder of its own, with an empty module for torch."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "no_torch").mkdir()
    path = os.pathsep.join([str(folder), *(entry for entry in sys.path if entry)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "comparisons", "-p", "no:cacheprovider", "-rA", *arguments],
        cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_run_is_of_the_tests_that_need_torch(tmp_path: Path) -> None:
    code, text = ran(tmp_path, "--torch", "test_some.py")
    assert (code, "3 passed, 1 deselected" in text) == (0, True), text


def test_without_torch_these_are_skipped(tmp_path: Path) -> None:
    code, text = ran(tmp_path, "test_some.py", "no_torch")
    assert (code, "1 passed, 3 skipped" in text) == (0, True), text


def test_the_run_needs_torch(tmp_path: Path) -> None:
    code, text = ran(tmp_path, "--torch", "test_some.py", "no_torch")
    assert (code, "--torch: expected PyTorch, the extra `torch`" in text) == (4, True), text


def test_a_skipped_comparison_is_a_failure(tmp_path: Path) -> None:
    code, text = ran(tmp_path, "--torch", "test_skipping.py")
    assert (code, "a comparison with PyTorch was skipped: Skipped: on a whim" in text) == (1, True), text


def test_a_comparison_that_the_run_would_not_select_is_a_failure(tmp_path: Path) -> None:
    code, text = ran(tmp_path, "test_hidden.py", "no_torch")
    assert (code, "needs_torch does not see this test" in text) == (1, True), text


# What counts
# ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def torch(reference: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """PyTorch, with nothing compared yet."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(comparisons, "recording", True)
    monkeypatch.setattr(comparisons, "compared", set())
    monkeypatch.setattr(comparisons, "tried", {})
    monkeypatch.setattr(td.nn.Module, "__init__", td.nn.Module.__init__)
    remember_constructors(td.nn.Module)
    return torch


def test_what_both_sides_call_is_compared(torch: Any) -> None:
    x, t = td.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    with comparison():
        td.exp(x), torch.exp(t)
        x.sum(), t.sum()
        td.max_pool2d(x, 2), torch.nn.functional.max_pool2d(t, 2)
        td.nn.Sequential(td.nn.ReLU())(x), torch.nn.Sequential(torch.nn.ReLU())(t)
        td.nn.ModuleList(), torch.nn.ModuleList()
        td.nn.init.zeros_(x), torch.nn.init.zeros_(t)
        td.optim.SGD([td.nn.Parameter(x)], 0.1).step(), torch.optim.SGD([t], 0.1).step()
    assert comparisons.compared == {
        *("exp", "sum", "max_pool2d", "nn.Sequential", "nn.ReLU", "nn.ModuleList", "nn.init.zeros_"),
        "optim.SGD",
    }


def test_what_one_side_calls_or_the_library_itself_is_not(torch: Any) -> None:
    x, t = td.ones(2, 3), torch.ones(2, 3)
    with comparison():
        td.exp(x), torch.log(t)  # of either only one
        td.nn.Tanh(), torch.nn.Tanh()  # made, but not called
        td.softmin(x, 1), torch.nn.functional.softmin(t, 1)  # which call softmax
    td.sin(x), torch.sin(t)  # outside
    assert comparisons.compared == {"softmin"}


def test_what_failed_is_not(torch: Any) -> None:
    def fails() -> None:
        with comparison():
            assert td.exp(td.ones(2)).numpy()[0] == torch.exp(torch.zeros(2)).numpy()[0]

    with pytest.raises(AssertionError):
        fails()
    assert comparisons.compared == set()


def test_keywords_that_differ_from_their_defaults_are_tried(torch: Any) -> None:
    x, t = td.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    layers = [n.MaxPool2d(2, None, padding=1, dilation=1) for n in (td.nn, torch.nn)]
    cells = [n.RNN(4, 2, bidirectional=True) for n in (td.nn, torch.nn)]
    held = [n.Sequential(n.GELU("tanh")) for n in (td.nn, torch.nn)]
    hx = td.zeros(2, 4, 2)
    with comparison():
        td.amax(x, 1, True), torch.amax(t, 1, True)
        x.std(axis=0, correction=td.tensor(1)), t.std(dim=0, correction=1)
        td.nn.functional.softplus(x, beta=1.0, threshold=3.0), torch.nn.functional.softplus(t)
        td.nn.ModuleList(modules=[]), torch.nn.ModuleList()
        for layer, y in ((layers[0], x), (layers[1], t), (held[0], x), (held[1], t)):
            layer(y)
        cells[0](x[0], hx=hx), cells[1](t[0])
    assert comparisons.tried == {
        "amax": {"dim", "keepdim"},
        "std": {"dim", "correction"},
        "softplus": {"threshold"},
        "nn.ModuleList": {"modules"},
        "nn.MaxPool2d": {"padding"},
        "nn.Sequential": set(),
        "nn.GELU": {"approximate"},
        "nn.RNN": {"bidirectional", "hx"},
    }
