"""Published ResNets load as they are and score what was published, on the whole CIFAR-10 test set."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import pytest

import tinydl as td
from tinydl.data import cifar10

DATA = os.environ.get("TINYDL_DATA")
CORRECT = {"resnet20": 9173, "resnet56": 9339}  # of 10,000
PARAMETERS = {"resnet20": 269_722, "resnet56": 853_018}
MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
STD = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


@functools.cache
def whole_test_set() -> tuple[np.ndarray, np.ndarray]:
    images, labels, _ = cifar10("test", data=DATA)
    return (images.astype(np.float32) / 255 - MEAN) / STD, labels


def published(name: str) -> dict[str, np.ndarray]:
    if not DATA:
        pytest.skip("TINYDL_DATA is not set: it names the folder above models/ and cifar-10/")
    path = Path(DATA) / "models" / f"cifar10-{name}.npz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", CORRECT)
def test_score(name: str, backend: str) -> None:
    weights = published(name)
    if not (Path(DATA or "") / "cifar-10").is_dir():
        pytest.skip(f"{DATA}/cifar-10 is not there")
    images, labels = whole_test_set()
    model = getattr(td.nn.models, name)()
    assert model.load_state_dict(weights) == ([], [])
    assert not any(key.endswith("num_batches_tracked") for key in weights)
    assert all(b.item() == 0 for key, b in model.named_buffers() if key.endswith("num_batches_tracked"))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    correct = 0
    with td.no_grad(), td.backend(backend):
        model.eval()
        for start in range(0, len(labels), 250):
            predicted = model(td.from_numpy(images[start : start + 250])).argmax(1)
            correct += int((predicted.numpy() == labels[start : start + 250]).sum())
    assert correct == CORRECT[name]
