"""examples/metrics.py: every formula agrees with tinydl.metrics, and the page and its picture are written."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("matplotlib")

SCRIPT = Path(__file__).parents[1] / "examples" / "metrics.py"


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("metrics_example", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_and_the_picture(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example.main(["--out", str(tmp_path / "out")]) == 0
    page = capsys.readouterr().out
    for line in (
        "healthy          tn = 5        fp = 2",
        "= 4 / (4 + 1) = 0.8000",
        "right order, equal scores counted half: 30.5 of 5 * 7 = 0.8714",
        "sensitivity, 4 of 5  0.800   95 % interval 0.376 to 0.964   (Wilson)",
    ):
        assert line in page
    assert (tmp_path / "out" / "metrics.png").read_bytes()[:4] == b"\x89PNG"


def test_a_formula_that_disagrees_ends_the_page(example: ModuleType) -> None:
    example.FORMULAS["accuracy"] = ("(tp + tn) / n", 0.8)
    with pytest.raises(SystemExit, match=r"metrics: accuracy: by hand 0.75, tinydl.metrics 0.8"):
        example.main([])


def test_a_folder_that_cannot_be_made(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert example.main(["--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("metrics: ")
