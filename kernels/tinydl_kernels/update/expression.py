"""A formula as a graph: written once in Python, called once on symbols, run by NumPy, Numba and CUDA.

    a, b = load("a", GROUP), load("b", GROUP)
    c = a * b + 1.0                 # no number yet: an Expression, whose operands are Expressions
    order([c])                      # a, b, a * b, 1.0, c: the order in which Python has made them

Every backend computes exactly these operations in exactly this order: nothing is rewritten. An expression has
a *level*, how often it has another value, which is the highest of its operands':

    OPTIMIZER   once per step                           float64, int64 or a truth value
    GROUP       once per group of parameters            the same; options are of this level
    PARAMETER   once per parameter                      the same
    ELEMENT     once per element of a parameter         of the parameter's dtype

Where an operation on elements meets something of a lower level, that becomes a *coefficient*: computed in
float64 once per parameter and cast to the parameter's dtype. Python's own numbers have the type of what they
meet.

The other way leads a sum over elements: a number once per parameter, or once per optimizer. What follows from
sums is computed in a second pass over the elements, when the first has ended everywhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import numpy as np

OPTIMIZER, GROUP, PARAMETER, ELEMENT = range(4)


class Operation(NamedTuple):
    """What computes an operation. In the texts {0}, {1}, {2} are operands and {real} is the type of the
    result.
    """

    numpy: Callable[..., Any]
    numba: str
    cuda: str


def _normal(x: Any) -> Any:
    """x, or 0 where it is subnormal: what decays would end among those numbers and stay, and a processor
    takes a hundred times longer for them.
    """
    x = np.asarray(x)
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, x.dtype.type(0), x)


OPERATIONS = {
    "add": Operation(np.add, "{0} + {1}", "{0} + {1}"),
    "sub": Operation(np.subtract, "{0} - {1}", "{0} - {1}"),
    "mul": Operation(np.multiply, "{0} * {1}", "{0} * {1}"),
    "div": Operation(np.divide, "{0} / {1}", "{0} / {1}"),
    "pow": Operation(np.power, "{0} ** {1}", "pow({0}, {real}({1}))"),
    "neg": Operation(np.negative, "-{0}", "-{0}"),
    "abs": Operation(np.abs, "abs({0})", "fabs({0})"),
    "sign": Operation(np.sign, "np.sign({0})", "sign({0})"),
    "sqrt": Operation(np.sqrt, "np.sqrt({0})", "sqrt({0})"),
    "exp": Operation(np.exp, "np.exp({0})", "exp({0})"),
    "log": Operation(np.log, "np.log({0})", "log({0})"),
    "maximum": Operation(np.maximum, "np.maximum({0}, {1})", "maximum({0}, {1})"),
    "minimum": Operation(np.minimum, "np.minimum({0}, {1})", "minimum({0}, {1})"),
    "where": Operation(np.where, "{1} if {0} else {2}", "{0} ? {1} : {2}"),
    "eq": Operation(np.equal, "{0} == {1}", "{0} == {1}"),
    "ne": Operation(np.not_equal, "{0} != {1}", "{0} != {1}"),
    "lt": Operation(np.less, "{0} < {1}", "{0} < {1}"),
    "le": Operation(np.less_equal, "{0} <= {1}", "{0} <= {1}"),
    "gt": Operation(np.greater, "{0} > {1}", "{0} > {1}"),
    "ge": Operation(np.greater_equal, "{0} >= {1}", "{0} >= {1}"),
    "normal": Operation(_normal, "normal({0})", "normal({0})"),
    "float": Operation(np.float64, "float({0})", "double({0})"),
    "leading": Operation(lambda x: x, "{0}", "{0}"),
}
_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
_FLOATING = {"div", "abs", "sign", "sqrt", "exp", "log"}
"""Operations that have a floating result whatever they are given."""

_serials = itertools.count()


class Expression:
    """A number that is not known yet, in one of the three kinds "f" (floating), "i" (int64), "b" (truth
    value).

    op         a key of OPERATIONS, or "load", "constant", "coefficient", "sum"
    operands   the expressions that it is computed from; those of a sum are factors of what is added up
    value      the name of what is loaded; the number of a constant
    late       does it follow from sums?
    """

    __slots__ = ("cast", "kind", "late", "level", "op", "operands", "serial", "value")
    __array_ufunc__ = None  # `np.float64(2) * expression` is the expression's to answer
    __hash__ = object.__hash__

    def __init__(
        self, op: str, operands: tuple[Expression, ...], level: int, kind: str, value: Any = None
    ) -> None:
        self.op, self.operands, self.level, self.kind, self.value = op, operands, level, kind, value
        self.late: bool = op == "sum" or any(x.late for x in operands)
        self.serial = next(_serials)
        self.cast: Expression | None = None  # itself as a coefficient

    def __bool__(self) -> bool:
        raise TypeError(
            "formula: expected no branch on a number that is not known yet: use where(a < b, x, y)"
        )

    def __float__(self) -> float:
        raise TypeError(
            "formula: expected operations on symbols alone, got float() of one: use this module's"
        )

    __add__ = lambda a, b: apply("add", a, b)  # noqa: E731
    __radd__ = lambda a, b: apply("add", b, a)  # noqa: E731
    __sub__ = lambda a, b: apply("sub", a, b)  # noqa: E731
    __rsub__ = lambda a, b: apply("sub", b, a)  # noqa: E731
    __mul__ = lambda a, b: apply("mul", a, b)  # noqa: E731
    __rmul__ = lambda a, b: apply("mul", b, a)  # noqa: E731
    __truediv__ = lambda a, b: apply("div", a, b)  # noqa: E731
    __rtruediv__ = lambda a, b: apply("div", b, a)  # noqa: E731
    __pow__ = lambda a, b: apply("pow", a, b)  # noqa: E731
    __rpow__ = lambda a, b: apply("pow", b, a)  # noqa: E731
    __neg__ = lambda a: apply("neg", a)  # noqa: E731
    __abs__ = lambda a: apply("abs", a)  # noqa: E731
    __lt__ = lambda a, b: apply("lt", a, b)  # noqa: E731
    __le__ = lambda a, b: apply("le", a, b)  # noqa: E731
    __gt__ = lambda a, b: apply("gt", a, b)  # noqa: E731
    __ge__ = lambda a, b: apply("ge", a, b)  # noqa: E731
    __eq__ = lambda a, b: apply("eq", a, b)  # type: ignore[assignment,return-value]  # noqa: E731
    __ne__ = lambda a, b: apply("ne", a, b)  # type: ignore[assignment,return-value]  # noqa: E731


def sqrt(x: Any) -> Expression:
    """√x."""
    return apply("sqrt", x)


def exp(x: Any) -> Expression:
    """e^x."""
    return apply("exp", x)


def log(x: Any) -> Expression:
    """The natural logarithm."""
    return apply("log", x)


def sign(x: Any) -> Expression:
    """-1, 0 or 1."""
    return apply("sign", x)


def maximum(a: Any, b: Any) -> Expression:
    """The larger of the two; NaN if one is."""
    return apply("maximum", a, b)


def minimum(a: Any, b: Any) -> Expression:
    """The smaller of the two; NaN if one is."""
    return apply("minimum", a, b)


def where(condition: Expression, x: Any, y: Any) -> Expression:
    """x where the condition (a comparison) holds, else y; both are computed."""
    return apply("where", condition, x, y)


def total(x: Any, over: str = "parameter") -> Expression:
    """Σ x over the elements of a parameter, in float64: a number. Over the "optimizer": of all its parameters
    that take part in the step.
    """
    return _sum((x,), over)


def dot(x: Any, y: Any, over: str = "parameter") -> Expression:
    """Σ x y, as `total`; the products too are float64, which hold those of float32 exactly."""
    return _sum((x, y), over)


def length(x: Any) -> Expression:
    """The 2-norm of a whole parameter: √(Σ x²)."""
    return sqrt(dot(x, x))


def _sum(factors: tuple[Any, ...], over: str) -> Expression:
    for x in factors:
        if not isinstance(x, Expression) or x.level < ELEMENT or x.kind != "f":
            raise TypeError(f"formula: expected a sum of what each element has, got {x!r}")
        if x.late:
            raise TypeError("formula: expected a sum of what is known before any sum")
    return Expression("sum", factors, {"parameter": PARAMETER, "optimizer": OPTIMIZER}[over], "f")


def leading(x: Expression) -> Expression:
    """An option as the first group of the step has it, for what there is once per optimizer."""
    return Expression("leading", (x,), OPTIMIZER, x.kind)


def load(name: str, level: int, kind: str = "f") -> Expression:
    """A number that lies in memory."""
    return Expression("load", (), level, kind, name)


def constant(number: Any, level: int = OPTIMIZER, kind: str = "f") -> Expression:
    """A number that the formula states."""
    if not isinstance(number, (int, float, np.integer, np.floating)) or not math.isfinite(number):
        raise TypeError(f"formula: expected symbols and finite numbers, got {number!r}")
    return Expression("constant", (), level, kind, int(number) if kind == "i" else float(number))


def apply(op: str, *given: Any) -> Expression:
    """An operation on expressions and Python's numbers."""
    known = [x for x in given if isinstance(x, Expression)]
    if not known:
        raise TypeError(f"formula: {op}: expected a symbol among the operands, got {given}")
    level = max(x.level for x in known)
    numbers = [x for i, x in enumerate(given) if not (op == "where" and i == 0)]
    whole = op not in _FLOATING and all(_is_whole(x) for x in numbers)
    kind = "i" if whole and any(isinstance(x, Expression) for x in numbers) else "f"
    operands = [_operand(x, level, kind) for x in numbers]
    if op == "where":
        condition = given[0]
        if not isinstance(condition, Expression) or condition.kind != "b":
            raise TypeError("formula: where: expected a comparison as the condition")
        if level == ELEMENT and condition.level < ELEMENT:  # as a coefficient: 1 or 0
            condition = apply("ne", coefficient(apply("where", condition, 1.0, 0.0)), 0.0)
        operands = [condition, *operands]
    elif op == "pow" and _is_whole(given[1]) and level < ELEMENT:  # of a whole number: by multiplications
        operands = [_operand(given[0], level, "f"), _operand(given[1], level, "i")]
        kind = "f"
    return Expression(op, tuple(operands), level, "b" if op in _COMPARISONS else kind)


def _is_whole(x: Any) -> bool:
    return x.kind == "i" if isinstance(x, Expression) else isinstance(x, (int, np.integer))


def _operand(x: Any, level: int, kind: str) -> Expression:
    """x as an operation of that level and kind takes it."""
    if not isinstance(x, Expression):
        return constant(x, level, kind)
    if x.kind == "b":
        raise TypeError("formula: expected a number, got a comparison: use where(a < b, 1.0, 0.0)")
    if x.kind == "i" and kind == "f":
        x = Expression("float", (x,), x.level, "f")
    if level == ELEMENT and x.level < ELEMENT:
        x = coefficient(x)
    return x


def coefficient(x: Expression) -> Expression:
    """A number of a lower level among those of elements."""
    if x.cast is None:
        x.cast = Expression("coefficient", (x,), ELEMENT, "f")
    return x.cast


def order(roots: Iterable[Expression], leaves: Collection[Expression] = ()) -> list[Expression]:
    """All that the roots are computed from, operands first, as it was made. Nothing behind the leaves, nor
    behind coefficients and sums.
    """
    stop, seen, stack = {id(x) for x in leaves}, {}, list(roots)
    while stack:
        x = stack.pop()
        if id(x) in seen:
            continue
        seen[id(x)] = x
        if id(x) not in stop and x.op not in ("coefficient", "sum"):
            stack += x.operands
    return sorted(seen.values(), key=lambda x: x.serial)
