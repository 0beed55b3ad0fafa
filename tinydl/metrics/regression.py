"""Errors of numbers: MSE, MAE, R²."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from .checks import choice, finite, undefined, weights
from .metric import Kept, Mean, once

__all__ = ["MAE", "MSE", "R2", "mae", "mse", "r2"]

MULTIOUTPUT = ("uniform_average", "raw_values")


def _numbers(who: str, prediction: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (n, outputs)."""
    p, t = finite(who, "prediction", prediction), finite(who, "target", target)
    if p.shape != t.shape or p.ndim == 0:  # never broadcast: (n, 1) against (n,) would give n² errors
        raise ShapeError(f"{who}: expected two arrays (n, ...) of one shape, got {p.shape} and {t.shape}")
    outputs = int(np.prod(p.shape[1:]))
    return p.reshape(len(p), outputs), t.reshape(len(t), outputs)


def _outputs(values: np.ndarray, multioutput: str) -> Any:
    """One number, or one per output."""
    return float(values.mean()) if multioutput == "uniform_average" else values


class _Outputs(Mean):
    def __init__(self, *, multioutput: str = "uniform_average") -> None:
        choice(self.name, "multioutput", multioutput, MULTIOUTPUT)
        self.multioutput = multioutput
        super().__init__()

    def _value(self) -> Any:
        return _outputs(super()._value(), self.multioutput)


class MSE(_Outputs):
    """Mean squared error in pieces; see `mse`."""

    name = "mse"

    def _values(self, prediction: Any, target: Any) -> np.ndarray:
        p, t = _numbers(self.name, prediction, target)
        return np.square(p - t)


class MAE(_Outputs):
    """Mean absolute error in pieces; see `mae`."""

    name = "mae"

    def _values(self, prediction: Any, target: Any) -> np.ndarray:
        p, t = _numbers(self.name, prediction, target)
        return np.abs(p - t)


def mse(
    prediction: Any, target: Any, *, multioutput: str = "uniform_average", sample_weight: Any = None
) -> Any:
    """Mean squared error, Σ w (prediction - target)² / Σ w.

    Args:
        prediction, target: (n,) or (n, ...) of one shape.
        multioutput: "uniform_average" over the outputs of a sample, or "raw_values", one per output.
        sample_weight: (n,).

    Raises:
        ShapeError: shapes that differ (they are not broadcast), numbers that are not finite, no samples.
    """
    return once(MSE(multioutput=multioutput), prediction, target, sample_weight)


def mae(
    prediction: Any, target: Any, *, multioutput: str = "uniform_average", sample_weight: Any = None
) -> Any:
    """Mean absolute error, Σ w |prediction - target| / Σ w. Arguments and errors as in `mse`."""
    return once(MAE(multioutput=multioutput), prediction, target, sample_weight)


def r2(
    prediction: Any, target: Any, *, multioutput: str = "uniform_average", sample_weight: Any = None
) -> Any:
    """Coefficient of determination, 1 - Σ w (target - prediction)² / Σ w (target - mean)².

    Undefined (NaN, one warning) for fewer than two samples or an output whose targets are all equal:
    scikit-learn's `force_finite=False`, and NaN also where it has -inf. Arguments and errors as in `mse`.
    """
    who = "r2"
    choice(who, "multioutput", multioutput, MULTIOUTPUT)
    p, t = _numbers(who, prediction, target)
    if not len(p):
        raise ShapeError(f"{who}: expected at least one sample, got none")
    given = weights(who, sample_weight, (len(p),))
    w = np.ones(len(p)) if given is None else given
    p, t, w = p[w > 0], t[w > 0], w[w > 0]
    if len(p) < 2:
        undefined(who, f"undefined, it needs two samples and got {len(p)}")
        return _outputs(np.full(p.shape[1], np.nan), multioutput)
    total = w @ np.square(t - (w @ t) / w.sum())
    constant = np.ptp(t, axis=0) == 0
    if constant.any():
        undefined(who, "undefined, the targets of an output are all equal")
    values = 1 - w @ np.square(t - p) / np.where(constant, np.nan, total)
    return _outputs(values, multioutput)


class R2(Kept):
    """Coefficient of determination in pieces; see `r2`."""

    function = staticmethod(r2)
