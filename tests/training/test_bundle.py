"""Bundles: what was trained, used elsewhere; and the views of test-time augmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import __main__ as commands
from tinydl.data import DataError
from tinydl.data.transforms import Normalize
from tinydl.models import LeNet
from tinydl.training import TestTimeAugmentation, checkpoint, load_bundle, save_bundle

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 1, 28, 28), np.uint8)


def saved(path: Path, classes: int = 3, **settings: Any) -> LeNet:
    td.manual_seed(1)
    model = LeNet("none", classes=classes)
    settings = {
        "input": (1, 28, 28),
        "classes": [f"kind {i}" for i in range(classes)],
        "normalize": Normalize.fit(IMAGES),
        **settings,
    }
    save_bundle(path, model, "LeNet", {"regularizer": "none", "classes": classes}, **settings)
    return model


def expected(model: LeNet, temperature: float = 1.0) -> np.ndarray:
    with td.no_grad():
        z = model.eval()(td.from_numpy(Normalize.fit(IMAGES)(IMAGES)))
    return td.softmax(z.double() / temperature, 1).numpy()


def test_the_same_probabilities_come_back(tmp_path: Path) -> None:
    model = saved(tmp_path / "b", temperature=2.0)
    bundle = load_bundle(tmp_path / "b")
    found = bundle.predict(IMAGES, batch_size=2)
    np.testing.assert_allclose(found.probabilities, expected(model, 2.0), rtol=1e-6)
    np.testing.assert_array_equal(found.labels, found.probabilities.argmax(1))
    assert found.classes == [f"kind {i}" for i in found.labels]
    assert not found.abstained.any()
    assert repr(bundle) == "Bundle(LeNet, 1×28×28, 3 classes)"
    assert bundle.predict(IMAGES[:0]).probabilities.shape == (0, 3)


def test_a_threshold_and_abstentions(tmp_path: Path) -> None:
    p = expected(saved(tmp_path / "b", 2))[:, 1]
    threshold = float(np.sort(p)[2])
    saved(tmp_path / "b", 2, threshold=threshold, abstain_below=float(np.median(np.maximum(p, 1 - p))))
    found = load_bundle(tmp_path / "b").predict(IMAGES)
    np.testing.assert_array_equal(found.labels, found.probabilities[:, 1] >= threshold)
    assert 2 <= found.labels.sum() <= 3
    assert 0 < found.abstained.sum() < 5


def test_double_weights_and_a_single_logit(tmp_path: Path) -> None:
    class Net(td.nn.Module):
        def __init__(self, size: int = 4) -> None:
            super().__init__()
            self.layer = td.nn.Linear(size, 1)

        def forward(self, x: Any) -> Any:
            return self.layer(td.flatten(x, 1))

    net = Net().to(np.float64)
    save_bundle(tmp_path / "b", net, "Net", {"size": 4}, input=(1, 2, 2), classes=["no", "yes"])
    x = np.arange(8.0).reshape(2, 1, 2, 2)
    found = load_bundle(tmp_path / "b", {"Net": Net}).predict(x)
    np.testing.assert_allclose(
        found.probabilities[:, 1], td.sigmoid(net(td.tensor(x)))[:, 0].numpy(), rtol=1e-12
    )
    with pytest.raises(DataError, match=r"expected a network out of .*, LeNet, .*, got 'Net'"):
        load_bundle(tmp_path / "b")


def test_files_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    saved(tmp_path / "b", abstain_below=0.999)
    names = []
    for i, picture in enumerate(IMAGES):
        names.append(str(tmp_path / f"{i}.png"))
        image.fromarray(picture[0]).save(names[-1])
    bundle = load_bundle(tmp_path / "b")
    found = bundle.predict(names)
    np.testing.assert_array_equal(found.probabilities, bundle.predict(IMAGES).probabilities)
    assert bundle.predict(Path(names[2])).labels.shape == (1,)
    assert commands.main(["predict", str(tmp_path / "b"), *names]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    for line, name, kind, p in zip(lines, names, found.classes, found.probabilities.max(1), strict=True):
        assert line.startswith(name)
        assert f"{p:.1%}  {kind}  (unsure)" in line
    with pytest.raises(SystemExit, match="2"):
        commands.main(["predict", str(tmp_path / "b"), str(tmp_path / "none.png")])
    assert "none.png" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        commands.main(["predict", names[0], names[0]])
    assert "0.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": [1, 28.5, 28]}, r"input: expected \(C, H, W\)"),
        ({"classes": 3, "threshold": 0.5}, "classes: expected the names of two or more"),
        ({"input": [1, 28]}, r"input: expected \(C, H, W\)"),
        ({"classes": ["one"]}, "classes: expected the names of two or more"),
        ({"temperature": 0.0}, "temperature: expected a number above 0"),
        ({"threshold": 0.5}, "threshold: expected none, or a number between 0 and 1 with two classes"),
        ({"abstain_below": 1.5}, "abstain_below: expected a number from 0"),
        ({"std": [0.0]}, "std: expected as many numbers above 0"),
        ({"mean": None}, "std: expected as many numbers above 0"),
        ({"arguments": {"classes": 10**9}}, "arguments: expected a mapping, of whole numbers up to 100,000"),
        ({"arguments": {"colour": 1}}, "its weights do not fit LeNet: .*colour"),
        ({"arguments": {"regularizer": "none", "classes": 4}}, "its weights do not fit LeNet"),
        ({"architecture": "__import__"}, "expected a network out of"),
        ({"more": 1}, "expected a bundle"),
    ],
)
def test_files_of_strangers(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    model = saved(tmp_path / "b")
    about = checkpoint.read(tmp_path / "b").values["bundle"]
    checkpoint.save(tmp_path / "c", model=model, bundle={**about, **change})
    with pytest.raises(DataError, match=message):
        load_bundle(tmp_path / "c")
    checkpoint.save(tmp_path / "d", model=model)
    with pytest.raises(DataError, match="expected a bundle, got a checkpoint of something else"):
        load_bundle(tmp_path / "d")


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save_bundle: temperature: expected a number above 0, got -1"):
        saved(tmp_path / "b", temperature=-1)
    saved(tmp_path / "b")
    with pytest.raises(ValueError, match=r"expected files or an array \(n, 1, 28, 28\), got \(2, 3\)"):
        load_bundle(tmp_path / "b").predict(np.zeros((2, 3)))


class TestViews:
    def test_probabilities_are_the_mean_over_the_views(self) -> None:
        td.manual_seed(0)
        model = LeNet("none").eval()
        x = td.from_numpy(IMAGES.astype(np.float32) / 255)
        both = TestTimeAugmentation(model, [lambda x: x, lambda x: td.flip(x, -1)]).eval()
        with td.no_grad():
            views = [td.softmax(model(v), 1).numpy() for v in (x, td.flip(x, -1))]
            np.testing.assert_allclose(both(x).numpy(), np.mean(views, 0), rtol=1e-5)
        assert len(list(both.parameters())) == len(list(model.parameters()))

    def test_shifts_by_a_pixel(self) -> None:
        seen = []

        class See(td.nn.Module):
            def forward(self, x: Any) -> Any:
                seen.append(x.numpy()[0, 0])
                return td.flatten(x, 1)

        x = np.arange(12.0).reshape(1, 1, 3, 4)
        TestTimeAugmentation(See())(td.tensor(x))
        p = np.pad(x[0, 0], 1, mode="edge")
        for got, (down, right) in zip(seen, ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)), strict=True):
            np.testing.assert_array_equal(got, p[1 - down : 4 - down, 1 - right : 5 - right])
        with pytest.raises(ValueError, match="got 0"):
            TestTimeAugmentation(See(), [])
