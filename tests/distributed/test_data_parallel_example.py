"""examples/data_parallel.py by two ranks, on digits that are made."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from test_ranks import MPIEXEC, ROOT, started

pytest.importorskip("mpi4py", reason="mpi4py is absent: pip install 'tinydl[mpi]'")
pytestmark = pytest.mark.skipif(not MPIEXEC.exists(), reason="mpiexec is absent: pip install 'tinydl[mpi]'")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    labels = random.integers(0, 10, 160).astype(np.uint8)
    images = random.integers(0, 255, (160, 28, 28)).astype(np.uint8)
    for name in ("train", "t10k"):
        header = struct.pack(">4I", 2051, 160, 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 160) + labels.tobytes())
    return folder.parent


def test_two_ranks_have_the_curve_of_one_process(data: Path, tmp_path: Path) -> None:
    script, out = ROOT / "examples" / "data_parallel.py", tmp_path / "out"
    with started(2, script, "--quick", "--backend", "reference", "--data", data, "--out", out) as program:
        said, err = program.communicate(timeout=280)
    assert program.returncode == 0, err[-3000:]
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert found["ranks"] == 2
    for dtype, limit in (("float64", 1e-12), ("float32", 1e-5)):
        curve = found["curves"][dtype]
        assert 0 < len(curve["ranks"]) == len(curve["one process"])
        np.testing.assert_allclose(curve["ranks"], curve["one process"], rtol=limit)
    assert "efficiency" in said
    table = found["on paper"]["LeNet, batch 50"]
    for n, row in table["ranks"].items():
        paid = found["alpha"] * np.log2(int(n)) + found["beta"] * table["bytes"]
        np.testing.assert_allclose(row["seconds"], table["compute"] / int(n) + paid)
