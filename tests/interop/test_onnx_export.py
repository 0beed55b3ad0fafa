"""ONNX out: what a model computes here, onnxruntime and our own importer compute from its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue import ROWS
from catalogue.layers import LayerCall
from catalogue.row import Row
from test_pretrained import published, whole_test_set

import tinydl as td
from tinydl import nn
from tinydl.interop.onnx import export, load
from tinydl.interop.onnx.operators import UnsupportedError

onnx = pytest.importorskip("onnx")

REFUSED = {
    "nn.AdaptiveMaxPool1d": "adaptive pooling",
    "nn.AdaptiveMaxPool2d": "adaptive pooling",
    "nn.AdaptiveMaxPool3d": "adaptive pooling",
    "nn.MaxUnpool1d": "scatter of the model has no form",
    "nn.MaxUnpool2d": "scatter of the model has no form",
    "nn.MaxUnpool3d": "scatter of the model has no form",
    "nn.LocallyConnected2d": "unfold of the model has no form",
    "nn.Unfold": "unfold of the model has no form",
    "nn.Fold": "fold of the model has no form",
}
"""Layers without a form in ONNX, and what the error says."""

ONE_SIZE = {"nn.RNN", "nn.LSTM", "nn.GRU", "nn.Transformer"}
"""Whose first dim is no batch, but time."""


def layer_rows() -> list[Row]:
    rows = [row for row in ROWS if isinstance(row.call, LayerCall) and not row.call.training]
    return [row for row in rows if not row.name.split()[0].endswith("Loss")]


def inputs_of(row: Row, seed: int = 0) -> list[np.ndarray]:
    assert isinstance(row.call, LayerCall)
    arrays = row.arrays(row.samples[0], np.float32, seed)[: row.call.inputs]
    return [np.ascontiguousarray(x) for x in arrays]


def results(found: Any) -> list[np.ndarray]:
    found = found if isinstance(found, (tuple, list)) else (found,)
    return [np.asarray(y.detach().numpy() if isinstance(y, td.Tensor) else y) for y in found]


def assert_same(model: Any, path: Path, inputs: list[np.ndarray]) -> None:
    """Both that read the file give what the model gives."""
    runtime = pytest.importorskip("onnxruntime")
    expected = results(model(*map(td.tensor, inputs)))
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_inputs()]
    for y, z in zip(session.run(None, dict(zip(names, inputs, strict=True))), expected, strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-5)
    for y, z in zip(results(load(path)(*inputs)), expected, strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-6, atol=1e-6 * max(1.0, np.abs(z).max(initial=0)))


def check(row: Row, tmp_path: Path) -> None:
    assert isinstance(row.call, LayerCall)
    td.manual_seed(0)
    model, inputs, path = row.call.make(np.float32).eval(), inputs_of(row), tmp_path / "layer.onnx"
    name = row.name.split()[0]
    if name in REFUSED:
        with pytest.raises(UnsupportedError, match=REFUSED[name]):
            export(model, tuple(inputs), path)
        return
    export(model, tuple(inputs), path, dynamic_batch=name not in ONE_SIZE)
    assert_same(model, path, inputs)
    if name not in ONE_SIZE:
        assert_same(model, path, [np.concatenate([x, x, x[:1]]) for x in inputs])


@pytest.mark.parametrize("row", layer_rows()[::9], ids=lambda row: row.name)
def test_some_layers(row: Row, tmp_path: Path) -> None:
    check(row, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("row", layer_rows(), ids=lambda row: row.name)
def test_every_layer(row: Row, tmp_path: Path) -> None:
    check(row, tmp_path)


@pytest.mark.parametrize("opset", [13, 17, 22])
def test_opsets(opset: int, tmp_path: Path) -> None:
    td.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.GELU(), nn.AvgPool2d(2), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(36, 3), nn.LayerNorm(3), nn.Softmax(1)).eval()
    x = np.random.default_rng(0).standard_normal((4, 2, 6, 6)).astype(np.float32)
    export(model, x, tmp_path / "m.onnx", opset)
    assert [entry.version for entry in onnx.load(tmp_path / "m.onnx").opset_import] == [opset]
    assert_same(model, tmp_path / "m.onnx", [x])


def small() -> Any:
    td.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    net(td.randn(8, 1, 6, 6))  # running statistics that are none of the first
    return net.eval()


def test_names_stay(tmp_path: Path) -> None:
    model, path = small(), tmp_path / "m.onnx"
    export(model, np.ones((2, 1, 6, 6), np.float32), path, input_names=["image"], output_names=["logits"])
    graph = onnx.load(path).graph
    stored = {x.name for x in graph.initializer}
    assert {name for name, _ in model.named_parameters()} <= stored
    assert ([x.name for x in graph.input], [x.name for x in graph.output]) == (["image"], ["logits"])
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [node.name.split("/")[0] for node in graph.node if node.op_type in ("Conv", "Gemm")] == ["0", "4"]


def test_what_belongs_to_a_model_goes_with_it(tmp_path: Path) -> None:
    model, path = small(), tmp_path / "m.onnx"
    x = np.random.default_rng(0).uniform(0, 255, (3, 1, 6, 6)).astype(np.float32)
    export(model, x, path, normalization=([30.0], [60.0]), softmax=True, metadata={"classes": "cat, dog"})
    expected = td.softmax(model(td.tensor((x - 30) / 60)), 1).detach().numpy()
    np.testing.assert_allclose(load(path)(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert {p.key: p.value for p in onnx.load(path).metadata_props} == {"classes": "cat, dog"}


def test_refusals(tmp_path: Path) -> None:
    x, path = np.ones((2, 1, 6, 6), np.float32), tmp_path / "m.onnx"
    with pytest.raises(ValueError, match="expected a model in eval mode"):
        export(small().train(), x, path)
    with pytest.raises(ValueError, match="expected an opset from 13 to 22, got 9"):
        export(small(), x, path, 9)
    with pytest.raises(ValueError, match="expected 1 output names"):
        export(small(), x, path, output_names=["a", "b"])

    class ByHand(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * td.tensor(x.detach().numpy() + 1.0)

    with pytest.raises(UnsupportedError, match="did not come from tinydl's operations"):
        export(ByHand().eval(), x, path)
    assert not path.exists()


MODELS = {
    "lenet": lambda: (td.models.LeNet(), (1, 28, 28)),
    "resnet20": lambda: (td.models.resnet20(), (3, 32, 32)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_there_and_back(name: str, tmp_path: Path) -> None:
    """Outputs, and the gradients of a DataGrad step."""
    td.manual_seed(0)
    model, shape = MODELS[name]()
    model.eval()
    x = np.random.default_rng(0).standard_normal((4, *shape)).astype(np.float32)
    export(model, x, tmp_path / "m.onnx")
    assert_same(model, tmp_path / "m.onnx", [x])
    twin, labels, gradients = load(tmp_path / "m.onnx"), td.tensor(np.arange(4)), []
    for net in (model, twin):
        objective = td.regularizers.Objective(net, td.cross_entropy, [td.regularizers.DataGrad(1.0)])
        objective(td.tensor(x), labels).total.backward()
        gradients.append({name: np.array(p.grad) for name, p in net.named_parameters() if p.grad is not None})
    shared = gradients[0].keys() & gradients[1].keys()
    assert {name for name, p in model.named_parameters() if p.ndim > 1} <= shared
    for key in shared:
        scale = np.abs(gradients[0][key]).max()
        np.testing.assert_allclose(gradients[1][key], gradients[0][key], rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.full
def test_resnet_20_in_onnxruntime(tmp_path: Path) -> None:
    """91.73 % of CIFAR-10's test images, as here (tests/test_pretrained.py)."""
    runtime = pytest.importorskip("onnxruntime")
    model = td.models.resnet20()
    model.load_state_dict(published("resnet20"))
    x, labels = whole_test_set()
    export(model.eval(), x[:2], tmp_path / "m.onnx")
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    found = [session.run(None, {"input": x[i : i + 500]})[0].argmax(1) for i in range(0, len(x), 500)]
    assert (np.concatenate(found) == labels).sum() == 9173
