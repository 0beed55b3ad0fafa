"""The table of callbacks: a row for each public one. tests/training/test_callback_rows.py walks it.

A row says how to make the callback for an optimizer and a folder, and what it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinydl.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR
from tinydl.training import callbacks


@dataclass(frozen=True)
class Row:
    name: str  # of the public class, then what tells variants apart
    make: Callable[[Any, Path], Any]
    bad: Sequence[tuple[Callable[[], Any], type[Exception], str]] = ()  # call, error, message


ROWS = [
    Row(
        "EarlyStopping",
        lambda optimizer, folder: callbacks.EarlyStopping(patience=1),
        [
            (lambda: callbacks.EarlyStopping(patience=-1), ValueError, "expected at least 0 or None, got -1"),
            (
                lambda: callbacks.EarlyStopping("val_auc"),
                ValueError,
                "'min' or 'max' for 'val_auc'",
            ),
            (lambda: callbacks.EarlyStopping(min_delta=-1), ValueError, "min_delta: expected at least 0"),
        ],
    ),
    Row(
        "EarlyStopping, accuracy",
        lambda optimizer, folder: callbacks.EarlyStopping("accuracy", None, mode="max"),
    ),
    Row(
        "ModelCheckpoint",
        lambda optimizer, folder: callbacks.ModelCheckpoint(folder / "own", "val_loss", 2),
        [
            (
                lambda: callbacks.ModelCheckpoint(".", save_top_k=0),
                ValueError,
                "expected at least 1, got 0",
            ),
            (lambda: callbacks.ModelCheckpoint(".", "val_f1"), ValueError, "'min' or 'max' for 'val_f1'"),
            (
                lambda: callbacks.ModelCheckpoint(".", every_n_minutes=0),
                ValueError,
                "expected above 0, got 0",
            ),
        ],
    ),
    Row(
        "Schedule per step",
        lambda optimizer, folder: callbacks.Schedule(CosineAnnealingLR(optimizer, 9), per="step"),
        [
            (lambda: callbacks.Schedule(3), TypeError, "expected a schedule, got int"),
        ],
    ),
    Row("Schedule per epoch", lambda optimizer, folder: callbacks.Schedule(StepLR(optimizer, 2))),
    Row(
        "Schedule, plateau",
        lambda optimizer, folder: callbacks.Schedule(
            ReduceLROnPlateau(optimizer, patience=0, threshold=0.5), monitor="val_loss"
        ),
    ),
    Row(
        "WeightAveraging",
        lambda optimizer, folder: callbacks.WeightAveraging(0.9),
        [
            (
                lambda: callbacks.WeightAveraging(start_epoch=-1),
                ValueError,
                "start_epoch: expected at least 0",
            ),
            (lambda: callbacks.WeightAveraging(1.5), ValueError, r"expected a decay in \[0, 1\], got 1.5"),
            (lambda: callbacks.WeightAveraging(bn=3, use_buffers=True), ValueError, "got both"),
        ],
    ),
    Row("WeightAveraging, late", lambda optimizer, folder: callbacks.WeightAveraging(0.9, 1)),
    Row("WeightAveraging, SWA", lambda optimizer, folder: callbacks.WeightAveraging(start_epoch=1)),
    Row(
        "Freeze",
        lambda optimizer, folder: callbacks.Freeze("0", at=1, until=2),
        [
            (lambda: callbacks.Freeze(), ValueError, "expected names"),
            (lambda: callbacks.Freeze("a", until=0), ValueError, "until > at"),
        ],
    ),
    Row(
        "ClipGradNorm",
        lambda optimizer, folder: callbacks.ClipGradNorm(0.1),
        [(lambda: callbacks.ClipGradNorm(-1), ValueError, "max_norm: expected at least 0")],
    ),
    Row("ClipGradNorm, a log alone", lambda optimizer, folder: callbacks.ClipGradNorm()),
    Row(
        "NaNGuard",
        lambda optimizer, folder: callbacks.NaNGuard(every=3),
        [(lambda: callbacks.NaNGuard(0), ValueError, "every: expected at least 1, got 0")],
    ),
    Row("Log", lambda optimizer, folder: callbacks.Log(folder / "own.csv")),
    Row("Log, lines of JSON", lambda optimizer, folder: callbacks.Log(folder / "own.jsonl")),
    Row(
        "LivePlot",
        lambda optimizer, folder: callbacks.LivePlot(folder / "plots" / "own.svg", "loss", every=3),
        [
            (
                lambda: callbacks.LivePlot(),
                ValueError,
                "expected a file, since this is no notebook",
            ),
            (lambda: callbacks.LivePlot("a.png", every=0), ValueError, "every: expected at least 1, got 0"),
        ],
    ),
    Row("Progress", lambda optimizer, folder: callbacks.Progress()),
    Row(
        "TimeLimit",
        lambda optimizer, folder: callbacks.TimeLimit(3600),
        [(lambda: callbacks.TimeLimit(0), ValueError, "seconds: expected above 0, got 0")],
    ),
]
