"""The stubs are those of the code, and type checkers find wrong names by them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from stubs import PACKAGE, stubs

RIGHT = """
import tinydl as td
import tinydl.nn.functional as F
from tinydl import nn

model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
optimizer = td.optim.SGD(model.parameters(), lr=0.1)
schedule = td.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
x: td.Tensor = td.ones(4, 3, dtype=td.float32)
loss: td.Tensor = F.relu(model(x)).sum(axis=0).mean() + 1 - x.numel() / 2
loss.backward()
for row in x:
    row += 1
with td.no_grad():
    print(float(loss), len(x), x.shape, x.grad, td.optim.Adam, td.metrics.accuracy)
"""
WRONG = [
    "td.conv2dd(x, x)",
    "x.summ()",
    "x.sum(dimm=1)",
    "td.optim.Adamm",
    "td.optim.lr_scheduler.StepLRR",
    "td.regularizers.DataGradd",
    "td.nn.Linearr",
    "td.metrics.accuracyy",
    "td.data.datasets.MNISTT",
    "td.trainingg",
]


def test_the_stubs_are_those_of_the_code():
    old = [path.relative_to(PACKAGE) for path, text in stubs().items() if path.read_text("utf-8") != text]
    assert not old, "run: python tests/stubs.py"
    assert {*PACKAGE.rglob("*.pyi")} == {*stubs()}


@pytest.mark.full
def test_mypy_finds_wrong_names_and_no_others(tmp_path: Path):
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    lines = [*RIGHT.splitlines(), *WRONG]
    program.write_text("\n".join(lines), encoding="utf-8")
    paths = f"mypy_path={PACKAGE.parent}:{PACKAGE.parent / 'kernels'}"
    (tmp_path / "mypy.ini").write_text(f"[mypy]\n{paths}\nignore_missing_imports=True\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    told = [int(line.split(":")[1]) for line in done.stdout.splitlines() if line.startswith("program.py:")]
    assert [n for n in told if n <= len(RIGHT.splitlines())] == [], done.stdout
    assert sorted(set(told)) == list(range(len(RIGHT.splitlines()) + 1, len(lines) + 1)), done.stdout
