"""Held-out samples: a second look is recorded, warned of and printed."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from tinydl_kernels.machine.errors import ShapeError

from tinydl.data import DataError, HeldOutWarning, ScoreOnce, Subset, TensorDataset


def held_out(value: int = 0) -> TensorDataset:
    return TensorDataset(np.full((4, 2), value, np.float32), np.array([0, 1, 0, 1]), name="four digits")


def test_one_look_is_free_and_a_second_one_stays_in_the_report() -> None:
    held = ScoreOnce(held_out())
    assert held.report() == "four digits: held out, not looked at yet"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert held.look("the final model").targets is not None
    assert held.report() == "four digits: held out, looked at once: the final model"
    with pytest.warns(HeldOutWarning, match="looked at once before .first: the final model."):
        held.look("a better\nmodel")
    assert held.looks == ["the final model", "a better model"]
    assert "looked at 2 times" in held.report()
    assert "\n    2. a better model" in held.report()
    assert repr(held) == "ScoreOnce(four digits, 4 samples, looked at 2 times)"


def test_looks_are_known_to_later_runs_and_other_objects(tmp_path: Path) -> None:
    file = tmp_path / "looks.jsonl"
    first, second = ScoreOnce(held_out(), file), ScoreOnce(held_out(), file)
    first.look("é")
    assert second.looks == ["é"]
    with pytest.warns(HeldOutWarning):
        ScoreOnce(held_out(), file).look("again")
    assert first.looks == ["é", "again"]


def test_a_look_counts_for_the_samples(tmp_path: Path) -> None:
    file = tmp_path / "looks.jsonl"
    ScoreOnce(held_out(0), file).look("one")
    assert ScoreOnce(held_out(1), file).looks == []
    assert ScoreOnce(Subset(held_out(0), [0, 1, 2, 3]), file).looks == ["one"]


def test_the_look_is_written_before_the_samples_are_given(tmp_path: Path) -> None:
    missing = ScoreOnce(held_out(), tmp_path / "none" / "looks.jsonl")
    with pytest.raises(DataError, match="not written"):
        missing.look("unwritten")
    assert missing.looks == []


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"ScoreOnce.look: why: expected a reason, got none"):
        ScoreOnce(held_out()).look("  ")
    (tmp_path / "other").write_text("3\n")
    with pytest.raises(DataError, match="line 1: expected a look, got '3'"):
        ScoreOnce(held_out(), tmp_path / "other")
