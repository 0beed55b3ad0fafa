"""What all optimizers share: groups of parameters with options of their own, the state of each
parameter, saving and loading.

What varies between steps is a Buffer and changes through effects alone: each group's `lr`, each parameter's
moments and step counter. So a recorded step sees a new rate, and a checkpoint is a list of arrays. Every
other option is a Python number, a constant of a recording.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, GraphError, ShapeError

from ..devices import constant, follow, on_host
from ..engine.core import Tensor, enable_grad, no_grad
from ..nn.parameter import Buffer
from ..ops.creation import zeros_like
from ..ops.update import assign

INITIAL = "initial_lr"
"""The key under which a schedule leaves the rate that a group began with."""


class Group(UserDict):
    """Options of one group of parameters, `params` among them. `group["lr"] = 0.01` writes
    into the Buffer that is there.
    """

    def __init__(self, optimizer: type[Optimizer], options: Mapping[str, Any]) -> None:
        super().__init__()
        self._optimizer = optimizer
        self.data.update(options)

    def buffer(self, name: str) -> Buffer:
        """The Buffer of an option that may vary between steps, which a recorded step reads."""
        return self.data[name]

    def __setitem__(self, name: str, value: Any) -> None:
        who = self._optimizer.__name__
        if name == INITIAL:
            self.data[name] = value
            return
        if name not in self._options():
            raise KeyError(f"{who}: expected one of the options {sorted(self._options())}, got {name!r}")
        if not isinstance(value, Tensor):  # whose value must not be looked at: the step may be recorded
            self._optimizer.check({**self.data, name: value})
        if name == "lr":
            with no_grad():
                assign(self.data["lr"], value)
        else:
            self.data[name] = value

    def __delitem__(self, name: str) -> None:
        raise KeyError(f"{self._optimizer.__name__}: expected the option {name!r} to stay")

    def _options(self) -> set[str]:
        return self.data.keys() - {"params", "param_names", INITIAL}


class Optimizer:
    """Base of all optimizers. A subclass gives `check`, `moments` and `update`, each
    for the options of one group.

    Args:
        params: what to optimize: leaf tensors, (name, tensor) pairs as from `model.named_parameters()`, or
            dicts with such a list under "params" and options that differ from the defaults.
        defaults: the options, "lr" among them.

    Attributes:
        param_groups: a `Group` each.
        state: for each parameter its moments, shaped as it is, and `step`, int64: how often it was updated.

    Raises:
        ValueError: nothing to optimize, a parameter twice, an option out of range.
        TypeError, GraphError, DtypeError, ShapeError: a parameter that is no tensor, no leaf,
        not floating, not contiguous.
    """

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, dict[str, Buffer]] = {}
        if isinstance(params, (Tensor, set, frozenset, Mapping)):
            raise TypeError(f"{self}: expected a list of parameters, got {type(params).__name__}")
        given = list(params)
        if not given:
            raise ValueError(f"{self}: expected parameters, got an empty list")
        for options in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(options)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of range."""
        raise NotImplementedError

    @staticmethod
    def moments(options: Mapping[str, Any]) -> Sequence[str]:
        """Names of the arrays that are kept for each parameter."""
        raise NotImplementedError

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], *state: list[Buffer]) -> None:
        """Update `params` by one effect. `state`: a list for each of the moments, and where there are any one
        of the steps, which the effect advances.
        """
        raise NotImplementedError

    def add_param_group(self, options: Mapping[str, Any]) -> None:
        """One more group: {"params": [...], "weight_decay": 0.1, ...}; what it does
        not say is as in `defaults`.
        """
        if not isinstance(options, Mapping) or "params" not in options:
            raise TypeError(
                f"{self}: expected a dict with 'params' for each group, got {type(options).__name__}"
            )
        unknown = sorted(options.keys() - {"params", *self.defaults})
        if unknown:
            raise ValueError(f"{self}: expected options out of {sorted(self.defaults)}, got {unknown}")
        settings = {**self.defaults, **options}
        self.check(settings)
        given = [options["params"]] if isinstance(options["params"], Tensor) else list(options["params"])
        pairs: list[tuple[Any, Any]] = [
            p if isinstance(p, tuple) and len(p) == 2 else (None, p) for p in given
        ]
        seen = set(self.state)
        for number, (name, p) in enumerate(pairs, start=len(seen)):
            self._check_parameter(p, name or number)
            if p in seen:
                raise ValueError(
                    f"{self}: expected each parameter once, got {name or number} {p.shape} again"
                )
            seen.add(p)
        settings |= {"lr": Buffer(float(settings["lr"]), np.float64), "params": [p for _, p in pairs]}
        if all(name is not None for name, _ in pairs):
            settings["param_names"] = [name for name, _ in pairs]
        self.param_groups.append(Group(type(self), settings))
        for p in settings["params"]:
            self._kept(p, self.moments(settings))

    def zero_grad(self) -> None:
        """Set `.grad` of every parameter to None."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a `.grad`. A `closure` that computes them is
        called first; returns its result.
        """
        result = None
        if closure is not None:
            with enable_grad():
                result = closure()
        with no_grad():
            for group in self.param_groups:
                grads = {p: p.grad for p in group["params"]}
                params = [p for p, g in grads.items() if g is not None]
                if params:
                    follow([group["lr"]], params[0].device)
                    kept = [self._kept(p, self.moments(group)) for p in params]
                    self.update(
                        group, params, [grads[p] for p in params], *map(list, zip(*kept, strict=True))
                    )
        return result

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's layout: {"state": {number of the parameter: {name: tensor}}, "param_groups": [options]}.

        Parameters are numbered through the groups. The tensors share memory with the
        optimizer; the rest is ready for JSON.
        """
        numbers = {p: i for i, p in enumerate(self.state)}
        return {
            "state": {
                numbers[p]: {name: t.detach() for name, t in own.items()}
                for p, own in self.state.items()
                if own
            },
            "param_groups": [
                {**group.data, "lr": group["lr"].item(), "params": [numbers[p] for p in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from the `state_dict` of an optimizer of the same groups, in place. Nothing is
        written unless all of it fits.

        Raises:
            ValueError: groups, names, options or state other than this optimizer's.
        """
        own, groups = self.state_dict(), state_dict["param_groups"]
        # JSON makes strings of numbers
        state = {int(number): arrays for number, arrays in state_dict["state"].items()}
        for what, describe in (
            (
                "groups",
                lambda groups, _: [
                    (sorted(group.keys() - {INITIAL}), group["params"], group.get("param_names"))
                    for group in groups
                ],
            ),
            (
                "state",
                lambda _, state: {
                    f"{i}.{name}": np.shape(a) for i, kept in state.items() for name, a in kept.items()
                },
            ),
        ):
            expected, got = describe(own["param_groups"], own["state"]), describe(groups, state)
            if expected != got:
                raise ValueError(f"{self}.load_state_dict: {what}: expected {expected}, got {got}")
        for theirs in groups:
            self.check(theirs)
        for group, theirs in zip(self.param_groups, groups, strict=True):
            for name in (*self.defaults, *theirs.keys() & {INITIAL}):
                group[name] = theirs[name]
        with no_grad():
            for kept, theirs in zip(
                self.state.values(), (state.get(i, {}) for i in range(len(self.state))), strict=True
            ):
                for name, value in theirs.items():
                    assign(kept[name], constant(kept[name], on_host(value)))

    def _kept(self, p: Tensor, names: Sequence[str]) -> list[Buffer]:
        """The moments of a parameter and its step counter, zeros where they are new."""
        kept = self.state.setdefault(p, {})
        for name in names:
            if name not in kept:
                kept[name] = Buffer(zeros_like(p))
            if kept[name].dtype != p.dtype:
                raise DtypeError(
                    f"{self}: expected {name} in its parameter's {p.dtype}, got {kept[name].dtype}: "
                    "make the optimizer once the model has its dtype"
                )
        if names and "step" not in kept:
            kept["step"] = Buffer(0)
        follow(kept.values(), p.device)
        return [kept[name] for name in (*names, "step")] if names else []

    def _check_parameter(self, p: Any, name: Any) -> None:
        if not isinstance(p, Tensor):
            raise TypeError(f"{self}: expected parameter {name} to be a tensor, got {type(p).__name__}")
        if p.node is not None:
            raise GraphError(
                f"{self}: expected parameter {name} to be a leaf, got the result of {p.node.primitive.name}"
            )
        if p.dtype.kind != "f":
            raise DtypeError(f"{self}: expected parameter {name} in floating point, got {p.dtype}")
        if not p.array.flags.c_contiguous:
            raise ShapeError(
                f"{self}: expected parameter {name} contiguous, got {p.shape} with strides {p.array.strides}"
            )

    def __repr__(self) -> str:
        return type(self).__name__
