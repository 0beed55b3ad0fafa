"""td.save and td.load: what goes in comes out, and nothing is executed."""

from __future__ import annotations

import io
import math
import pickle

import numpy as np
import pytest
import safetensors.numpy
from tinydl_kernels.machine.errors import DeviceError

import tinydl as td
from tinydl import nn
from tinydl.files import DataError

VALUES = [
    None,
    True,
    3,
    -0.0,
    math.inf,
    "text",
    [],
    {},
    (),
    [1, [2.0, (3, "x")]],
    {"a": {"b": [None]}},
    {0: {"step": 1}, 1: "x"},
    {"$tensor": "no tensor"},
    {True: 1, None: 2},
    2**70,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_there_and_back(value, tmp_path) -> None:
    td.save(value, tmp_path / "x.pt")
    assert repr(td.load(tmp_path / "x.pt")) == repr(value)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool", "int16", "uint64"])
def test_tensors_there_and_back(dtype, tmp_path) -> None:
    for array in (
        np.arange(6).reshape(2, 3),
        np.array(1),
        np.zeros((0, 2)),
        np.arange(6).reshape(2, 3).T[::-1],
    ):
        array = array.astype(dtype)
        td.save({"a": td.from_numpy(array), "b": [array]}, tmp_path / "x")
        back = td.load(tmp_path / "x")
        for got in (back["a"], back["b"][0]):
            assert isinstance(got, td.Tensor)
            np.testing.assert_array_equal(got.numpy(), array)
            assert (got.dtype, got.shape) == (array.dtype, array.shape)


def test_a_training_run(tmp_path) -> None:
    def made():
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        return model, td.optim.Adam(model.parameters(), lr=0.1)

    def step(model, optimizer):
        optimizer.zero_grad()
        model(td.tensor([[1.0, 2.0], [3.0, 5.0]])).square().sum().backward()
        optimizer.step()

    first, second = made(), made()
    step(*first)
    saved = {"model": first[0].state_dict(), "optimizer": first[1].state_dict(), "epoch": 3}
    td.save(saved, tmp_path / "run.pt")
    loaded = td.load(tmp_path / "run.pt", map_location="cpu", weights_only=True)
    assert loaded["epoch"] == 3
    second[0].load_state_dict(loaded["model"])
    second[1].load_state_dict(loaded["optimizer"])
    for things in (first, second):
        step(*things)
    for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_open_files_and_modules() -> None:
    buffer, layer = io.BytesIO(), nn.Linear(2, 1)
    td.save(layer, buffer)
    buffer.seek(0)
    assert list(td.load(buffer)) == ["weight", "bias"]


def test_names_that_look_the_same(tmp_path) -> None:
    """A path in the structure may be that of another."""
    td.save({"a.b": td.ones(1), "a": {"b": td.zeros(1)}, 1: td.full((1,), 2.0), "1": 5}, tmp_path / "x")
    back = td.load(tmp_path / "x")
    assert (back["a.b"].tolist(), back["a"]["b"].tolist()) == ([1.0], [0.0])
    assert (back[1].tolist(), back["1"]) == ([2.0], 5)


def test_a_file_of_safetensors(tmp_path) -> None:
    safetensors.numpy.save_file({"w": np.ones(2)}, tmp_path / "x.safetensors")
    assert td.load(tmp_path / "x.safetensors")["w"].tolist() == [1.0, 1.0]


def test_refused(tmp_path) -> None:
    path = tmp_path / "x.pt"
    td.save([1], path)
    for wrong, message in (
        ({"a": [object()]}, r"save: a.0: expected tensors, .* got object"),
        ({(1, 2): 3}, r"save: keys: expected numbers or strings, got \(1, 2\)"),
        ({"a": np.array(["x"])}, "save: a: expected numbers, got dtype <U1"),
        (lambda: 0, "save: the thing: expected tensors"),
    ):
        with pytest.raises(TypeError, match=message):
            td.save(wrong, path)
    assert td.load(path) == [1]  # the file is as it was
    with pytest.raises(DataError, match="not read: No such file"):
        td.load(tmp_path / "none")
    with pytest.raises(DeviceError, match="load: expected device"):
        td.load(path, map_location="tpu")
    content = path.read_bytes()
    evil = pickle.dumps([1])
    deep = safetensors.numpy.save({}, {"tinydl.save": "[" * 100_000})
    missing = safetensors.numpy.save({}, {"tinydl.save": '{"$tensor": "w"}'})
    for bad in (
        b"",
        content[:-1] if len(content) > 200 else content[:20],
        evil,
        b"PK\x03\x04",
        deep,
        missing,
    ):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"not a whole file of td\.save"):
            td.load(path)
