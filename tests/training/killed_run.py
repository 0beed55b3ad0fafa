"""A training run to be killed: `python killed_run.py FOLDER [WRITES]` trains in the folder, goes on from what
is there, prints "begun" before its first step and, at the end, a line of JSON with digests of all it made.

With WRITES it kills itself inside of the so-manieth write of a file, after the bytes, before the name.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tinydl as td
from tinydl.data import ClassBalancedSampler, DataLoader, TensorDataset, transforms
from tinydl.metrics import AUC, Accuracy
from tinydl.regularizers import DataGrad, SpectReg
from tinydl.training import (
    Callback,
    ClipGradNorm,
    EarlyStopping,
    Log,
    ModelCheckpoint,
    Schedule,
    Trainer,
    WeightAveraging,
)

EPOCHS = 7


class Begun(Callback):
    def on_fit_begin(self, trainer: Trainer) -> None:
        print("begun", flush=True)


def data(samples: int, seed: int) -> TensorDataset:
    random = np.random.default_rng(seed)
    labels = (np.arange(samples) % 5 == 0).astype(np.int64)
    images = random.integers(0, 200, (samples, 1, 8, 8)) + 50 * labels[:, None, None, None]
    return TensorDataset(images.astype(np.uint8), labels)


def run(folder: Path) -> tuple[Trainer, ModelCheckpoint]:
    td.manual_seed(3)
    nn = td.nn
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(108, 8),
        nn.Dropout(0.1, generator=td.Generator(5, 9)),
        nn.Linear(8, 2),
    )
    optimizer = td.optim.Adam(model.parameters(), lr=1e-2)
    train, validation = data(70, 0), data(30, 1)
    augment = transforms.Compose(
        [transforms.RandomAffine(10, (0.1, 0.1)), transforms.Normalize(train.mean, train.std)]
    )
    last = ModelCheckpoint(folder, "val_loss", save_top_k=2, every_n_steps=2)
    trainer = Trainer(
        model,
        td.cross_entropy,
        optimizer,
        terms=[DataGrad(0.1), SpectReg(0.01, every=2)],
        metrics={"accuracy": Accuracy(), "auc": (AUC(), lambda p: p[:, 1])},
        activation=lambda z: td.softmax(z, 1),
        class_weight=[1.0, 3.0],
        accumulate=2,
        callbacks=[
            Begun(),
            EarlyStopping(patience=None),
            last,
            ClipGradNorm(1.0),
            WeightAveraging(0.9),
            Schedule(td.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40), per="step"),
            Log(folder / "log.csv"),
        ],
    )
    loader = DataLoader(
        train, 10, sampler=ClassBalancedSampler(train.targets), transform=augment, num_workers=1, seed=4
    )
    plain = DataLoader(validation, 20, transform=transforms.Normalize(train.mean, train.std))
    trainer.fit(loader, plain, EPOCHS, resume=last.last)
    return trainer, last


def digest(x: Any) -> str:
    """Of arrays in a tree, and everything else in it."""
    found = hashlib.sha256()

    def take(part: Any) -> None:
        if isinstance(part, dict):
            for name in sorted(part, key=str):
                found.update(str(name).encode())
                take(part[name])
        elif isinstance(part, (list, tuple)):
            for each in part:
                take(each)
        elif isinstance(part, td.Tensor):
            found.update(part.numpy().tobytes())
        else:
            found.update(repr(part).encode())

    take(x)
    return found.hexdigest()[:16]


def results(folder: Path) -> dict[str, str]:
    trainer, _ = run(folder)
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return {
        "weights": digest(trainer.model.state_dict()),
        "optimizer": digest(trainer.optimizer.state_dict()),
        "history": digest(trainer.history.rows),
        "pictures": digest(trainer.loader.next_batch()),
        "streams": digest([td.randn(3), td.dropout(td.ones(50), 0.5, True)]),
        **{path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files},
    }


def die_in_write(number: int) -> None:
    """SIGKILL once so many files are on the disk, the last one under its temporary name."""
    replace, count = os.replace, 0

    def counted(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*arguments)

    os.replace = counted  # type: ignore[assignment]


if __name__ == "__main__":
    if len(sys.argv) > 2:
        die_in_write(int(sys.argv[2]))
    print(json.dumps(results(Path(sys.argv[1]))))
