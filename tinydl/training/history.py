"""What a training run has measured, a row for each epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

__all__ = ["History"]


class History:
    """Rows of measurements: `history["val_loss"]` is a column, `history.rows[-1]` the last epoch.

    "loss" is the plain loss of the training batches, "total" what was minimized, penalties included; each
    penalty has a column of its own. What begins with "val_" is of the validation set. All are over whole
    epochs.

    Attributes:
        rows: a dict for each epoch, of numbers, or lists where a metric has several; "epoch" counts from 1.
        ended: why the fit ended: "epochs" (all are done), what a callback said, or the name of an exception.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.ended: str | None = None

    @property
    def names(self) -> list[str]:
        """All columns, in the order in which they came."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __getitem__(self, name: str) -> list[Any]:
        """A column; None where an epoch has no such value.

        Raises:
            KeyError: no epoch has one.
        """
        if name not in self.names:
            raise KeyError(
                f"History: expected one of {', '.join(self.names) or 'no columns yet'}, got {name!r}"
            )
        return [row.get(name) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def best(self, name: str, mode: str = "min") -> dict[str, Any]:
        """The row of the least (mode="min") or greatest value of a column; the first of equal ones.

        Raises:
            ShapeError: no row has a finite value.
            ValueError: another mode.
        """
        if mode not in ("min", "max"):
            raise ValueError(f"History.best: mode: expected 'min' or 'max', got {mode!r}")
        sign = 1 if mode == "min" else -1
        rows = [row for row, value in zip(self.rows, self[name], strict=True) if _finite(value)]
        if not rows:
            raise ShapeError(f"History.best: expected a finite {name}, got none")
        return min(rows, key=lambda row: sign * row[name])

    def plot(self, *names: str) -> Any:
        """Columns against the epoch, a panel for each: what was measured in training and in validation
        together. Returns matplotlib's Figure.

        Args:
            names: of the panels, without "val_"; by default all that are numbers.

        Raises:
            ImportError: no matplotlib.
            KeyError: a name that is no column.
        """
        from matplotlib.figure import Figure

        plain = [name.removeprefix("val_") for name in self.names if name != "epoch"]
        numbers = [n for n in dict.fromkeys(plain) if any(_finite(x) for x in self._either(n))]
        panels = list(names) or numbers
        for name in panels:
            if not self._either(name):
                self[name]  # tells what there is
        figure = Figure(figsize=(4.8 * max(1, len(panels)), 3.6), layout="constrained")
        for axes, name in zip(
            figure.subplots(1, max(1, len(panels)), squeeze=False)[0], panels, strict=False
        ):
            for column, label in ((name, "training"), (f"val_{name}", "validation")):
                if column in self.names:
                    values = [x if _finite(x) else math.nan for x in self[column]]
                    axes.plot(self["epoch"], values, label=label, marker="o", markersize=3)
            axes.set(xlabel="epoch", ylabel=name.replace("_", " "))
            axes.grid(alpha=0.25)
            axes.legend(frameon=False)
        return figure

    def _either(self, name: str) -> list[Any]:
        return [row[n] for row in self.rows for n in (name, f"val_{name}") if n in row]

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rows = [dict(row) for row in state["rows"]]

    def __repr__(self) -> str:
        if not self.rows:
            return "History(no epoch yet)"
        cells = [
            f"{name} {value:.4g}" for name, value in self.rows[-1].items() if isinstance(value, (int, float))
        ]
        return f"History({len(self)} epochs, the last: {', '.join(cells)})"


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
