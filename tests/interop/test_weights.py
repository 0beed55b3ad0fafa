"""Weights in files that tinydl and PyTorch both read and write, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from tinydl_kernels.machine.errors import DtypeError

import tinydl as td
from tinydl import nn
from tinydl.files import DataError
from tinydl.interop import load_weights, save_weights

pytestmark = pytest.mark.usefixtures("reference")


def network(nn: Any) -> Any:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt"])
def test_there_and_back(tmp_path: Path, suffix: str) -> None:
    if suffix == ".pt":
        pytest.importorskip("torch")
    model, path = network(nn), tmp_path / f"model{suffix}"
    model(td.randn(4, 1, 6, 6))
    save_weights(path, model)
    other = network(nn)
    assert other.load_state_dict(load_weights(path)) == ([], [])
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name].numpy(), value.numpy())
        assert other.state_dict()[name].dtype == value.dtype
    save_weights(str(path), {"a": np.arange(3.0)[::-1], "b": td.ones(())})
    assert list(load_weights(path)) == ["a", "b"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no temporary file stays


def test_out_to_torch_and_in(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    ours, theirs, x = (
        network(nn),
        network(torch.nn),
        np.random.default_rng(0).normal(size=(2, 1, 6, 6)).astype(np.float32),
    )
    ours(td.randn(4, 1, 6, 6))
    save_weights(tmp_path / "ours.pt", ours)
    save_weights(tmp_path / "ours.safetensors", ours)
    for state in (
        torch.load(tmp_path / "ours.pt", weights_only=True),
        load_file(tmp_path / "ours.safetensors"),
    ):
        theirs.load_state_dict(state)
        expected = theirs.eval()(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(ours.eval()(td.tensor(x)).detach().numpy(), expected, atol=1e-6)
    other = network(torch.nn)
    torch.save(other.state_dict(), tmp_path / "theirs.pth")
    torch.save({"epoch": 3, "model": other.state_dict()}, tmp_path / "run.pt")
    save_file(other.state_dict(), tmp_path / "theirs.safetensors")
    np.savez(tmp_path / "theirs.npz", **{name: value.numpy() for name, value in other.state_dict().items()})
    expected = other.eval()(torch.tensor(x)).detach().numpy()
    for name, key in (
        ("theirs.pth", None),
        ("run.pt", "model"),
        ("theirs.safetensors", None),
        ("theirs.npz", None),
    ):
        ours.load_state_dict(load_weights(tmp_path / name, key))
        np.testing.assert_allclose(ours(td.tensor(x)).detach().numpy(), expected, atol=1e-6)


def test_half_precision_is_widened_by_the_model(tmp_path: Path) -> None:
    weight = np.array([[1.5, -0.25]], np.float16)
    safetensors.numpy.save_file({"weight": weight}, tmp_path / "half.safetensors")
    layer = nn.Linear(2, 1, bias=False)
    layer.load_state_dict(load_weights(tmp_path / "half.safetensors"))
    np.testing.assert_array_equal(layer.weight.numpy(), weight.astype(np.float32))


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"save_weights: expected a file named \.safetensors, \.npz, \.pt, \.pth, got 'a\.pkl'",
    ):
        save_weights("a.pkl", {})
    with pytest.raises(ValueError, match=r"load_weights: expected a file named .*\.th, \.h5, got 'weights'"):
        load_weights("weights")
    for suffix in (".safetensors", ".npz"):
        with pytest.raises(DataError, match=r"missing.* not read: "):
            load_weights(tmp_path / f"missing{suffix}")
        (tmp_path / f"short{suffix}").write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(DataError, match=rf"short{suffix}: not a whole {suffix} file"):
            load_weights(tmp_path / f"short{suffix}")
    with pytest.raises(DataError):
        save_weights(tmp_path / "no" / "folder.npz", {})
    np.savez(tmp_path / "code.npz", a=np.array([print], object))
    with pytest.raises(DataError, match=r"not a whole \.npz file of arrays: Object arrays"):
        load_weights(tmp_path / "code.npz")
    with open(tmp_path / "one.npz", "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(DataError, match=r"one\.npz: not a whole \.npz file of arrays"):
        load_weights(tmp_path / "one.npz")


def test_refused_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    brain = {"weight": torch.ones(2, dtype=torch.bfloat16)}
    torch.save(brain, tmp_path / "brain.pt")
    save_file(brain, tmp_path / "brain.safetensors")
    for name in ("brain.pt", "brain.safetensors"):
        with pytest.raises(
            DtypeError, match=rf"load_weights: .*{name}: expected dtypes of NumPy, got bfloat16 for weight"
        ):
            load_weights(tmp_path / name)
    torch.save({"model": {}, "step": 1}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"load_weights: .*run.pt: expected a state_dict, got model, step"):
        load_weights(tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"expected a state_dict at 'ema', got model, step"):
        load_weights(tmp_path / "run.pt", "ema")
    torch.save(network(torch.nn), tmp_path / "pickled.pt")
    (tmp_path / "short.pt").write_bytes(b"PK\x03\x04 and no more")
    for name in ("missing.pt", "pickled.pt", "short.pt"):
        with pytest.raises(DataError, match=name):
            load_weights(tmp_path / name)
