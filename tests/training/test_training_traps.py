"""Traps into which the training kits of others fell, each named with the thread that tells of it."""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitting import bits, data, loaders, network, trainer

import tinydl as td
from tinydl.data import DataLoader, TensorDataset, split
from tinydl.metrics import F1, LogLoss
from tinydl.optim import SGD
from tinydl.regularizers import L2, DataGrad, DeCov, Mixup, Objective, TrainingSignalAnnealing
from tinydl.training import (
    Callback,
    EarlyStopping,
    Log,
    ModelCheckpoint,
    Schedule,
    Trainer,
    WeightAveraging,
    checkpoint,
)


class Worsen(Callback):
    """Makes the validation loss what it is told, and can press Ctrl-C."""

    def __init__(self, losses: list[float], interrupt: int | None = None) -> None:
        self.losses, self.interrupt = losses, interrupt
        self.weights: list[Any] = []

    def on_batch_end(self, trainer: Trainer) -> None:
        if trainer.epoch == self.interrupt and trainer.tally.batches == 2:
            raise KeyboardInterrupt

    def on_epoch_end(self, trainer: Trainer) -> None:
        trainer.history.rows[-1]["val_loss"] = self.losses[trainer.epoch - 1]
        self.weights.append(bits(trainer.model))


# 1. Best weights restored only if the patience ran out (keras#12511, #16876; skorch#808)
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "patience", "interrupt", "ended"),
    [
        ([3.0, 1.0, 2.0, 2.0, 0.5], 1, None, "val_loss no better than in epoch 2"),
        ([3.0, 1.0, 2.0], 10, None, "epochs"),
        ([3.0, 1.0, 2.0], None, None, "epochs"),
        ([3.0, 1.0, 2.0, 2.0], 10, 3, "KeyboardInterrupt"),
        ([3.0, 1.0, float("nan")], 10, None, "epochs"),
    ],
    ids=["patience", "last epoch", "no patience", "Ctrl-C", "NaN is no best"],
)
def test_the_best_weights_whatever_ended_the_fit(
    losses: list[float], patience: int | None, interrupt: int | None, ended: str
) -> None:
    watch = Worsen(losses, interrupt)
    found = trainer([watch, EarlyStopping(patience=patience)])
    if interrupt is None:
        found.fit(*loaders(), len(losses))
    else:
        with pytest.raises(KeyboardInterrupt):
            found.fit(*loaders(), len(losses))
    assert found.history.ended == ended
    assert bits(found.model) == watch.weights[1]
    assert bits(found.model) != watch.weights[-1]


def test_the_best_are_a_copy_not_an_alias() -> None:
    """`best_model = model` keeps the last one (a published script of PneumoniaMNIST)."""
    watch = Worsen([1.0, 2.0, 3.0])
    stopping = EarlyStopping(patience=None, restore_best=False)
    found = trainer([watch, stopping])
    found.fit(*loaders(), 3)
    assert bits(found.model) == watch.weights[2]
    assert stopping.best_epoch == 1


def test_the_best_average_is_what_was_validated() -> None:
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, trainer: Trainer) -> None:
            with trainer.evaluating():
                seen.append(bits(trainer.model))

    found = trainer([Watch(), WeightAveraging(0.8), EarlyStopping(patience=None)], lr=0.1)
    history = found.fit(*loaders(), 5)
    best = history.best("val_loss")
    assert bits(found.model) == seen[best["epoch"] - 1]
    assert found.evaluate(found.validation)["loss"] == best["val_loss"]


# 6. Means of batch means (chainer#1739; burn#5514; torchmetrics#445)
# ------------------------------------------------------------------------------------------------------------


def test_losses_and_metrics_are_of_the_whole_epoch() -> None:
    found = trainer(metrics={"f1": F1(), "log_loss": (LogLoss(), softmax)})
    _, validation = loaders()  # 31 samples in batches of 8
    measured = found.evaluate(validation)
    whole = found.evaluate(DataLoader(validation.dataset, 31))
    assert measured["f1"] == whole["f1"]
    assert measured["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert measured["loss"] == pytest.approx(measured["log_loss"], rel=1e-6)
    parts = [found.evaluate(DataLoader(TensorDataset(*part), 8)) for part in batches_of(validation)]
    for name in ("f1", "loss"):
        assert abs(np.mean([part[name] for part in parts]) - measured[name]) > 1e-4


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z.astype(np.float64) - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def batches_of(loader: DataLoader) -> list[Any]:
    return [loader.batch(0, position) for position in range(len(loader))]


# 7. Values above 1 silently put through a sigmoid (torchmetrics#1989)
# ------------------------------------------------------------------------------------------------------------


def test_nothing_guesses_that_outputs_are_logits() -> None:
    found = trainer(metrics=[LogLoss()])
    with pytest.raises(ValueError, match="apply softmax or sigmoid to logits"):
        found.evaluate(loaders()[1])


# 8. "The last 20 %" as validation of a sorted set (keras#597, #8346)
# ------------------------------------------------------------------------------------------------------------


def test_the_last_rows_of_a_sorted_set_are_refused() -> None:
    labels = np.repeat([0, 1], 50)
    with pytest.raises(ValueError, match="expected labels in mixed order, got sorted ones"):
        split(labels, (0.8, 0.2), shuffle=False)
    _, validation = split(labels, (0.8, 0.2))
    assert np.bincount(labels[validation]).tolist() == [10, 10]


# 9. Class weights change the training loss alone (keras#8591); mean of weighted means (pytorch#72047)
# ------------------------------------------------------------------------------------------------------------


def test_weighted_and_plain_loss_are_both_told_for_both_sets() -> None:
    found = trainer(class_weight=[1.0, 5.0], lr=0.0, model=network(np.float64, 0.0).eval())
    found.model.train = lambda mode=True: found.model  # type: ignore[method-assign] # the same net in both
    row = found.fit(DataLoader(data(dtype=np.float64), 12), DataLoader(data(dtype=np.float64), 17), 1).rows[0]
    x, y = map(td.from_numpy, data(dtype=np.float64).arrays)
    w = td.tensor([1.0, 5.0], dtype=np.float64)
    z = found.model(x)
    for prefix in ("", "val_"):
        assert row[f"{prefix}loss"] == pytest.approx(td.cross_entropy(z, y, weight=w).item(), rel=1e-12)
        assert row[f"{prefix}unweighted_loss"] == pytest.approx(td.cross_entropy(z, y).item(), rel=1e-12)


# 10, 14. The rate after a resume (pytorch#65342, #29697, #162591); a plateau's best and patience forgotten
# ------------------------------------------------------------------------------------------------------------


def test_plateau_and_patience_go_on_after_a_resume(tmp_path: Path) -> None:
    losses = [3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]

    def make() -> Any:
        def callbacks(optimizer: Any) -> list[Callback]:
            plateau = td.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
            return [
                Worsen(losses),
                Schedule(plateau, monitor="val_loss"),
                EarlyStopping(patience=3),
                ModelCheckpoint(tmp_path),
            ]

        return trainer(callbacks)

    for epochs in (1, 3, 4):  # three processes, each ended too soon
        found = make()
        found.fit(*loaders(), epochs, resume=tmp_path / "last.safetensors")
    found = make()
    history = found.fit(*loaders(), 7, resume=tmp_path / "last.safetensors")
    assert len(history) == 6  # 2 was the best, 3 4 5 are borne, 6 ends it
    np.testing.assert_allclose(history["lr"], [0.01, 0.01, 0.01, 0.01, 0.001, 0.001], rtol=1e-12)
    assert history.ended == "val_loss no better than in epoch 2"
    again = make()
    again.fit(*loaders(), 7, resume=tmp_path / "last.safetensors")  # it was over
    assert len(again.history) == 6
    assert bits(again.model) == bits(found.model)


def test_the_rate_after_a_resume_is_that_of_the_step(tmp_path: Path) -> None:
    def make() -> Any:
        return trainer(
            lambda o: [
                Schedule(td.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=30), per="step"),
                ModelCheckpoint(tmp_path, every_n_steps=1),
            ]
        )

    whole, part = make(), make()
    whole.fit(loaders()[0], epochs=4)
    (tmp_path / "last.safetensors").unlink()
    part.fit(loaders()[0], epochs=2)
    resumed = make()
    resumed.fit(loaders()[0], epochs=4, resume=tmp_path / "last.safetensors")
    assert resumed.history["lr"] == whole.history["lr"]
    assert len(set(whole.history["lr"])) == 4


# 11. Accumulation: the last short window dropped or over-weighted (lightning#21386)
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_weight", [None, [1.0, 4.0]])
@pytest.mark.parametrize("record", [True, False])
def test_accumulated_is_the_large_batch(class_weight: Any, record: bool) -> None:
    """Penalties and class weights included, a last short window and a last short batch too: to rounding."""
    found = []
    for size, accumulate in ((24, 1), (8, 3), (6, 4), (12, 2)):
        nn = td.nn
        td.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)).to(np.float64)
        one = Trainer(
            model,
            td.cross_entropy,
            SGD(model.parameters(), lr=0.3, momentum=0.9),
            terms=[DataGrad(0.5), L2(1e-2)],
            class_weight=class_weight,
            accumulate=accumulate,
            record=record,
        )
        rows = one.fit(DataLoader(data(dtype=np.float64), size, shuffle=True, seed=2), epochs=3).rows
        assert one.steps == 9  # 24, 24 and 2 samples
        found.append(([p.numpy().copy() for p in model.parameters()], [[*row.values()] for row in rows]))
    for parameters, rows in found[1:]:
        for p, expected in zip(parameters, found[0][0], strict=True):
            np.testing.assert_allclose(p, expected, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(rows, found[0][1], rtol=1e-11)


def test_what_cannot_be_accumulated_is_refused() -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    loss = TrainingSignalAnnealing(10)
    with pytest.raises(ValueError, match=r"accumulate: expected .* means .*, got training_signal"):
        Trainer(model, loss, optimizer, accumulate=2)
    with pytest.raises(ValueError, match=r"accumulate: expected terms that are means .*, got de_cov"):
        Trainer(model, td.cross_entropy, optimizer, terms=[DeCov(1.0, "0")], accumulate=2)


# 12. EMA and SWA: BatchNorm never recomputed (lightning#14866; composer#624), the training model touched
# ------------------------------------------------------------------------------------------------------------


def test_averaging_leaves_the_training_alone() -> None:
    def weights(*callbacks: Callback) -> Any:
        seen = []

        class Watch(Callback):
            def on_epoch_end(self, trainer: Trainer) -> None:
                seen.append((bits(trainer.model), bits(trainer.optimizer)))

        trainer([*callbacks, Watch()]).fit(*loaders(), 3)
        return seen

    plain = weights()
    bn = DataLoader(data(), 25)
    assert weights(WeightAveraging(0.9)) == plain
    assert weights(WeightAveraging(start_epoch=1, bn=bn)) == plain
    assert (bn.epoch, bn.position) == (0, 0)


def test_batch_statistics_of_the_average() -> None:
    """With `bn` they are those of the data under the averaged weights, at each validation and at the end."""
    averaging = WeightAveraging(start_epoch=1, bn=DataLoader(data(), 50))
    found = trainer([averaging], lr=0.1)
    found.fit(*loaders(), 4)
    x = found.model[0](td.from_numpy(data().inputs)).numpy()
    np.testing.assert_allclose(found.model[1].running_mean.numpy(), x.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.model[1].running_var.numpy(), x.var(0, ddof=1), rtol=1e-4)
    assert int(averaging.averaged.n_averaged.item()) == 3


def test_swa_is_the_mean_of_the_epochs() -> None:
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, trainer: Trainer) -> None:
            seen.append(trainer.model[0].weight.numpy().copy())

    found = trainer([WeightAveraging(start_epoch=2), Watch()])
    found.fit(*loaders(), 5)
    np.testing.assert_allclose(found.model[0].weight.numpy(), np.mean(seen[2:], 0), rtol=1e-5)


# 13. A progress bar that breaks notebooks and log files (allennlp#4488)
# ------------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_silent_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer().fit(*loaders(), 2)
    assert capsys.readouterr() == ("", "")
    pytest.importorskip("tqdm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    trainer().fit(*loaders(), 2)
    assert "10/10" in terminal.getvalue()
    assert "val_loss" in terminal.getvalue()
    terminal.truncate(0)
    trainer(progress=False).fit(*loaders(), 2)
    assert terminal.getvalue().strip("\0") == ""


def test_a_log_has_every_epoch_once(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"

    def make() -> Trainer:
        return trainer([Log(path), ModelCheckpoint(tmp_path)])

    whole = make()
    whole.fit(*loaders(), 2)
    with open(path, "a") as file:
        file.write("3,0.5")  # killed while it wrote
    resumed = make()
    resumed.fit(*loaders(), 4, resume=tmp_path / "last.safetensors")
    with open(path) as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["val_loss"]) for row in rows] == resumed.history["val_loss"]


# 15. Mixup needs even batches, hard labels or one loss only (timm#1304; BirdSet#274)
# ------------------------------------------------------------------------------------------------------------


def test_mixup_of_any_batch_and_loss() -> None:
    model = network()
    odd = DataLoader(data(49), 7, shuffle=True, seed=0)
    for loss in (td.cross_entropy, td.multi_margin_loss):
        found = Trainer(model, loss, SGD(model.parameters(), lr=0.1), terms=[Mixup(0.4)])
        assert np.isfinite(found.fit(odd, odd, 1).rows[0]["val_loss"])


def test_a_mixture_is_smoothed_if_asked_and_once() -> None:
    """A mixing transform that smooths labels by itself does it twice (nvSubquadratic, pull request 141)."""
    x, y = (td.tensor(array) for array in data(12, dtype=np.float64).arrays)
    model, hot = network(np.float64, dropout=0.0).eval(), np.eye(2)[y.numpy()]

    def smoothed(output: Any, target: Any, reduction: str = "mean") -> td.Tensor:
        return td.cross_entropy(output, target, label_smoothing=0.3, reduction=reduction)

    for loss, smoothing in ((td.cross_entropy, 0.0), (smoothed, 0.3)):
        terms = Objective(model, loss, [Mixup(0.4, generator=td.Generator(3))])(x, y)
        stream = td.Generator(3)
        share = td.rand_beta(0.4, 0.4, 1, generator=stream, dtype="float64").item()
        mixed = share * hot + (1 - share) * hot[td.randperm(12, generator=stream).numpy()]
        target = td.tensor((1 - smoothing) * mixed + smoothing / 2)
        np.testing.assert_allclose(
            terms.loss.item(), td.cross_entropy(terms.logits.detach(), target).item(), rtol=1e-12
        )


# Checkpoints
# ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_holds_everything(tmp_path: Path) -> None:
    found = trainer([EarlyStopping(), ModelCheckpoint(tmp_path, "val_loss", 3), WeightAveraging(0.9)])
    found.fit(*loaders(), 5)
    held = checkpoint.read(tmp_path / "last.safetensors")
    names = {"model", "optimizer", "objective", "loader", "tally", "history"}
    assert names < held.state.keys()
    assert {
        "callbacks.EarlyStopping",
        "callbacks.ModelCheckpoint",
        "callbacks.WeightAveraging",
    } < held.state.keys()
    assert {"default_generator", "noise_generator"} < held.state.keys()
    assert held.values["epoch"] == 5
    best = sorted(found.history.rows, key=lambda row: row["val_loss"])[:3]
    kept = {f"best-{row['epoch']:04d}.safetensors" for row in best}
    assert {path.name for path in tmp_path.iterdir()} == kept | {"last.safetensors"}


def test_every_trap_is_named() -> None:
    """The fifteen of this list: here by headings, in the tests of the loader and of transforms by words."""
    named: set[int] = set()
    for path in Path(__file__).parents[1].glob("*/test_*.py"):
        text = path.read_text(encoding="utf-8")
        headings = re.findall(r"^# (\d+(?:, \d+)*)\. ", text, re.MULTILINE)
        named |= {int(n) for heading in headings for n in heading.split(", ")}
        named |= {int(n) for n in re.findall(r"Trap (\d+)", text)}
    assert set(range(1, 16)) <= named
