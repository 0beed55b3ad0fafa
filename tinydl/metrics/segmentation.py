"""Overlap of masks: Dice and intersection over union (Jaccard), over all pixels of all images.

Dice is F1 and IoU is tp / (tp + fp + fn) of pixels: the same counts, only that axes are never labels of a
multi-label task, and that pixels can be left out by the number they carry in the target.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .counted import Counts
from .metric import once
from .ratios import F1, Ratio

__all__ = ["Dice", "IoU", "dice", "iou"]


class _Overlap(Ratio):
    pixels = True
    averages = ("binary", "micro", "macro", "weighted", None)

    def __init__(
        self,
        *,
        average: str | None = "binary",
        pos_label: int = 1,
        num_classes: int | None = None,
        ignore_index: int | None = None,
    ) -> None:
        self.ignore_index = ignore_index
        super().__init__(average=average, pos_label=pos_label, num_classes=num_classes)

    def _count_classes(self, prediction: np.ndarray, target: np.ndarray, sample_weight: Any) -> None:
        self._ignored = target == self.ignore_index if self.ignore_index is not None else None
        if self._ignored is not None:
            target = np.where(self._ignored, 0, target)
        super()._count_classes(prediction, target, sample_weight)

    def _kept(self, target: np.ndarray) -> np.ndarray:
        return super()._kept(target) if self._ignored is None else ~self._ignored


class Dice(_Overlap):
    """2 |A ∩ B| / (|A| + |B|) in pieces; see `dice`."""

    name = "dice"
    ratio = staticmethod(F1.ratio)


class IoU(_Overlap):
    """|A ∩ B| / |A ∪ B| in pieces; see `iou`."""

    name = "iou"

    @staticmethod
    def ratio(c: Counts) -> tuple[np.ndarray, np.ndarray]:
        return c.tp, c.tp + c.fp + c.fn


def dice(
    prediction: Any,
    target: Any,
    *,
    average: str | None = "binary",
    pos_label: int = 1,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    sample_weight: Any = None,
) -> Any:
    """Dice's coefficient of masks, 2 |A ∩ B| / (|A| + |B|) = 2 tp / (2 tp + fp + fn) over pixels.

    Args:
        prediction: classes (n, ...) like the target, or scores (n, C, ...) of which the largest counts.
        target: classes (n, ...) from 0.
        average: "binary", of class `pos_label` of two; "micro", of the summed counts; "macro", the mean over
            the classes (background included); "weighted", the same weighted by their pixels; None, an array.
        pos_label: the positive class, 0 or 1.
        num_classes: C; by default as many as there are scores, or the largest class + 1.
        ignore_index: the number of pixels in the target that do not count.
        sample_weight: (n,), one per image, or one per pixel.

    Returns:
        A float, or (C,). A class that is in neither mask is NaN (with one warning where it is shown), and
        left out of means: an empty mask found empty is no perfect score.

    Raises:
        ShapeError: shapes that do not fit, classes out of range, no samples.
        DtypeError: predictions that are neither classes nor scores of classes, such as probabilities.
    """
    metric = Dice(average=average, pos_label=pos_label, num_classes=num_classes, ignore_index=ignore_index)
    return once(metric, prediction, target, sample_weight)


def iou(
    prediction: Any,
    target: Any,
    *,
    average: str | None = "binary",
    pos_label: int = 1,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    sample_weight: Any = None,
) -> Any:
    """Intersection over union of masks (Jaccard), |A ∩ B| / |A ∪ B| = tp / (tp + fp + fn) over pixels.

    average="macro" is the mean IoU. Arguments, result and errors as in `dice`.
    """
    metric = IoU(average=average, pos_label=pos_label, num_classes=num_classes, ignore_index=ignore_index)
    return once(metric, prediction, target, sample_weight)
