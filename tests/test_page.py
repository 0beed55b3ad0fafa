"""`python -m tinydl derivatives`: the page says what it checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue.page import ORDERS, checked, page
from catalogue.row import Row

import tinydl as td
from tinydl import __main__ as commands
from tinydl.engine.core import Primitive, primitives


@pytest.fixture
def primitive() -> Any:
    """Makes primitives that do not stay in the list of all."""
    before = set(primitives)
    yield Primitive
    for name in set(primitives) - before:
        del primitives[name]


def verdicts(call: Any, **more: Any) -> list[str]:
    row = Row("it", call, [[(3,)]], None, **more)
    cells = checked([row], ["reference"])["it"]
    single, double = (
        [cells["reference", dtype, order] for order in ORDERS] for dtype in ("float32", "float64")
    )
    assert single == double or "WRONG" in double
    return double


def test_verdicts(primitive: Any) -> None:
    def curved(x: np.ndarray) -> np.ndarray:
        return x**3

    def slope(x: np.ndarray) -> np.ndarray:
        return 3 * x**2

    def halved(x: np.ndarray) -> np.ndarray:
        return x**3

    f, df, wrong = primitive(curved), primitive(slope), primitive(halved)
    f.rule(x=lambda g, x: g * df(x))
    wrong.rule(x=lambda g, x: g * x * x)
    assert verdicts(td.sin) == ["yes"] * 3
    assert verdicts(td.sin, order=1) == ["yes", "-", "-"]
    assert verdicts(f) == ["yes", "refused", "refused"]
    assert verdicts(wrong)[0] == "WRONG"


def test_rows_of_one_operation_share_a_line() -> None:
    rows = [Row("sin", td.sin, [[(3,)]], np.sin), Row("sin again", td.sin, [[()]], np.sin, order=1)]
    text = page(["sin"], ["reference"], rows)
    assert "| operation | reference float64 | reference float32 |" in text
    assert "| sin | yes | yes |" in text
    assert text.endswith("Refused: none.\n\nWrong: none.\n")


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["derivatives", "add", "dropout", "--backends", "reference"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| dropout | yes | yes |" in lines
    with pytest.raises(SystemExit, match="2"):
        commands.main(["derivatives", "addition"])
    assert capsys.readouterr().err == "derivatives: expected names of the catalogue, got addition\n"


def test_command_without_a_source_tree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "__file__", str(tmp_path / "tinydl" / "__main__.py"))
    with pytest.raises(SystemExit, match="2"):
        commands.main(["derivatives"])
    assert (
        "derivatives: expected a source tree with the catalogue of the tests, got none at"
        in capsys.readouterr().err
    )
