"""examples/fine_tune.py, shortened: what is loaded, what stays as it is, and what is written."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl.interop import save_weights

pytest.importorskip("matplotlib")

SCRIPT = Path(__file__).parents[1] / "examples" / "fine_tune.py"
SIZE = 8  # of pictures here


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """With small pictures, few of a class, and a narrow net."""
    spec = importlib.util.spec_from_file_location("fine_tune_example", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in (("PER_CLASS", 2), ("BATCH_SIZE", 10), ("resnet20", narrow)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "RandomCrop", lambda size, padding: module.RandomHorizontalFlip())
    monkeypatch.setattr(module, "cifar10", lambda split, folder: (*pictures(40), "drawn here"))
    return module


def narrow() -> td.models.ResNet:
    return td.models.ResNet(1, widths=(2, 4, 8))


def pictures(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 3, SIZE, SIZE)).astype(np.uint8), np.arange(n) % 10


def test_what_is_loaded_and_what_stays(example: ModuleType) -> None:
    (images, labels), trained = pictures(40), narrow()
    trained(td.randn(20, 3, SIZE, SIZE))  # moves its statistics
    weights = {name: value.numpy().copy() for name, value in trained.state_dict().items()}
    for way in example.WAYS:
        curve, model = example.train(way, 1, images, labels, (images, labels), weights, 4)
        assert curve.shape == (4,)
        assert ((curve >= 0) & (curve <= 100)).all()
        state = model.state_dict()
        lower = [name for name in state if name.split(".")[0] in example.LOWER and "num_b" not in name]
        assert len(lower) == 5 + 10 + 10
        same = [np.array_equal(state[name].numpy(), weights[name]) for name in lower]
        assert all(same) == (way == "frozen")
        assert not np.array_equal(state["linear.weight"].numpy(), weights["linear.weight"])
    with td.random_from(td.Generator(1)):
        start = narrow()
    untrained = example.train("frozen", 1, images, labels, (images, labels), start.state_dict(), 4)[1]
    np.testing.assert_array_equal(
        untrained.layer1[0].conv1.weight.numpy(), start.layer1[0].conv1.weight.numpy()
    )


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_quick(example: ModuleType, suffix: str, tmp_path: Path, capsys: Any) -> None:
    save_weights(tmp_path / f"w{suffix}", narrow())
    out = tmp_path / "out"
    assert example.main(["--quick", "--weights", str(tmp_path / f"w{suffix}"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "draw 1: scratch" in printed
    assert "frozen - tuned" in printed
    assert (out / "fine_tune.png").read_bytes()[:4] == b"\x89PNG"
    assert '"steps": 4' in (out / "results.json").read_text()
    assert example.main(["--weights", str(tmp_path / "missing.npz")]) == 1
    assert "missing.npz: not read" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        example.main(["--steps", "1"])
