"""What all optimizers share: groups of parameters with options of their own, states, saving and loading; and
the contract by which an optimizer is one file.

A new optimizer states its options, its states and its formula:

    class FirstMoment(Optimizer):
        def __init__(self, params, lr=1e-2, beta=0.9, maximize=False):
            super().__init__(params, {"lr": lr, "beta": beta, "maximize": maximize})

        @classmethod
        def check(cls, options):                    # refuse options out of range
            at_least_0(cls, options, "lr")

        @classmethod
        def states(cls, options):                   # what is remembered; see State
            return {"average": State(), "step": State("parameter", whole=True)}

        @classmethod
        def scalars(cls, o, s):                     # numbers, in float64: once per parameter and step
            s.step = s.step + 1
            return {"rate": o.lr / (1.0 - o.beta**s.step)}

        @classmethod
        def element(cls, o, s, c, p, g):            # returns the new value of each element of a parameter
            d = -g if o.maximize else g
            s.average = o.beta * s.average + (1.0 - o.beta) * d
            return p - c.rate * s.average

`scalars` and `element` are called once, on symbols: o.lr stands for a number, s.average and p for an element
of an array. What they do with the symbols is the update on every backend, operation by operation (NumPy,
Numba, CUDA: tinydl_kernels/update/). So there are no loops and no `if` on a symbol (`where(a < b, x, y)`
chooses); an `if` on what is known, as o.maximize or `"average" in s`, gives another formula. Functions of
symbols (sqrt, where, sign, ...) are those of tinydl_kernels.update.expression. What `element` takes from `o`,
or computes of numbers alone, is computed in float64 and cast once to the parameter's dtype; literals have the
dtype of what they meet.

A formula may have sums over the elements of a parameter (`total`, `dot`, `length`) or over those of all
parameters (`over="optimizer"`): numbers in float64, which coefficients and states per parameter or optimizer
may follow from. Then there are two passes over memory: the moments and the sums, the parameter.

        return p - o.lr * length(p) / length(g) * g

What a formula needs of whole arrays besides (products of matrices) `prepare` computes before it runs, in the
place of gradients; what is no formula of elements overrides `step`, as with PyTorch:

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]           # a dict of the parameter's own
                    ...
"""

from __future__ import annotations

import functools
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import DtypeError, GraphError, ShapeError
from tinydl_kernels.update import Rule, State, trace

from ..devices import constant, follow, on_host
from ..engine.core import Tensor, contiguous, enable_grad, no_grad
from ..engine.effect import happened
from ..engine.state import state as engine_state
from ..engine.tape import Version
from ..nn.parameter import Buffer
from ..ops.elementwise import add
from ..ops.update import assign, clear_gradients, optimizer_step
from . import hooks
from .groups import Group

__all__ = ["Optimizer"]

optimizers: weakref.WeakSet[Optimizer] = weakref.WeakSet()
"""Those that are alive: an objective asks how many steps its model's has taken."""


def _counted(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step with its hooks, which tells an objective that it was taken. A step of the base class that it
    calls is a part of it.
    """

    @functools.wraps(step)
    def counted(self: Optimizer, *args: Any, **settings: Any) -> Any:
        if self._stepping:
            return step(self, *args, **settings)
        if engine_state.recorder is not None:
            engine_state.recorder.seen.depends(self, Optimizer._structure)
        self._stepping = True
        try:
            given, settings = hooks.before(self._pre_hooks, self, (self, *args), settings)
            result = step(*given, **settings)
            happened(self.steps_taken)
            hooks.after(self._post_hooks, self, given, settings)
        finally:
            self._stepping = False
        return result

    return counted


class Optimizer:
    """Base of all optimizers; the head of this file says how to write one.

    Args:
        params: what to optimize: leaf tensors, (name, tensor) pairs as from `model.named_parameters()`, or
            dicts with such a list under "params" and options that differ from the defaults.
        defaults: the options, "lr" among them.

    Attributes:
        param_groups: a `Group` each.
        state: for each parameter a dict of its states, and of what a user keeps there.
        structural: names of the options that are numbers and yet no Buffers, because formulas branch on them.

    Raises:
        ValueError: nothing to optimize, a parameter twice, an option out of range.
        TypeError, GraphError, DtypeError, ShapeError: a parameter of the wrong type, no leaf,
        not floating, not contiguous.
    """

    structural: frozenset[str] = frozenset()
    element: Any = None
    """element(o, s, c, p, g), a classmethod: the new value of parameter p with gradient g. Sets the next
    value of states per element; `c` has what `scalars` returned.
    """

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.param_groups: list[Group] = []
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.shared: dict[str, Buffer] = {}  # states of the optimizer
        self.steps_taken = Version()  # its count: of step(), replays included
        self._rules: dict[Any, Rule] = {}
        self._pre_hooks: hooks.Hooks = {}
        self._post_hooks: hooks.Hooks = {}
        self._stepping = False
        optimizers.add(self)
        if isinstance(params, (Tensor, set, frozenset, Mapping)):
            raise TypeError(f"{self}: expected a list of parameters, got {type(params).__name__}")
        given = list(params)
        if not given:
            raise ValueError(f"{self}: expected parameters, got an empty list")
        for options in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(options)

    def __init_subclass__(cls, **options: Any) -> None:
        """Steps of a subclass's own are counted too."""
        super().__init_subclass__(**options)
        if "step" in vars(cls):
            cls.step = _counted(cls.step)  # type: ignore[method-assign]

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Raise ValueError for an option out of range."""

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        """The states by name, for these options."""
        return {}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        """From the options and the states that are one number each: set the next value of such states, and
        return further numbers by name.
        """
        return {}

    def prepare(self, groups: Sequence[tuple[Group, list[Tensor], list[Tensor]]]) -> None:
        """Before the formula runs, with (group, parameters, their gradients) of each group that has
        gradients: write states that come of whole arrays; put other tensors in the place of gradients, in
        the lists.
        """

    @classmethod
    def completed(cls, saved: dict[str, Any]) -> dict[str, Any]:
        """The saved states of a parameter with those that another library does not save."""
        return saved

    def add_param_group(self, options: Mapping[str, Any]) -> None:
        """One more group: {"params": [...], "weight_decay": 0.1, ...}; what it does not say is as in
        `defaults`. Names that are no options are the user's own; a number "lr_scale" among them multiplies
        an lr that the group does not say.
        """
        if not isinstance(options, Mapping) or "params" not in options:
            raise TypeError(
                f"{self}: expected a dict with 'params' for each group, got {type(options).__name__}"
            )
        settings = self.defaults | {name: options[name] for name in options.keys() & self.defaults.keys()}
        if "lr" not in options and "lr_scale" in options:
            settings["lr"] = settings["lr"] * options["lr_scale"]
        self.check(settings)
        given = [options["params"]] if isinstance(options["params"], Tensor) else list(options["params"])
        pairs: list[tuple[Any, Any]] = [
            p if isinstance(p, tuple) and len(p) == 2 else (None, p) for p in given
        ]
        seen = {p for group in self.param_groups for p in group["params"]}
        for number, (name, p) in enumerate(pairs, start=len(seen)):
            self._check_parameter(p, name or number)
            if p in seen:
                raise ValueError(
                    f"{self}: expected each parameter once, got {name or number} {p.shape} again"
                )
            seen.add(p)
        group = Group(str(self), settings, self.structural, type(self), [p for _, p in pairs])
        group.data.update(
            {name: options[name] for name in options.keys() - self.defaults.keys() - {"params"}}
        )
        if all(name is not None for name, _ in pairs):
            group.data["param_names"] = [name for name, _ in pairs]
        self.param_groups.append(group)
        self._remember(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set `.grad` of every parameter to None; or those that are there to zeros."""
        for group in self.param_groups:
            clear_gradients(group["params"], set_to_none)

    @_counted
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a `.grad`. A `closure` that computes them is
        called first; returns its result.
        """
        result = None
        if closure is not None:
            with enable_grad():
                result = closure()
        if self.element is None:
            return result
        taken: list[tuple[Group, list[Tensor], list[Tensor]]] = []
        with no_grad():
            for group in self.param_groups:
                params, grads = [], []
                for p in group.data["params"]:
                    g = p.grad
                    if g is not None:
                        params.append(p)
                        grads.append(g if g.array.flags.c_contiguous else contiguous(g))
                if params:
                    follow([*self.shared.values(), *group.buffers.values()], params[0].device)
                    taken.append((group, params, grads))
            self.prepare(taken)
            self._update(taken)
        return result

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> hooks.RemovableHandle:
        """Call hook(optimizer, args, kwargs) before each step, the closure not called yet; `args` begins with
        the optimizer. Returns what removes it.

        The hook returns None, or (args, kwargs) to step with. In a recorded step what it does is recorded;
        one that is added or removed later records the step anew.
        """
        return hooks.RemovableHandle(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> hooks.RemovableHandle:
        """Call hook(optimizer, args, kwargs) after each step; as `register_step_pre_hook`, but for what it
        returns, which nobody reads.
        """
        return hooks.RemovableHandle(self._post_hooks, hook)

    def _update(self, taken: Sequence[tuple[Group, list[Tensor], list[Tensor]]]) -> None:
        """One effect for each group; with sums in a formula two, the second when all have had the first."""
        steps = []
        for group, params, grads in taken:
            rule, buffers = self._rule(group), group.buffers
            states = [self.states_of(group, name, params) for name in (*rule.moments, *rule.numbers)]
            shared = [self.shared[name] if name in self.shared else buffers[name] for name in rule.shared]
            options = [buffers[name] for name in rule.options]
            steps.append(functools.partial(optimizer_step, rule, params, grads, states, shared, options))
        sums = [step(i == 0) for i, step in enumerate(steps)]
        again = [(step, x) for step, x in zip(steps, sums, strict=True) if x is not None]
        if again:
            overall = functools.reduce(add, [x.sum(0) for _, x in again])
            for i, (step, x) in enumerate(again):
                step(i == 0, (x, overall))

    def rules(self) -> list[Rule]:
        """The traced formula of each group."""
        return [self._rule(group) for group in self.param_groups]

    def _rule(self, group: Group) -> Rule:
        rule = self._rules.get(group.structure)
        if rule is None:
            sizes = {name: (x.shape[0] if x.shape else None) for name, x in group.buffers.items()}
            sizes = {name: size for name, size in sizes.items() if name not in group.states}
            rule = trace(str(self), sizes, group.structural, group.states, self.scalars, self.element)
            self._rules[group.structure] = rule
        return rule

    def states_of(self, group: Group, name: str, params: list[Tensor]) -> list[Buffer]:
        """A state of these parameters by its name, on their device."""
        found = []
        for p in params:
            own, array = self.state[p].get(name), p.array
            if own is None:
                self._remember(group)
                own = self.state[p][name]
            if type(own.array) is not type(array):
                follow([own], p.device)
            if own.array.dtype != array.dtype and group.states[name].per == "element":
                raise DtypeError(
                    f"{self}: expected {name} in its parameter's {p.dtype}, got {own.dtype}: "
                    "make the optimizer once the model has its dtype"
                )
            found.append(own)
        return found

    def _remember(self, group: Group) -> None:
        """Make the states that are not there yet, in memory that no recorder plans."""
        for name, spec in group.states.items():
            if spec.per == "optimizer" and name not in self.shared and group["params"]:
                self.shared[name] = made(spec, group["params"][0])
            if spec.per in ("element", "parameter"):
                for p in group["params"]:
                    if name not in self.state[p]:
                        self.state[p][name] = made(spec, p)

    def _structure(self) -> Any:
        """What a recorded step depends on besides arrays."""
        return [group.structure for group in self.param_groups], [*self._pre_hooks], [*self._post_hooks]

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's layout: {"state": {number of the parameter: {name: tensor}}, "param_groups": [options]}.

        Parameters are numbered through the groups. The tensors share memory with the optimizer; the rest is
        ready for JSON if what users keep there is. States of the optimizer, if it has any, are under
        "shared".
        """
        numbers = {p: i for i, p in enumerate(self._parameters())}
        state = {
            number: {name: x.detach() if isinstance(x, Tensor) else x for name, x in self.state[p].items()}
            for p, number in numbers.items()
            if self.state.get(p)
        }
        groups = [
            {**{name: group[name] for name in group}, "params": [numbers[p] for p in group["params"]]}
            for group in self.param_groups
        ]
        shared = {"shared": {name: x.item() for name, x in self.shared.items()}} if self.shared else {}
        return {"state": state, "param_groups": groups, **shared}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from the `state_dict` of an optimizer of the same groups, this library's or PyTorch's, in
        place.

        Nothing is written unless all of it fits. Structural options that are not in it stay as they are; what
        is no option is kept; a parameter without states begins anew.

        Raises:
            ValueError: groups, names, options or states other than this optimizer's.
        """
        groups = state_dict["param_groups"]
        # JSON makes strings of numbers
        saved = {int(number): dict(own) for number, own in state_dict["state"].items()}
        self._require(
            "groups",
            [_outline(group) for group in self.state_dict()["param_groups"]],
            [*map(_outline, groups)],
        )
        loaded: list[tuple[Tensor, dict[str, State], dict[str, Any]]] = []
        for mine, theirs in zip(self.param_groups, groups, strict=True):
            names = [mine.data.get("param_names"), theirs.get("param_names")]
            if None not in names:
                self._require("groups", *names)
            options = {name: theirs.get(name, mine.data[name]) for name in mine.options}
            self._require("groups", sorted(mine.buffers), sorted(mine.buffers.keys() & theirs.keys()))
            self.check(options)
            specs = self.states(options)
            for p, number in zip(mine["params"], theirs["params"], strict=True):
                own = self.completed({n: x for n, x in saved.get(number, {}).items() if x is not None})
                wanted = {name: spec for name, spec in specs.items() if spec.per in ("element", "parameter")}
                shapes = {name: p.shape if spec.per == "element" else () for name, spec in wanted.items()}
                if own:
                    got = {name: np.shape(own[name]) for name in wanted if name in own}
                    self._require(f"state: {number}", shapes, got)
                loaded.append((p, wanted, own))
        self._require("shared", sorted(self.shared), sorted(state_dict.get("shared", {})))
        for mine, theirs in zip(self.param_groups, groups, strict=True):
            mine.load({name: x for name, x in theirs.items() if name not in ("params", "param_names")})
            self._remember(mine)
        with no_grad():
            for p, wanted, own in loaded:
                for name, spec in wanted.items():
                    _write(self.state[p][name], own.pop(name, spec.initial))
                for name, value in own.items():
                    self.state[p][name] = _kept(self.state[p].get(name), value, p)
            for name, value in state_dict.get("shared", {}).items():
                _write(self.shared[name], value)

    def _require(self, what: str, expected: Any, got: Any) -> None:
        if expected != got:
            raise ValueError(f"{self}.load_state_dict: {what}: expected {expected}, got {got}")

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

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


def at_least_0(cls: type, options: Mapping[str, Any], *names: str) -> None:
    """ValueError unless these options are numbers of at least 0."""
    for name in names:
        if not options[name] >= 0:
            raise ValueError(f"{cls.__name__}: {name}: expected at least 0, got {options[name]}")


def below_1(cls: type, options: Mapping[str, Any], *names: str) -> None:
    """ValueError unless these options are numbers in [0, 1)."""
    for name in names:
        if not 0 <= options[name] < 1:
            raise ValueError(f"{cls.__name__}: {name}: expected a number in [0, 1), got {options[name]}")


def betas_below_1(cls: type, options: Mapping[str, Any]) -> None:
    """ValueError unless the option betas has two numbers in [0, 1)."""
    if len(options["betas"]) != 2 or not all(0 <= beta < 1 for beta in options["betas"]):
        raise ValueError(f"{cls.__name__}: betas: expected two numbers in [0, 1), got {options['betas']}")


def decayed(o: Any, p: Any, g: Any, decoupled: bool) -> tuple[Any, Any]:
    """In `element`: the parameter and the gradient to descend, once weight decay has acted on one of them."""
    d = -g if o.maximize else g
    return ((1.0 - o.lr * o.weight_decay) * p, d) if decoupled else (p, d + o.weight_decay * p)


def made(spec: State, p: Tensor) -> Buffer:
    """A state of parameter p."""
    module = memory.array_module(p.array)
    shape, dtype = (
        (p.shape, p.dtype) if spec.per == "element" else ((), np.int64 if spec.whole else np.float64)
    )
    made = Buffer(0)
    made.array = module.full(shape, spec.initial, dtype)
    return made


def _outline(group: Mapping[str, Any]) -> list[int]:
    """The numbers of a group's parameters."""
    return list(group["params"])


def _write(kept: Tensor, value: Any) -> None:
    assign(kept, constant(kept, on_host(value)))


def _kept(present: Any, value: Any, p: Tensor) -> Any:
    """A value of the user's own: in the tensor that is there, if it fits; arrays on p's device."""
    if not hasattr(value, "shape"):
        return value
    if isinstance(present, Tensor) and (present.shape, present.dtype) == (np.shape(value), value.dtype):
        _write(present, value)
        return present
    return constant(p, np.array(on_host(value)))
