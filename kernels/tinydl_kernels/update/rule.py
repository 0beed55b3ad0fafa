"""An update rule: what an optimizer states, traced to expressions, sorted by how often each is computed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .expression import ELEMENT, GROUP, OPTIMIZER, PARAMETER, Expression, apply, load, order

LEVELS = {"optimizer": OPTIMIZER, "group": GROUP, "parameter": PARAMETER, "element": ELEMENT}
MOST_MOMENTS = 4
"""States of elements that a rule may have: the arguments of a CUDA launch have 4,096 bytes."""


@dataclass(frozen=True)
class State:
    """What an optimizer remembers from step to step.

    per        "element": an array of the parameter's shape and dtype; "parameter", "group", "optimizer":
               one number
    whole      a number is int64 (a count) instead of float64
    initial    its value before the first step
    """

    per: str = "element"
    whole: bool = False
    initial: float = 0.0


class Program(NamedTuple):
    """Numbers to be computed once per optimizer, group or parameter, and then written, all in float64 or
    int64.
    """

    level: int
    stores: list[tuple[str, Expression]]  # name of a state, its new value
    leaves: dict[int, str]  # id of an expression -> the state whose new value it is, which lies in memory
    results: Sequence[Expression] = ()

    def steps(self) -> list[Expression]:
        """All that is computed, operands first."""
        roots = [*(x for _, x in self.stores), *self.results]
        found = order(roots, [x for x in order(roots) if id(x) in self.leaves])
        return [x for x in found if id(x) not in self.leaves]

    def loaded(self) -> list[str]:
        """The names of what is read from memory."""
        roots = [*(x for _, x in self.stores), *self.results]
        found = order(roots, [x for x in order(roots) if id(x) in self.leaves])
        names = [self.leaves.get(id(x), x.value) for x in found if id(x) in self.leaves or x.op == "load"]
        return list(dict.fromkeys(names))


class Rule:
    """A traced formula. Rules with the same expressions are equal, and share compiled code.

    programs: by level, what is computed before the elements; those with something to do. row: the level of
    the program whose results are the coefficients: each parameter has its own, or a group. options, shared,
    numbers, moments: names of the arrays that it takes. Options are 0-d or 1-d; shared are the states per
    group and per optimizer, numbers those per parameter (0-d), moments those per element.
    """

    def __init__(
        self,
        name: str,
        states: Mapping[str, State],
        programs: Sequence[Program],
        update: Expression,
        stores: list[tuple[str, Expression]],
    ) -> None:
        self.update, self.stores = update, stores
        self.elements = order([*(x for _, x in stores), update])
        self.coefficients = [x.operands[0] for x in self.elements if x.op == "coefficient"]
        last = bool(programs[-1].stores or any(x.level == PARAMETER for x in self.coefficients))
        self.row = PARAMETER if last else GROUP
        programs = [x._replace(results=self.coefficients) if x.level == self.row else x for x in programs]
        found = [x for x in programs if x.stores or x.results]
        self.programs = {program.level: program for program in found}
        read = [name for program in found for name in program.loaded()]
        given = (name.partition("[")[0] for name in read if name not in states)
        self.options = tuple(dict.fromkeys(given))
        self.shared = tuple(name for name, state in states.items() if LEVELS[state.per] < PARAMETER)
        self.numbers = tuple(name for name, state in states.items() if state.per == "parameter")
        self.moments = tuple(name for name, state in states.items() if state.per == "element")
        self.whole = frozenset(name for name, state in states.items() if state.whole)
        self.description = self._described()
        self.name = f"{name}_{hashlib.sha256(self.description.encode()).hexdigest()[:8]}"

    def __deepcopy__(self, memo: Any) -> Rule:
        return self  # nothing in it changes

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Rule) and (self.name, self.description) == (other.name, other.description)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<rule {self.name}>"

    def _described(self) -> str:
        """All that code made of the rule depends on."""
        lines = [f"{self.options} {self.shared} {self.numbers} {self.moments} {sorted(self.whole)}"]
        for program in self.programs.values():
            lines += _lines(program.steps(), program.stores, program.results, program.leaves)
        lines += _lines(self.elements, self.stores, [self.update], {})
        return "\n".join(lines)


def _lines(
    steps: Sequence[Expression],
    stores: Sequence[tuple[str, Expression]],
    results: Sequence[Expression],
    leaves: Mapping[int, str],
) -> list[str]:
    names = {**leaves} | {id(x): f"t{i}" for i, x in enumerate(steps)}
    text = [
        f"{names[id(x)]} = {x.op} {x.kind} {x.value!r} "
        + " ".join(names[id(y)] for y in x.operands if x.op != "coefficient")
        for x in steps
    ]
    text += [f"{state} = {names[id(x)]}" for state, x in stores]
    return [*text, *(f"result {names[id(x)]}" for x in results)]


class Options:
    """The options of a group as a formula sees them: numbers as symbols, the structural ones as they are."""

    def __init__(self, who: str, values: Mapping[str, Any]) -> None:
        self.__dict__.update(_who=who, _values=dict(values))

    def __getattr__(self, name: str) -> Any:
        if name not in self._values:
            raise AttributeError(
                f"{self._who}: expected one of the options {sorted(self._values)}, got {name!r}"
            )
        return self._values[name]


class States:
    """The states as a formula sees them: reading gives the present value, setting writes the next one."""

    _who: str
    _states: Mapping[str, State]
    _present: dict[str, Expression]
    _written: dict[str, Expression]
    _elements: bool  # are those per element at hand?

    def __init__(self, who: str, states: Mapping[str, State]) -> None:
        present = {
            name: load(name, LEVELS[state.per], "i" if state.whole else "f") for name, state in states.items()
        }
        self.__dict__.update(_who=who, _states=states, _present=present, _written={}, _elements=False)

    def __contains__(self, name: str) -> bool:
        return name in self._states

    def __getattr__(self, name: str) -> Expression:
        self._check(name)
        return self._present[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._check(name)
        if (self._states[name].per == "element") is not self._elements:
            place = ("scalars", "element")[self._states[name].per == "element"]
            raise AttributeError(f"{self._who}: expected the state {name!r} to be set in {place} alone")
        if not isinstance(value, Expression) or value.kind == "b":
            raise TypeError(f"{self._who}: {name}: expected a formula, got {value!r}")
        whole, level = self._states[name].whole, LEVELS[self._states[name].per]
        if value.level > level:
            raise TypeError(f"{self._who}: {name}: expected what is known once per {self._states[name].per}")
        if whole and value.kind == "f":
            raise TypeError(f"{self._who}: {name}: expected a whole number, got a floating one")
        if not whole and value.kind == "i":
            value = Expression("float", (value,), value.level, "f")
        if value.kind == "f":
            value = apply("normal", value)
        self._present[name] = self._written[name] = value

    def _check(self, name: str) -> None:
        if name not in self._states or (self._states[name].per == "element" and not self._elements):
            known = sorted(n for n, state in self._states.items() if self._elements or state.per != "element")
            raise AttributeError(f"{self._who}: expected one of the states {known}, got {name!r}")


class Coefficients:
    """What `scalars` has returned, by name."""

    def __init__(self, who: str, values: Mapping[str, Any]) -> None:
        self.__dict__.update(_who=who, _values=dict(values))

    def __getattr__(self, name: str) -> Any:
        if name not in self._values:
            raise AttributeError(
                f"{self._who}: expected one of the coefficients {sorted(self._values)}, got {name!r}"
            )
        return self._values[name]


def trace(
    name: str,
    dynamic: Mapping[str, int | None],
    structural: Mapping[str, Any],
    states: Mapping[str, State],
    scalars: Callable[..., Any],
    element: Callable[..., Any],
) -> Rule:
    """The rule of an optimizer: scalars(o, s) and element(o, s, c, p, g) called on symbols.

    Args:
        name: an identifier.
        dynamic: for each option that is a number None, for one that is a tuple of numbers its length.
        structural: the other options.
        states: by name; at most `MOST_MOMENTS` per element.

    Raises:
        TypeError, AttributeError: a formula that branches on a symbol, names what is not there, or writes a
        state
            at another level than its own.
    """
    moments = [state for state, spec in states.items() if spec.per == "element"]
    if len(moments) > MOST_MOMENTS:
        raise TypeError(f"{name}: expected at most {MOST_MOMENTS} states per element, got {moments}")
    taken = {"param", "grad", *dynamic, *structural} & states.keys()
    if taken:
        raise TypeError(f"{name}: expected states with names of their own, got {sorted(taken)}")
    symbols = {
        option: load(option, GROUP)
        if size is None
        else tuple(load(f"{option}[{i}]", GROUP) for i in range(size))
        for option, size in dynamic.items()
    }
    o, s = Options(name, {**symbols, **structural}), States(name, states)
    c = Coefficients(name, scalars(o, s) or {})
    programs: list[Program] = []
    leaves: dict[int, str] = {}
    for level in (OPTIMIZER, GROUP, PARAMETER):
        stores = [(state, x) for state, x in s._written.items() if LEVELS[states[state].per] == level]
        programs.append(Program(level, stores, dict(leaves)))
        leaves |= {id(x): state for state, x in stores if x.op != "constant"}
    s.__dict__["_elements"] = True
    before = set(s._written)
    p, g = load("param", ELEMENT), load("grad", ELEMENT)
    update = element(o, s, c, p, g)
    if not isinstance(update, Expression) or update.level != ELEMENT:
        raise TypeError(f"{name}: element: expected the new parameter, got {update!r}")
    stores = [(state, x) for state, x in s._written.items() if state not in before]
    made = Rule(name, states, programs, apply("normal", update), stores)
    _require_new_values(made)
    return made


def _require_new_values(rule: Rule) -> None:
    """Where a state of a group has changed, its tensors see the new value: the old one is gone."""
    gone: set[str] = set()
    for program in rule.programs.values():
        old = {x.value for x in program.steps() if x.op == "load"} & gone
        if old:
            raise TypeError(
                f"{rule.name}: expected the new value of {sorted(old)}: the old one is written over"
            )
        gone |= {state for state, _ in program.stores}
