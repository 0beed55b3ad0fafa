"""`python -m tinydl warmup`: what it compiles is found by the next process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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


def test_says_what_is_compiled(tmp_path: Path) -> None:
    """Two processes on a cache of their own: the second finds all that the first has left."""
    program = (
        "import tinydl as td; from tinydl import warmup; from tinydl.__main__ import main; "
        "warmup.NETWORKS = {'line': (lambda: td.nn.Linear(3, 10), (3,))}; raise SystemExit(main(['warmup']))"
    )
    environment = os.environ | {
        "TINYDL_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    counts = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        said = re.match(r"(\d+) compiled kernels, (\d+) of them new, in [\d.]+ s\n", done.stdout)
        assert said is not None
        counts.append(tuple(map(int, said.groups())))
    assert counts[0][0] == counts[0][1] > 0
    assert counts[1] == (counts[0][0], 0)


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
