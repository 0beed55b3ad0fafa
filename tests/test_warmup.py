"""`python -m tinydl warmup`: what it compiles is found by the next process."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tinydl_kernels.cpu import cache

import tinydl as td
from tinydl import warmup
from tinydl.__main__ import main


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small network."""
    monkeypatch.setattr(warmup, "NETWORKS", {"line": (lambda: td.nn.Linear(3, 10), (3,))})


def test_says_what_is_compiled(few: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["warmup"]) == 0
    said = re.match(r"(\d+) compiled kernels, (\d+) of them new, in [\d.]+ s\n", capsys.readouterr().out)
    assert said is not None
    held, new = map(int, said.groups())
    assert 0 <= new <= held
    assert held > 0
    assert main(["warmup"]) == 0
    assert capsys.readouterr().out.startswith(f"{held} compiled kernels, 0 of them new")


def test_without_a_cache_it_is_an_error(
    few: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache, "build_directory", lambda: None)
    with pytest.raises(SystemExit):
        main(["warmup"])
    assert (
        "warmup: expected a directory to keep kernels in, got none; set TINYDL_CACHE_DIR"
        in capsys.readouterr().err
    )


@pytest.mark.full
def test_the_usual_networks_leave_the_default_generator_alone() -> None:
    td.manual_seed(3)
    expected = td.rand(4).numpy()
    td.manual_seed(3)
    held, new = warmup.warmup([np.float32])
    assert held >= new
    assert held > 50
    np.testing.assert_array_equal(td.rand(4).numpy(), expected)
