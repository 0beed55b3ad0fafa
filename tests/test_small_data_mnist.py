"""The main example through its command line, on synthetic digits and a tiny schedule."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

SCRIPT = Path(__file__).parents[1] / "examples" / "small_data_mnist.py"
TINY = ["--size", "100", "--steps", "5", "--backend", "reference"]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("small_data_mnist", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test meets the machine's own data."""
    monkeypatch.delenv("TINYDL_DATA", raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Digits that can be learned: a bright 7 × 7 patch whose place is the class. 300
    to train on and 60 more twice.
    """
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    (folder / "mnist").mkdir(parents=True)
    for name, n in (("train", 360), ("t10k", 60)):
        labels = rng.integers(0, 10, n).astype(np.uint8)
        images = rng.integers(0, 120, (n, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[7 * (label // 4) : 7 * (label // 4) + 7, 7 * (label % 4) : 7 * (label % 4) + 7] = 250
        header = struct.pack(">4I", 2051, n, 28, 28)
        (folder / "mnist" / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (folder / "mnist" / f"{name}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2I", 2049, n) + labels.tobytes()
        )
    return folder


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("small_data_mnist: ")
    return lines[0]


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def test_results_pictures_and_table(example, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert example.main([*TINY, "--data", str(data), "--out", str(out)]) == 0
    printed, errors = capsys.readouterr()
    assert errors == ""
    for said in (
        f"the folder {data}",
        "Trained on 100 of 300 digits, tested on 60 others",
        "shortened",
        "± ",
        "SpectReg - none",
    ):
        assert said in printed
    for picture in ("curves.png", "misclassified.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    results = json.loads((out / "results.json").read_text())
    assert results["digits"] | {"source": ""} == {
        "source": "",
        "trained": 100,
        "pool": 300,
        "tested": 60,
        "dev": 60,
    }
    assert results["settings"]["lambda"] == {"none": 0, "SpectReg": 0.03, "DataGrad": 0.025}
    assert results["environment"]["backend"] == "reference"
    assert {"tinydl", "numpy", "numba", "python", "cpu", "threads", "time"} <= results["environment"].keys()
    assert [(run["seed"], run["method"]) for run in results["runs"]] == [
        (seed, method) for seed in range(3) for method in ("none", "SpectReg", "DataGrad")
    ]
    scores = {
        name: np.array([run["test_accuracy"] for run in results["runs"] if run["method"] == name])
        for name in ("none", "SpectReg", "DataGrad")
    }
    for row in results["test_accuracy"]["differences"]:
        paired = scores[row["name"]] - scores[row["other"]]
        assert row["estimate"]["mean"] == pytest.approx(paired.mean())
        assert row["estimate"]["error"] == pytest.approx(paired.std(ddof=1) / 3**0.5)
        assert (row["claim"] is not None) == (abs(paired.mean()) > 2 * paired.std(ddof=1) / 3**0.5)


def test_methods_of_one_seed_start_alike_and_see_the_same_batches_and_masks(example, data):
    pool, *_ = example.load_digits(str(data))
    none, spect = (example.Run(method, 1, 100, 8, pool) for method in ("none", "spectreg"))
    for name, value in none.model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), spect.model.state_dict()[name].numpy())
    for _ in range(3):
        for a, b in zip(none.batches.next_batch(), spect.batches.next_batch(), strict=True):
            np.testing.assert_array_equal(a, b)
    x, y = none.batches.next_batch()
    # the cross-entropy before the first update
    assert none.train_step(x, y).item() == spect.train_step(x, y).item()
    none.train_step(x, y), spect.train_step(x, y)
    streams = [run.state["generators"]["dropout"].state_dict() for run in (none, spect)]
    assert streams[0] == streams[1]  # SpectReg's second forward has left the stream of the masks alone


def test_an_interrupted_run_resumes_to_the_same_bits(example, data, tmp_path, capsys, monkeypatch):
    arguments = [*TINY, "--seeds", "1", "--methods", "none", "spectreg", "--data", str(data)]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert example.main([*arguments, "--out", str(whole)]) == 0
    capsys.readouterr()
    save, calls = example.checkpoint.save, []

    def interrupting(*args, **things):
        save(*args, **things)
        calls.append(args)
        if len(calls) in (2, 7):  # within the first and within the second network
            raise KeyboardInterrupt

    monkeypatch.setattr(example.checkpoint, "save", interrupting)
    for _ in range(2):
        assert example.main([*arguments, "--resume", "--out", str(parts)]) == 130
        assert "interrupted" in one_error_line(capsys)
        assert not (parts / "results.json").exists()
    assert example.main([*arguments, "--resume", "--out", str(parts)]) == 0
    assert len(calls) == 2 * 5  # nothing was done twice
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert len(files) == 2
    for file in files:
        assert (whole / file).read_bytes() == (parts / file).read_bytes()
    runs, resumed = (json.loads((folder / "results.json").read_text())["runs"] for folder in (whole, parts))
    assert runs == resumed


def test_checkpoints_of_other_digits_are_refused(example, data, tmp_path, capsys):
    arguments = [
        *TINY,
        "--seeds",
        "1",
        "--methods",
        "none",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
    ]
    assert example.main(arguments) == 0
    capsys.readouterr()
    images = data / "mnist" / "train-images-idx3-ubyte"
    content = bytearray(images.read_bytes())
    content[16] ^= 1
    images.write_bytes(content)
    assert example.main([*arguments, "--resume"]) == 1
    assert "--no-resume starts anew" in one_error_line(capsys)
    assert example.main(arguments) == 0


@pytest.mark.parametrize("problem", ["no folder", "truncated", "too few", "a file in the way"])
def test_one_line_for_what_is_wrong(example, data, tmp_path, capsys, problem):
    out, size, place = tmp_path / "out", "100", data
    if problem == "no folder":
        place, expected = tmp_path / "nowhere", "nowhere"
    elif problem == "truncated":
        file = data / "mnist" / "train-images-idx3-ubyte"
        file.write_bytes(file.read_bytes()[:-1])
        expected = "truncated"
    elif problem == "too few":
        size, expected = "301", "expected 50 to 300"
    else:
        out.write_text("mine")
        expected = str(out)
    arguments = [
        "--data",
        str(place),
        "--size",
        size,
        "--steps",
        "4",
        "--backend",
        "reference",
        "--out",
        str(out),
    ]
    assert example.main(arguments) == 1
    assert expected in one_error_line(capsys)
    assert out.read_text() == "mine" if problem == "a file in the way" else not out.exists()


@pytest.mark.parametrize("full", ["checkpoint", "picture", "results"])
def test_a_full_disk_leaves_no_half_written_file(example, data, tmp_path, capsys, monkeypatch, full):
    """The fsync that fails is that of the first checkpoint (5 in all), of the first of
    two pictures, of results.json.
    """
    out, fsync, left = tmp_path / "out", os.fsync, {"checkpoint": 0, "picture": 5, "results": 7}[full]

    def failing(descriptor: int) -> None:
        nonlocal left
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left -= 1
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    assert (
        example.main([*TINY, "--seeds", "1", "--methods", "none", "--data", str(data), "--out", str(out)])
        == 1
    )
    assert "No space left on device" in one_error_line(capsys)
    assert not (out / "results.json").exists()
    assert not leftovers(out)


def test_ctrl_c(data, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPT), "--size", "100", "--steps", "1000", "--backend", "reference"]
    root = SCRIPT.parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "kernels"), str(root)])}
    # a shell's background job ignores it: not the example
    outer = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*command, "--data", str(data), "--out", str(out)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, outer)
    for _ in range(600):
        if out.exists():  # training has begun
            break
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.splitlines() == [
        f"small_data_mnist: interrupted; --resume goes on from the checkpoints in {out}"
    ]
    assert not (out / "results.json").exists()
    assert not leftovers(out)


def test_options(example, capsys):
    assert example.parse([]).resume is False
    assert example.parse(["--full"]).resume is True
    assert example.parse(["--full", "--no-resume"]).resume is False
    assert (example.parse(["--full"]).steps, example.parse(["--full"]).seeds) == example.FULL
    assert (
        example.parse(["--full", "--seeds", "2"]).steps,
        example.parse(["--full", "--seeds", "2"]).seeds,
    ) == (10_000, 2)
    for wrong in (["--steps", "3"], ["--seeds", "0"], ["--size", "many"], ["--methods", "dropout"]):
        with pytest.raises(SystemExit):
            example.parse(wrong)
    capsys.readouterr()


def test_weights_by_training_size_and_schedule(example):
    assert [example.weight("datagrad", n, 10_000) for n in (100, 500, 2000, 2999, 3000, 60000)] == [
        50,
        50,
        50,
        50,
        20,
        2,
    ]
    assert [example.weight("spectreg", n, 10_000) for n in (500, 5000, 20000)] == [0.03, 0.003, 0.001]
    assert [example.weight("datagrad", 2000, steps) for steps in (1_000, 20_000)] == [5, 50]
    assert example.weight("spectreg", 2000, 1_000) == 0.03
    assert all(len(weights) == len(example.SIZES) for weights in example.WEIGHTS.values())
