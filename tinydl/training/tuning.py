"""Settings found by trial: Optuna's search, with successive halving of what does not look promising."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .callbacks import Callback
from .callbacks.callback import Monitor
from .callbacks.nan_guard import DivergedError

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Tuning", "tune"]

CHOICES = (str, int, float, bool, type(None))
"""What Optuna can write down."""
DONE = ("COMPLETE", "PRUNED")
"""States of trials that count; one that was interrupted does not."""


class Trial(NamedTuple):
    """One setting that was tried: its value is that of its last epoch, NaN where it diverged at once."""

    settings: dict[str, Any]
    value: float
    epochs: int
    pruned: bool


class Tuning:
    """What a search has found; `str` of it is a table, the best first.

    Attributes:
        settings, value: of the best trial that was run to its end.
        trials: all of them, in their order.
        study: Optuna's own object.
    """

    def __init__(self, study: Any, monitor: Monitor) -> None:
        self.study, self.monitor = study, monitor
        self.trials = [_trial(trial) for trial in study.trials if trial.state.name in DONE]
        whole = [trial for trial in self.trials if not trial.pruned]
        if not whole:
            raise DivergedError(
                f"tune: expected a trial that comes to its end, got {len(self.trials)} without"
            )
        best = whole[0]
        for trial in whole[1:]:
            best = trial if monitor.better(trial.value, best.value) else best
        self.settings, self.value = best.settings, best.value

    def __str__(self) -> str:
        sign = 1 if self.monitor.mode == "min" else -1
        rows = sorted(self.trials, key=lambda t: (t.pruned, math.isnan(t.value), sign * t.value))
        lines = [f"{self.monitor.name:>12}  epochs  settings"]
        for trial in rows:
            words = ", ".join(f"{name} {_short(value)}" for name, value in trial.settings.items())
            end = " (stopped early)" if trial.pruned else ""
            lines.append(f"{trial.value:12.6g}  {trial.epochs:6}  {words}{end}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Tuning(value={self.value:.6g}, settings={self.settings}, {len(self.trials)} trials)"


class _Halving(Callback):
    """Tells Optuna of each epoch, and ends the fit where it says so or the numbers do."""

    order = 1  # others have had their say on the row

    def __init__(self, trial: Any, monitor: Monitor) -> None:
        self.trial, self.monitor = trial, monitor
        self.value, self.told, self.pruned = math.nan, False, False

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.monitor.begin(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.value, self.told = self.monitor.value(trainer), True
        self.trial.report(self.value, trainer.epoch)
        if trainer.epoch < trainer.epochs and (not math.isfinite(self.value) or self.trial.should_prune()):
            self.pruned = True
            trainer.stop("not promising")


def tune(
    fit: Callable[[dict[str, Any], Callback], Any],
    space: Mapping[str, Any],
    trials: int = 30,
    *,
    monitor: str = "val_loss",
    mode: str | None = None,
    grace: int = 1,
    reduction: int = 3,
    seed: int = 0,
    storage: Any = None,
    name: str = "tinydl",
) -> Tuning:
    """Search for the settings with the best `monitor`.

        def fit(settings, halving):
            model = LeNet()
            adam = td.optim.Adam(model.parameters(), lr=settings["lr"])
            trainer = Trainer(model, td.cross_entropy, adam, callbacks=[halving])
            batches = DataLoader(train, settings["batch"], shuffle=True)
            trainer.fit(batches, DataLoader(validation, 500), epochs=27)

        found = tune(fit, {"lr": (1e-4, 1e-1, "log"), "batch": [25, 50, 100]}, trials=40)

    Settings are drawn by the tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011). Asynchronous
    successive halving (Li et al., arXiv 1810.05934): of all trials that have come to grace · reduction^k
    epochs, one in `reduction` goes on. What was chosen by validation data is too good on them: keep a test
    set apart (`ScoreOnce`).

    Args:
        fit: called with a dict of settings and a callback that belongs into the Trainer. If it returns a
            number, that is the trial's value; else it is the monitor of the last epoch.
        space: by name, (low, high) of whole numbers (both ends) or of others, (low, high, "log"), or a list
            of words and numbers to choose from.
        trials: in all, those in the storage included, interrupted ones left out.
        monitor: a column of the history. mode: "min" or "max"; None: "min" of a loss.
        grace: epochs that every trial has.
        reduction: 2 or more.
        seed: of the search.
        storage, name: of Optuna's study, say "sqlite:///tuning.db": a search that was stopped goes on. None:
            it is forgotten.

    Raises:
        ImportError: without Optuna (the extra "tune").
        ValueError: a space or a number of the wrong form.
        TypeError: a `fit` that neither used the callback nor returned a number.
        DivergedError: no trial came to its end.
    """
    for what, value, least in (("trials", trials, 1), ("grace", grace, 1), ("reduction", reduction, 2)):
        if value < least:
            raise ValueError(f"tune: {what}: expected at least {least}, got {value}")
    if not space:
        raise ValueError("tune: space: expected at least one setting, got none")
    for key, choices in space.items():
        _require_choices(key, choices)
    watched = Monitor("tune", monitor, mode)
    optuna = _optuna()
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        load_if_exists=True,
        direction={"min": "minimize", "max": "maximize"}[watched.mode],
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=grace, reduction_factor=reduction),
    )
    # a search that goes on must not draw the same again
    study.sampler = optuna.samplers.TPESampler(seed=(seed + len(study.trials)) % 2**32)

    def objective(trial: Any) -> float:
        settings = {key: _suggested(trial, key, choices) for key, choices in space.items()}
        halving = _Halving(trial, watched)
        try:
            returned = fit(settings, halving)
        except DivergedError as error:
            raise optuna.TrialPruned(str(error)) from error
        if halving.pruned:
            raise optuna.TrialPruned(f"{monitor} {halving.value}")
        if isinstance(returned, numbers.Real):
            return float(returned)
        if not halving.told:
            raise TypeError("tune: fit: expected the callback among the Trainer's, or a number returned")
        return halving.value

    done = sum(trial.state.name in DONE for trial in study.trials)
    if done < trials:
        study.optimize(objective, n_trials=trials - done)
    return Tuning(study, watched)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError('tune: needs Optuna: pip install "tinydl[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _require_choices(name: str, choices: Any) -> None:
    if isinstance(choices, list) and choices and all(isinstance(x, CHOICES) for x in choices):
        return
    if isinstance(choices, tuple) and len(choices) in (2, 3) and choices[2:] in ((), ("log",)):
        low, high = choices[:2]
        in_order = all(isinstance(x, numbers.Real) for x in (low, high)) and low < high
        if in_order and (len(choices) == 2 or low > 0):
            return
    raise ValueError(
        f"tune: space: {name}: expected (low, high), (low, high, 'log') or a list of choices, got {choices!r}"
    )


def _suggested(trial: Any, name: str, choices: Any) -> Any:
    if isinstance(choices, list):
        return trial.suggest_categorical(name, choices)
    whole = all(isinstance(x, numbers.Integral) for x in choices[:2])
    return (trial.suggest_int if whole else trial.suggest_float)(name, *choices[:2], log=len(choices) == 3)


def _trial(trial: Any) -> Trial:
    told = trial.intermediate_values
    last = max(told, default=0)
    value = trial.value if trial.value is not None else told.get(last, math.nan)
    return Trial(dict(trial.params), float(value), int(last), trial.state.name != "COMPLETE")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
