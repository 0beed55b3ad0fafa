"""An update rule: what an optimizer states, traced to expressions, sorted by how often each is computed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from .expression import ELEMENT, GROUP, OPTIMIZER, PARAMETER, Expression, apply, load, order

LEVELS = {"optimizer": OPTIMIZER, "group": GROUP, "parameter": PARAMETER, "element": ELEMENT}
SUMS = ("overall", "sums")
"""Names of the arrays with sums over the optimizer and over a parameter, as the second pass reads them."""
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


@dataclass(frozen=True, eq=False)
class Program:
    """What is computed once per optimizer, group or parameter (in float64 or int64), or per element, and then
    written.
    """

    level: int
    stores: list[tuple[str, Expression]]  # name of a state, or "param"; its new value
    leaves: dict[int, str]  # id of an expression -> where its value lies: a state, "sums[0]", "overall[0]"
    results: Sequence[Expression] = ()  # coefficients for the elements; of the elements their sums

    @cached_property
    def steps(self) -> list[Expression]:
        """All that is computed or loaded, operands first."""
        summed = self.level == ELEMENT
        given = [y for x in self.results for y in (x.operands if summed else (x,))]
        roots = [*(x for _, x in self.stores), *given]
        return order(roots, [x for x in order(roots) if id(x) in self.leaves])

    def place(self, x: Expression) -> str | None:
        """Where the value of x lies in memory, if it does."""
        return self.leaves.get(id(x), x.value if x.op == "load" else None)

    @cached_property
    def loaded(self) -> list[str]:
        """The names of what is read from memory, entries apart."""
        return list(dict.fromkeys(name for name in map(self.place, self.steps) if name is not None))

    @cached_property
    def sums(self) -> list[str]:
        """Those of "overall" and "sums" that are read."""
        read = {name.partition("[")[0] for name in self.loaded}
        return [name for name in SUMS if name in read]


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass over the elements.

    programs: by level; those of numbers that have something to do, and that of the elements. row: the level
    of the program whose results are the coefficients: each parameter has its own, or a group.
    """

    programs: dict[int, Program]
    row: int

    @classmethod
    def of(cls, programs: dict[int, Program]) -> Pass:
        """With the coefficients as results of the last program that they need."""
        coefficients = _coefficients(programs[ELEMENT].steps)
        own = programs[PARAMETER].stores or any(x.level == PARAMETER for x in coefficients)
        row = PARAMETER if own else GROUP
        programs = programs | {row: replace(programs[row], results=coefficients)}
        busy = {level: x for level, x in programs.items() if x.stores or x.results or level == ELEMENT}
        return cls(busy, row)

    @property
    def elements(self) -> Program:
        return self.programs[ELEMENT]

    @cached_property
    def coefficients(self) -> list[Expression]:
        return _coefficients(self.elements.steps)


def _coefficients(steps: Sequence[Expression]) -> list[Expression]:
    return [x.operands[0] for x in steps if x.op == "coefficient"]


class Rule:
    """A traced formula. Rules with the same expressions are equal, and share compiled code.

    passes: one; or, of a formula with sums, two: the first computes them, and the moments. sums: their
    levels. options, shared, numbers, moments: names of the arrays that it takes. Options are 0-d or 1-d;
    shared are the states per group and per optimizer, numbers those per parameter (0-d), moments those per
    element.
    """

    def __init__(self, name: str, states: Mapping[str, State], passes: Sequence[Pass]) -> None:
        self.passes = passes
        self.sums = [x.level for x in passes[0].elements.results]
        programs = [x for each in passes for level, x in each.programs.items() if level < ELEMENT]
        read = [name for program in programs for name in program.loaded if name not in states]
        given = dict.fromkeys(name.partition("[")[0] for name in read)
        self.options = tuple(name for name in given if name not in SUMS)
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
        for each in self.passes:
            for program in each.programs.values():
                lines += _lines(program)
        return "\n".join(lines)


def _lines(program: Program) -> list[str]:
    steps = program.steps
    names = {id(x): f"t{i}" for i, x in enumerate(steps)}

    def operands(x: Expression) -> str:
        return " ".join(names[id(y)] for y in x.operands)

    text = []
    for x in steps:
        place = program.place(x)
        what = f"{x.op} {x.kind} {x.value!r}" if place is None else f"load {x.kind} {place}"
        computed = place is None and x.op != "coefficient"
        text.append(f"{names[id(x)]} = {what} {operands(x) if computed else ''}")
    text += [f"{state} = {names[id(x)]}" for state, x in program.stores]
    summed = program.level == ELEMENT
    return [*text, *(f"result {x.level} {operands(x) if summed else names[id(x)]}" for x in program.results)]


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
        if not isinstance(value, Expression) or value.kind == "b":
            raise TypeError(f"{self._who}: {name}: expected a formula, got {value!r}")
        if self._elements and not (self._states[name].per == "element" or value.late):
            raise AttributeError(
                f"{self._who}: expected the state {name!r} to be set in scalars, or to what follows from sums"
            )
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
        TypeError, AttributeError: a formula that branches on a symbol, names what is not there, writes a
            state at another level than its own, or needs a value that is written over before.
    """
    moments = [state for state, spec in states.items() if spec.per == "element"]
    if len(moments) > MOST_MOMENTS:
        raise TypeError(f"{name}: expected at most {MOST_MOMENTS} states per element, got {moments}")
    taken = {"param", "grad", *SUMS, *dynamic, *structural} & states.keys()
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
    s.__dict__["_elements"] = True
    p, g = load("param", ELEMENT), load("grad", ELEMENT)
    update = element(o, s, c, p, g)
    if not isinstance(update, Expression) or update.level != ELEMENT:
        raise TypeError(f"{name}: element: expected the new parameter, got {update!r}")
    levels = {state: LEVELS[spec.per] for state, spec in states.items()} | {"param": ELEMENT}
    made = Rule(name, states, _passes({**s._written, "param": apply("normal", update)}, levels))
    _require_new_values(made)
    return made


def _passes(written: Mapping[str, Expression], levels: Mapping[str, int]) -> list[Pass]:
    """What is written, at its level. Moments that follow from no sum are in the first pass, numbers and the
    parameter, which both passes may read, in the last.
    """
    found = order(written.values())
    sums = [x for x in order([*found, *_coefficients(found)]) if x.op == "sum"]
    moments = {name for name, level in levels.items() if level == ELEMENT} - {"param"}
    leaves: dict[int, str] = {}
    passes = []
    for late in (False, True) if sums else (False,):
        programs: dict[int, Program] = {}
        for level in (OPTIMIZER, GROUP, PARAMETER, ELEMENT):
            stores = [
                (name, x)
                for name, x in written.items()
                if levels[name] == level and late is (x.late if name in moments else bool(sums))
            ]
            programs[level] = Program(level, stores, dict(leaves))
            leaves |= {id(x): name for name, x in stores if x.op != "constant"}
        if sums and not late:
            programs[ELEMENT] = replace(programs[ELEMENT], results=sums)
            leaves |= {id(x): f"{SUMS[x.level == PARAMETER]}[{i}]" for i, x in enumerate(sums)}
        passes.append(Pass.of(programs))
    return passes


def _require_new_values(rule: Rule) -> None:
    """Where a state has changed, what comes later sees the new value: the old one is gone."""
    gone: set[str] = set()
    for each in rule.passes:
        for program in each.programs.values():
            old = {x.value for x in program.steps if x.op == "load"} & gone
            if old:
                raise TypeError(
                    f"{rule.name}: expected the new value of {sorted(old)}: the old one is written over"
                )
            gone |= {state for state, _ in program.stores}
