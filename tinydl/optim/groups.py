"""Groups of parameters, each with options of its own; weight decay only where it is asked for."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import GraphError
from tinydl_kernels.update import State

from ..engine.core import Tensor, no_grad
from ..engine.state import state
from ..nn.module import Module
from ..nn.parameter import Buffer
from ..ops.update import assign

__all__ = ["decay_groups", "layer_groups"]


class Group(UserDict):
    """Options of one group of parameters, `params` among them, and whatever else a user keeps there.

    An option that is a number, or a tuple of numbers, is *dynamic*: it lies in a float64 Buffer, so that a
    recorded step sees a new value.

        group["lr"]            a float (`betas`: a tuple of floats), what it is now
        group["lr"] = 0.01     writes into the Buffer; also inside a recorded step, and with a tensor
        group.buffer("lr")     the Buffer, 0-d (`betas`: of shape (2,)): recorded steps and schedules read it

    Any other option (True, None, "name") is *structural*, as are the numbers that the optimizer's class names
    so: a recorded step is recorded anew when one changes. So it is when a number is set that decides which
    states there are: a momentum of 0, which needs none.
    """

    def __init__(
        self, who: str, options: Mapping[str, Any], structural: frozenset[str], cls: Any, params: list[Tensor]
    ) -> None:
        super().__init__()
        self._who, self._cls = who, cls
        self._options = frozenset(options)
        self._buffers: dict[str, Buffer] = {}
        for name, value in options.items():
            value = self.data[name] = _frozen(value.tolist() if isinstance(value, Tensor) else value)
            if name not in structural and _is_number(value):
                self.data[name] = _floats(value)
                self._buffers[name] = Buffer(np.array(value, np.float64))
        self.data["params"] = params
        self._restructure()
        for name, spec in self.states.items():
            if spec.per == "group":
                self.data[name] = float(spec.initial)
                self._buffers[name] = Buffer(np.array(spec.initial, np.int64 if spec.whole else np.float64))

    def buffer(self, name: str) -> Buffer:
        """The Buffer of a dynamic option, or of a state of the group. KeyError for anything else."""
        if name not in self._buffers:
            raise KeyError(f"{self._who}: expected one of the buffers {sorted(self._buffers)}, got {name!r}")
        return self._buffers[name]

    @property
    def buffers(self) -> Mapping[str, Buffer]:
        """The Buffers by name."""
        return self._buffers

    def __getitem__(self, name: str) -> Any:
        if name not in self._buffers:
            return super().__getitem__(name)
        if state.recorder is not None:
            raise GraphError(
                f"{self._who}: expected group.buffer({name!r}) in a recorded step, got group[{name!r}], a "
                "number that stays as it is when the step is replayed"
            )
        return _frozen(self._buffers[name].tolist())

    def __setitem__(self, name: str, value: Any) -> None:
        if name in ("params", "param_names"):
            raise KeyError(f"{self._who}: expected {name!r} to stay: add_param_group adds parameters")
        if isinstance(value, Tensor) and name in self._buffers:
            with no_grad():  # whose value must not be looked at: the step may be recorded
                assign(self._buffers[name], value)
            return
        if name not in self._options and name not in self._buffers:
            self.data[name] = value
            return
        value = _frozen(value)
        if name in self._buffers:
            if not _is_number(value) or np.shape(value) != self._buffers[name].shape:
                raise ValueError(f"{self._who}: {name}: expected {self._described(name)}, got {value!r}")
            value = _floats(value)
        if name in self._options:
            self._cls.check({**self.options, name: value})
        self.data[name] = value
        if name in self._buffers:
            with no_grad():
                assign(self._buffers[name], list(value) if isinstance(value, tuple) else value)
        self._restructure()

    def load(self, values: Mapping[str, Any]) -> None:
        """Set options and other values all at once; that they fit was checked."""
        for name, value in values.items():
            if name in self._buffers:
                value = _floats(_frozen(value))
                with no_grad():
                    assign(self._buffers[name], list(value) if isinstance(value, tuple) else value)
            self.data[name] = _frozen(value) if name in self._options else value
        self._restructure()

    def __delitem__(self, name: str) -> None:
        if name in self._options or name in self._buffers or name in ("params", "param_names"):
            raise KeyError(f"{self._who}: expected the option {name!r} to stay")
        del self.data[name]

    def __repr__(self) -> str:
        return repr({**self.data, **{name: x.tolist() for name, x in self._buffers.items()}})

    @property
    def options(self) -> dict[str, Any]:
        """The options as they were set last; what effects (a schedule) have written since is not read."""
        return {name: self.data[name] for name in self._options}

    @property
    def structural(self) -> dict[str, Any]:
        """The options that are no Buffers."""
        return {name: self.data[name] for name in sorted(self._options) if name not in self._buffers}

    def _restructure(self) -> None:
        """Bring up to date what follows from options: the states, and what a recording depends on."""
        self.states: Mapping[str, State] = self._cls.states(self.options)
        self.structure = tuple(self.structural.items()), tuple(self.states.items()), len(self.data["params"])

    def _described(self, name: str) -> str:
        size = self._buffers[name].shape
        return f"{size[0]} numbers" if size else "a number"


def _frozen(value: Any) -> Any:
    """A value of an option with tuples for lists, as JSON has them."""
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _floats(value: Any) -> Any:
    """A number, or a tuple of numbers, as floats."""
    return tuple(map(_floats, value)) if isinstance(value, tuple) else float(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_number, value))
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def decaying_names(named: Mapping[str, Tensor]) -> set[str]:
    """Of parameters by name those that decay: the ones of more than one dim, of a weight under `weight_norm`
    the length.
    """
    lengths = {name for name in named if name.endswith("_g") and f"{name[:-1]}v" in named}
    directions = {f"{name[:-1]}v" for name in lengths}
    return {name for name, p in named.items() if p.ndim > 1 and name not in directions} | lengths


def decay_groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: weights of more than one dim decay, biases and the
    scales of normalizations do not. Of a weight under `weight_norm` the length g decays, the direction v does
    not.

        optimizer = SGD(decay_groups(model, 5e-4), lr=0.1, momentum=0.9)

    These are the convolution filters and the matrices of fully connected layers, what Varga et
    al. (arXiv 1712.09936) decay.
    """
    named = dict(model.named_parameters())
    decaying = decaying_names(named)
    groups = [
        {
            "params": [(name, p) for name, p in named.items() if name in decaying],
            "weight_decay": weight_decay,
        },
        {"params": [(name, p) for name, p in named.items() if name not in decaying], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def layer_groups(model: Module, decay: float = 0.8) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, one per layer: the rate of the last layer is the optimizer's, that
    of each layer before it `decay` times that of the next.

        optimizer = AdamW(layer_groups(model, 0.8), lr=1e-3)

    A layer is a module with parameters of more than one dim; biases and normalizations belong to the layer
    before them (those before the first layer to the first). Layers count in the order in which the model has
    its modules. Discriminative fine-tuning: Howard & Ruder, Universal language model fine-tuning for text
    classification, arXiv 1801.06146, section 3.2.

    Raises:
        ValueError: decay is not above 0.
    """
    if not decay > 0:
        raise ValueError(f"layer_groups: decay: expected a number above 0, got {decay}")
    layers: list[list[tuple[str, Tensor]]] = [[]]
    home = None  # of the present layer's weights
    for name, p in model.named_parameters():
        module = name.rpartition(".")[0]
        if p.ndim > 1 and module != home:
            if home is not None:
                layers.append([])
            home = module
        layers[-1].append((name, p))
    return [
        {"params": layer, "lr_scale": decay**depth}
        for depth, layer in zip(reversed(range(len(layers))), layers, strict=True)
        if layer
    ]
