"""examples/cifar10_94.py: what its parts compute, and a run that was stopped ends with the same bits."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinydl as td

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

SCRIPT = Path(__file__).parents[1] / "examples" / "cifar10_94.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cifar10_94_example", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth ones: patches that are correlated, as those of photographs are."""
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(n, 3, 32, 32)).cumsum(2).cumsum(3)
    return np.clip(128 + 8 * steps, 0, 255).astype(np.uint8), np.arange(n) % 10


def test_the_first_filters_whiten(example: ModuleType) -> None:
    images = pictures(20)[0] / np.float32(255)
    filters = example.whitening(images)
    assert filters.shape == (24, 3, 2, 2)
    np.testing.assert_array_equal(filters[12:], -filters[:12])
    maps = td.conv2d(td.tensor(images), td.tensor(filters[:12])).numpy().transpose(1, 0, 2, 3).reshape(12, -1)
    moments = maps.astype(np.float64) @ maps.T / maps.shape[1]
    off = moments - np.diag(np.diag(moments))
    assert np.abs(off).max() < 1e-3
    # λ / (λ + .0005): 1 where there is anything to see
    assert ((np.diag(moments) > 0) & (np.diag(moments) < 1.001)).all()
    assert np.diag(moments).max() > 0.99


def test_windows_are_shifted_and_mirrored(example: ModuleType) -> None:
    images, _ = pictures(4)
    frame = example.padded(images, 2)
    assert frame.shape == (4, 36, 36, 3)
    index, corner = np.array([3, 1]), np.array([[2, 2], [0, 4]])
    got = example.windows(frame, index, corner, np.array([False, True]))
    around = np.pad(images.astype(np.float32), ((0, 0), (0, 0), (2, 2), (2, 2)), "reflect")
    for row, pixels in zip(got, (around[3, :, 2:34, 2:34], around[1, :, 0:32, 4:36][..., ::-1]), strict=True):
        expected = (pixels - example.MEAN[:, None, None]) / example.STD[:, None, None]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)


def test_the_first_filters_of_a_block_pass_their_channel_on(example: ModuleType) -> None:
    block = example.Block(5, 7)
    for conv, n in ((block.conv1, 5), (block.conv2, 7)):
        x = td.randn(2, n, 6, 6)
        np.testing.assert_allclose(conv(x)[:, :n].numpy(), x.numpy(), atol=1e-6)
    assert [name for name, _ in example.learned(block)] == [
        "conv1.weight",
        "norm1.bias",
        "conv2.weight",
        "norm2.bias",
    ]


def test_six_views(example: ModuleType) -> None:
    """Logits that are a pixel of the window itself: what the views see, and how they are weighted."""
    images, _ = pictures(510)
    frame, z = example.padded(images, 1), np.zeros(510, bool)

    def shown(at: int, mirrored: Any) -> np.ndarray:
        return example.windows(frame, np.arange(510), np.full((510, 2), at), mirrored)[:, 0, 5, 5:15]

    class Pixels(td.nn.Module):
        def forward(self, x: td.Tensor) -> td.Tensor:
            return x[:, 0, 5, 5:15]

    own, up, down = (0.5 * (shown(at, z) + shown(at, ~z)) for at in (1, 0, 2))
    votes = (0.5 * own + 0.25 * (up + down)).argmax(1)
    assert example.accuracies(Pixels(), images, votes)[0] > 99
    assert example.accuracies(Pixels(), images, shown(1, z).argmax(1))[1] == 100
    assert 0 < example.accuracies(Pixels(), images, np.zeros(510, int))[0] < 100


class StoppedError(Exception):
    pass


def test_a_run_that_was_stopped(example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of an epoch, and after the first layer has come to rest."""
    data, recipe = pictures(60), example.QUICK._replace(epochs=5)
    monkeypatch.setattr(example, "SAVED", 4)
    whole = example.one_run(7, recipe, data, data, tmp_path / "whole")
    assert len(whole["losses"]) == 15
    assert not (tmp_path / "whole").exists()
    other = example.one_run(8, recipe, data, data, tmp_path / "other")
    assert other["losses"] != whole["losses"]

    plain, calls = example.windows, []

    def interrupted(*arguments: Any) -> np.ndarray:
        calls.append(1)
        if len(calls) in (7, 14):
            raise StoppedError
        return plain(*arguments)

    monkeypatch.setattr(example, "windows", interrupted)
    for _ in range(2):
        with pytest.raises(StoppedError):
            example.one_run(7, recipe, data, data, tmp_path / "parts")
    parts = example.one_run(7, recipe, data, data, tmp_path / "parts")
    for name in ("losses", "training accuracy", "accuracy", "accuracy of the image alone"):
        assert parts[name] == whole[name]


def test_mirrored_in_every_second_epoch(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, recipe = pictures(60), example.QUICK._replace(epochs=2)
    plain, seen = example.windows, []

    def noted(frame: Any, index: Any, corner: Any, mirrored: Any) -> np.ndarray:
        seen.append(dict(zip(index.tolist(), mirrored.tolist(), strict=True)))
        return plain(frame, index, corner, mirrored)

    monkeypatch.setattr(example, "windows", noted)
    monkeypatch.setattr(example, "accuracies", lambda *_: (0.0, 0.0))
    example.one_run(0, recipe, data, data, tmp_path / "run")
    first, second = seen[1] | seen[2] | seen[3], seen[4] | seen[5] | seen[6]
    assert len(first) == len(second) == 60
    assert all(first[i] != second[i] for i in first)
    assert 10 < sum(first.values()) < 50
