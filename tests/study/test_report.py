"""Results as JSON: whole or not at all, in values that JSON has."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinydl as td
from tinydl.study import Estimate, environment, write_json


def test_arrays_tuples_and_nan(tmp_path):
    write_json(
        tmp_path / "r.json",
        {"a": np.arange(3), "b": (np.float32(0.5), float("nan")), "c": Estimate(1.0, float("inf"), 2)},
    )
    expected = {"a": [0, 1, 2], "b": [0.5, None], "c": {"mean": 1.0, "error": None, "n": 2}}
    assert json.loads((tmp_path / "r.json").read_text()) == expected


def test_what_json_cannot_say_leaves_the_file_as_it_was(tmp_path):
    write_json(tmp_path / "r.json", [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / "r.json", [2, object()])
    assert json.loads((tmp_path / "r.json").read_text()) == [1]
    assert len(list(tmp_path.iterdir())) == 1


def test_the_stamp_names_the_backend_and_is_json():
    with td.backend("reference"):
        stamp = environment()
    assert stamp["backend"] == "reference"
    assert environment()["backend"] == "cpu"
    assert stamp["tinydl"] == td.__version__
    assert stamp["numpy"] == np.__version__
    assert json.loads(json.dumps(stamp)) == stamp
