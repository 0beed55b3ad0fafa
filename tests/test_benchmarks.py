"""The benchmarks through their command line, on a few small cases. Speed is never asserted."""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as program
from benchmarks import cases, machine, penalties, turns, with_tinydl
from benchmarks.cases import CASES
from tinydl import regularizers

ROOT = Path(__file__).parents[1]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=250,
    )  # fmt: skip


def run(out: Path, *arguments: str) -> tuple[str, dict]:
    """What a run prints, and its results.json."""
    ended = command(*arguments, "--out", str(out))
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, json.loads((out / "results.json").read_text())


def test_quick_alone(tmp_path: Path) -> None:
    printed, results = run(tmp_path, "matmul", "loss", "--quick", "--frameworks", "tinydl")
    assert "! " not in printed
    assert [case["problems"] for case in results["cases"]] == [[], [], []]
    for case in results["cases"]:
        (found,) = case["contenders"].values()
        assert found["median"] > 0
        assert len(found["rounds"]) == 1
        assert found["difference"] == 0
    assert set(results["rates"]) == {"flop", "byte"}
    assert results["environment"]["frameworks"].keys() == {"tinydl"}
    assert not (tmp_path / "ratios.png").exists()  # there is nothing to compare with


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names a processor of x86-64")
def test_held_to_avx2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run says so, and its workers compile for registers of 8 numbers: the peak counts their lanes."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    options = ["--quick", "--frameworks", "tinydl", "--avx2", "--threads", "1", "--out", str(tmp_path)]
    assert program.main(["matmul", *options]) == 0
    assert "Held to AVX2" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["environment"]["avx2"] is True
    assert [case["problems"] for case in results["cases"]] == [[]]
    with turns.workers(["tinydl"], 1) as processes:
        peak = processes["tinydl"].ask("prepare", cases.PEAKS["flop"])[""]
    assert peak["work"] == 8 * 2 * 4 * machine.ROUNDS * machine.CHAINS


def test_the_page_of_penalties(tmp_path: Path) -> None:
    printed, _ = run(
        tmp_path, "penalties", "--quick", "--frameworks", "tinydl", "--threads", "1", "--processor-time"
    )
    assert "A step with a penalty, in plain steps that take turns with it" in printed
    written = (tmp_path / "penalties.md").read_text(encoding="utf-8")
    assert "| penalty | LeNet 6-16-120-84 | at most |" in written
    assert "threads: 1, processor time" in written
    assert re.search(r"^\| L2 \| \d+\.\d\d \(\d+\.\d\d\) \|  \|$", written, re.MULTILINE)
    about = {"cpu": "a", "threads": 1, "clock": "wall", "load": 0.0, "avx2": False}
    prices = {"Mixup": {"LeNet": (1.3, 1.2), "ResNet-20": (1.2, 1.05)}, "L1": {"LeNet": (9.0, 9.0)}}
    made = penalties.page(prices, about).splitlines()
    assert made[-2:] == ["| Mixup | 1.30 (1.20) ! | 1.20 (1.05) | 1.1 |", "| L1 | 9.00 (9.00) |  |  |"]


def test_every_term_has_a_price() -> None:
    public = {name: vars(regularizers)[name] for name in regularizers.__all__}
    terms = {name for name, x in public.items() if isinstance(x, type) and issubclass(x, regularizers.Term)}
    others = {"FocalLoss", "LogitNormLoss", "PCGrad"}
    priced = {name.partition(",")[0] for name in penalties.PRICED}
    assert priced == terms - {"Term", "Penalty"} | others


@pytest.mark.full
@pytest.mark.parametrize("name", penalties.PRICED)
def test_every_priced_step_runs(name: str) -> None:
    case = CASES[f"LeNet 6-16-120-84 with {name}"]
    calls = with_tinydl.price(case, cases.data(case))
    assert set(calls) == {"with it", "plain"}
    for call in calls.values():
        assert [np.isfinite(call().item()) for _ in range(2)] == [True, True]


@pytest.mark.full
def test_every_family_agrees_with_the_others(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    others, _ = turns.installed(["torch", "jax", "numpy", "onnxruntime"])
    families = [family for family in cases.FAMILIES if family != "memory"]
    _, results = run(tmp_path, *families, "--quick", "--frameworks", "tinydl", *others)
    assert {case["name"]: case["problems"] for case in results["cases"] if case["problems"]} == {}
    assert {case["family"] for case in results["cases"]} == set(families)
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.full
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_has_plain_steps_alone() -> None:
    pytest.importorskip("torch")
    assert not set(turns.ON_REQUEST) & set(turns.FRAMEWORKS)
    with turns.workers(["torch", "torch-compile"], 1) as processes:
        plain, penalized = (
            turns.by_turns(CASES[f"MLP 784-200-200-10, {penalty}"], processes, 1, 0.001)
            for penalty in ("plain", "datagrad")
        )
    assert plain.problems == []
    assert [c.label for c in plain.contenders] == ["torch", "torch fused", "torch-compile fused"]
    assert [c.label for c in penalized.contenders] == ["torch", "torch fused"]
    assert [p.partition(":")[0] for p in penalized.problems] == ["torch-compile"]
    assert "double backward" in penalized.problems[0]


def test_a_framework_that_is_missing_is_left_out() -> None:
    assert turns.installed(["numpy", "no_such_framework"]) == (["numpy"], ["no_such_framework"])


def test_a_worker_that_dies_loses_the_case_and_starts_again() -> None:
    case = CASES["50×500×10"]
    with turns.workers(["numpy"], 1) as processes:
        process = processes["numpy"]
        assert process.ask("hello") == np.__version__
        assert process.process is not None
        process.process.kill()
        lost = turns.by_turns(case, processes, 1, 0.001)
        assert lost.contenders == []
        assert len(lost.problems) == 1
        assert lost.problems[0].startswith("numpy: died with exit code")
        found = turns.by_turns(case, processes, 2, 0.001)
        assert found.problems == []
        assert len(found.contenders[0].values) == 2
        started = process.process
        with pytest.raises(turns.WorkerError, match="AttributeError"):
            process.ask("no_such_method")
    assert process.process is None
    assert started is not None
    assert started.poll() is not None  # no process is left


def test_inputs_are_the_same_for_all() -> None:
    for case in (case for case in CASES.values() if case.quick):
        first, second = cases.data(case), cases.data(case)
        assert first.keys() == second.keys()
        for a, b in zip(first.values(), second.values(), strict=True):
            np.testing.assert_equal(a, b)


def test_inference_agrees() -> None:
    """Recorded, eager, and in ONNX Runtime: a forward pass without a tape, of one sample."""
    pytest.importorskip("onnxruntime")
    from benchmarks import with_onnxruntime

    case = CASES["LeNet 6-16-120-84, batch 1"]
    own = with_tinydl.infer(case, cases.data(case))
    results = [own[mode]() for mode in ("recorded", "recorded", "eager")]
    assert not any(y.requires_grad for y in results)
    found = [with_tinydl.arrays(y) for y in results]
    assert [y.shape for (y,) in found] == [(1, 10)] * 3
    assert [turns.difference(y, found[2]) for y in found] == [0, 0, 0]
    with_onnxruntime.start(1)
    other = with_onnxruntime.infer(case, cases.data(case))[""]()
    assert turns.difference(with_onnxruntime.arrays(other), found[2]) <= case.tolerance


@pytest.mark.parametrize("name", cases.MODELS)
def test_nets_have_the_parameters_of_the_table(name: str) -> None:
    """Loading asks for no more, so a wrong name would leave a layer as it was drawn."""
    net = with_tinydl.model(name)
    assert {path: p.shape for path, p in net.named_parameters()} == cases.MODELS[name].shapes


@pytest.mark.parametrize("name", cases.MODELS)
def test_nets_of_pytorch_have_them_too(name: str) -> None:
    pytest.importorskip("torch")
    from benchmarks import models_torch

    net = models_torch.MODELS[name]()
    assert {path: tuple(p.shape) for path, p in net.named_parameters()} == cases.MODELS[name].shapes


def test_difference() -> None:
    x = np.array([1.0, 4.0])
    assert turns.difference([x], [x]) == 0
    assert turns.difference([x * 1.5], [x]) == 0.5
    assert turns.difference([x], [x[:1]]) == float("inf")
    assert not turns.difference([x * np.nan], [x]) <= 1


@pytest.mark.tiny
def test_nothing_imports_the_benchmarks() -> None:
    for path in (p for folder in ("tinydl", "kernels", "examples") for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [getattr(node, "module", None) or ""]
            )
            assert not any(name.split(".")[0] == "benchmarks" for name in names), path


@pytest.mark.parametrize(
    "arguments",
    [
        ["no_such_family"],
        ["--rounds", "-1"],
        ["--match", "no such case"],
        ["--match", "("],
        ["--frameworks", "x"],
    ],
)
def test_bad_arguments(arguments: list[str]) -> None:
    ended = command(*arguments)
    assert ended.returncode == 2
    assert "error: " in ended.stderr.splitlines()[-1]


def test_transforms_alone(tmp_path: Path) -> None:
    """Without torchvision, which no test needs."""
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    code = (
        "import sys\nfrom benchmarks import transforms as program\n"
        "program.find_spec = lambda name: None\nprogram.main(sys.argv[1:])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "--quick", "--out", str(tmp_path)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    cases_of = json.loads((tmp_path / "results.json").read_text())["cases"]
    assert [case["case"] for case in cases_of] == [
        f"{name}, {shape}" for name in ("affine", "affine and elastic") for shape in ("28×28", "32×32×3")
    ]
    assert all(0 < least <= median for case in cases_of for median, least in case["seconds"]["tinydl"])
    assert "µs an image" in ended.stdout


def test_optimizers_alone(tmp_path: Path) -> None:
    """Without PyTorch, which no test needs; bytes are those of the arrays that a step reads and writes."""
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    code = (
        "import sys\nfrom benchmarks import optimizers as program\n"
        "program.find_spec = lambda name: None\nsys.exit(program.main(sys.argv[1:]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "adam", "muon", "lars", "--quick", "--out", str(tmp_path)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = {case["optimizer"]: case for case in json.loads((tmp_path / "results.json").read_text())["cases"]}
    assert list(found) == ["Adam", "Adam amsgrad", "AdamW", "Adamax", "LARS", "Muon"]
    arrays = {name: found[name]["bytes"] / (4 * 61_706) for name in ("Adam", "Adam amsgrad", "LARS")}
    assert arrays == {"Adam": 7, "Adam amsgrad": 9, "LARS": 7}
    assert all(case["idle"] > 0 and case["x bytes"] > 0 for case in found.values())
    assert found["Muon"]["x one product"] > found["Muon"]["x own products"] > 0


def test_training_alone(tmp_path: Path) -> None:
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    options = ["--quick", "--cpu", "--threads", "1", "--out", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", *options],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert [case["case"] for case in results["cases"]] == ["plain", "DataGrad"]
    for case in results["cases"]:
        assert set(case["seconds"]) == set(case["ratios"])
        assert case["ratios"]["bare loop"] == [1.0, 1.0]
        assert all(time > 0 for times in case["seconds"].values() for time in times)
    assert results["environment"]["clock"] == "process_time"
