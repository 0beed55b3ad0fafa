"""Walks the table of callbacks: resumed is uninterrupted, recorded is eager, and what each refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from catalogue.callbacks import ROWS, Row
from fitting import bits, loaders, trainer

from tinydl.training import Callback, ModelCheckpoint, Trainer

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
EPOCHS = 4


class Interrupt(Callback):
    """Ctrl-C after so many steps."""

    order = 3

    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, trainer: Trainer) -> None:
        if trainer.steps == self.step:
            raise KeyboardInterrupt


def fitted(row: Row, folder: Path, *more: Callback, resume: Any = None, **settings: Any) -> Trainer:
    found = trainer(
        lambda optimizer: [row.make(optimizer, folder), ModelCheckpoint(folder, every_n_steps=1), *more],
        **settings,
    )
    found.fit(*loaders(), EPOCHS, resume=resume)
    return found


@every_row
def test_resumed_is_uninterrupted(row: Row, tmp_path: Path) -> None:
    """From within an epoch, from its end, and from the end of the fit."""
    whole = fitted(row, tmp_path / "whole")
    assert len(whole.history) >= 1
    for step in (3, 5, 12):
        folder = tmp_path / str(step)
        if step < whole.steps:
            with pytest.raises(KeyboardInterrupt):
                fitted(row, folder, Interrupt(step))
        resumed = fitted(row, folder, resume=folder / "last.safetensors")
        for one, other in ((whole.model, resumed.model), (whole.optimizer, resumed.optimizer)):
            assert bits(one) == bits(other)
        assert whole.history.rows == resumed.history.rows
    again = fitted(row, tmp_path / "whole", resume=tmp_path / "whole" / "last.safetensors")
    assert bits(again.model) == bits(whole.model)
    assert again.history.rows == whole.history.rows


@every_row
def test_recorded_is_eager(row: Row, tmp_path: Path) -> None:
    recorded, eager = (fitted(row, tmp_path / str(flag), record=flag) for flag in (True, False))
    assert bits(recorded.model) == bits(eager.model)
    assert recorded.history.rows == eager.history.rows


@every_row
def test_refusals(row: Row) -> None:
    for call, error, message in row.bad:
        with pytest.raises(error, match=message):
            call()
