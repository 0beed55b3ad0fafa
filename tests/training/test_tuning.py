"""The search for settings: what it finds, whom it stops, that it repeats and goes on, what it refuses."""

from __future__ import annotations

import builtins
import math
import re
from pathlib import Path
from typing import Any

import pytest
from fitting import loaders, trainer

import tinydl as td
from tinydl.training import Callback, DivergedError, NaNGuard, Tuning, tune

optuna = pytest.importorskip("optuna")

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

SPACE = {"lr": (1e-4, 1.0, "log"), "smooth": [0.0, 0.1], "epochs": (6, 9)}
RATES = {"lr": (1e-5, 1e-1, "log")}


def by_rate(settings: dict[str, Any], halving: Callback) -> None:
    """A fit of nine epochs."""
    trainer([halving], lr=settings["lr"], terms=[]).fit(*loaders(25), 9)


def valley(settings: dict[str, Any], halving: Callback) -> float:
    """Without a network: best at a rate of .01 and with the second choice."""
    return abs(math.log10(settings["lr"]) + 2) + (settings["smooth"] == 0.0) + 0.1 * settings["epochs"]


def test_the_best_of_a_valley_is_found_and_is_the_same_again() -> None:
    first, second = (tune(valley, SPACE, 40, seed=3) for _ in range(2))
    assert first.trials == second.trials
    assert len(first.trials) == 40
    assert first.settings["smooth"] == 0.1
    assert first.settings["epochs"] == 6
    assert 3e-3 < first.settings["lr"] < 3e-2
    assert first.value == min(trial.value for trial in first.trials)
    assert tune(valley, SPACE, 5, seed=4).trials != first.trials[:5]
    for trial in first.trials:
        assert 1e-4 <= trial.settings["lr"] <= 1
        assert trial.settings["epochs"] in range(6, 10)
        assert not trial.pruned


def test_bad_rates_are_stopped_early_and_good_ones_are_not() -> None:
    found = tune(by_rate, RATES, 9, monitor="val_accuracy", mode="max", seed=1)
    stopped, whole = ([t for t in found.trials if t.pruned is flag] for flag in (True, False))
    assert stopped
    assert {trial.epochs for trial in whole} == {9}
    assert {trial.epochs for trial in stopped} <= {1, 3}  # the rungs of halving by three
    assert found.value == max(trial.value for trial in whole)
    assert str(found).splitlines()[0] == "val_accuracy  epochs  settings"
    assert str(found).count("(stopped early)") == len(stopped)
    assert re.fullmatch(r"Tuning\(value=.*, settings=\{'lr': .*\}, 9 trials\)", repr(found))


def test_a_search_that_was_stopped_goes_on(tmp_path: Path) -> None:
    storage, calls = f"sqlite:///{tmp_path / 'tuning.db'}", []

    def counted(settings: dict[str, Any], halving: Callback) -> float:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(settings["lr"])
        return valley(settings, halving)

    with pytest.raises(KeyboardInterrupt):
        tune(counted, SPACE, 10, storage=storage)
    calls.append(0.0)
    found = tune(counted, SPACE, 10, storage=storage)
    assert len(found.trials) == len({trial.settings["lr"] for trial in found.trials}) == 10  # none twice
    assert found.trials == tune(valley, SPACE, 10, storage=storage).trials


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_diverges_is_not_the_end_of_the_search() -> None:
    def fit(settings: dict[str, Any], halving: Callback) -> None:
        rate = 1e30 if settings["wild"] else 1e-2
        run = trainer([halving, NaNGuard()], lr=rate, record=False, terms=[], optimizer=td.optim.SGD)
        run.fit(*loaders(), 2)

    found = tune(fit, {"wild": [True, False]}, 6)
    assert found.settings == {"wild": False}
    assert all(trial.pruned == trial.settings["wild"] for trial in found.trials)
    with pytest.raises(DivergedError, match="expected a trial that comes to its end, got 1 without"):
        tune(fit, {"wild": [True]}, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"space": {}}, "tune: space: expected at least one setting, got none"),
        ({"space": {"lr": (1, 1)}}, "tune: space: lr: expected (low, high), (low, high, 'log') or a list"),
        ({"space": {"lr": (0, 1, "log")}}, "tune: space: lr: expected"),
        ({"space": {"lr": []}}, "tune: space: lr: expected"),
        ({"space": {"lr": [valley]}}, "tune: space: lr: expected"),
        ({"space": {"lr": 3}}, "tune: space: lr: expected"),
        ({"trials": 0}, "tune: trials: expected at least 1, got 0"),
        ({"reduction": 1}, "tune: reduction: expected at least 2, got 1"),
        ({"monitor": "val_auc"}, "tune: mode: expected 'min' or 'max' for 'val_auc', got None"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        tune(valley, **({"space": SPACE} | arguments))


def test_a_fit_that_tells_nothing() -> None:
    with pytest.raises(TypeError, match="expected the callback among the Trainer's, or a number"):
        tune(lambda settings, halving: None, SPACE, 1)


def test_without_optuna_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return whole(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=re.escape('tune: needs Optuna: pip install "tinydl[tune]"')):
        tune(valley, SPACE, 1)


def test_the_object_is_public() -> None:
    assert isinstance(tune(valley, SPACE, 1), Tuning)
