"""The trainer: its steps against a plain loop, what it measures, its points, what it refuses."""

from __future__ import annotations

import gc
import json
import math
import sys
import types
import warnings
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitting import bits, data, loaders, network, trainer
from tinydl_kernels.cpu import threads
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl.data import DataLoader, TensorDataset
from tinydl.metrics import AUC, F1, MSE, Accuracy
from tinydl.nn import Module
from tinydl.optim import LBFGS, SAM, SGD, Adam
from tinydl.regularizers import DataGrad, Objective, Penalty, SpectReg
from tinydl.training import (
    Callback,
    DivergedError,
    EarlyStopping,
    Freeze,
    LivePlot,
    Log,
    ModelCheckpoint,
    NaNGuard,
    Schedule,
    Trainer,
)
from tinydl.training.checkpoint import CheckpointError


class Points(Callback):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.seen.append("fit")

    def on_epoch_begin(self, trainer: Trainer) -> None:
        self.seen.append(f"epoch {trainer.epoch}")

    def on_batch_end(self, trainer: Trainer) -> None:
        self.seen.append(f"{len(trainer.batch[0])}")

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.seen.append(f"row {trainer.history.rows[-1]['epoch']}")

    def on_fit_end(self, trainer: Trainer) -> None:
        self.seen.append("end")


# The loop
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [True, False])
def test_it_is_the_plain_loop(record: bool) -> None:
    """The bits of the loop that the README writes out."""
    found = trainer(record=record)
    found.fit(loaders()[0], epochs=3)
    model = network()
    optimizer = Adam(model.parameters(), lr=1e-2)
    objective = Objective(model, td.cross_entropy, [DataGrad(0.1)])
    loader, _ = loaders()
    for _ in range(3):
        for x, y in loader:
            optimizer.zero_grad()
            objective(x, y).total.backward()
            optimizer.step()
    assert bits(found.model) == bits(model)
    assert bits(found.optimizer) == bits(optimizer)


def test_points_and_their_order() -> None:
    points = Points()
    trainer([points]).fit(*loaders(), 2)
    epoch = ["12", "12", "12", "12", "2"]
    assert points.seen == ["fit", "epoch 0", *epoch, "row 1", "epoch 1", *epoch, "row 2", "end"]


def test_epochs_are_counted_in_all() -> None:
    found = trainer()
    train, validation = loaders()
    found.fit(train, validation, 2)
    assert found.history.ended == "epochs"
    found.fit(train, validation, 5)
    once = trainer()  # seeds the streams
    once.fit(*loaders(), 5)
    assert bits(found.model) == bits(once.model)
    assert found.history.rows == once.history.rows
    with pytest.raises(ValueError, match=r"epochs: expected more than the 5 that are done .*, got 5"):
        found.fit(train, validation, 5)


def test_limited_epochs_are_new_ones() -> None:
    """Half an epoch, and then the next epoch's order; resumed or not."""
    points = Points()
    found = trainer([points])
    train, validation = loaders()
    found.fit(train, validation, 2, limit_batches=2)
    assert [x for x in points.seen if x.isdigit()] == ["12"] * 4
    assert (train.epoch, train.position) == (2, 0)


def test_the_optimizers_that_ask_again(recwarn: pytest.WarningsRecorder) -> None:
    """SAM calls the closure twice, L-BFGS as often as it likes; the latter is not recorded, and says why."""
    sharp = network()
    found = Trainer(sharp, td.cross_entropy, SAM(SGD(sharp.parameters(), lr=0.1)), metrics=[Accuracy()])
    rows = found.fit(loaders()[0], epochs=8).rows
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert not recwarn.list
    model = network(np.float64, dropout=0.0)
    solver = Trainer(model, td.cross_entropy, LBFGS(model.parameters(), max_iter=3))
    whole = DataLoader(data(dtype=np.float64), 50)
    with pytest.warns(
        UserWarning, match="Trainer: its steps are not recorded, which is slower: LBFGS"
    ) as told:
        rows = solver.fit(whole, epochs=3).rows
    assert len(told) == 1
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]


def test_a_recording_that_fails_leaves_no_trace() -> None:
    """Half a step was taken when the recorder refused: weights, statistics and streams come back."""

    class Asks(Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()
            self.steps = td.nn.Buffer(0)

        def forward(self, x: Any) -> Any:
            out = self.net(x)
            self.last = out.mean().item() if self.training else 0.0
            return out

    asks, plain = Asks(), network()
    found = Trainer(asks, td.cross_entropy, Adam(asks.parameters(), lr=1e-2))
    with pytest.warns(UserWarning, match="not recorded"):
        found.fit(loaders()[0], epochs=2)
    td.manual_seed(0)
    plain = network()
    Trainer(plain, td.cross_entropy, Adam(plain.parameters(), lr=1e-2)).fit(loaders()[0], epochs=2)
    assert bits(asks.net) == bits(plain)


def test_penalties_that_are_not_due_on_every_step() -> None:
    model = network()
    found = Trainer(
        model, td.cross_entropy, Adam(model.parameters()), terms=[SpectReg(0.1, every=3), DataGrad(0.1)]
    )
    rows = found.fit(loaders()[0], epochs=2).rows
    assert {"spect_reg", "data_grad", "total", "loss"} <= rows[0].keys()
    assert int(found.objective.step.item()) == found.steps == 10


def test_the_bits_do_not_depend_on_threads() -> None:
    before, found = threads.get_num_threads(), []
    try:
        for count in (1, 2):
            threads.set_num_threads(count)
            one = trainer()
            one.fit(*loaders(), 2)
            found.append((bits(one.model), one.history.rows))
    finally:
        threads.set_num_threads(before)
    assert found[0] == found[1]


def test_numbers_and_several_labels_as_targets() -> None:
    x = data().inputs
    targets = {
        "numbers": (x[:, :1] * 2, td.mse_loss, MSE()),
        "labels": ((x[:, :2] > 0).astype(np.float32), td.binary_cross_entropy_with_logits, None),
    }
    for y, loss, metric in targets.values():
        td.manual_seed(0)
        model = td.nn.Linear(6, y.shape[1])
        view = (Accuracy(), lambda z: (z > 0).astype(np.int64))
        one = Trainer(
            model,
            loss,
            Adam(model.parameters(), lr=0.05),
            metrics={"score": metric or view},
            terms=[DataGrad(1e-3)],
        )
        loader = DataLoader(TensorDataset(x, y), 12, shuffle=True, seed=0)
        rows = one.fit(loader, loader, 20).rows
        assert rows[-1]["val_loss"] < 0.6 * rows[0]["val_loss"]
        assert rows[-1]["val_score"] != rows[0]["val_score"]


def test_several_inputs_and_another_objective() -> None:
    class Two(Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = td.nn.Linear(6, 2)

        def forward(self, a: Any, b: Any) -> Any:
            return self.layer(a + b)

    model = Two()
    x, y = data().arrays
    loader = DataLoader(TensorDataset(x, 0 * x, y), 10)
    found = Trainer(model, Objective(model, td.cross_entropy, [DataGrad(1.0)]), Adam(model.parameters()))
    assert "data_grad" in found.fit(loader, loader, 1).rows[0]
    assert found.predict(loader).shape == (50, 2)


# What is measured
# ------------------------------------------------------------------------------------------------------------


def test_what_a_row_holds() -> None:
    found = trainer(metrics={"accuracy": Accuracy(), "auc": (AUC(), lambda z: z[:, 1] - z[:, 0])})
    history = found.fit(*loaders(), 2)
    assert [*history.rows[0]] == [
        *("epoch", "loss", "data_grad", "total", "accuracy", "auc", "val_loss", "val_accuracy", "val_auc")
    ]
    row = history.rows[1]
    assert row["total"] == pytest.approx(row["loss"] + 0.1 * row["data_grad"], rel=1e-6)
    assert json.loads(json.dumps(history.rows)) == history.rows
    assert history["epoch"] == [1, 2]
    assert history.best("val_loss") in history.rows
    assert "History(2 epochs" in repr(history)
    with pytest.raises(KeyError, match="expected one of epoch, loss"):
        history["none"]


def test_evaluation_is_of_all_samples_and_leaves_no_trace() -> None:
    found = trainer(metrics={"f1": F1(), "accuracy": Accuracy()})
    train, validation = loaders()
    found.fit(train, epochs=1)
    before = bits(found.model), train.state_dict(), validation.state_dict()
    measured = found.evaluate(validation)
    found.model.eval()
    x, y = validation.dataset.arrays
    z = found.model(td.from_numpy(x))
    assert measured["loss"] == pytest.approx(td.cross_entropy(z, td.from_numpy(y)).item(), rel=1e-6)
    f1 = F1()
    f1.update(z, y)
    assert measured["f1"] == f1.compute()
    assert before == (bits(found.model), train.state_dict(), validation.state_dict())
    np.testing.assert_allclose(found.predict(x), z.numpy(), rtol=1e-6)
    np.testing.assert_array_equal(found.predict(validation), found.predict(x, batch_size=8))


def test_modes_are_as_they_were() -> None:
    found = trainer()
    found.model[1].eval()  # one layer alone
    found.predict(np.zeros((3, 6), np.float32))
    assert [m.training for m in found.model.modules()][:3] == [True, True, False]


def test_the_sanity_check_moves_nothing_and_tells_what_is_wrong() -> None:
    found = []
    for batches in (2, 0):
        one = trainer()
        one.fit(*loaders(), 1, sanity_batches=batches)
        found.append(bits(one.model))
    assert found[0] == found[1]
    points = Points()
    wrong = DataLoader(TensorDataset(np.zeros((4, 5), np.float32), np.zeros(4, np.int64)), 2)
    with pytest.raises(Exception, match=r"linear"):
        trainer([points]).fit(loaders()[0], wrong, 1)
    assert points.seen == ["fit", "end"]


def test_activation_is_for_metrics_and_predictions() -> None:
    found = trainer(activation=lambda z: td.softmax(z, 1), metrics={"mean": (Accuracy(), lambda p: p)})
    train, validation = loaders()
    found.fit(train, validation, 1)
    p = found.predict(validation)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-6)
    assert found.evaluate(validation)["loss"] == trainer_loss(found, validation)


def trainer_loss(found: Trainer, loader: DataLoader) -> float:
    return Trainer(found.model, td.cross_entropy, found.optimizer).evaluate(loader)["loss"]


def test_overfitting_one_batch_brings_everything_back() -> None:
    found = trainer(lr=3e-2)
    train, _ = loaders()
    before = bits(found.model), bits(found.optimizer), train.state_dict()
    totals = found.overfit_one_batch(train, 60)
    assert totals.shape == (60,)
    assert totals[-1] < 0.5 * totals[0]
    assert before == (bits(found.model), bits(found.optimizer), train.state_dict())
    found.fit(loaders()[0], epochs=1)
    other = trainer(lr=3e-2)
    other.fit(loaders()[0], epochs=1)
    assert bits(found.model) == bits(other.model)


def test_history_draws() -> None:
    pytest.importorskip("matplotlib")
    history = trainer().fit(*loaders(), 3)
    figure = history.plot()
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "data grad", "total", "accuracy"]
    assert len(figure.axes[0].lines) == 2
    assert list(figure.axes[0].lines[1].get_ydata()) == history["val_loss"]
    assert len(history.plot("accuracy").axes) == 1
    with pytest.raises(KeyError, match="expected one of"):
        history.plot("auc")


def test_a_fit_that_diverges_goes_on_to_its_end(tmp_path: Path) -> None:
    """Losses and metrics are NaN, with a warning; the best weights are those from before."""

    class Break(Callback):
        order = 3

        def on_epoch_end(self, trainer: Trainer) -> None:
            if trainer.epoch == 2:
                with td.no_grad():
                    trainer.model[4].weight.fill_(float("nan"))

    found = trainer([EarlyStopping(patience=None), Break(), ModelCheckpoint(tmp_path, every_n_steps=1)])
    with pytest.warns(UserWarning, match="outputs are not finite: accuracy is NaN"):
        history = found.fit(*loaders(), 4)
    assert np.isfinite(history["val_accuracy"]).tolist() == [True, True, False, False]
    assert np.isnan(history["loss"]).tolist() == [False, False, True, True]
    assert np.isfinite(found.model[4].weight.numpy()).all()
    assert history.best("val_loss")["epoch"] <= 2
    with pytest.raises(ValueError, match="mode: expected 'min' or 'max', got 'most'"):
        history.best("loss", "most")
    broken = type(history)()
    broken.load_state_dict({"rows": history.rows[2:]})
    with pytest.raises(ShapeError, match="expected a finite loss, got none"):
        broken.best("loss")


# Callbacks
# ------------------------------------------------------------------------------------------------------------


def test_frozen_layers_do_not_move_and_then_do() -> None:
    weights = []

    class Watch(Callback):
        def on_epoch_end(self, trainer: Trainer) -> None:
            weights.append([p.numpy().copy() for p in trainer.model[0].parameters()])

    trainer([Freeze("0.*", at=1, until=3), Watch()]).fit(loaders()[0], epochs=4)
    same = [all(map(np.array_equal, a, b)) for a, b in pairwise(weights)]
    assert same == [True, True, False]
    with pytest.raises(ValueError, match=r"Freeze: expected names out of 0.weight, .*, got 'conv'"):
        trainer([Freeze("conv")]).fit(loaders()[0], epochs=1)


@pytest.mark.parametrize("record", [True, False])
def test_the_nan_guard_names_the_layer_and_goes_back(record: bool) -> None:
    class Log(Module):
        def forward(self, x: Any) -> Any:
            return td.log(x)

    class Net(Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = td.nn.Linear(6, 4)
            self.unsafe = Log()
            self.last = td.nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.last(self.unsafe(self.first(x)))

    td.manual_seed(0)
    net = Net()
    with td.no_grad():
        net.first.weight.mul_(0.0)
        net.first.bias.fill_(0.3)
    found = Trainer(
        net, td.cross_entropy, SGD(net.parameters(), lr=0.01), callbacks=[NaNGuard(4)], record=record
    )
    with pytest.raises(DivergedError, match=r"NaNGuard: step \d+: .*log: expected finite") as caught:
        found.fit(loaders()[0], epochs=50)
    assert "unsafe" in str(caught.value)
    assert found.steps > 6
    assert all(np.isfinite(p.numpy()).all() for p in net.parameters())


def test_a_monitor_that_is_not_measured(tmp_path: Path) -> None:
    for callback in (EarlyStopping(), ModelCheckpoint(tmp_path / "none", "val_loss")):
        one = trainer([callback])
        with pytest.raises(ValueError, match="expected a fit with validation data for 'val_loss', got none"):
            one.fit(loaders()[0])
        assert one.steps == 0
    with pytest.raises(ValueError, match=r"EarlyStopping: monitor: expected one of epoch, loss, .*'val_f1'"):
        trainer([EarlyStopping("val_f1", mode="max")]).fit(*loaders())


def test_a_time_limit_and_a_stop() -> None:
    from tinydl.training import TimeLimit

    history = trainer([TimeLimit(1e-9)]).fit(*loaders(), 5)
    assert len(history) == 0
    assert history.ended == "the time limit of 1e-09 s"

    class Stop(Callback):
        def on_epoch_end(self, trainer: Trainer) -> None:
            trainer.stop("enough")
            trainer.stop("more than enough")

    history = trainer([Stop()]).fit(*loaders(), 5)
    assert (len(history), history.ended) == (1, "enough")


def test_a_live_plot_is_whole_after_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    sizes = []

    class Watch(Callback):
        order = 2

        def on_epoch_end(self, trainer: Trainer) -> None:
            path = tmp_path / "a" / "b.svg"
            sizes.append(path.read_text().rstrip().endswith("</svg>") and path.stat().st_mtime_ns)

    trainer([LivePlot(tmp_path / "a" / "b.svg", "loss"), Watch()]).fit(*loaders(), 3)
    assert len(set(sizes)) == 3
    assert all(sizes)

    class Shown:
        def __init__(self) -> None:
            self.display = self
            self.log: list[str] = []

        def __call__(self, figure: Any, display_id: bool) -> Any:
            self.log.append("shown")
            return self

        def update(self, figure: Any) -> None:
            self.log.append("renewed")

    shown = Shown()
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(
        sys.modules, "IPython", types.SimpleNamespace(display=types.SimpleNamespace(display=shown))
    )
    trainer([LivePlot()], progress=False).fit(*loaders(), 3)
    assert shown.log == ["shown", "renewed", "renewed"]


def test_a_penalty_as_the_loss() -> None:
    class Own(Penalty):
        def __call__(self, seen: Any) -> Any:
            return td.cross_entropy(seen.logits, seen.target)

    rows = []
    for loss in (Own(1.0), td.cross_entropy):
        model = network()
        one = Trainer(model, loss, SGD(model.parameters(), lr=0.1), metrics=[Accuracy()])
        rows.append(one.fit(*loaders(), 2).rows)
    for a, b in zip(*rows, strict=True):
        assert [*a] == [*b]
        np.testing.assert_allclose([*a.values()], [*b.values()], rtol=1e-5)
    with pytest.raises(TypeError, match="class_weight: expected a loss function, got Own"):
        Trainer(model, Own(1.0), SGD(model.parameters(), lr=0.1), class_weight=[1.0, 2.0])


def test_a_checkpoint_by_the_clock(tmp_path: Path) -> None:
    there = []

    class Watch(Callback):
        order = 3

        def on_batch_end(self, trainer: Trainer) -> None:
            there.append((tmp_path / "last.safetensors").exists())

    trainer([ModelCheckpoint(tmp_path, every_n_minutes=1e-9), Watch()]).fit(*loaders(), 1)
    assert there == [True] * 5


def test_lines_of_json(tmp_path: Path) -> None:
    history = trainer([Log(tmp_path / "log.jsonl")]).fit(*loaders(), 3)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history.rows


def test_the_rates_of_a_schedule_are_logged() -> None:
    history = trainer(lambda o: [Schedule(td.optim.lr_scheduler.StepLR(o, 1))]).fit(loaders()[0], epochs=3)
    np.testing.assert_allclose(history["lr"], [1e-2, 1e-3, 1e-4])


# State
# ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    found = trainer()
    found.fit(*loaders(), 1)
    found.save(tmp_path / "a")
    cases = [
        (trainer(terms=[]), loaders(), "objective"),
        (trainer(metrics=[F1()]), loaders(), r"metrics: expected \['f1'\], got \['accuracy'\]"),
        (trainer(), loaders(13), "batch_size: expected 13, got 12"),
        (trainer(model=td.nn.Linear(6, 2)), loaders(), "missing model.weight"),
    ]
    for other, (train, validation), message in cases:
        before = bits(other.model)
        with pytest.raises(CheckpointError, match=message):
            other.fit(train, validation, 2, resume=tmp_path / "a")
        assert bits(other.model) == before
        assert other.epoch == 0


def test_a_fit_leaves_no_garbage() -> None:
    gc.collect()
    gc.disable()
    try:
        found = trainer([Points()])
        found.fit(*loaders(), 1)
        found.predict(np.zeros((2, 6), np.float32))
        gone = weakref.ref(found)
        del found
        assert gone() is None
    finally:
        gc.enable()


def test_a_warning_of_an_undefined_metric_is_not_of_the_sanity_check() -> None:
    one_class = DataLoader(TensorDataset(data().inputs[::2], np.zeros(25, np.int64)), 25)
    found = trainer(metrics={"auc": (AUC(), lambda z: z[:, 1])})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found._begin(*loaders(), 1, None, None)
        found.validation = one_class
        found._sanity(1)
    with pytest.warns(UserWarning, match="auc"):
        row = found.fit(loaders()[0], one_class, 1).rows[0]
    assert math.isnan(row["val_auc"])


def test_refusals() -> None:
    model = network()
    optimizer = Adam(model.parameters())
    loss = td.cross_entropy
    cases = [
        (
            lambda: Trainer(loss, model, optimizer),
            TypeError,
            "expected a Module and an optimizer",
        ),
        (lambda: Trainer(model, loss, optimizer, callbacks=[3]), TypeError, "expected Callbacks, got int"),
        (lambda: Trainer(model, loss, optimizer, metrics=[3]), TypeError, "expected a Metric"),
        (lambda: Trainer(model, loss, optimizer, metrics={"loss": F1()}), ValueError, "names of their own"),
        (lambda: Trainer(model, loss, optimizer, metrics=[F1(), F1()]), ValueError, "names of their own"),
        (
            lambda: Trainer(model, loss, optimizer, accumulate=0),
            ValueError,
            "expected at least 1, got 0",
        ),
        (
            lambda: Trainer(model, loss, optimizer, class_weight=[-1]),
            Exception,
            "class_weight: expected finite",
        ),
        (
            lambda: Trainer(model, Objective(model, loss), optimizer, terms=[DataGrad(1.0)]),
            ValueError,
            "expected an Objective of the model, and no terms besides",
        ),
        (lambda: trainer().fit([1]), TypeError, "loader: expected a DataLoader, got list"),
        (lambda: trainer().fit(loaders()[0], [1]), TypeError, "validation: expected a DataLoader, got list"),
        (
            lambda: trainer().fit(loaders()[0], limit_batches=0),
            ValueError,
            "expected at least 1, got 0",
        ),
        (lambda: trainer().predict(loaders()[0]), ValueError, "keeps the order, got shuffle=True"),
        (lambda: trainer().evaluate([1]), TypeError, "expected a DataLoader, got list"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


def test_parameters_that_no_optimizer_has() -> None:
    """Their gradients do not pile up, and a replay does not stumble over them."""
    net = network(dropout=0.0)
    one = Trainer(net, td.cross_entropy, SGD(net[4].parameters(), lr=0.1))
    whole = DataLoader(data(), 50)
    one.fit(whole, epochs=4)
    held = net[0].weight.grad.numpy().copy()
    net.zero_grad()
    terms = one.objective(*one.batch)
    terms.backward()
    assert np.linalg.norm(held) < 3 * np.linalg.norm(net[0].weight.grad.numpy())
