"""ONNX out: what a model computes here, onnxruntime and our own importer compute from its file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue import ROWS, models
from catalogue.layers import LayerCall
from catalogue.row import Row
from test_pretrained import published, whole_test_set

import tinydl as td
from tinydl import autograd, nn
from tinydl.engine.core import primitives
from tinydl.interop.onnx import export, load, storing
from tinydl.interop.onnx.emissions import EMISSIONS, emission_of
from tinydl.interop.onnx.operators import UnsupportedError

onnx = pytest.importorskip("onnx")

NO_FORM = {
    "a derivative": (
        *("backward_hooks.gate", "conv.conv_dw", "norm.batch_norm_dx", "norm.batch_norm_dx_dx"),
        *("objective.with_zeros", "pool.avg_pool_dx", "pool.scatter", "recurrent.layer_dx"),
        *("recurrent.layer_dx_dx", "scan.recurrence", "shape.place"),
        *("softmax.cross_entropy_dx", "softmax.log_softmax_dx", "softmax.softmax_dx", "linalg.cofactor"),
        "embedding.shared_sums",
    ),
    "a loss": ("softmax.cross_entropy", "softmax.counted"),
    "training": (
        *("indexing.put", "norm.running_update", "update.assign", "update.increment"),
        *("update.optimizer_step", "generator.reserve", "function.attached"),
    ),
    "random numbers": (
        *("random.bernoulli", "random.beta", "random.dropout", "random.gamma", "random.integers"),
        *("random.normal", "random.permutation", "random.randint", "random.uniform"),
    ),
    "several processes": (
        *("collectives.all_gather", "collectives.all_reduce", "collectives.broadcast"),
        *("collectives.reduce", "collectives.scatter_sum"),
    ),
    "the shape depends on values": ("indexing.nonzero", "sort.unique"),
    "ONNX has no such operator": (
        *("elementwise.digamma", "elementwise.lgamma", "functions.polygamma", "linalg.cholesky"),
        *("linalg.eigh", "linalg.full_svd", "linalg.inv", "linalg.qr", "linalg.slogdet", "linalg.solve"),
        *("linalg.svd", "bits.left_shift", "bits.right_shift"),
    ),
}
"""Primitives that stay here, and why."""

ASKS_THE_HOST = {"embedding_bag", "nn.EmbeddingBag", "gaussian_nll_loss", "nn.GaussianNLLLoss"}
"""What looks at numbers: which rows belong together, is a variance none?"""
ONE_SIZE = {"nn.RNN", "nn.LSTM", "nn.GRU", "nn.Transformer"}
"""Whose first dim is no batch, but time."""


def rows() -> list[Row]:
    """Functions, and layers in eval mode."""
    return [
        row
        for row in ROWS
        if np.float32 in row.dtypes and not (isinstance(row.call, LayerCall) and row.call.training)
    ]


class Called(nn.Module):
    """A function as a model."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def results(found: Any) -> list[np.ndarray]:
    if isinstance(found, (tuple, list)):
        return [y for part in found for y in results(part)]
    return [np.asarray(found.detach().numpy() if isinstance(found, td.Tensor) else found)]


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


def check(row: Row, tmp_path: Path, opset: int = 17) -> None:
    td.manual_seed(0)
    inputs, name, path = row.arrays(row.samples[0], np.float32), row.name.split()[0], tmp_path / "m.onnx"
    dynamic, model = False, Called(row.call).eval()
    if isinstance(row.call, LayerCall):
        inputs, model = inputs[: row.call.inputs], row.call.make(np.float32).eval()
        dynamic = name not in ONE_SIZE and not name.endswith("Loss")
    try:
        export(model, tuple(inputs), path, opset, dynamic_batch=dynamic)
    except UnsupportedError as error:
        asks = name in ASKS_THE_HOST and ("for every input" in str(error) or "whatever their" in str(error))
        if not asks and not {*str(error).split()} & {key for those in NO_FORM.values() for key in those}:
            raise
        return
    assert_same(model, path, inputs)
    if dynamic:
        assert_same(model, path, [np.concatenate([x, x, x[:1]]) for x in inputs])


def test_a_primitive_goes_out_or_it_says_why() -> None:
    assert autograd.Function  # is there: its primitive comes with it
    own = {key for key, p in primitives.items() if p.function.__module__.startswith("tinydl")}
    keys = [key for those in NO_FORM.values() for key in those]
    assert sorted(keys) == sorted(key for key in own if emission_of(key) is None)
    names = Counter(key.rpartition(".")[2] for key in own - EMISSIONS.keys())
    assert [name for name in EMISSIONS if names[name] > 1] == []  # of which an emission would be taken


@pytest.mark.parametrize("row", rows()[::20], ids=lambda row: row.name)
def test_some_rows(row: Row, tmp_path: Path) -> None:
    check(row, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("opset", [pytest.param(17, marks=pytest.mark.nightly), 22])
@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_every_row(row: Row, opset: int, tmp_path: Path) -> None:
    check(row, tmp_path, opset)


@pytest.mark.parametrize("opset", [13, 17, 22])
def test_opsets(opset: int, tmp_path: Path) -> None:
    td.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.GELU(), nn.AvgPool2d(2), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(36, 3), nn.LayerNorm(3), nn.Softmax(1)).eval()
    x = np.random.default_rng(0).standard_normal((4, 2, 6, 6)).astype(np.float32)
    export(model, x, tmp_path / "m.onnx", opset)
    made = onnx.load(tmp_path / "m.onnx")
    assert [entry.version for entry in made.opset_import] == [opset]
    assert made.ir_version == {13: 7, 17: 8, 22: 10}[opset]  # the least that holds it
    assert_same(model, tmp_path / "m.onnx", [x])


def test_layers_go_out_as_operators(tmp_path: Path) -> None:
    """As far as the opset has them; running statistics come back as buffers."""
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.LayerNorm(3), nn.GroupNorm(2, 4)]
    model, x = nn.Sequential(*layers).eval(), np.ones((2, 2, 5, 5), np.float32)
    kinds = {}
    for opset in (17, 22):
        export(model, x, tmp_path / "m.onnx", opset)
        kinds[opset] = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert kinds[22] == {
        *("Conv", "BatchNormalization", "Gelu", "LayerNormalization", "GroupNormalization", "Identity")
    }
    assert {"BatchNormalization", "LayerNormalization", "Erf"} < kinds[17]
    names = {name for name, _ in load(tmp_path / "m.onnx").named_parameters()}
    assert names == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_take_any_number_of_steps(name: str, tmp_path: Path) -> None:
    """As one node a layer; the weights come back by their names."""
    td.manual_seed(0)
    layer, path = getattr(nn, name)(3, 4, 2, bidirectional=True).eval(), tmp_path / "m.onnx"
    x = np.random.default_rng(0).standard_normal((9, 2, 3)).astype(np.float32)
    export(layer, x[:5], path)
    assert Counter(node.op_type for node in onnx.load(path).graph.node)[name] == 2
    for steps in (1, 9):
        assert_same(layer, path, [x[:steps]])
    parameters = dict(layer.named_parameters())
    twin = load(path)
    assert {key: p.shape for key, p in twin.named_parameters()} == {
        key: p.shape for key, p in parameters.items()
    }
    for net in (layer, twin):
        net(td.tensor(x))[0].square().sum().backward()
    for key, p in twin.named_parameters():
        np.testing.assert_allclose(np.array(p.grad), np.array(parameters[key].grad), rtol=1e-4, atol=1e-5)


def test_states_and_lengths_that_did_not_come_through_the_door(tmp_path: Path) -> None:
    """They are constants of the graph, and no node of the whole layer may lose them."""
    td.manual_seed(0)
    layer = nn.GRU(3, 4, bidirectional=True).eval()
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    for more in ({"hx": td.ones(2, 2, 4)}, {"lengths": td.tensor([5, 2])}):
        model = Called(lambda x, more=more: layer(x, **more))
        model.layer = layer
        export(model.eval(), x, tmp_path / "m.onnx", dynamic_batch=False)
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
    assert load(path).metadata == {"classes": "cat, dog"}


def test_a_model_on_a_gpu_is_copied(gpu: Any, tmp_path: Path) -> None:
    model, x = small(), np.ones((2, 1, 6, 6), np.float32)
    export(model, x, tmp_path / "cpu.onnx")
    export(model.to("cuda"), td.tensor(x, device="cuda"), tmp_path / "gpu.onnx")
    assert (tmp_path / "gpu.onnx").read_bytes() == (tmp_path / "cpu.onnx").read_bytes()
    assert {p.device for p in model.parameters()} == {"cuda"}


@pytest.mark.full
def test_every_layer_on_a_gpu_is_copied(gpu: Any, tmp_path: Path) -> None:
    """The constants that are made on the way lie there too."""
    seen = 0
    for row in rows():
        if not isinstance(row.call, LayerCall):
            continue
        inputs = row.arrays(row.samples[0], np.float32)[: row.call.inputs]
        files = []
        for device in ("cpu", "cuda"):
            td.manual_seed(0)
            model = row.call.make(np.float32).eval().to(device)
            path = tmp_path / f"{device}.onnx"
            try:
                export(model, tuple(inputs), path, dynamic_batch=False)
            except UnsupportedError as error:
                files.append(str(error).encode())
            else:
                files.append(path.read_bytes())
        assert files[0] == files[1], row.name
        seen += 1
    assert seen > 100


def test_a_weight_is_stored_once(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.there = nn.Linear(40, 30, bias=False)
            self.back = nn.Linear(40, 30, bias=False)
            self.back.weight = self.there.weight

        def forward(self, x: Any) -> Any:
            return self.back(td.relu(self.there(x)) @ self.there.weight)

    td.manual_seed(0)
    model, x = Tied().eval(), np.ones((2, 40), np.float32)
    export(model, x, tmp_path / "m.onnx")
    assert [t.name for t in onnx.load(tmp_path / "m.onnx").graph.initializer] == ["there.weight"]
    assert_same(model, tmp_path / "m.onnx", [x])


def beside(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.data"))


def test_large_weights_lie_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of the old model stay until the new one is there whole."""
    monkeypatch.setattr(storing, "LARGEST", 4096)
    path, x, models = tmp_path / "m.onnx", np.ones((2, 40), np.float32), []
    for seed in range(2):
        td.manual_seed(seed)
        models.append(nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 5)).eval())
    export(models[0], x, path)
    [old] = beside(tmp_path)
    assert path.stat().st_size < 4096 <= old.stat().st_size == 40 * 30 * 4
    onnx.checker.check_model(str(path), full_check=True)
    assert_same(models[0], path, [x])

    def full(self: Any, *given: Any, **named: Any) -> Any:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(onnx.ModelProto, "SerializeToString", full)
        with pytest.raises(OSError, match="no space left"):
            export(models[1], x, path)
    assert old in beside(tmp_path)
    assert_same(models[0], path, [x])
    export(models[1], x, path)
    assert len(beside(tmp_path)) == 1
    assert_same(models[1], path, [x])
    monkeypatch.undo()
    export(models[0], x, path)
    assert beside(tmp_path) == []


def test_places_from_the_end(tmp_path: Path) -> None:
    model, path = Called(lambda x: (x[-2:], x[:-1].flip(0), x[1:, ..., -1])).eval(), tmp_path / "m.onnx"
    x = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    export(model, x[:4], path)
    for size in (4, 7):
        assert_same(model, path, [x[:size]])


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
    with pytest.raises(UnsupportedError, match="expected places that every batch has"):
        export(Called(lambda x: x[: x.shape[0] - 1]).eval(), x, path)
    with pytest.raises(UnsupportedError, match="expected one low for every batch"):
        export(Called(lambda x: td.pad(x, [x.shape[0], 0])).eval(), x, path)
    assert not path.exists()


def there_and_back(row: models.Row, tmp_path: Path) -> None:
    """Outputs, and the gradients of a DataGrad step, in float64: in a deep net that nobody has trained
    float32 leaves less than five digits.
    """
    td.manual_seed(0)
    random, model = np.random.default_rng(0), row.small().to("float64").eval()
    x = random.standard_normal((4, *row.small_input))
    export(model, x, tmp_path / "m.onnx")
    twin, y, gradients = load(tmp_path / "m.onnx"), model(td.tensor(x)).detach().numpy(), []
    np.testing.assert_allclose(twin(x).numpy(), y, rtol=1e-5, atol=1e-5 * np.abs(y).max())
    labels = td.tensor(random.integers(0, y.shape[1], (4, *y.shape[2:])))
    for net in (model, twin):
        objective = td.regularizers.Objective(net, td.cross_entropy, [td.regularizers.DataGrad(1.0)])
        objective(td.tensor(x), labels).total.backward()
        gradients.append({name: p.grad.numpy() for name, p in net.named_parameters() if p.grad is not None})
    assert gradients[0].keys() <= gradients[1].keys()  # fixed filters may have become parameters
    for key, g in gradients[0].items():
        np.testing.assert_allclose(gradients[1][key], g, rtol=1e-5, atol=1e-5 * np.abs(g).max())


@pytest.mark.parametrize("row", [models.ROWS[0], models.ROWS[-1]], ids=lambda row: row.name)
def test_some_models_there_and_back(row: models.Row, tmp_path: Path) -> None:
    there_and_back(row, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("row", models.ROWS, ids=lambda row: row.name)
def test_every_model_there_and_back(row: models.Row, tmp_path: Path) -> None:
    there_and_back(row, tmp_path)


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
