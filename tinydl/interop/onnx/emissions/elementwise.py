"""Arithmetic, activations, comparisons, casts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ....engine.core import Array
from ..writer import Call, Writer
from .table import Emission, emission

# ---- One node each

SAME = {
    **{name.lower(): name for name in ("Add", "Sub", "Mul", "Div", "Neg", "Exp", "Log")},
    **{name.lower(): name for name in ("Sqrt", "Tanh", "Sigmoid", "Relu", "Abs", "Sign")},
    **{name.lower(): name for name in ("Pow", "Where")},
    "maximum": "Max",
    "minimum": "Min",
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_not": "Not",
    "logical_xor": "Xor",
    **{name.lower(): name for name in ("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh")},
    **{name.lower(): name for name in ("Cosh", "Asinh", "Acosh", "Atanh", "Erf", "Floor")},
    **{name.lower(): name for name in ("Ceil", "Round", "Reciprocal", "IsNaN", "IsInf")},
    "contiguous": "Identity",
    "transfer": "Identity",
    "det": "Det",
}


def _same(kind: str) -> Emission:
    return lambda w, call, twin: w.node(kind, w.given(call, twin))


for _key, _kind in SAME.items():
    emission(_key)(_same(_kind))


def _of_bits(kind: str) -> Emission:
    def emit(w: Writer, call: Call, twin: Call) -> str:
        if w.opset < 18:
            raise w.refused(f"{kind} below opset 18")
        return w.node(kind, w.given(call, twin))

    return emit


for _kind in ("And", "Or", "Xor", "Not"):
    emission(f"bitwise_{_kind.lower()}")(_of_bits(f"Bitwise{_kind}"))

# ---- Several nodes of x

Formula = Callable[[Writer, str, Array], str]
OF_ONE: dict[str, Formula] = {
    "square": lambda w, x, a: w.node("Mul", [x, x]),
    "rsqrt": lambda w, x, a: w.node("Reciprocal", [w.node("Sqrt", [x])]),
    "log1p": lambda w, x, a: w.node("Log", [w.node("Add", [x, w.like(1, a)])]),
    "expm1": lambda w, x, a: w.node("Sub", [w.node("Exp", [x]), w.like(1, a)]),
    "exp2": lambda w, x, a: w.node("Pow", [w.like(2, a), x]),
    "log2": lambda w, x, a: w.node("Div", [w.node("Log", [x]), w.like(np.log(2), a)]),
    "log10": lambda w, x, a: w.node("Div", [w.node("Log", [x]), w.like(np.log(10), a)]),
    "erfc": lambda w, x, a: w.node("Sub", [w.like(1, a), w.node("Erf", [x])]),
    "logsigmoid": lambda w, x, a: w.node("Neg", [w.node("Softplus", [w.node("Neg", [x])])]),
    "trunc": lambda w, x, a: _truncated(w, x),
    "frac": lambda w, x, a: w.node("Sub", [x, _truncated(w, x)]),
    "isfinite": lambda w, x, a: w.node("Not", [w.node("Or", [w.node("IsNaN", [x]), w.node("IsInf", [x])])]),
}


def _of_one(formula: Formula) -> Emission:
    return lambda w, call, twin: formula(w, w.given(call, twin)[0], call.inputs[0])


for _key, _formula in OF_ONE.items():
    emission(_key)(_of_one(_formula))


def _truncated(w: Writer, x: str) -> str:
    return w.node("Mul", [w.node("Sign", [x]), w.node("Floor", [w.node("Abs", [x])])])


@emission("power")
def power(w: Writer, call: Call, twin: Call) -> str:
    return w.node("Pow", [*w.given(call, twin), w.like(call.settings["exponent"], call.inputs[0])])


@emission("root")
def root(w: Writer, call: Call, twin: Call) -> str:
    return w.node("Pow", [*w.given(call, twin), w.like(1 / call.settings["degree"], call.inputs[0])])


@emission("ne")
def not_equal(w: Writer, call: Call, twin: Call) -> str:
    return w.node("Not", [w.node("Equal", w.given(call, twin))])


@emission("clip")
def clip(w: Writer, call: Call, twin: Call) -> str:
    x, low, high = w.given(call, twin)
    return w.node("Min", [w.node("Max", [x, low]), high])


@emission("between")
def between(w: Writer, call: Call, twin: Call) -> str:
    g, x, low, high = w.given(call, twin)
    inside = w.node("And", [w.node("GreaterOrEqual", [x, low]), w.node("LessOrEqual", [x, high])])
    return w.node("Where", [inside, g, w.like(0, call.outputs[0])])


@emission("elementwise.gate")
def gate(w: Writer, call: Call, twin: Call) -> str:
    g, y = w.given(call, twin)
    open_ = w.node("Greater", [y, w.like(0, call.inputs[1])])
    return w.node("Where", [open_, g, w.like(0, call.outputs[0])])


@emission("weighted")
def weighted(w: Writer, call: Call, twin: Call) -> str:
    """0 where the weight is 0, whatever the value."""
    weight, value = w.given(call, twin)
    zero = w.like(0, call.inputs[0])
    return w.node("Where", [w.node("Equal", [weight, zero]), zero, w.node("Mul", [weight, value])])


@emission("cast")
def cast(w: Writer, call: Call, twin: Call) -> str:
    [x] = w.given(call, twin)
    return w.cast(x, call.settings["dtype"])


@emission("hypot")
def hypot(w: Writer, call: Call, twin: Call) -> str:
    a, b = w.given(call, twin)
    return w.node("Sqrt", [w.node("Add", [w.node("Mul", [a, a]), w.node("Mul", [b, b])])])


@emission("atan2")
def atan2(w: Writer, call: Call, twin: Call) -> str:
    """The quotient's angle, turned by half a circle where x is below 0; a quarter where it is 0."""
    (y, x), number = w.given(call, twin), call.outputs[0]
    zero = w.like(0, number)
    side = w.node("Where", [w.node("Less", [y, zero]), w.like(-np.pi, number), w.like(np.pi, number)])
    angle = w.node("Atan", [w.node("Div", [y, x])])
    turned = w.node("Where", [w.node("Less", [x, zero]), w.node("Add", [angle, side]), angle])
    quarter = w.node("Mul", [w.node("Sign", [y]), w.like(np.pi / 2, number)])
    return w.node("Where", [w.node("Equal", [x, zero]), quarter, turned])


@emission("fmod")
def fmod(w: Writer, call: Call, twin: Call) -> str:
    return w.node("Mod", w.given(call, twin), fmod=1)


@emission("remainder")
def remainder(w: Writer, call: Call, twin: Call) -> str:
    """Of the divisor's sign."""
    a, b = w.given(call, twin)
    if call.outputs[0].dtype.kind != "f":
        return w.node("Mod", [a, b])
    return w.node("Sub", [a, w.node("Mul", [w.node("Floor", [w.node("Div", [a, b])]), b])])


@emission("floor_divide")
def floor_divide(w: Writer, call: Call, twin: Call) -> str:
    a, b = w.given(call, twin)
    if call.outputs[0].dtype.kind != "f":
        return w.node("Div", [w.node("Sub", [a, w.node("Mod", [a, b])]), b])
    return w.node("Floor", [w.node("Div", [a, b])])
