"""Cross-validation: each sample is held out once; mean and standard error."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from tinydl_kernels.machine.errors import ShapeError

from tinydl.data import TensorDataset
from tinydl.study import cross_validate

DATA = TensorDataset(np.arange(20.0)[:, None], np.arange(20) // 10)


def test_each_sample_is_held_out_once_with_its_class_in_proportion() -> None:
    held, numbers = [], []

    def fit(train, rest, fold):
        assert not {*train.inputs.ravel()} & {*rest.inputs.ravel()}
        assert np.bincount(rest.targets).tolist() == [2, 2]
        held.append(rest.inputs.ravel())
        numbers.append(fold)
        return {"mean": rest.inputs.mean(), "fold": fold, "note": "no number"}

    found = cross_validate(fit, DATA, 5, seed=3)
    assert sorted(np.concatenate(held)) == list(range(20))
    assert numbers == list(range(5))
    values = [part.mean() for part in held]
    mean, error, n = found["mean"]
    assert (mean, n) == (pytest.approx(9.5), 5)
    assert error == pytest.approx(stats.sem(values))
    assert found.names == ["mean", "fold"]
    assert f"mean  9.5000 ± {error:.4f}" in str(found)
    with pytest.raises(KeyError, match="expected one of mean, fold, got 'auc'"):
        found["auc"]


def test_groups_stay_together_and_numbers_are_not_stratified() -> None:
    groups = np.arange(20) // 2
    plain = TensorDataset(np.arange(20.0)[:, None], np.linspace(0, 1, 20))

    def fit(train, rest, fold):
        assert not {*(train.inputs.ravel() // 2)} & {*(rest.inputs.ravel() // 2)}
        return {"n": len(rest)}

    assert cross_validate(fit, plain, 2, groups=groups)["n"].mean == 10
    assert math.isfinite(cross_validate(fit, DATA, 2, groups=groups, stratified=False)["n"].error)


def test_a_fold_without_scores_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"fold 0: expected scores by name, got \{\}"):
        cross_validate(lambda train, rest, fold: {}, DATA, 2)
