"""Tables of runs: what is killed goes on to the same bits, predictions come before scores, looks count."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_to_kill import TABLE, train
from tinydl_kernels.machine.errors import ShapeError

from tinydl.files import DataError
from tinydl.study import Looks, Outcome, Predictions, SecondLookError, Study, Table, choose

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
LABELS = {"test": np.zeros(40, np.int64)}


def study(folder: Path, table: Table = TABLE) -> Study:
    return Study(folder, [table])


def run(found: Study, **options: Any) -> list[str]:
    said: list[str] = []
    found.run(train, say=said.append, **options)
    return said


def told(folder: Path) -> list[tuple[Any, Any]]:
    """What does not depend on the time."""
    lines = [json.loads(line) for line in (folder / "toy.jsonl").read_text().splitlines()]
    return [(line["cell"], line["result"]["digest"], line["result"]["loss"]) for line in lines]


@pytest.mark.parametrize("done", [0, 3])
def test_sigkill_costs_one_run(tmp_path: Path, done: int) -> None:
    path = os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "kernels", HERE))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, HERE / "study_to_kill.py", killed, str(done)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL)
    file, deadline = killed / "toy.jsonl", time.monotonic() + 250
    try:
        while not (file.exists() and file.read_bytes().count(b"\n") == done):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with open(file, "ab") as torn:
        torn.write(b'{"cell": {"cell": "nar')  # as if it had been writing
    assert (
        len(list((killed / "pending" / "toy").glob("*.npz"))) == done
    )  # predictions are there before scores
    said = run(study(killed))
    assert len(said) == 6 - done  # none is made twice
    run(study(whole))
    assert told(killed) == told(whole)
    assert (killed / "toy.npz").read_bytes() == (whole / "toy.npz").read_bytes()
    assert not (killed / "pending").exists()


def test_killed_between_predictions_and_line_or_while_packing(tmp_path: Path) -> None:
    run(study(tmp_path / "whole"))
    found = study(tmp_path / "killed")
    run(found)
    kept, lines = Predictions(tmp_path / "killed", "toy"), (tmp_path / "killed" / "toy.jsonl").read_bytes()
    for key, classes in list(kept.read().items())[3:]:
        kept.write(key, **classes)  # packed, and not removed yet
    (tmp_path / "killed" / "toy.jsonl").write_bytes(b"".join(lines.splitlines(keepends=True)[:-1]))
    assert len(run(found)) == 1  # its predictions were there, its line was not
    assert told(tmp_path / "killed") == told(tmp_path / "whole")
    assert (tmp_path / "killed" / "toy.npz").read_bytes() == (tmp_path / "whole" / "toy.npz").read_bytes()


def test_a_line_tells_what_a_run_was_and_the_table_grows_seed_by_seed(tmp_path: Path) -> None:
    found = study(tmp_path)
    said = run(found, seeds=1)
    assert [cell["seed"] for cell, *_ in told(tmp_path)] == [0, 0]
    assert said[0].startswith("toy: 1 of 2 runs, about 0:00:0")
    run(found)
    cells = [(cell["seed"], cell["cell"]) for cell, *_ in told(tmp_path)]
    assert cells == [(seed, name) for seed in range(3) for name in ("wide", "narrow")]
    results = found.results("toy")
    assert [cell["seed"] for cell, _ in results] == [0, 0, 1, 1, 2, 2]
    for _, result in results:
        assert {"digest", "data", "seconds", "cpu seconds", "environment", "loss"} <= result.keys()
        assert result["environment"]["threads"] == 1
        assert result["environment"]["vector bits"] in (8, 128, 256, 512)
    again = found.again(train, results[3][0])
    assert again["digest"] == results[3][1]["digest"]


def test_other_settings_are_other_runs(tmp_path: Path) -> None:
    run(study(tmp_path))
    changed = study(tmp_path, Table("toy", {"wide": {"n": 40, "weight": 2.0}}, range(3)))
    assert changed.results("toy") == []
    assert len(run(changed)) == 3
    assert len(study(tmp_path).results("toy")) == 6


def test_predictions_are_scored_as_they_were_written(tmp_path: Path) -> None:
    found = study(tmp_path)
    run(found)
    scores = found.scores("toy", LABELS, ["test"])
    for run_, result in found.results("toy"):
        expected = 100 * np.mean(train(run_).classes["test"] == 0)
        assert scores["test"][run_["cell"]][run_["seed"]] == pytest.approx(expected)
        assert len(result["digest"]) == 16
    kept = Predictions(tmp_path, "toy")
    key = next(iter(kept.read()))
    kept.write(key, test=np.ones(40, np.int64))  # somebody else's
    with pytest.raises(DataError, match="expected the predictions of"):
        found.scores("toy", LABELS, ["test"])
    (tmp_path / "toy.npz").unlink()
    with pytest.raises(DataError, match="expected the predictions of"):
        found.scores("toy", LABELS, ["test"])


def test_the_second_look_is_refused_and_if_wanted_written_down(tmp_path: Path) -> None:
    found, file = study(tmp_path), tmp_path / "looks.jsonl"
    run(found, seeds=1)
    found.scores("toy", LABELS, ["test"])
    first = file.read_text()
    found.scores("toy", LABELS, ["test"])  # the same predictions: nothing new was seen
    assert file.read_text() == first
    run(found)
    found.scores("toy", LABELS, ["test"])  # more seeds of the same recipe
    assert [len(row["runs"]) for row in Looks(file).rows()] == [2, 4]
    changed = study(tmp_path, Table("toy", {"wide": {"n": 40, "weight": 2.0}}, range(3)))
    run(changed)
    before = file.read_text()
    with pytest.raises(SecondLookError, match=r"its recipe .* was another when it was scored"):
        changed.scores("toy", LABELS, ["test"])
    assert file.read_text() == before
    changed.scores("toy", LABELS, ["test"], again=True)
    assert [row["again"] for row in Looks(file).rows()] == [False, False, True]
    assert "SECOND LOOKS: 1" in Looks(file).report()
    changed.scores("toy", LABELS, ["test"])  # what was written down need not be said again
    assert len(Looks(file).rows()) == 3
    changed.scores("toy", {"test": np.ones(40, np.int64)}, ["test"])  # other labels: their first look
    assert [row["again"] for row in Looks(file).rows()] == [False, False, True, False]


def test_labels_of_other_data_are_not_looked_at(tmp_path: Path) -> None:
    found = study(tmp_path)
    run(found)
    with pytest.raises(DataError, match=r"labels of the 40 samples of 'test' that were predicted, got 30"):
        found.scores("toy", {"test": LABELS["test"][:30]}, ["test"])
    assert not (tmp_path / "looks.jsonl").exists()


def test_other_predictions_of_a_scored_run_are_a_second_look(tmp_path: Path) -> None:
    looks = Looks(tmp_path / "looks.jsonl")
    assert looks.take("t", "labels", "recipe", {"a / 0": "1", "a / 1": "2"}) is not None
    assert looks.take("t", "labels", "recipe", {"a / 1": "2"}) is None
    with pytest.raises(SecondLookError, match="1 runs have other predictions than those scored, a / 1"):
        looks.take("t", "labels", "recipe", {"a / 1": "3"})
    assert looks.take("other", "labels", "recipe", {"a / 1": "3"}) is not None
    (tmp_path / "looks.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="line 1: expected a look"):
        Looks(tmp_path / "looks.jsonl")


def test_predictions_of_networks_that_agree_are_small(tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    truth, kept = random.randint(0, 10, 5_000), Predictions(tmp_path, "t")
    rows = {}
    for seed in range(30):
        rows[f"{seed}"] = np.where(random.rand(5_000) < 0.03, random.randint(0, 10, 5_000), truth)
        kept.write(f"{seed}", test=rows[f"{seed}"])
    kept.pack(list(rows))
    assert kept.file.stat().st_size < 0.25 * 5_000 * 30
    for key, found in kept.read().items():
        np.testing.assert_array_equal(found["test"], rows[key])
    with pytest.raises(ShapeError, match="expected classes"):
        kept.write("x", test=np.array([-1]))


def test_trials_choose_the_best_mean_and_the_first_of_equals() -> None:
    def trial(name: str, seed: int, score: float) -> tuple[dict[str, Any], dict[str, Any]]:
        run_ = {
            "table": "t",
            "cell": f"g / {name}",
            "seed": seed,
            "group": "g",
            "trial": name,
            "weight": len(name),
        }
        return run_, {"validation": score}

    results = [trial("a", 0, 90), trial("bb", 0, 95), trial("ccc", 0, 92)]
    results += [trial("a", 1, 90), trial("bb", 1, 88), trial("ccc", 1, 91)]
    assert choose(results, "validation") == {"g": {"trial": "bb", "weight": 2}}
    with pytest.raises(DataError, match="as many seeds of every trial"):
        choose(results[:-1], "validation")


def test_an_outcome_without_predictions_has_no_digest(tmp_path: Path) -> None:
    found = study(tmp_path, Table("numbers", {"a": {}}, range(1)))
    found.run(lambda cell: Outcome({"x": 1.5}), say=lambda line: None)
    ((_, result),) = found.results("numbers")
    assert result["x"] == 1.5
    assert "digest" not in result
