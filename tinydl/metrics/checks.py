"""What metrics take: tensors, arrays and lists become NumPy arrays on the host, and are looked at once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ..engine.core import Tensor

__all__ = ["UndefinedMetricWarning"]


class UndefinedMetricWarning(UserWarning):
    """A metric is 0 / 0 on these samples (no positives, one class only): its value is NaN."""


def undefined(who: str, why: str) -> None:
    """The one warning of a metric that is not defined."""
    warnings.warn(f"{who}: {why}", UndefinedMetricWarning, stacklevel=3)


def host(who: str, what: str, x: Any) -> np.ndarray:
    """Numbers as a NumPy array; tensors come from where they are."""
    array = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise DtypeError(f"{who}: {what}: expected numbers, got {array.dtype}")
    return array


def finite(who: str, what: str, x: Any) -> np.ndarray:
    """Finite numbers, float64."""
    array = host(who, what, x).astype(np.float64)
    if not np.isfinite(array).all():
        raise ShapeError(f"{who}: {what}: expected finite numbers, got {array[~np.isfinite(array)][0]}")
    return array


def classes(who: str, what: str, x: Any, limit: int | None = None) -> np.ndarray:
    """Classes 0, 1, ... below `limit`, int64. Targets may be whole floats (binary losses want them so)."""
    array = host(who, what, x)
    if array.dtype.kind == "f" and array.size:
        if what != "target":
            raise DtypeError(
                f"{who}: {what}: expected integer classes {array.shape}, or scores with a class axis, "
                f"got {array.dtype} {array.shape}: compare with a threshold first"
            )
        if not np.array_equal(array, np.floor(array)):
            raise DtypeError(f"{who}: {what}: expected integer classes, got {array.dtype} with fractions")
    array = array.astype(np.int64)
    if array.size and (array.min() < 0 or (limit is not None and array.max() >= limit)):
        wrong = array.min() if array.min() < 0 else array.max()
        wanted = "0 or more" if limit is None else f"0 to {limit - 1}"
        raise ShapeError(f"{who}: {what}: expected classes {wanted}, got {wrong}")
    return array


def predicted(
    who: str, prediction: Any, target: Any, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray, int | None]:
    """(prediction, target, number of classes if it is known), int64, of one shape.

    Predictions are classes of the target's shape, or scores with a class axis after the first one, of
    which the largest (of equal ones the first) is the prediction.
    """
    p, shape = host(who, "prediction", prediction), np.shape(target)
    if p.ndim == len(shape) + 1 and p.shape[0] == shape[0] and p.shape[2:] == shape[1:]:
        if limit is not None and p.shape[1] != limit:
            raise ShapeError(f"{who}: expected scores of num_classes={limit} classes, got {p.shape}")
        limit = p.shape[1]
        p = finite(who, "prediction", p)
        if limit == 0:
            raise ShapeError(f"{who}: expected scores of at least one class, got {p.shape}")
        p = p.argmax(1)
    t = classes(who, "target", target, limit)
    if p.shape != t.shape or t.ndim == 0:
        raise ShapeError(
            f"{who}: expected predictions (n, ...) like the target or scores (n, C, ...), "
            f"got prediction {p.shape}, target {t.shape}"
        )
    return classes(who, "prediction", p, limit), t, limit


def indicators(who: str, what: str, x: Any) -> np.ndarray:
    """Labels 0 or 1, bool."""
    array = classes(who, what, x)
    if array.size and array.max() > 1:
        raise ShapeError(f"{who}: {what}: expected labels 0 or 1, got {array.max()}")
    return array.astype(bool)


def weights(who: str, x: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """One weight per sample of a target of this shape (or one per element), float64, of the whole shape."""
    if x is None:
        return None
    array = finite(who, "sample_weight", x)
    if array.shape == shape[:1]:
        array = array.reshape(array.shape + (1,) * (len(shape) - 1))
    elif array.shape != shape:
        raise ShapeError(f"{who}: sample_weight: expected {shape[:1]}, got {array.shape}")
    if array.size and array.min() < 0:
        raise ShapeError(f"{who}: sample_weight: expected weights of 0 or more, got {array.min()}")
    return np.broadcast_to(array, shape)


def probabilities(who: str, prediction: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n,) of class 1, or (n, C) that sum to 1, float64, and classes (n,).

    Nothing is put through a sigmoid or a softmax: a value outside [0, 1] is an error.
    """
    raw = host(who, "prediction", prediction)
    p = finite(who, "prediction", raw)
    if p.ndim not in (1, 2) or p.shape[-1:] == (0,) != p.shape[:1]:
        raise ShapeError(f"{who}: expected probabilities (n,) or (n, C), got {p.shape}")
    if p.size and (p.min() < 0 or p.max() > 1):
        wrong = p.min() if p.min() < 0 else p.max()
        raise ShapeError(
            f"{who}: expected probabilities in [0, 1], got {wrong:g}: apply softmax or sigmoid to logits"
        )
    if p.ndim == 2 and p.size:
        precision = np.finfo(raw.dtype).eps if raw.dtype.kind == "f" else 0.0
        away = np.abs(p.sum(1) - 1)
        if away.max() > max(1e-5, float(precision) ** 0.5):
            total = p[away.argmax()].sum()
            raise ShapeError(f"{who}: expected probabilities that sum to 1 over the classes, got {total:g}")
    t = classes(who, "target", target, 2 if p.ndim == 1 else p.shape[1])
    same_length(who, p, t)
    return p, t


def same_length(who: str, prediction: np.ndarray, target: np.ndarray) -> None:
    if target.ndim != 1 or target.shape != prediction.shape[:1]:
        raise ShapeError(
            f"{who}: expected a target {prediction.shape[:1]} for predictions {prediction.shape}, "
            f"got {target.shape}"
        )


def choice(who: str, name: str, value: Any, allowed: Sequence[Any]) -> None:
    """A setting that is one of a few words."""
    if value not in allowed:
        raise ShapeError(f"{who}: {name}: expected {', '.join(map(repr, allowed))}, got {value!r}")
