"""examples/optimizers.py and examples/wilson.py through their command lines, on digits that are made."""

from __future__ import annotations

import importlib.util
import json
import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import tinydl as td

EXAMPLES = Path(__file__).parents[1] / "examples"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def race() -> ModuleType:
    return loaded("optimizers")


@pytest.fixture
def wilson() -> ModuleType:
    return loaded("wilson")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few digits: a bright patch whose place is the class."""
    monkeypatch.delenv("TINYDL_DATA", raising=False)
    random = np.random.default_rng(0)
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for name, n in (("train", 160), ("t10k", 40)):
        labels = random.integers(0, 10, n).astype(np.uint8)
        images = random.integers(0, 120, (n, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[7 * (label // 4) : 7 * (label // 4) + 7, 7 * (label % 4) : 7 * (label % 4) + 7] = 250
        header = struct.pack(">4I", 2051, n, 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">2I", 2049, n)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return folder.parent


def test_the_race(race: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with td.backend("reference"):  # which compiles nothing
        assert race.main(["--quick", "--data", str(data), "--out", str(out)]) == 0
    page = capsys.readouterr().out
    assert str(data) in page
    assert all(f"\n{name} " in page for name in race.TABLE)
    assert (out / "optimizers.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((out / "results.json").read_text())
    assert results["curves"].keys() == {name for name, racer in race.TABLE.items() if racer.digits}
    for name, curve in results["curves"].items():
        assert curve[-1][0] == 10
        assert [results["table"][name][x] for x in ("loss", "dev_error")] == curve[-1][1:]


def test_who_arrives(race: ModuleType) -> None:
    """The lowest of the valley and the sides of the saddle are where they are said to be."""
    for surface in race.SURFACES.values():
        for x, y in surface.minima:
            near = [surface.height(x + a, y + b) for a in (-1e-3, 0, 1e-3) for b in (-1e-3, 0, 1e-3)]
            assert np.argmin(near) == 4
    valley = race.SURFACES["valley"]
    points = race.walk(race.TABLE["L-BFGS"], valley, 1.0, 60)
    at = race.arrival(valley, points)
    assert 0 < at < 60
    assert np.hypot(*(points[at] - 1)) < 0.05 <= np.hypot(*(points[at - 1] - 1))
    assert race.arrival(valley, points[: at - 1]) is None
    saddle = race.SURFACES["saddle"]
    steps = [
        race.arrival(saddle, race.walk(race.TABLE[name], saddle, 0.1, 100)) for name in ("SGD", "RMSprop")
    ]
    assert steps[1] < 20 < 50 < steps[0]


def test_wilson(wilson: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with td.backend("reference"):
        assert wilson.main(["--quick", "--data", str(data), "--out", str(out)]) == 0
    page = capsys.readouterr().out
    assert "4. Adam gains from tuning: undecided" in page  # two pairs allow no claim
    assert (out / "wilson.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((out / "results.json").read_text())
    assert results["runs"].keys() == results["settings"].keys() == {*wilson.GRIDS, wilson.DEFAULT}
    assert {len(runs) for runs in results["runs"].values()} == {2}


def test_networks_of_one_seed_see_the_same(wilson: ModuleType, data: Path) -> None:
    """With a rate of 0 two methods have the same losses; another seed has others."""
    pool, dev, test, _ = wilson.load_digits(str(data))
    still = [wilson.Setting(name, 0.0, False) for name in ("SGD", "Adam")]
    a, b = (wilson.train(setting, 0, pool, dev, test, 10) for setting in still)
    assert a == b
    assert wilson.train(still[0], 1, pool, dev, test, 10).early != a.early


def test_the_rate_with_the_least_error_is_chosen(wilson: ModuleType) -> None:
    errors = {(0.1, False): 3.0, (0.2, False): 2.0, (0.1, True): 1.5, (0.2, True): 1.5}
    best, error = wilson.tune("SGD", (0.1, 0.2), lambda setting: errors[setting.lr, setting.falls])
    assert (best, error) == (wilson.Setting("SGD", 0.1, True), 1.5)


def test_verdicts(wilson: ModuleType) -> None:
    """From scores that are made: adaptive methods are worse by one percent, though faster and as low."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((6, 4))

    def runs(test: float, early: float, middle: float, loss: float, shift: int) -> list:
        return [
            wilson.Scores(
                [[1, early + e, 9.0], [2, 0.1, middle + e], [3, 0.0, 3.0], [4, 0.0, 2.0]], loss, 2.0, test + e
            )
            for e in noise[shift]
        ]

    made = {name: runs(3.0, 1.0, 6.0, 0.02, i) for i, name in enumerate(wilson.PLAIN)}
    made |= {name: runs(4.0, 0.5, 4.0, 0.01, i + 2) for i, name in enumerate(wilson.ADAPTIVE)}
    made[wilson.DEFAULT] = runs(4.0, 0.5, 4.0, 0.01, 5)
    found = wilson.findings(made, "SGD")
    assert [x.verdict for x in found] == ["holds", "holds", "holds", "undecided"]
    assert found[0].numbers["test error, adaptive - plain"].mean == pytest.approx(1.0, abs=0.2)
    swapped = {**made, **{name: runs(2.0, 1.5, 8.0, 0.1, i) for i, name in enumerate(wilson.ADAPTIVE)}}
    found = wilson.findings(swapped, "SGD")
    assert [x.verdict for x in found] == [
        "the opposite holds",
        "not put to the test: none is as low",
        "the opposite holds",
        "holds",
    ]


@pytest.mark.parametrize("name", ["optimizers", "wilson"])
def test_one_line_for_what_is_wrong(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert loaded(name).main(["--quick", "--data", str(tmp_path / "nowhere")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name}: ")
    assert "nowhere" in line
    with pytest.raises(SystemExit):
        loaded(name).main(["--steps", "0"])
    assert "expected" in capsys.readouterr().err
