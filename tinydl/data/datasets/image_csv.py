"""Pictures named in a table, one line per picture."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...archives import check_regular, parsing
from ...files import DataError
from .dataset import TensorDataset
from .pictures import read_pictures

__all__ = ["ImageCSV"]


class ImageCSV(TensorDataset):
    """Pictures and labels by a CSV file whose first line names the columns. Needs Pillow (the extra "data").

        ImageCSV("labels.csv", image="file", target="diagnosis", size=64)
        ImageCSV("labels.csv", target="findings", separator="|", size=64)  # several labels: "a|c", ""
        ImageCSV("labels.csv", target=("effusion", "mass"), size=64)  # a column of 0 and 1 per label

    Pictures are read as `ImageFolder` reads them.

    Args:
        path: the table, in UTF-8.
        image: the column of paths, absolute or from `root`.
        target: the column of classes, or several columns of 0 and 1.
        root: where the paths begin; by default the table's folder.
        separator: what stands between the labels of one sample, where it can have several.
        size, channels, corrupt: as in `ImageFolder`.
        classes: names in order; by default those that occur, sorted (as numbers where all are).

    Attributes:
        sample_names: the paths as they stand in the table.
        met: Findings.

    Returns:
        inputs uint8 or uint16 (n, C, H, W); targets int64 (n,), or float32 0 and 1 (n, labels).

    Raises:
        DataError: no such file, no such column, lines that do not fit, labels beyond `classes`, pictures that
            cannot be read.
        ImportError: Pillow is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image: str = "path",
        target: str | Sequence[str] = "label",
        root: str | os.PathLike[str] | None = None,
        separator: str | None = None,
        size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        classes: Sequence[str] | None = None,
        corrupt: str = "raise",
    ) -> None:
        table = Path(path)
        columns = (target,) if isinstance(target, str) else tuple(target)
        names, *cells = _columns(table, (image, *columns))
        if isinstance(target, str):
            targets, found = _targets(table, cells[0], separator, classes)
        else:
            targets, found = _flags(table, columns, cells), columns
        folder = table.parent if root is None else Path(root)
        images, rows, self.met = read_pictures("ImageCSV", folder, names, size, channels, corrupt)
        super().__init__(
            images,
            targets[rows],
            classes=found,
            name=f"ImageCSV {table.name}",
            source=f"the table {table}, pictures from {folder}",
            sample_names=[names[row] for row in rows],
        )


def _columns(table: Path, wanted: Sequence[str]) -> list[list[str]]:
    """The cells of some columns, by column."""
    check_regular(table)
    with parsing(table, "not a table"), open(table, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        for name in wanted:
            if header.count(name) != 1:
                got = ", ".join(header)[:200]
                raise DataError(f"{table}: expected one column {name!r}, got the columns {got!r}")
        places = [header.index(name) for name in wanted]
        columns: list[list[str]] = [[] for _ in wanted]
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{table}: line {reader.line_num}: expected {len(header)} cells, got {len(row)}"
                )
            for column, place in zip(columns, places, strict=True):
                column.append(row[place].strip())
    if not columns[0]:
        raise DataError(f"{table}: expected at least one line below the header")
    return columns


def _targets(
    table: Path, cells: list[str], separator: str | None, classes: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    samples = [[cell] for cell in cells] if separator is None else [_split(cell, separator) for cell in cells]
    found = {label for labels in samples for label in labels}
    if separator is None and "" in found:
        raise DataError(f"{table}: sample {cells.index('') + 1}: expected a class, got an empty cell")
    numbers = all(label.isdecimal() for label in found)
    names = tuple(sorted(found, key=int if numbers else str) if classes is None else map(str, classes))
    if unknown := sorted(found - set(names)):
        raise DataError(f"{table}: expected the classes {', '.join(names)}, got {unknown[0]!r} too")
    place = {name: number for number, name in enumerate(names)}
    if separator is None:
        return np.array([place[cell] for cell in cells], np.int64), names
    targets = np.zeros((len(samples), len(names)), np.float32)
    for row, labels in enumerate(samples):
        targets[row, [place[label] for label in labels]] = 1
    return targets, names


def _split(cell: str, separator: str) -> list[str]:
    return [label for part in cell.split(separator) if (label := part.strip())]


def _flags(table: Path, names: Sequence[str], columns: list[list[str]]) -> np.ndarray:
    for name, column in zip(names, columns, strict=True):
        for row, cell in enumerate(column):
            if cell not in ("0", "1"):
                raise DataError(f"{table}: sample {row + 1}: {name}: expected 0 or 1, got {cell[:50]!r}")
    return np.array(columns, dtype="U1").T.astype(np.float32)
