"""The trainer on the stand-in for a GPU: a step is one graph and asks the host for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fitting import bits, data, network

import tinydl as td
from tinydl.data import DataLoader
from tinydl.metrics import Accuracy
from tinydl.optim import Adam
from tinydl.regularizers import DataGrad
from tinydl.training import (
    Callback,
    ClipGradNorm,
    EarlyStopping,
    ModelCheckpoint,
    NaNGuard,
    Schedule,
    Trainer,
    WeightAveraging,
)


class Watch(Callback):
    """What the host was asked for in each step."""

    def __init__(self, gpu: Any) -> None:
        self.gpu, self.asked, self.graphs = gpu, [], []
        self._before = 0, 0

    def on_epoch_begin(self, trainer: Trainer) -> None:
        self._before = len(self.gpu.host), self.gpu.graphs

    def on_batch_end(self, trainer: Trainer) -> None:
        self.asked.append(self.gpu.host[self._before[0] :])
        self.graphs.append(self.gpu.graphs - self._before[1])
        self._before = len(self.gpu.host), self.gpu.graphs


def fit(folder: Path, epochs: int, *more: Callback, record: bool = True, **settings: Any) -> Trainer:
    model = network().cuda()
    optimizer = Adam(model.parameters(), lr=1e-2)
    last = ModelCheckpoint(folder)
    trainer = Trainer(
        model,
        td.cross_entropy,
        optimizer,
        terms=[DataGrad(0.1)],
        metrics=[Accuracy()],
        record=record,
        callbacks=[
            ClipGradNorm(1.0),
            WeightAveraging(0.9),
            EarlyStopping(patience=None),
            Schedule(td.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20), per="step"),
            last,
            *more,
        ],
        **settings,
    )
    train = DataLoader(data(48), 12, shuffle=True, seed=1, device="cuda")
    trainer.fit(train, DataLoader(data(24, 1), 12, device="cuda"), epochs, resume=last.last)
    return trainer


def test_recorded_eager_and_resumed(gpu: Any, tmp_path: Path) -> None:
    watch = Watch(gpu)
    whole = fit(tmp_path / "a", 3, watch)
    assert watch.asked[1:] == [["upload", "upload"]] * 11  # of the batch: inputs and targets
    assert watch.graphs[1:] == [1] * 11
    eager = fit(tmp_path / "b", 3, record=False)
    fit(tmp_path / "c", 1)
    resumed = fit(tmp_path / "c", 3)
    for other in (eager, resumed):
        assert bits_of(other) == bits_of(whole)
        assert other.history.rows == whole.history.rows


def bits_of(trainer: Trainer) -> Any:
    return bits(trainer.model.cpu())


def test_class_weights_accumulation_and_the_guard(gpu: Any, tmp_path: Path) -> None:
    found = fit(tmp_path, 2, NaNGuard(), class_weight=[1.0, 3.0], accumulate=2)
    assert {"loss", "unweighted_loss", "val_unweighted_loss"} <= found.history.rows[0].keys()
    assert found.steps == 4
