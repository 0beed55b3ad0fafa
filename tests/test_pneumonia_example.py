"""examples/pneumonia.py through its command line, on pictures that are made."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from tinydl.data import HeldOutWarning

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def pneumonia() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pneumonia_example", EXAMPLES / "pneumonia.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Grey noise, in "pneumonia" with a bright patch; one picture stands twice, once in each of two parts."""
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, n in (("train", 150), ("val", 40), ("test", 48)):
        labels = (np.arange(n) % 4 > 0).astype(np.uint8)
        images = random.integers(60, 140, (n, 28, 28)).astype(np.uint8)
        images[labels == 1, 8:20, 8:20] += 60
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None]}
    arrays["test_images"][5] = arrays["train_images"][9]
    folder = tmp_path / "data" / "medmnist"
    folder.mkdir(parents=True)
    np.savez(folder / "pneumoniamnist.npz", **arrays)
    return folder.parent


def test_the_whole_way_and_again(pneumonia: ModuleType, data: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    call = ["--quick", "--data", str(data), "--out", str(out)]
    assert pneumonia.main(call) == 0
    assert "whole test AUC" in capsys.readouterr().out
    page = (out / "README.md").read_text(encoding="utf-8")
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert "- train/9 = test/5" in page
    assert "1 groups, 1 of them across the parts" in page
    assert "looked at once" in page
    for picture in ("errors.png", "calibration_before.png", "calibration_after.png"):
        assert picture in page
        assert (out / picture).read_bytes()[:4] == b"\x89PNG"
    for name, networks in results["scores"].items():
        assert len(networks) == len(results["folds"][name]) == 2
        for scores in networks:
            low, middle, high = (scores["AUC"][key] for key in ("low", "estimate", "high"))
            assert 0 <= low <= middle <= high <= 1
            assert np.sum(scores["confusion at .5"]) == 48
    rows = re.findall(r"^\| (?:whole|60) \|.*\|$", page, re.MULTILINE)
    assert len(rows) == 2 + 4 + 2  # of three tables
    learned = np.mean([scores["AUC"]["estimate"] for scores in results["scores"]["whole"]])
    assert learned > 0.8

    with pytest.warns(HeldOutWarning, match="was looked at once before"):  # and nothing is trained again
        assert pneumonia.main(call) == 0
    again = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert again["scores"] == results["scores"]
    assert "looked at 2 times" in (out / "README.md").read_text(encoding="utf-8")


def test_what_goes_wrong_is_one_line(pneumonia: ModuleType, tmp_path: Path, capsys: Any) -> None:
    assert pneumonia.main(["--quick", "--data", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("pneumonia: data=")
