"""Functions of one element at a time, with NumPy broadcasting.

    y[i] = f(a[i], b[i], ...)          any shapes that broadcast, any strides (views, expanded, permuted), 0-d
                                       and empty

An operation is one row of the table at the end: its name, its expression on whole arrays (NumPy runs it as
the reference), and the scalar function for Numba where the expression cannot serve as one. Floating operands
of one call have one dtype. NaN propagates, and what is undefined gives NaN or inf without a warning.

The Numba loop of an operation is compiled once per dtype and serves every broadcast: the *layout* (layout.py)
tells it the shape, its axes merged as far as all strides allow, and the strides of each operand. It walks
over rows of the last merged axis, whose common cases (all operands contiguous, or some constant along the
row) LLVM turns into vector code. The result is C-contiguous. On a GPU it is the same (launches.py), with a
line in a .cu file for each operation. Cost: bytes of the operands and of the result, once each.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..cpu import jobs, transcendental
from ..cpu.compiler import Kernel, Parallel, kernel, parallel
from ..machine import memory
from ..machine.dispatch import Operation, operation
from ..machine.errors import ShapeError
from ..machine.layout import FLAT, layout, regular, storage
from ..machine.validate import report
from . import launches

Array = Any
GRAIN = 1 << 13


# ---- The loop


@kernel
def _row(layout, operand, row):
    """Where row number `row` of an operand begins in its storage."""
    last = layout.shape[1] - 2
    at = layout[operand, last + 1]
    for axis in range(last - 1, 0, -1):
        at += row % layout[0, axis] * layout[operand, axis]
        row //= layout[0, axis]
    return at + row * layout[operand, 0] if last > 0 else at


_STEPS: dict[int, list[tuple[int, ...]]] = {
    1: [(1,)],
    2: [(1, 1), (1, 0), (0, 1)],
    3: [(1, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0)],
    4: [(1, 1, 0, 0), (1, 0, 1, 0)],
}
"""By the number of operands: steps along a row that have code of their own, of which LLVM makes vector code.

An operand of step 0 is one number for the whole row.
"""


@functools.cache
def _loop_code(arity: int) -> types.CodeType:
    """The code of loop(start, stop, layout, out, a0, a1, ...): out = f(a0, a1, ...), row by row."""
    numbers = range(arity)
    lines = [
        f"def loop(start, stop, layout, out, {', '.join(f'a{i}' for i in numbers)}):",
        "    last = layout.shape[1] - 2",
        "    width = layout[0, last]",
        *(f"    step{i} = layout[{i + 1}, last]" for i in numbers),
        "    row, column = start // width, start % width",
        "    while start < stop:",
        "        count = min(stop - start, width - column)",
        "        y = out[start : start + count]",
        *(f"        at{i} = _row(layout, {i + 1}, row) + column * step{i}" for i in numbers),
    ]

    def branch(test: str, before: list[str], values: list[str]) -> None:
        lines.append(f"        {test}:")
        lines.extend(f"            {line}" for line in before)
        lines.append("            for k in range(count):")
        lines.append(f"                y[k] = f({', '.join(values)})")

    for number, steps in enumerate(_STEPS[arity]):
        test = " and ".join(f"step{i} == {step}" for i, step in enumerate(steps))
        branch(
            f"{'elif' if number else 'if'} {test}",
            [
                f"row{i} = a{i}[at{i} : at{i} + count]" if step else f"number{i} = a{i}[at{i}]"
                for i, step in enumerate(steps)
            ],
            [f"row{i}[k]" if step else f"number{i}" for i, step in enumerate(steps)],
        )
    branch("else", [], [f"a{i}[at{i} + k * step{i}]" for i in numbers])
    lines.append("        start, row, column = start + count, row + 1, 0")
    return _code(lines)


def _code(lines: Sequence[str]) -> types.CodeType:
    """The code of the one function that the lines define."""
    module = compile("\n".join([*lines, ""]), "<elementwise>", "exec")
    return next(part for part in module.co_consts if isinstance(part, types.CodeType))


def _function(name: str, code: types.CodeType, **names: Any) -> Callable[..., Any]:
    """A function of that name and code, where `names` are known."""
    function = types.FunctionType(code, {"__name__": __name__, **names}, name)
    function.__qualname__ = name
    return function


def _loop(name: str, f: Kernel, arity: int) -> Parallel:
    """The loop of one operation: the code of its arity, in which `f` is its scalar function."""
    return parallel(_function(f"{name}_loop", _loop_code(arity), f=f, _row=_row))


# ---- Making an operation


scalars: dict[str, Kernel] = {}
"""The scalar function of each operation of one element at a time, by name."""


def _scalar(name: str, function: Callable[..., Any]) -> Kernel:
    function.__name__ = function.__qualname__ = f"{name}_scalar"
    return kernel(function)


def _compiled(name: str, scalar: Kernel) -> Callable[..., Array]:
    """run(dtype, *operands): the Numba loop of a scalar function."""
    arity = scalar.function.__code__.co_argcount
    loop, flat = _loop(name, scalar, arity), FLAT[arity]

    def run(dtype: Any, *operands: Array) -> Array:
        first = operands[0]
        shape = first.shape
        for x in operands:
            if x.shape != shape or not x.flags.carray:
                break
        else:
            out = memory.empty(shape, dtype, first)
            loop(out.size, GRAIN, flat, out.reshape(-1), *[x.reshape(-1) for x in operands])
            return out
        arrays = [x if x.flags.carray else regular(x) for x in operands]
        shapes = tuple([x.shape for x in arrays])
        try:
            shape, table = layout(
                shapes, tuple([x.strides for x in arrays]), tuple([x.itemsize for x in arrays])
            )
        except ValueError:
            raise _mismatch(name, arrays) from None
        out = memory.empty(shape, dtype, first)
        if out.size:
            loop(out.size, GRAIN, table, out.reshape(-1), *map(storage, arrays))
        return out

    return run


def _mismatch(name: str, operands: Sequence[Array]) -> ShapeError:
    return ShapeError(
        f"{name}: expected shapes that broadcast, got {', '.join(str(x.shape) for x in operands)}"
    )


def elementwise_operation(
    name: str, expression: Callable[..., Any], scalar: Callable[..., Any] | None = None
) -> Operation:
    """The operation of an expression on arrays, which is right for one element too unless `scalar` is
    given.
    """

    def reference(*operands: Array) -> Array:
        with np.errstate(all="ignore"):
            try:
                return expression(*operands)
            except ValueError:
                raise _mismatch(name, operands) from None

    reference.__name__ = reference.__qualname__ = name
    made = operation(reference)
    scalars[name] = _scalar(name, scalar or expression)
    run = _compiled(name, scalars[name])
    dtypes: dict[tuple[Any, ...], Any] = {}

    def dtype_of(*given: Any) -> Any:
        return reference(*(np.empty(0, d) for d in given)).dtype  # NumPy's rule

    @made.loops
    def compiled(*operands: Array) -> Array:
        given = tuple([x.dtype for x in operands])
        dtype = dtypes.get(given)
        if dtype is None:
            dtype = dtypes[given] = dtype_of(*given)
        return run(dtype, *operands)

    launch = launches.launcher(name, dtype_of)

    @made.cuda
    def launched(*operands: Array) -> Array:
        try:
            return launch(*operands)
        except ShapeError:
            raise
        except ValueError:
            raise _mismatch(name, operands) from None

    return made


OPERANDS = max(_STEPS)
"""A loop has so many at most."""


@functools.cache
def chained(tree: Any) -> Callable[..., Array]:
    """run(*operands): a tree of operations in one loop, ("relu", ("add", 0, 1)) for relu(a + b),
    which walks over memory once.

    The operands, at most OPERANDS, and all that stands between have one floating dtype: the bits are those of
    single calls. For NumPy arrays and the backend "cpu".
    """
    names: list[str] = []

    def expression(part: Any) -> str:
        if isinstance(part, int):
            return f"a{part}"
        terms = ", ".join(map(expression, part[1:]))
        names.append(part[0])
        return f"type(a0)({part[0]}({terms}))"

    body = expression(tree)
    arguments = ", ".join(f"a{i}" for i in range(1 + _last(tree)))
    code = _code([f"def chain({arguments}):", f"    return {body}"])
    name = "_".join(names)
    run = _compiled(name, _scalar(name, _function("chain", code, **{name: scalars[name] for name in names})))

    def chain(*operands: Array) -> Array:
        return jobs.looping(run, operands[0].dtype, *operands)

    chain.__name__ = chain.__qualname__ = name
    return chain


def _last(tree: Any) -> int:
    """The number of the last operand of a tree."""
    return tree if isinstance(tree, int) else max(map(_last, tree[1:]))


# ---- The table


def _sigmoid(x):
    one, e = type(x)(1), transcendental.exp(-np.abs(x))
    return (one if x >= 0 else e) / (one + e)


def _sign(x):
    zero, one = type(x)(0), type(x)(1)
    return one if x > zero else type(x)(-1) if x < zero else zero if x == zero else x


neg = elementwise_operation("neg", lambda x: -x)
abs = elementwise_operation("abs", lambda x: np.abs(x))
sign = elementwise_operation("sign", lambda x: np.sign(x), _sign)
sqrt = elementwise_operation("sqrt", lambda x: np.sqrt(x))
exp = elementwise_operation("exp", lambda x: np.exp(x), lambda x: transcendental.exp(x))
log = elementwise_operation("log", lambda x: np.log(x), lambda x: transcendental.log(x))
tanh = elementwise_operation("tanh", lambda x: np.tanh(x), lambda x: transcendental.tanh(x))
sigmoid = elementwise_operation(
    "sigmoid", lambda x: np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))), _sigmoid
)
relu = elementwise_operation("relu", lambda x: np.maximum(x, 0), lambda x: type(x)(0) if x <= 0 else x)
isfinite = elementwise_operation("isfinite", lambda x: np.isfinite(x))
logical_not = elementwise_operation("logical_not", lambda x: np.logical_not(x))

add = elementwise_operation("add", lambda a, b: a + b)
sub = elementwise_operation("sub", lambda a, b: a - b)
mul = elementwise_operation("mul", lambda a, b: a * b)
div = elementwise_operation("div", lambda a, b: a / b)
pow = elementwise_operation("pow", lambda a, b: a**b)
maximum = elementwise_operation("maximum", lambda a, b: np.maximum(a, b))
minimum = elementwise_operation("minimum", lambda a, b: np.minimum(a, b))
eq = elementwise_operation("eq", lambda a, b: a == b)
ne = elementwise_operation("ne", lambda a, b: a != b)
lt = elementwise_operation("lt", lambda a, b: a < b)
le = elementwise_operation("le", lambda a, b: a <= b)
gt = elementwise_operation("gt", lambda a, b: a > b)
ge = elementwise_operation("ge", lambda a, b: a >= b)
logical_and = elementwise_operation("logical_and", lambda a, b: np.logical_and(a, b))
logical_or = elementwise_operation("logical_or", lambda a, b: np.logical_or(a, b))

where = elementwise_operation(
    "where", lambda condition, a, b: np.where(condition, a, b), lambda condition, a, b: a if condition else b
)
clip = elementwise_operation("clip", lambda x, low, high: np.minimum(np.maximum(x, low), high))

# The derivatives of relu and of clip: g unless y <= 0 (NaN lets it by); g where low <= x <= high; else 0.
gate = elementwise_operation(
    "gate", lambda g, y: np.where(y <= 0, 0, g), lambda g, y: type(g)(0) if y <= 0 else g
)
between = elementwise_operation(
    "between",
    lambda g, x, low, high: np.where((low <= x) & (x <= high), g, 0),
    lambda g, x, low, high: g if low <= x <= high else type(g)(0),
)

# a · b, where a weight a of 0 counts nothing though b is infinite: 0 log 0 = 0.
weighted = elementwise_operation(
    "weighted",
    lambda a, b: np.where((a == 0) & np.isinf(b), 0, a * b),
    lambda a, b: type(a)(0) if a == 0 and np.isinf(b) else a * b,
)

SCATTERED = 1 << 14
"""Elements from which on NumPy copies what does not lie in rows."""
_cast = _compiled("cast", _scalar("cast", lambda x: x))


@operation
def copy(x):
    """A contiguous copy of x."""
    return x.copy()


@copy.loops
def _(x):
    if x.size < SCATTERED or x.strides[-1] == x.itemsize:
        return _cast(x.dtype, x)
    jobs.spoil()
    out = memory.empty(x.shape, x.dtype, x)
    out[...] = x  # NumPy orders its loops by the strides
    return out


copy.cuda(launches.copy)


@operation
def cast(x, dtype):
    """A contiguous copy of x as `dtype`."""
    with np.errstate(all="ignore"):
        return x.astype(dtype, order="C")


@cast.loops
def _(x, dtype):
    return _cast(dtype, x)


cast.cuda(launches.cast)


def main() -> None:
    """Validate every operation against its reference, then time the typical broadcasts."""
    random = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        x, y = random.uniform(0.1, 2, (2, 64, 16, 28, 28)).astype(dtype)
        channel, scalar = x[0, :, :1, :1].copy(), np.asarray(1.5, dtype)
        for op in (neg, exp, log, tanh, sigmoid, relu, sqrt):
            report(op, x)
        for op in (add, mul, div, pow, maximum, gate, lt):
            report(op, x, y)
        report(add, x, channel)
        report(mul, x, scalar)
        report(where, x > y, x, y)
        report(clip, x, scalar, scalar)
        report(between, x, y, scalar, scalar)
        report(copy, x.transpose(0, 2, 3, 1))
        report(cast, x, np.float64)
