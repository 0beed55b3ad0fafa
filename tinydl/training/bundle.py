"""A trained model with all that it takes to use it, in one file without code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from .. import models
from ..archives import reason
from ..data.datasets.pictures import read_pictures
from ..data.transforms import Normalize
from ..devices import on_host
from ..engine.core import no_grad
from ..files import DataError
from ..nn.module import Module
from ..ops.creation import from_numpy
from ..regularizers.passes import in_mode
from . import checkpoint

__all__ = ["Bundle", "Predictions", "load_bundle", "save_bundle"]

KEYS = {
    *("architecture", "arguments", "input", "classes", "mean", "std"),
    *("temperature", "threshold", "abstain_below"),
}
LARGEST = 100_000
"""Of the whole numbers among a network's arguments in a file: more would be a trap for the memory."""


class Predictions(NamedTuple):
    """What a bundle says of n samples.

    Attributes:
        probabilities: float64 (n, classes).
        labels: int64 (n,), the numbers of the classes chosen.
        classes: their names.
        abstained: bool (n,): the largest probability is too small to say.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    classes: list[str]
    abstained: np.ndarray


class Bundle:
    """A model from a file, ready to predict; `load_bundle` makes it.

    Attributes:
        model: in evaluation mode.
        about: what else the file holds, by the names of `save_bundle`.
    """

    def __init__(self, model: Module, about: Mapping[str, Any]) -> None:
        self.model, self.about = model.eval(), dict(about)
        self._dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))

    @property
    def classes(self) -> list[str]:
        return list(self.about["classes"])

    def predict(self, data: Any, *, batch_size: int = 500) -> Predictions:
        """Classes of pictures, normalized as the training pictures were.

        Args:
            data: paths of picture files, brought to the size that the model takes; or an array
                (n, C, H, W) in the unit of the training pictures.
            batch_size: pictures in a pass.

        Raises:
            DataError: files that cannot be read.
            ShapeError: an array of another shape, or a model of another number of classes.
        """
        images = self._images(data)
        scores = [self._scores(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
        z = np.concatenate(scores) if scores else np.zeros((0, len(self.classes)))
        p = np.exp(z - z.max(1, keepdims=True, initial=-np.inf))
        p /= p.sum(1, keepdims=True)
        labels = p.argmax(1)
        if self.about["threshold"] is not None:
            labels = (p[:, 1] >= self.about["threshold"]).astype(np.int64)
        abstained = p.max(1, initial=0.0) < self.about["abstain_below"]
        return Predictions(p, labels, [self.classes[label] for label in labels], abstained)

    def _images(self, data: Any) -> np.ndarray:
        C, H, W = self.about["input"]
        if isinstance(data, (str, os.PathLike)):
            data = [data]
        if isinstance(data, Sequence) and data and all(isinstance(x, (str, os.PathLike)) for x in data):
            return read_pictures("Bundle", Path(), [str(x) for x in data], (H, W), C, "raise")[0]
        images = on_host(data)
        if images.ndim != 4 or images.shape[1:] != (C, H, W):
            raise ShapeError(
                f"Bundle.predict: expected files or an array (n, {C}, {H}, {W}), got {images.shape}"
            )
        return images

    def _scores(self, images: np.ndarray) -> np.ndarray:
        """Logits over the temperature, float64 (n, classes)."""
        if self.about["mean"] is not None:
            images = Normalize(self.about["mean"], self.about["std"])(images)
        with no_grad(), in_mode(self.model, "eval"):
            z = on_host(self.model(from_numpy(np.ascontiguousarray(images, self._dtype)))).astype(np.float64)
        if z.ndim == 2 and z.shape[1] == 1:  # the logit of class 1
            z = np.concatenate([np.zeros_like(z), z], 1)
        if z.ndim != 2 or z.shape[1] != len(self.classes):
            raise ShapeError(f"Bundle.predict: expected logits (n, {len(self.classes)}), got {z.shape}")
        return z / self.about["temperature"]

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.about["input"]))
        return f"Bundle({self.about['architecture']}, {shape}, {len(self.classes)} classes)"


def save_bundle(
    path: str | os.PathLike[str],
    model: Module,
    architecture: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    input: Sequence[int],
    classes: Sequence[str],
    normalize: Normalize | None = None,
    temperature: float = 1.0,
    threshold: float | None = None,
    abstain_below: float = 0.0,
) -> None:
    """Write a model with all that it takes to use it: safetensors, and JSON in its header.

    Args:
        path: the file; whole or not at all.
        model: trained.
        architecture: the name of its class or function in `td.models`, or of one that `load_bundle` is given.
        arguments: that it was made with: numbers, words, lists of them.
        input: (C, H, W) of the pictures.
        classes: their names, by number.
        normalize: what the training pictures went through; None: nothing.
        temperature: that logits are divided by (`td.metrics.fit_temperature`).
        threshold: with two classes, the probability from which on it is class 1, found on validation
            (`td.metrics.operating_point`); None: the more probable one.
        abstain_below: predictions whose largest probability is less are marked.

    Raises:
        ValueError: settings out of range.
        CheckpointError: arguments that JSON cannot say.
        DataError: the file cannot be written.
    """
    about = {
        "architecture": str(architecture),
        "arguments": dict(arguments or {}),
        "input": [int(size) for size in input],
        "classes": [str(name) for name in classes],
        "mean": None if normalize is None else normalize.mean.tolist(),
        "std": None if normalize is None else normalize.std.tolist(),
        "temperature": float(temperature),
        "threshold": None if threshold is None else float(threshold),
        "abstain_below": float(abstain_below),
    }
    if wrong := _wrong(about):
        raise ValueError(f"save_bundle: {wrong}")
    checkpoint.save(path, model=model, bundle=about)


def load_bundle(path: str | os.PathLike[str], make: Mapping[str, Any] | None = None) -> Bundle:
    """A model from a file, ready to predict. Nothing in the file is code: its network is one of `td.models`,
    or of `make`.

    Args:
        path: what `save_bundle` wrote.
        make: further networks: the name of an architecture -> the class or function that makes it.

    Raises:
        DataError: no such file, or not a whole bundle; a network that is not known or whose weights do not
            fit.
    """
    held = checkpoint.read(path)
    about = held.values.get("bundle")
    if not isinstance(about, dict) or about.keys() != KEYS:
        raise DataError(f"{path}: expected a bundle, got a checkpoint of something else")
    if wrong := _wrong(about):
        raise DataError(f"{path}: {wrong}")
    name = about["architecture"]
    known = {name: getattr(models, name) for name in models.__all__} | dict(make or {})
    if name not in known:
        raise DataError(f"{path}: expected a network out of {', '.join(sorted(known))}, got {name[:50]!r}")
    try:
        model = known[name](**about["arguments"])
        dtypes = {x.dtype for x in held.state["model"].values() if x.dtype.kind == "f"}
        if dtypes == {np.dtype(np.float64)}:
            model.to(np.float64)
        model.load_state_dict(held.state["model"])
    except (TypeError, ValueError, KeyError, AttributeError, ShapeError, DtypeError) as error:
        raise DataError(f"{path}: its weights do not fit {name}: {reason(error)}") from error
    return Bundle(model, about)


def _wrong(about: Mapping[str, Any]) -> str:
    """What is wrong with the settings of a bundle; "" if nothing."""

    def numbers(x: Any, low: float, high: float) -> bool:
        return isinstance(x, list) and all(type(n) in (int, float) and low < n < high for n in x)

    def small(x: Any) -> bool:
        parts = x.values() if isinstance(x, dict) else x if isinstance(x, list) else ()
        return all(map(small, parts)) and not (type(x) is int and abs(x) > LARGEST)

    names = about["classes"] if isinstance(about["classes"], list) else []
    checks = {
        "architecture": isinstance(about["architecture"], str),
        "arguments": isinstance(about["arguments"], dict) and small(about["arguments"]),
        "input": numbers(about["input"], 0, LARGEST)
        and len(about["input"]) == 3
        and all(type(size) is int for size in about["input"]),
        "classes": len(names) >= 2 and all(isinstance(name, str) for name in names),
        "mean": about["mean"] is None or numbers(about["mean"], -np.inf, np.inf),
        "std": (about["std"] is None) == (about["mean"] is None)
        and (about["std"] is None or numbers(about["std"], 0, np.inf)),
        "temperature": numbers([about["temperature"]], 0, np.inf),
        "threshold": about["threshold"] is None or (numbers([about["threshold"]], 0, 1) and len(names) == 2),
        "abstain_below": numbers([about["abstain_below"]], -1e-9, 1),
    }
    told = {
        "architecture": "a name",
        "arguments": f"a mapping, of whole numbers up to {LARGEST:,}",
        "input": "(C, H, W)",
        "classes": "the names of two or more",
        "mean": "numbers, or none",
        "std": "as many numbers above 0 as means",
        "temperature": "a number above 0",
        "threshold": "none, or a number between 0 and 1 with two classes",
        "abstain_below": "a number from 0 to below 1",
    }
    for name, right in checks.items():
        if not right:
            return f"{name}: expected {told[name]}, got {str(about[name])[:50]}"
    return ""


def table(found: Predictions, files: Sequence[str]) -> str:
    """Lines of file, class and probability, for a terminal."""
    width = max(map(len, files), default=0)
    lines = [
        f"{file:{width}}  {p[label]:6.1%}  {name}{'  (unsure)' if unsure else ''}"
        for file, p, label, name, unsure in zip(files, *found, strict=True)
    ]
    return "\n".join(lines) + "\n" * bool(lines)
