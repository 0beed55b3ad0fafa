"""ONNX in: ONNX's own backend tests, derivatives of imported graphs, files that are not trusted."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from catalogue import graphs  # noqa: E402
from catalogue.graphs import Case, cases  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import tinydl as td  # noqa: E402
from tinydl import __main__ as commands  # noqa: E402
from tinydl import nn, optim  # noqa: E402
from tinydl.files import DataError  # noqa: E402
from tinydl.interop.onnx import load  # noqa: E402
from tinydl.interop.onnx.operators import TABLE, UnsupportedError  # noqa: E402

TABLE_OF_CASES = Path(__file__).with_name("onnx_cases.txt")
"""operator | cases | pass | refused, onnx 1.23; `PYTHONPATH=.:tests python tests/interop/test_onnx.py`."""

APART = {
    **dict.fromkeys(
        ("test_dft_inverse", "test_dft_inverse_opset19"),
        "what is expected has rounding of 2e-7 where the exact value is 0, more than the tolerance",
    ),
    "test_attention_4d_causal_fp16_expanded": "softmax rounds to half precision once: one unit differs",
}


def run(case: Case) -> None:
    """AssertionError unless the outputs are the expected ones; UnsupportedError if it is refused."""
    model = load(case.proto())
    for inputs, expected in case.sets():
        found = model(*inputs)
        found = found if isinstance(found, tuple) else (found,)
        assert len(found) >= len(expected)
        for y, z in zip(found, expected, strict=False):
            y = y.detach().numpy() if isinstance(y, td.Tensor) else y
            z = np.asarray(z)
            assert (y.dtype, y.shape) == (z.dtype, z.shape)
            np.testing.assert_allclose(y, z, case.rtol, case.atol)


def outcomes() -> list[str]:
    """The lines of the table, and AssertionErrors for what neither passes nor is refused."""
    counts: dict[str, Counter[str]] = {}
    for case in cases().values():
        row = "expanded" if case.expanded else "+".join(case.kinds)
        seen = counts.setdefault(row, Counter())
        seen["cases"] += 1
        try:
            run(case)
            seen["pass"] += 1
        except UnsupportedError:
            seen["refused"] += 1
        except Exception as error:
            if case.name not in APART:
                raise AssertionError(f"{case.name}: {error}") from error
            seen["apart"] += 1
    return [
        f"{row} | {n['cases']} | {n['pass']} | {n['refused']}" + f" | {n['apart']} apart" * (n["apart"] > 0)
        for row, n in sorted(counts.items())
    ]


def sample() -> list[str]:
    """A case of each operator that is there, the first by name."""
    found: dict[str, str] = {}
    for name in sorted(cases()):
        kinds = cases()[name].kinds if not cases()[name].expanded else []
        if len(kinds) == 1 and kinds[0] in TABLE:
            found.setdefault(kinds[0], name)
    return sorted(found.values())


@pytest.mark.parametrize("name", sample())
def test_a_case_of_each_operator(name: str) -> None:
    try:
        run(cases()[name])
    except UnsupportedError as error:
        if "is not supported" not in str(error):
            raise


@pytest.mark.full
@pytest.mark.timeout(600)
def test_all_cases_as_the_table_says() -> None:
    lines = outcomes()
    assert lines == TABLE_OF_CASES.read_text(encoding="utf-8").splitlines()
    passed = {line.split(" | ")[0]: int(line.split(" | ")[2]) for line in lines}
    assert passed["expanded"] >= 200
    assert sum(n for row, n in passed.items() if row != "expanded") >= 750


# ---- Derivatives of graphs


def check_all(step: int) -> None:
    chosen = graphs.smooth()
    assert len(chosen) > 900
    assert [case.name for case in chosen[::step] if "WRONG" in graphs.verdicts(case)] == []


def test_derivatives_of_some_graphs() -> None:
    check_all(20)


@pytest.mark.nightly
def test_derivatives_of_all_graphs() -> None:
    check_all(1)


def test_the_page_of_graphs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = [case for case in graphs.smooth() if case.kinds in (["Relu"], ["Softsign"])]
    monkeypatch.setattr(graphs, "smooth", lambda: found)
    assert commands.main(["derivatives", "--graphs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# Derivatives of imported graphs"
    assert lines[7:9] == ["| Relu | 3 | yes | yes |", "| Softsign | 2 | yes | yes |"]
    assert lines[-3:] == ["Refused: none.", "", "Wrong: none."]


# ---- Models


def small_net() -> Any:
    """conv -> batch norm -> relu -> max pool -> flatten -> gemm, of numbers from a seed."""
    rng = np.random.default_rng(0)
    arrays = {
        "body.0.weight": rng.standard_normal((3, 1, 3, 3)),
        "body.0.bias": rng.standard_normal(3),
        "body.1.weight": rng.uniform(0.5, 1.5, 3),
        "body.1.bias": rng.standard_normal(3),
        "body.1.running_mean": rng.standard_normal(3),
        "body.1.running_var": rng.uniform(0.5, 1.5, 3),
        "head.weight": rng.standard_normal((2, 27)),
        "head.bias": rng.standard_normal(2),
    }
    norm = [f"body.1.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    nodes = [
        helper.make_node("Conv", ["x", "body.0.weight", "body.0.bias"], ["a"]),
        helper.make_node("BatchNormalization", ["a", *norm], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["d"], ["sizes"], end=1),
        helper.make_node("Concat", ["sizes", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["d", "shape"], ["e"]),
        helper.make_node("Gemm", ["e", "head.weight", "head.bias"], ["y"], transB=1),
    ]
    stored = [numpy_helper.from_array(x.astype(np.float32), name) for name, x in arrays.items()]
    stored.append(numpy_helper.from_array(np.array([-1]), "rest"))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def twin(model: Any) -> Any:
    """The same net of layers, with the weights of a loaded one."""
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    net = nn.Sequential(body, nn.Linear(27, 2)).eval()
    names = {name.replace("body.", "0.").replace("head.", "1."): x for name, x in model.state_dict().items()}
    net.load_state_dict({**names, "0.1.num_batches_tracked": np.array(0)})
    return net


def test_weights_are_parameters_by_their_names() -> None:
    model = load(small_net())
    layers = ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias", "head.weight", "head.bias"]
    assert [name for name, _ in model.named_parameters()] == layers
    assert [name for name, _ in model.named_buffers()] == ["body.1.running_mean", "body.1.running_var"]
    assert repr(model).startswith("Graph(x -> y; {'Conv': 1,")


def test_a_penalty_step_is_that_of_the_layers(backend: str) -> None:
    """DataGrad on the loaded graph and on layers: the same gradients of all weights."""
    x = np.random.default_rng(1).standard_normal((5, 1, 8, 8)).astype(np.float32)
    labels = np.array([0, 1, 1, 0, 1])
    gradients = []
    loaded = load(small_net())
    for net in (loaded, twin(loaded)):
        objective = td.regularizers.Objective(net, td.cross_entropy, [td.regularizers.DataGrad(3.0)])
        objective(td.tensor(x), td.tensor(labels)).total.backward()
        gradients.append([np.array(p.grad) for p in net.parameters()])
    for g, e in zip(*gradients, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-5)


def test_functions_that_multiply_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each calls the next ten times: 10²⁰ nodes from two hundred."""
    monkeypatch.setattr("tinydl.interop.onnx.graph.NODES", 4096)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function(
            "own",
            f"f{i}",
            ["x"],
            ["y"],
            [
                helper.make_node(f"f{i + 1}", ["x"], ["y" if k == 9 else f"y{k}"], domain="own")
                for k in range(10)
            ],
            opsets,
        )
        for i in range(20)
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("f0", ["x"], ["y"], domain="own")], "g", ends[:1], ends[1:])
    with pytest.raises(DataError, match="expected at most 4096 nodes"):
        load(helper.make_model(graph, opset_imports=opsets, functions=functions))


def test_on_a_gpu(gpu: Any) -> None:
    model, x = load(small_net()), np.ones((2, 1, 8, 8), np.float32)
    expected = model(x).detach().numpy()
    y = model.to("cuda")(td.tensor(x, device="cuda"))
    assert y.device == "cuda"
    np.testing.assert_allclose(y.detach().to("cpu").numpy(), expected, rtol=1e-6)


def test_quantized_weights_on_a_gpu(gpu: Any) -> None:
    """They lie on the host, as all integers of a graph do, and follow their scale."""
    rng = np.random.default_rng(0)
    stored = [
        numpy_helper.from_array(rng.integers(-9, 9, (3, 4), np.int8), "q"),
        numpy_helper.from_array(np.float32(0.5), "scale"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    x = rng.standard_normal((2, 3)).astype(np.float32)
    expected = model(x).numpy()
    y = model.to("cuda")(td.tensor(x, device="cuda"))
    np.testing.assert_allclose(y.to("cpu").numpy(), expected, rtol=1e-6)


def test_what_is_computed_ahead_is_bounded() -> None:
    """Sums of a row and a column, each of which would be kept: 4 GB from a small file."""
    stored = [numpy_helper.from_array(np.zeros(n, np.int32), f"{n}") for n in ((1, 1000), (1000, 1))]
    names = [x.name for x in stored]
    nodes = [helper.make_node("Add", names, [f"sum{i}"]) for i in range(1000)]
    nodes.append(helper.make_node("Relu", ["x"], ["y"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    kept = sum(x.size for x in model._arrays.values() if x is not None)
    assert 1_000_000 < kept <= 2000 + (1 << 22)


def test_it_trains_and_records() -> None:
    rng = np.random.default_rng(2)
    x, labels = (
        td.tensor(rng.standard_normal((8, 1, 8, 8)).astype(np.float32)),
        td.tensor(rng.integers(0, 2, 8)),
    )
    losses = []
    for wrap in (lambda f: f, td.record):
        model = load(small_net())
        optimizer = optim.SGD(model.parameters(), lr=0.02)

        def step(x: Any, labels: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = td.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

        run = wrap(step)
        losses.append([run(x, labels).item() for _ in range(20)])
    assert losses[0] == losses[1]
    assert losses[0][-1] < 0.5 * losses[0][0]


def test_a_file_and_stored_numbers_beside_it(tmp_path: Path) -> None:
    model, x = small_net(), np.ones((2, 1, 8, 8), np.float32)
    expected = load(model)(x).numpy()
    onnx.save(model, tmp_path / "one.onnx")
    onnx.save(
        model, tmp_path / "two.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    for name in ("one", "two"):
        np.testing.assert_array_equal(load(tmp_path / f"{name}.onnx")(x).numpy(), expected)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "absent.bin"])
def test_numbers_outside_of_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "weights.bin").write_bytes(b"0" * 4096)
    folder = tmp_path / "model"
    folder.mkdir()
    model = small_net()
    stored = model.graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    entry = stored.external_data.add()
    entry.key, entry.value = "location", location
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match=r"m\.onnx: "):
        load(folder / "m.onnx")


def test_all_missing_operators_are_named() -> None:
    nodes = [
        helper.make_node("StringSplit", ["x"], ["a", "b"]),
        helper.make_node("If", ["c"], ["d"]),
        helper.make_node("If", ["c"], ["e"]),
        helper.make_node("Own", ["x"], ["f"], domain="mine"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [1]), value("c", TensorProto.BOOL, [])], []
    )
    with pytest.raises(
        UnsupportedError, match=r"If \(2, control flow: If -> d\), Own \(1\), StringSplit \(1\)"
    ):
        load(helper.make_model(graph))


def test_bad_inputs() -> None:
    with pytest.raises(TypeError, match=r"Graph: expected the inputs \['x'\], got 2"):
        load(small_net())(np.ones(1), np.ones(1))
    broken = small_net()
    broken.graph.node[0].input[0] = "nobody"
    with pytest.raises(DataError, match="expected a value 'nobody' before it"):
        load(broken)
    with pytest.raises(DataError, match="expected a graph with nodes"):
        load(onnx.ModelProto())


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, cut off, taken out or put in."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        at, kind = int(rng.integers(len(data))), rng.integers(4)
        if kind == 0:
            data[at] = int(rng.integers(256))
        elif kind == 1:
            del data[at : at + int(rng.integers(1, 40))]
        elif kind == 2:
            data[at:at] = rng.bytes(int(rng.integers(1, 40)))
        else:
            del data[len(data) - int(rng.integers(1, len(data) // 2)) :]
        data = data or bytearray(b"x")
    return bytes(data)


def read_mutated(tmp_path: Path, count: int, seed: int) -> Counter[str]:
    """Each file loads and runs, or is one clear error that names it."""
    rng, content, seen = np.random.default_rng(seed), small_net().SerializeToString(), Counter[str]()
    path = tmp_path / "m.onnx"
    for _ in range(count):
        path.write_bytes(mutated(content, rng))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                model = load(path)
            except (DataError, UnsupportedError) as error:
                if not str(error).startswith(f"{path}: "):
                    raise
                seen["refused"] += 1
                continue
        seen["read"] += 1
        assert isinstance(model.input_names, list)
    return seen


def test_mutated_files(tmp_path: Path) -> None:
    seen = read_mutated(tmp_path, 100, 0)
    assert seen["refused"] > 20


@pytest.mark.nightly
def test_many_mutated_files(tmp_path: Path) -> None:
    assert read_mutated(tmp_path, 2000, 1)["refused"] > 400


def test_without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match="expected the extra `onnx`"):
        load("net.onnx")


@pytest.mark.full
def test_mnist_8() -> None:
    """The model zoo's net, opset 8: 98.91 % of the official test images."""
    folder = os.environ.get("TINYDL_DATA")
    if folder is None:
        pytest.skip("TINYDL_DATA is not set: it names the folder above models/ and mnist/")
    model = load(Path(folder) / "models" / "mnist-8.onnx").eval()
    test = td.data.datasets.MNIST("test")
    images, labels = np.asarray(test.inputs, np.float32), np.asarray(test.targets)
    with td.no_grad():  # its batches have one image
        right = sum(int(model(x[None]).numpy().argmax()) == t for x, t in zip(images, labels, strict=True))
    assert right == 9891


if __name__ == "__main__":
    TABLE_OF_CASES.write_text("\n".join(outcomes()) + "\n", encoding="utf-8")
