"""examples/cupy_convolution.py runs: on a GPU, on the emulator, or else says what is missing."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from tinydl_kernels import emulator
from tinydl_kernels.cuda import launching

SCRIPT = Path(__file__).parents[1] / "examples" / "cupy_convolution.py"


def test_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(SCRIPT), run_name="__main__")
    expected = (
        "y (8, 16, 16, 16), sum"
        if launching.is_available() or emulator.unavailable() is None
        else "There is no GPU"
    )
    assert expected in capsys.readouterr().out


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(launching, "is_available", lambda: False)
    monkeypatch.setattr(
        emulator, "unavailable", lambda: "the CUDA emulator needs g++, which is not on the PATH"
    )
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().out == (
        "There is no GPU that CuPy can use, and the CUDA emulator needs g++, which is not on the PATH\n"
    )
