"""README's twenty lines run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_the_twenty_lines_run(capsys: pytest.CaptureFixture[str]) -> None:
    section = README.read_text(encoding="utf-8").split("## Twenty lines\n")[1]
    program = re.match(r"\s*```python\n(.*?)```", section, re.DOTALL)
    assert program
    exec(compile(program[1], str(README), "exec"), {"__name__": "readme"})
    said = re.fullmatch(r"loss (\d+\.\d+), squared gradient (\d+\.\d+)\n", capsys.readouterr().out)
    assert said
    assert float(said[1]) < 2.3  # what ten classes cost without training
