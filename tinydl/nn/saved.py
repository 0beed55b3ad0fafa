"""Loading the state of a module: all of it fits, or nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant, on_host
from ..engine.core import Tensor, no_grad
from ..ops.update import assign


class Keys(NamedTuple):
    """What loading a state left aside, as PyTorch names it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load(module: Any, base: type, state_dict: Mapping[str, Any], strict: bool) -> Keys:
    """`Module.load_state_dict`; `base` is Module, whose subclasses may override it."""
    own: dict[str, Tensor] = {}
    others: dict[str, Any] = {}  # modules below that load by themselves, by their prefix
    _collect(module, base, "", own, others)
    of_others: dict[str, dict[str, Any]] = {prefix: {} for prefix in others}
    given = {}
    for name, value in state_dict.items():
        prefix = next((p for p in others if name.startswith(p)), None)
        if prefix is None:
            given[name] = value
        else:
            of_others[prefix][name.removeprefix(prefix)] = value
    counters = [
        name
        for name in own.keys() - given.keys()
        if name.endswith("num_batches_tracked")
        and f"{name.removesuffix('num_batches_tracked')}running_mean" in given
    ]
    missing = [name for name in own if name not in given and name not in counters]
    unexpected = [name for name in given if name not in own]
    arrays = {name: value for name, value in given.items() if name in own}
    wrong = [
        f"{name}: expected {own[name].shape}, got {np.shape(a)}"
        for name, a in arrays.items()
        if np.shape(a) != own[name].shape
    ]
    wrong += [f"missing {name}" for name in missing if strict]
    wrong += [f"unexpected {name}" for name in unexpected if strict]
    if wrong:
        raise ShapeError(f"load_state_dict of {type(module).__name__}: {'; '.join(wrong)}")
    fitting = {
        name: constant(own[name], on_host(array).astype(own[name].dtype)) for name, array in arrays.items()
    }
    for prefix, other in others.items():
        part = of_others[prefix]
        left = other.load_state_dict(part) if strict else other.load_state_dict(part, strict=False)
        if isinstance(left, tuple) and len(left) == 2:
            for names, more in zip((missing, unexpected), left, strict=True):
                names += [prefix + name for name in more]
    with no_grad():
        for name in counters:
            assign(own[name], 0)
        for name, array in fitting.items():
            assign(own[name], array)
    return Keys(missing, unexpected)


def _collect(module: Any, base: Any, prefix: str, own: dict[str, Tensor], others: dict[str, Any]) -> None:
    """What is saved of a module and those below it; but those that override `load_state_dict` come apart."""
    own |= {prefix + name: value.detach() for name, value in module.saved_tensors()}
    for name, child in module._modules.items():
        if child is None:
            continue
        path = f"{prefix}{name}."
        if "load_state_dict" in vars(child) or type(child).load_state_dict is not base.load_state_dict:
            others[path] = child
        else:
            _collect(child, base, path, own, others)
