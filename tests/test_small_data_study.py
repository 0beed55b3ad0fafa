"""examples/small_data_study.py through its command line, on digits that are made: every kind of cell in three
steps, the page, the second look.
"""

from __future__ import annotations

import importlib.util
import json
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from tinydl.data import DataError

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def program() -> Any:
    sys.path.insert(0, str(EXAMPLES))
    spec = importlib.util.spec_from_file_location(
        "small_data_study_program", EXAMPLES / "small_data_study.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright 7 × 7 patch whose place is the class: 300 to draw from and 60 more twice."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data")
    (folder / "mnist").mkdir()
    for name, n in (("train", 360), ("t10k", 60)):
        labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)
        images = rng.integers(0, 120, (n, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[7 * (label // 4) : 7 * (label // 4) + 7, 7 * (label % 4) : 7 * (label % 4) + 7] = 250
        header = struct.pack(">4I", 2051, n, 28, 28)
        (folder / "mnist" / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">2I", 2049, n)
        (folder / "mnist" / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return folder


def test_every_kind_of_cell_the_page_and_the_same_bits_again(
    program: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, readme = tmp_path / "out", tmp_path / "README.md"
    readme.write_text("before\n<!-- study table -->\nold\n<!-- end of study table -->\nafter\n")
    call = ["--quick", "--data", str(data), "--out", str(out)]
    assert program.main(call) == 0
    assert program.main(["report", *call, "--readme", str(readme)]) == 0
    page = (out / "README.md").read_text(encoding="utf-8")
    for table in program.tables.tables(guess=True):
        lines = (out / "runs" / f"{table.name}.jsonl").read_text().splitlines()
        assert len(lines) == len(program.tables.quick(table).cells)
        for line in map(json.loads, lines):
            assert line["result"]["data"]
            assert line["result"]["environment"]["numpy"]
    for letter in "abcdefg":
        assert f"## ({letter}) " in page
    assert "| dropout / DataGrad | 1 |" in page
    assert "n = 1 of 10" in page
    assert "reproduced |" not in page  # nothing is claimed from one run
    assert "above 0" not in page
    assert "below 0" not in page
    for picture in ("a", "b", "e-samples", "g", "g-step"):
        assert (out / f"{picture}.png").read_bytes()[:4] == b"\x89PNG"
        assert f"({picture}.png)" in page
    text = readme.read_text()
    assert text.startswith("before\n<!-- study table -->\n| 2,000 digits")
    assert text.endswith("<!-- end of study table -->\nafter\n")
    assert "97.93; n = 1 of 10" in text

    capsys.readouterr()
    assert program.main(["check", *call, "--runs", "3"]) == 0
    assert capsys.readouterr().out.count("the same bits") == 3


def test_a_second_look_takes_again(
    program: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    call = ["e", "--quick", "--data", str(data), "--out", str(tmp_path)]
    assert program.main(["all", *call]) == 0
    monkeypatch.setitem(program.tables.QUICK, "steps", 4)  # another recipe
    assert program.main(["run", *call]) == 0
    capsys.readouterr()
    assert program.main(["report", *call]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "a second look takes --again" in errors[0]
    assert program.main(["report", *call, "--again"]) == 0
    assert "e: t10k: 4 runs" in (page := (tmp_path / "README.md").read_text(encoding="utf-8"))
    assert "SECOND LOOKS: 1" in page


def test_the_tables_are_what_was_published(program: ModuleType) -> None:
    """λ of the cells that are easily mistaken, and a published number for each cell that has one."""
    tables = {table.name: table for table in program.tables.tables()}
    a, b = tables["a"].cells, tables["b"].cells
    assert (a["dropout / DataGrad"]["penalties"], a["dropout / DataGrad"]["decay"]) == ({"DataGrad": 20}, 0.0)
    assert a["dropout, WD / DataGrad"]["penalties"] == {"DataGrad": 50}
    assert a["batchnorm, WD / SpectReg"]["penalties"] == {"SpectReg": 0.001}
    assert b["5000 / DataGrad"]["penalties"] == {"DataGrad": 20}
    assert b["5000 / SpectReg"]["penalties"] == {"SpectReg": 0.003}
    assert b["20000 / EP"]["penalties"] == {"EP": 0.03}
    assert len(b) == 8 * 4 + 5 + 3
    published = program.page.PUBLISHED
    assert set(published["a"]) == set(a)
    assert set(published["e-samples"]) == set(tables["e-samples"].cells)
    for name in ("a", "b"):
        assert list(tables[name].seeds) == list(range(10))
    for name in ("c", "d", "f", "e-samples"):  # what earlier runs have scored is not drawn again
        assert min(tables[name].seeds) == 10
    trials: dict[str, set[int]] = {}
    for name in ("c-trials", "d-trials", "f-trials"):
        groups: dict[str, int] = {}
        for cell in tables[name].cells.values():
            groups[cell["group"]] = groups.get(cell["group"], 0) + 1
        trials[name] = set(groups.values())
    assert trials == {"c-trials": {9}, "d-trials": {6}, "f-trials": {3}}  # as many for every method


def test_what_goes_wrong_is_one_line(program: ModuleType, tmp_path: Path, capsys: Any) -> None:
    assert program.main(["run", "z", "--quick", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("small_data_study: expected tables among ")
    assert program.main(["run", "a", "--quick", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "small_data_study: " in capsys.readouterr().err
    with pytest.raises(DataError, match="expected <!-- study table -->"):
        program.page.renewed("no marks", "table")


def test_nothing_is_there_to_score_before_trials_have_chosen(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from small_data_study import tables

    monkeypatch.setattr(tables, "CHOSEN", tmp_path / "chosen.json")
    found = {table.name: table for table in tables.tables()}
    assert not any(found[name].cells for name in ("c", "d", "f", "f-vote"))
    winner = {"trial": "2", "net": "cnn5s", "size": 100}
    tables.CHOSEN.write_text(json.dumps({"f": {"100, augmentation": winner}}))
    found = {table.name: table for table in tables.tables()}
    assert found["f"].cells["100, augmentation"] == winner
    assert found["f"].cells["10, augmentation, fixed"]["size"] == 10
    assert found["f-vote"].cells["100, augmentation, member 4"] == winner | {"member": 4}
    assert not found["d"].cells


def test_where_two_ways_meet(program: ModuleType) -> None:
    from small_data_study.few import crossing

    sizes, draws = [100, 200, 400, 800], np.array([-0.1, 0.0, 0.1])
    augmented = np.array([90.0, 92, 94, 96])[:, None] + draws
    other = np.array([91.0, 94, 89, 99])[:, None] + draws
    found = [crossing(sizes, augmented, other, at) for at in range(4)]
    assert found[0].ratio == pytest.approx(2**0.5)  # half-way to 200, in log N
    assert found[1].ratio == pytest.approx(2)
    assert found[2].ratio == pytest.approx(100 / 400)  # the curve's first end
    assert found[3].ratio == pytest.approx(1)  # its last
    for one in found:
        assert one.low - 1e-9 <= one.ratio <= one.high + 1e-9
    assert found[1].high - found[1].low < 1e-9  # one resample for both: what they share cancels


def test_a_vote(program: ModuleType) -> None:
    from small_data_study.few import vote, votes

    said = [np.array(row) for row in ([1, 7, 5, 3], [1, 2, 4, 3], [0, 2, 4, 9], [0, 7, 9, 9], [0, 1, 9, 8])]
    assert vote(said).tolist() == [0, 7, 4, 3]
    others = {(f"a, member {k}", 10): said[k] for k in (1, 2, 3, 4)}
    found = votes({("a", 10): said[0], ("a", 11): said[0]}, others)
    assert list(found) == [("a", 10)]


def test_a_shift_of_a_picture(program: ModuleType) -> None:
    from small_data_study.training import shifted

    images = np.zeros((1, 28, 28), np.uint8)
    images[0, 5, 7] = images[0, 27, 27] = 1
    assert np.argwhere(shifted(images, 1, 0)).tolist() == [[0, 5, 8]]
    assert np.argwhere(shifted(images, 0, -1)).tolist() == [[0, 4, 7], [0, 26, 27]]
    np.testing.assert_array_equal(shifted(images, 0, 0), images)
