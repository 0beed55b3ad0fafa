"""What makes an operation of its row in a table: the loop over broadcast operands, compiled once per
operation and dtype, and several operations joined in one loop.
"""

from __future__ import annotations

import functools
import operator
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..cpu import jobs, power, transcendental
from ..cpu.compiler import Kernel, Parallel, kernel, parallel
from ..machine import memory
from ..machine.dispatch import Operation, operation
from ..machine.errors import ShapeError
from ..machine.layout import FLAT, layout, regular, storage
from . import launches

Array = Any
_DTYPE = operator.attrgetter("dtype")
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


def scalar_kernel(name: str, function: Callable[..., Any], **options: Any) -> Kernel:
    function.__name__ = function.__qualname__ = f"{name}_scalar"
    return kernel(function, **options)


def compiled(name: str, scalar: Kernel) -> Callable[..., Array]:
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
            loop(out.size, GRAIN, flat, memory.line(out), *map(memory.line, operands))
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
    name: str, expression: Callable[..., Any], scalar: Callable[..., Any] | None = None, **options: Any
) -> Operation:
    """The operation of an expression on arrays, which is right for one element too unless `scalar` is
    given. Options go to Numba.
    """

    def reference(*operands: Array) -> Array:
        with np.errstate(all="ignore"):
            try:
                return expression(*operands)
            except ValueError:
                raise _mismatch(name, operands) from None

    reference.__name__ = reference.__qualname__ = name
    reference.__module__ = __package__  # the operation is one of the family
    made = operation(reference)
    scalars[name] = scalar_kernel(name, scalar or expression, **options)
    run = compiled(name, scalars[name])
    dtypes: dict[tuple[Any, ...], Any] = {}

    def dtype_of(*given: Any) -> Any:
        return reference(*(np.empty(0, d) for d in given)).dtype  # NumPy's rule

    @made.loops
    def looped(*operands: Array) -> Array:
        given = tuple(map(_DTYPE, operands))
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
    chain_of_scalars = _function("chain", code, **{name: scalars[name] for name in names})
    run = compiled(name, scalar_kernel(name, chain_of_scalars, forceinline=True))

    def chain(*operands: Array) -> Array:
        return jobs.looping(run, operands[0].dtype, *operands)

    chain.__name__ = chain.__qualname__ = name
    return chain


def _last(tree: Any) -> int:
    """The number of the last operand of a tree."""
    return tree if isinstance(tree, int) else max(map(_last, tree[1:]))


# ---- Scalar functions for Numba, where the expression on arrays is none


def sigmoid(x):
    one, e = type(x)(1), transcendental.exp(-np.abs(x))
    return (one if x >= 0 else e) / (one + e)


def sign(x):
    zero, one = type(x)(0), type(x)(1)
    return one if x > zero else type(x)(-1) if x < zero else zero  # of NaN too, as in PyTorch


def pow(a, b):
    y = a**b
    if type(y)(0.5) == 0:  # an integer: known at compile time
        return y
    return type(y)(power.power(type(y)(a), type(y)(b)))


def left_shift(a, b):
    return a << b if 0 <= b < 64 else type(a)(0)  # computed in 64 bits, then cut


def right_shift(a, b):
    return a >> b if 0 <= b < 64 else a >> type(a)(63)


def fmod(a, b):
    rest = np.abs(a) % np.abs(b)  # Numba's np.fmod is wrong on integers
    return rest if a >= 0 else -rest
