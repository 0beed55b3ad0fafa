"""Predicted classes of many runs, kept small, written before anybody scores them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..files import DataError, atomic_write


class Predictions:
    """The classes that the runs of one table predict, for each held-out set by name.

        kept = Predictions("runs", "table_a")
        digest = kept.write("seed 0", test=classes)     # in any process: a file of its own
        kept.pack(["seed 0", ...])                      # one file of all, small because networks agree
        kept.read()["seed 0"]["test"]

    Networks of one table agree on most samples, so that the packed file, which holds all runs' classes of a
    sample side by side, takes about a tenth of a byte a class.

    Args:
        folder: of the packed file ``<table>.npz`` and the folder ``pending/<table>`` of the others.
        table: their name.
    """

    def __init__(self, folder: str | os.PathLike[str], table: str) -> None:
        self.file, self.pending = Path(folder) / f"{table}.npz", Path(folder) / "pending" / table

    def write(self, key: str, **classes: np.ndarray) -> str:
        """Keep a run's classes, 0 to 255, (n,) for each set; their digest."""
        arrays: dict[str, Any] = {name: _checked(name, x) for name, x in classes.items()}
        self.pending.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._own(key)) as file:
            np.savez_compressed(file, key=np.array(key), **arrays)
        return digest(arrays)

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """All runs' classes by key and set, uint8 (n,); those that are not packed yet too.

        Raises:
            DataError: a file that holds something else.
        """
        found: dict[str, dict[str, np.ndarray]] = {}
        if self.file.exists():
            keys, sets = self._load(self.file)
            for column, key in enumerate(keys):
                found[key] = {name: np.ascontiguousarray(x[:, column]) for name, x in sets.items()}
        for path in sorted(self.pending.glob("*.npz")):
            keys, sets = self._load(path)
            found[keys[0]] = sets
        return found

    def pack(self, keys: Sequence[str]) -> None:
        """Move the classes of these runs, where they are there, into the one file; what else is pending stays
        so, what else is packed is dropped. Killed at any moment, nothing is lost.
        """
        known = self.read()
        chosen = [key for key in keys if key in known]
        if chosen:
            names = list(known[chosen[0]])
            if any(list(known[key]) != names for key in chosen):
                raise ShapeError(f"{self.file}: expected the sets {names} of every run")
            stacked: dict[str, Any] = {
                name: np.stack([known[key][name] for key in chosen], axis=1) for name in names
            }
            with atomic_write(self.file) as file:
                np.savez_compressed(file, key=np.array(chosen), **stacked)
        for key in chosen:
            self._own(key).unlink(missing_ok=True)
        for folder in (self.pending, self.pending.parent):
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()

    def _own(self, key: str) -> Path:
        return self.pending / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"

    @staticmethod
    def _load(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
        try:
            with np.load(path, allow_pickle=False) as file:
                sets = {name: file[name] for name in file.files}
            return np.atleast_1d(sets.pop("key")).tolist(), sets
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}: expected predictions: {error}") from error


def digest(classes: Mapping[str, np.ndarray]) -> str:
    """Of a run's classes, whatever integers they are kept in."""
    whole = hashlib.sha256()
    for name in sorted(classes):
        whole.update(name.encode() + b"\0" + _checked(name, classes[name]).tobytes())
    return whole.hexdigest()[:16]


def _checked(name: str, x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim != 1 or x.dtype.kind not in "iu" or (x.size and not 0 <= x.min() <= x.max() <= 255):
        raise ShapeError(f"Predictions: {name}: expected classes (n,) of 0 to 255, got {x.dtype} {x.shape}")
    return x.astype(np.uint8)
