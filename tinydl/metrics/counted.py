"""Metrics that keep a confusion matrix and nothing else.

Rows are true classes, columns predicted ones; integers as long as no weights are given. A multi-label task
has a matrix [[tn, fp], [fn, tp]] per label.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from .checks import host, indicators, predicted, weights
from .metric import Metric

MOST = 1 << 14
"""So many classes are believed without `num_classes`: the square of a stray label would fill the memory."""


class Counts(NamedTuple):
    """Of each class (or each label of a multi-label task) against the rest."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray


def counts(matrix: np.ndarray) -> Counts:
    """From a confusion matrix (C, C), or one per label (L, 2, 2).

    With weights all - tp - fp - fn would leave 1e-17 where 0 / 0 has to be seen; a row minus the only entry
    that it has is exactly 0.
    """
    if matrix.ndim == 3:
        tn, fp, fn, tp = matrix.reshape(-1, 4).T
        return Counts(tp, fp, fn, tn)
    other = ~np.eye(len(matrix), dtype=bool)
    wrong, rest = (
        matrix * other,
        (matrix.sum(1, keepdims=True) - matrix) * other,
    )  # of row i, without column k
    return Counts(np.diag(matrix), wrong.sum(0), wrong.sum(1), rest.sum(0))


class Counted(Metric):
    """Keeps the confusion matrix. It grows with the classes that are met, unless their number is given."""

    keys: tuple[str, ...] = ("matrix",)
    pixels: ClassVar[bool] = False  # are two axes an image, not several labels of a sample?
    multilabel_too: ClassVar[bool] = False

    def __init__(self, num_classes: int | None = None) -> None:
        if num_classes is not None and num_classes < 1:
            raise ShapeError(f"{self.name}: num_classes: expected 1 or more, got {num_classes}")
        self.num_classes = num_classes
        super().__init__()

    def update(self, prediction: Any, target: Any, sample_weight: Any = None) -> None:
        p, t = host(self.name, "prediction", prediction), host(self.name, "target", target)
        if t.ndim == 2 and p.shape == t.shape and not self.pixels:
            self._count_labels(p, t, sample_weight)
        else:
            self._count_classes(p, t, sample_weight)

    def _count_classes(self, prediction: np.ndarray, target: np.ndarray, sample_weight: Any) -> None:
        p, t, known = predicted(self.name, prediction, target, self.num_classes)
        w = weights(self.name, sample_weight, t.shape)
        kept = self._kept(t) if w is None else self._kept(t) & (w > 0)
        pk, tk, wk = p[kept], t[kept], None if w is None else w[kept]
        size = known or 1 + int(max(pk.max(initial=0), tk.max(initial=0)))
        if known is None and size > MOST:
            raise ShapeError(f"{self.name}: expected classes below {MOST}, or num_classes, got {size - 1}")
        self._meet(size)
        if len(t):
            matrix = self._room(size, np.dtype(np.int64 if wk is None else np.float64))
            np.add.at(matrix, (tk, pk), 1 if wk is None else wk)
            self._samples += len(t)

    def _expected(self, key: str, shape: tuple[int, ...], samples: int) -> str | None:
        if key != "matrix":
            return super()._expected(key, shape, samples)
        C = self.num_classes or (shape[0] if shape else 0)
        of_labels = self.multilabel_too and shape == (C, 2, 2)
        if shape == (C, C) or of_labels:
            return None
        number = self.num_classes or "classes"
        more = f" or ({self.num_classes or 'labels'}, 2, 2)" if self.multilabel_too else ""
        return f"({number}, {number}){more}"

    def _meet(self, size: int) -> None:
        """So many classes were met: are they too many?"""

    def _kept(self, target: np.ndarray) -> np.ndarray:
        """Which elements count."""
        return np.ones(target.shape, bool)

    def _count_labels(self, prediction: np.ndarray, target: np.ndarray, sample_weight: Any) -> None:
        if not self.multilabel_too:
            raise ShapeError(
                f"{self.name}: expected a target (n,), or (n, ...) with two axes or more of pixels, "
                f"got {target.shape}, labels of a multi-label task"
            )
        p, t = indicators(self.name, "prediction", prediction), indicators(self.name, "target", target)
        if self.num_classes not in (None, t.shape[1]):
            raise ShapeError(f"{self.name}: expected num_classes={self.num_classes} labels, got {t.shape}")
        w = weights(self.name, sample_weight, t.shape[:1])
        cells = (~t & ~p, ~t & p, t & ~p, t & p)
        columns = [cell.sum(0) if w is None else w @ cell for cell in cells]
        old = self._state.get("matrix")
        if old is not None and old.shape != (t.shape[1], 2, 2):
            raise ShapeError(f"{self.name}: expected one task, got counts {old.shape} and labels {t.shape}")
        if len(t):
            self._add(len(t), matrix=np.stack(columns, 1).reshape(-1, 2, 2))

    def _room(self, size: int, dtype: np.dtype) -> np.ndarray:
        """The matrix, made large enough for so many classes."""
        old = self._state.get("matrix", np.zeros((0, 0), dtype))
        if old.ndim != 2:
            raise ShapeError(
                f"{self.name}: expected one task, got counts {old.shape} of labels, then classes"
            )
        size, dtype = max(size, len(old)), np.result_type(old, dtype)
        if old.shape != (size, size) or old.dtype != dtype:
            grown = np.zeros((size, size), dtype)
            grown[: len(old), : len(old)] = old
            self._state["matrix"] = grown
        return self._state["matrix"]
