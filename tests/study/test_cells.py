"""Cells here, over processes and over ranks: one results file, whoever made it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cells_of_ranks import CELLS, draw

from tinydl.files import DataError
from tinydl.study import CellError, read_cells, run_cells

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
MPIEXEC = Path(sys.executable).with_name("mpiexec")


def test_a_line_for_each_cell_in_their_order(tmp_path: Path) -> None:
    results = run_cells(draw, CELLS, tmp_path / "runs.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [line["cell"] for line in lines] == CELLS
    assert [line["result"] for line in lines] == results
    assert results[0]["nothing"] is None
    assert results[1]["all"] == draw(CELLS[1])["all"].tolist()


def test_what_was_killed_goes_on(tmp_path: Path) -> None:
    whole, file, calls = tmp_path / "whole.jsonl", tmp_path / "runs.jsonl", []
    run_cells(draw, CELLS, whole)
    lines = whole.read_text().splitlines(keepends=True)
    file.write_text(lines[4] + lines[2] + lines[6][:20])  # the last one was being written

    def noting(cell):
        calls.append(cell)
        return draw(cell)

    run_cells(noting, CELLS, file)
    assert calls == [cell for i, cell in enumerate(CELLS) if i not in (4, 2)]
    assert file.read_text() == whole.read_text()
    run_cells(noting, CELLS[:2], file)  # nothing to do; the others' results stay
    assert sorted(file.read_text().splitlines()) == sorted(whole.read_text().splitlines())
    assert len(calls) == 6


def test_progress_hears_of_each_run_and_of_what_is_left(tmp_path: Path) -> None:
    heard: list[tuple[object, object, int]] = []
    file = tmp_path / "runs.jsonl"
    run_cells(draw, CELLS[:2], file)
    results = run_cells(
        draw, CELLS[:4], file, progress=lambda cell, result, left: heard.append((cell, result, len(left)))
    )
    assert heard == [(CELLS[2], results[2], 1), (CELLS[3], results[3], 0)]
    assert read_cells(file) == list(zip(CELLS[:4], results, strict=True))
    assert read_cells(tmp_path / "none.jsonl") == []


def test_a_failure_names_its_cell_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILING_SEED", "2")
    with pytest.raises(CellError, match=r'{"method": "a", "seed": 2}: ValueError: diverged'):
        run_cells(draw, CELLS, tmp_path / "runs.jsonl")
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 2


def test_what_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    with pytest.raises(ValueError, match=r"expected over in .*, got 'threads'"):
        run_cells(draw, CELLS, file, over="threads")
    with pytest.raises(ValueError, match=r'expected cells that differ, got {"seed": 1} again'):
        run_cells(draw, [{"seed": 1}, {"seed": 1}], file)
    file.write_text('{"cell": 3}\n{"cell"')
    with pytest.raises(DataError, match="line 1: expected a cell and its result"):
        run_cells(draw, CELLS, file)


def test_processes_leave_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("joblib", reason="joblib is absent: pip install 'tinydl[joblib]'")
    path = os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "kernels", HERE))
    monkeypatch.setenv("PYTHONPATH", path)
    here = run_cells(draw, CELLS, tmp_path / "here.jsonl")
    assert run_cells(draw, CELLS, tmp_path / "runs.jsonl", over="processes", jobs=2) == here
    assert (tmp_path / "runs.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_ranks_leave_the_same_file(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py", reason="mpi4py is absent: pip install 'tinydl[mpi]'")
    if not MPIEXEC.exists():
        pytest.skip("mpiexec is absent: pip install 'tinydl[mpi]'")
    here = run_cells(draw, CELLS, tmp_path / "here.jsonl")
    path = os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "kernels"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PMI", "MPI"))}

    def ranks(file: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [MPIEXEC, "-iface", "lo", "-n", "2", sys.executable, HERE / "cells_of_ranks.py", file]
        everything = {**kept, "PYTHONPATH": path, **environment}
        return subprocess.run(
            command, env=everything, capture_output=True, text=True, timeout=120, check=False
        )

    failed = ranks(tmp_path / "runs.jsonl", FAILING_SEED="3")
    assert failed.returncode != 0
    assert '{"method": "a", "seed": 3}: ValueError: diverged' in failed.stderr
    done = ranks(tmp_path / "runs.jsonl")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["8", str(here[5]["mean"])] * 2
    assert (tmp_path / "runs.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()
