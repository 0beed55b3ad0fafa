"""The contract of a metric, and its three kinds of memory: sums, counts (counted.py), all predictions.

A metric is fed in pieces and gives the value of the whole: never a mean of the pieces' values, since F1,
Dice, AUC and any mean over unequal batches are something else. The function of the same name is the class fed
once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from .checks import host, undefined, weights

__all__ = ["Metric"]


class Metric:
    """`update` with predictions and targets as often as wanted, `compute` the value over all of them.

    Predictions come first, as in `td.cross_entropy(input, target)`; scikit-learn has them second.
    """

    name: ClassVar[str]  # of the function
    keys: tuple[str, ...]  # of the state, beside "samples"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._samples = 0
        self._state: dict[str, Any] = {}

    def update(self, prediction: Any, target: Any, sample_weight: Any = None) -> None:
        """Take in some more samples (tensors, arrays or lists; from none to all of them at once)."""
        raise NotImplementedError(f"{type(self).__name__}.update")

    def compute(self) -> Any:
        """The value over all samples since the last reset.

        Raises:
            ShapeError: there were none.
        """
        if not self._samples:
            raise ShapeError(f"{self.name}: expected at least one sample, got none")
        return self._value()

    def state_dict(self) -> dict[str, Any]:
        """What was taken in: integers and NumPy arrays of its own."""
        state = {key: np.array(value) for key, value in self._state.items()}
        return {"samples": self._samples, **state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken. The settings are those of this metric.

        Raises:
            ShapeError: the state is of another kind of metric, or of other settings.
        """
        name = f"{type(self).__name__}.load_state_dict"
        wanted = {"samples", *self.keys} if state.get("samples") else {"samples"}
        if set(state) != wanted:
            raise ShapeError(f"{name}: expected the keys {sorted(wanted)}, got {sorted(state)}")
        samples = int(state["samples"])
        arrays = {key: np.array(value) for key, value in state.items() if key != "samples"}
        if samples < 0:
            raise ShapeError(f"{name}: samples: expected 0 or more, got {samples}")
        for key, array in arrays.items():
            expected = self._expected(key, array.shape, samples)
            if expected is not None or array.dtype.kind not in "biuf":
                got = f"{array.dtype} {array.shape}"
                raise ShapeError(f"{name}: {key}: expected {expected or 'numbers'}, got {got}")
        self._samples, self._state = samples, arrays

    def _expected(self, key: str, shape: tuple[int, ...], samples: int) -> str | None:
        """The shape that a part of the state should have, in words, if it has another one."""
        return None if shape == () else "()"

    def _value(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.compute")

    def _add(self, samples: int, **terms: Any) -> None:
        self._samples += samples
        for key, term in terms.items():
            self._state[key] = self._state[key] + term if key in self._state else np.array(term)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._samples} samples)"


def once(metric: Metric, prediction: Any, target: Any, sample_weight: Any = None) -> Any:
    """The metric of one batch alone."""
    metric.update(prediction, target, sample_weight)
    return metric.compute()


class Mean(Metric):
    """The weighted mean of a value per sample. Sum and weight are kept apart: pieces make the whole."""

    keys = ("sum", "weight")

    def _values(self, prediction: Any, target: Any) -> np.ndarray:
        """(n,), or (n, outputs), of one batch."""
        raise NotImplementedError(f"{type(self).__name__}._values")

    def update(self, prediction: Any, target: Any, sample_weight: Any = None) -> None:
        values = self._values(prediction, target)
        n = len(values)
        w = weights(self.name, sample_weight, (n,))
        if "sum" in self._state and self._state["sum"].shape != values.shape[1:]:
            expected = self._state["sum"].shape
            raise ShapeError(f"{self.name}: expected {expected} outputs as before, got {values.shape[1:]}")
        if n:
            w = np.ones(n) if w is None else w
            self._add(n, sum=w @ values, weight=w.sum())

    def _expected(self, key: str, shape: tuple[int, ...], samples: int) -> str | None:
        if key == "sum":
            return None if len(shape) <= 1 else "() or (outputs,)"
        return super()._expected(key, shape, samples)

    def _value(self) -> Any:
        if not self._state["weight"] > 0:
            undefined(self.name, "undefined, all weights are 0")
            return self._state["sum"] * np.nan
        return self._state["sum"] / self._state["weight"]


class Kept(Metric):
    """A function of all predictions, which are kept: ranks and quantiles are of all samples or of none.

    A class names its `function`; its options are the function's.
    """

    keys = ("prediction", "target", "weight")
    function: ClassVar[Callable[..., Any]]
    weighted: ClassVar[bool]  # does the function take weights?

    def __init_subclass__(cls) -> None:
        signature = inspect.signature(cls.function)
        options = [
            parameter
            for name, parameter in signature.parameters.items()
            if name not in ("prediction", "target", "sample_weight")
        ]
        cls.__signature__ = signature.replace(parameters=options, return_annotation=inspect.Signature.empty)  # type: ignore[attr-defined]
        cls.name = cls.function.__name__
        cls.weighted = "sample_weight" in signature.parameters

    def __init__(self, **options: Any) -> None:
        inspect.signature(type(self)).bind(**options)  # TypeError for a name that the function does not know
        self.options = options
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self._pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def update(self, prediction: Any, target: Any, sample_weight: Any = None) -> None:
        if sample_weight is not None and not self.weighted:
            raise TypeError(f"{self.name} takes no sample_weight")
        # Copies: the outputs of a recorded step are buffers that its next replay writes.
        p = np.array(host(self.name, "prediction", prediction))
        t = np.array(host(self.name, "target", target))
        if p.ndim == 0 or t.shape[:1] != p.shape[:1]:
            raise ShapeError(
                f"{self.name}: expected predictions and targets of one length, got {p.shape} and {t.shape}"
            )
        for new, old in zip((p, t), self._pieces[0] if self._pieces else ()):
            if new.shape[1:] != old.shape[1:]:
                before = "".join(f", {length}" for length in old.shape[1:])
                raise ShapeError(f"{self.name}: expected (n{before}) as before, got {new.shape}")
        w = weights(self.name, sample_weight, p.shape[:1])
        if len(p):
            self._pieces.append((p, t, np.ones(len(p)) if w is None else w.copy()))
            self._samples += len(p)

    def state_dict(self) -> dict[str, Any]:
        if self._pieces:
            self._state = dict(zip(self.keys, map(np.concatenate, zip(*self._pieces)), strict=True))
        return super().state_dict()

    def _expected(self, key: str, shape: tuple[int, ...], samples: int) -> str | None:
        if key == "weight":
            return None if shape == (samples,) else f"({samples},)"
        return None if shape[:1] == (samples,) else f"({samples}, ...)"

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._pieces = [tuple(self._state[key] for key in self.keys)] if self._state else []

    def _value(self) -> Any:
        p, t, w = map(np.concatenate, zip(*self._pieces))
        weight = {} if (w == 1).all() else {"sample_weight": w}
        return type(self).function(p, t, **weight, **self.options)
