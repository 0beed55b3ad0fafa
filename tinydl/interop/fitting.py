"""Weights from elsewhere into a model that is not quite the one that they were saved of: names are brought to
the model's, what fits is loaded, and a report says what did not. `cut` ends a net at one of its layers.

    print(fit_weights(model, "resnet18.pth", skip=["fc"]))
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from ..nn.module import Module
from .weights import load_weights

PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.", "backbone.", "encoder.", "state_dict.")
"""What wrappers put before the names: DataParallel, Lightning, torch.compile, ..."""


TIMM = {
    r"^pre_logits\.fc1\.": "classifier.0.",
    r"^pre_logits\.fc2\.": "classifier.3.",
    r"^head\.fc\.": "classifier.6.",
}
"""timm's names -> torchvision's, which the nets of `td.models` have: the upper layers of VGG, of which it has
convolutions. Its ResNets and DenseNets have torchvision's.
"""


class Fitted(NamedTuple):
    """What `fit_weights` did; prints as a report.

    Attributes:
        loaded: names of the model that were given their values.
        missing: names of the model that the file has not.
        unexpected: names of the file that the model has not.
        wrong_shape: "name: expected shape, got shape" of those that are in both.
        skipped: names of the model that were left out on demand.
        prefix: what was taken off the names of the file.
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    wrong_shape: list[str]
    skipped: list[str]
    prefix: str

    def __str__(self) -> str:
        lines = [f"loaded {len(self.loaded)} of {len(self.loaded) + len(self.missing) + len(self.skipped)}"]
        lines[0] += f", {self.prefix!r} taken off" if self.prefix else ""
        for what in ("missing", "unexpected", "wrong_shape", "skipped"):
            if names := getattr(self, what):
                shown = [*names[:8], "..."] if len(names) > 8 else names
                lines.append(f"{what.replace('_', ' ')} ({len(names)}): {', '.join(shown)}")
        return "\n".join(lines)


def fit_weights(
    model: Module,
    weights: Mapping[str, Any] | str | os.PathLike[str],
    *,
    prefix: str | None = None,
    rename: Mapping[str, str] | None = None,
    only: Iterable[str] | None = None,
    skip: Iterable[str] = (),
    key: str | None = None,
) -> Fitted:
    """Load what fits and say what does not. Nothing is written if nothing fits.

    Names may be timm's where the model's are torchvision's. The weight (O, C, H, W) of a convolution over the
    whole of its input fits a linear layer, as (O, C·H·W).

    Args:
        model: whose parameters and buffers are overwritten.
        weights: arrays by name, or a file of them (`load_weights`).
        prefix: to take off the names. None: those of common wrappers, while that makes more names the
        model's. rename: regular expressions -> replacements, applied to each name in turn after the prefix.
        only: names of layers; the others keep their values: a net is cut there, the upper layers start anew.
        skip: names of layers that keep their values, such as the last one for other classes.
        key: where in a .pt file the state_dict is.

    Raises:
        ValueError: two names of the file become one; a layer of `only` or `skip` that the model has not.
        ShapeError: nothing fits.
        DataError, DtypeError: of `load_weights`.
    """
    given = load_weights(weights, key) if isinstance(weights, (str, os.PathLike)) else dict(weights)
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    only, skip = None if only is None else tuple(only), tuple(skip)
    for layer in (*(only or ()), *skip):
        if not _below(layer, own):
            raise ValueError(f"fit_weights: {type(model).__name__} has no layer {layer!r}")
    taken = _prefix(given, own, rename or {}) if prefix is None else prefix
    found: dict[str, Any] = {}
    for name, value in given.items():
        new = _named(name, taken, rename or {}, own)
        if new in found:
            raise ValueError(f"fit_weights: two of the names become {new!r}, one of them {name!r}")
        found[new] = _flat(value, own.get(new, ()))
    left_out = set() if only is None else own.keys() - _below_any(only, own)
    left_out |= _below_any(skip, own)
    shapes = {name: tuple(np.shape(value)) for name, value in found.items()}
    fitting = [name for name in own if name in found and name not in left_out and shapes[name] == own[name]]
    wrong = [
        f"{name}: expected {own[name]}, got {shapes[name]}"
        for name in own
        if name in found and name not in left_out and shapes[name] != own[name]
    ]
    counters = {name for name in own if name.endswith("num_batches_tracked") and name not in found}
    missing = [name for name in own if name not in fitting and name not in left_out and name not in counters]
    if not fitting:
        why = wrong[0] if wrong else _examples(own, found)
        raise ShapeError(f"fit_weights: nothing fits {type(model).__name__}: {why}")
    model.load_state_dict({name: found[name] for name in fitting}, strict=False)
    unexpected = [name for name in found if name not in own]
    skipped = [name for name in own if name in left_out]
    return Fitted(fitting, missing, unexpected, wrong, skipped, taken)


def _examples(own: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    return f"it has {next(iter(own), 'no name')}, ..., the weights {next(iter(found), 'no name')}, ..."


def _named(name: str, prefix: str, rename: Mapping[str, str], own: Mapping[str, Any]) -> str:
    """What a name of the file is called in the model."""
    name = _renamed(name.removeprefix(prefix), rename)
    return name if name in own or (known := _renamed(name, TIMM)) not in own else known


def _renamed(name: str, rename: Mapping[str, str]) -> str:
    for pattern, replacement in rename.items():
        name = re.sub(pattern, replacement, name)
    return name


def _flat(value: Any, wanted: tuple[int, ...]) -> Any:
    """The weight of a convolution as that of the linear layer that it is, if that is wanted."""
    shape = np.shape(value)
    linear = len(shape) == 4 and wanted == (shape[0], math.prod(shape[1:]))
    return np.asarray(value).reshape(wanted) if linear else value


def _below(layer: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name == layer or name.startswith(f"{layer}.")]


def _below_any(layers: Iterable[str], names: Iterable[str]) -> set[str]:
    names = list(names)
    return {name for layer in layers for name in _below(layer, names)}


def _prefix(given: Mapping[str, Any], own: Mapping[str, Any], rename: Mapping[str, str]) -> str:
    """The wrappers' prefixes that make most names the model's."""

    def fitting(taken: str) -> int:
        return sum(_named(name, taken, rename, own) in own for name in given)

    taken, best = "", fitting("")
    tried = [""]
    for start in tried:  # which grows while names begin with one more of them
        for more in PREFIXES:
            longer = start + more
            if len(tried) < 50 and any(name.startswith(longer) for name in given):
                tried.append(longer)
                if (count := fitting(longer)) > best:
                    taken, best = longer, count
    return taken


class _ReachedError(Exception):
    def __init__(self, output: Any) -> None:
        self.output = output


class Cut(Module):
    """A net up to one of its layers, whose output it gives; see `cut`."""

    def __init__(self, body: Module, layer: str) -> None:
        super().__init__()
        self.body, self.layer = body, layer

    def forward(self, *inputs: Any) -> Tensor:
        def stop(module: Module, given: Any, output: Any) -> None:
            raise _ReachedError(output)

        remove = self.body.get_submodule(self.layer).register_forward_hook(stop)
        try:
            self.body(*inputs)
        except _ReachedError as reached:
            return reached.output
        finally:
            remove()
        raise ValueError(f"Cut: {self.layer!r} took no part in this forward pass")


def cut(model: Module, layer: str) -> Cut:
    """The net up to the layer of this name, which ends the forward pass: features for something new on top.

        features = cut(resnet, "layer2")
        td.nn.Sequential(features, td.nn.GlobalAvgPool2d(), td.nn.Linear(32, 10))

    The layers above stay among its parameters, without gradients.

    Raises:
        ValueError: no such layer.
    """
    if layer not in dict(model.named_modules()) or not layer:
        raise ValueError(f"cut: {type(model).__name__} has no layer {layer!r}")
    return Cut(model, layer)
