"""A rule as NumPy computes it, as source for Numba, and as source for CUDA: the same operations in the same
order.

What is read from memory comes first, what is written last, so that a processor can do several elements at
once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .expression import ELEMENT, GROUP, OPERATIONS, OPTIMIZER, PARAMETER
from .rule import Pass, Program, Rule

Array = Any
HEADS = {OPTIMIZER: "optimizer_scalars", GROUP: "group_scalars", PARAMETER: "parameter_scalars"}
"""Names of the functions that run the programs, by level."""
GRAIN = 1 << 12
"""Elements of a piece of a loop, which has a partial sum of its own."""
LINE = 1 << 9
"""Elements whose terms wait in the first cache to be added up."""
CHUNK = 1 << 11
"""Elements that a block of a launch works on."""


def head(rule: Rule, each: Pass, level: int) -> str:
    """The name of a program's function."""
    name = HEADS.get(level, "elements")
    return name if each is rule.passes[0] else f"{name}_again"


# ---- NumPy


def run(program: Program, arrays: Mapping[str, Array]) -> dict[int, Any]:
    """Run a program on 0-d and 1-d arrays, and write to them; the values of what it has computed, by id."""

    def read(name: str) -> Any:
        name, _, entry = name.partition("[")
        return arrays[name][int(entry[:-1]) if entry else ()]

    values = _values(program, read, {})
    for state, x in program.stores:
        arrays[state][...] = values[id(x)]
    return values


def run_elements(
    program: Program, coefficients: dict[int, Any], arrays: Mapping[str, Array]
) -> list[np.float64]:
    """Update a parameter and its moments in place; the sums."""
    values = _values(program, arrays.__getitem__, coefficients, arrays["param"].dtype.type)
    terms = ([np.asarray(values[id(y)], np.float64) for y in x.operands] for x in program.results)
    sums = [functools.reduce(np.multiply, factors).sum() for factors in terms]
    for state, x in program.stores:
        arrays[state][...] = values[id(x)]
    return sums


def _values(
    program: Program,
    read: Callable[[str], Any],
    values: dict[int, Any],
    number: Callable[[Any], Any] = lambda x: x,
) -> dict[int, Any]:
    """The values of expressions, operands first, beside those that are there; `number` types constants."""
    values = dict(values)
    for x in program.steps:
        place = program.place(x)
        if place is not None:
            values[id(x)] = read(place)
        elif x.op == "constant":
            values[id(x)] = number(x.value)
        elif x.op == "coefficient":
            values[id(x)] = number(values[id(x.operands[0])])
        else:
            values[id(x)] = OPERATIONS[x.op].numpy(*(values[id(y)] for y in x.operands))
    return values


# ---- Numba


def numba_program(rule: Rule, each: Pass, program: Program) -> str:
    """The body of a loop over one item: program(start, stop, out, *options, *shared, *sums, *numbers)."""
    own = rule.numbers if program.level == PARAMETER else ()
    given = [*rule.options, *rule.shared, *program.sums, *own]

    def place(name: str) -> str:
        name, bracket, entry = name.partition("[")
        return f"{name}_{bracket}{entry}" if bracket else f"{name}_[()]"

    names, lines = _statements(program, place, "numba")
    lines += [f"{place(state)} = {names[id(x)]}" for state, x in program.stores]
    lines += [f"out[{i}] = {names[id(x)]}" for i, x in enumerate(program.results)]
    arguments = ", ".join(["start", "stop", "out", *(f"{name}_" for name in given)])
    return f"def {rule.name}_{head(rule, each, program.level)}({arguments}):\n" + _indented(lines, 1)


def numba_elements(rule: Rule, each: Pass) -> str:
    """The body of a loop over elements: elements(start, stop, coefficients, [sums,] param, grad, *moments).

    sums[piece, k]: a line of terms is added up at a time, since the sum of a loop has an order that no vector
    code has, and a compiler that may change it changes the order of the formula as well.
    """
    program, arrays = each.elements, ["param", "grad", *rule.moments]
    names, inside = _statements(program, lambda name: f"{name}_part[k]", "numba")
    before = ["number = param_.dtype.type"]
    before += [f"c{i} = number(coefficients[{i}])" for i in range(len(each.coefficients))]
    first, last = ("first", "last") if program.results else ("start", "stop")
    parts = [f"{name}_part = {name}_[{first}:{last}]" for name in _touched(program, arrays)]  # from 0: vector
    inside += [f"{state}_part[k] = {names[id(x)]}" for state, x in program.stores]
    summed = range(len(program.results))
    for i in summed:
        factors = (f"np.float64({names[id(y)]})" for y in program.results[i].operands)
        inside.append(f"line{i}[k] = {' * '.join(factors)}")
    loop = _indented([*parts, f"for k in range({last} - {first}):"], 1) + _indented(inside, 2)
    if summed:
        before += [line for i in summed for line in (f"line{i} = np.empty({LINE})", f"sum{i} = 0.0")]
        added = _indented([f"sum{i} += added(line{i}[: last - first])" for i in summed], 1)
        kept = [f"sums[start // {GRAIN}, {i}] = sum{i}" for i in summed]
        loop = "".join(
            [
                _indented(
                    [f"for first in range(start, stop, {LINE}):", f"    last = min(first + {LINE}, stop)"], 1
                ),
                *(f"    {line}\n" for line in (loop + added).splitlines()),
                _indented(kept, 1),
            ]
        )
    given = ["start", "stop", "coefficients", *["sums"][: len(summed)], *(f"{name}_" for name in arrays)]
    start = f"def {rule.name}_{head(rule, each, ELEMENT)}({', '.join(given)}):\n"
    return start + _indented(before, 1) + loop


def _touched(program: Program, arrays: Sequence[str]) -> list[str]:
    """Those of the arrays that are read or written."""
    names = {*program.loaded, *(name for name, _ in program.stores)}
    return [name for name in arrays if name in names]


# ---- CUDA


def cuda(rule: Rule) -> str:
    """The source of the rule's kernels, with `real` for the dtype of the parameters."""
    kernels = [
        _cuda_elements(rule, each) if level == ELEMENT else _cuda_program(rule, each, program)
        for each in rule.passes
        for level, program in each.programs.items()
    ]
    return "\n".join([f"constexpr int CHUNK = {CHUNK};", '#include "update.cuh"', "", *kernels])


def _cuda_program(rule: Rule, each: Pass, program: Program) -> str:
    """program(options, shared, sums, numbers, out, members): a thread per parameter, or one."""
    many = program.level == PARAMETER

    def place(name: str) -> str:
        name, bracket, entry = name.partition("[")
        if bracket:
            return f"sums_.at[i][{entry}" if name == "sums" else f"{name}_[{entry}"
        return f"*{name}_.at[i]" if name in rule.numbers else f"*{name}_"

    def type_of(name: str) -> str:
        return "long long" if name in rule.whole else "double"

    parameters = [f"const double* {name}_" for name in rule.options]
    parameters += [f"{type_of(name)}* {name}_" for name in rule.shared]
    kinds = {"overall": "const double*", "sums": "Arrays<const double>"}
    parameters += [f"{kinds[name]} {name}_" for name in program.sums]
    parameters += [f"Arrays<{type_of(name)}> {name}_" for name in rule.numbers if many]
    parameters += ["double* out", "long long members"]
    names, lines = _statements(program, place, "cuda")
    lines = ["const int i = threadIdx.x;", "if (i >= members) return;", *lines]
    lines += [f"{place(state)} = {names[id(x)]};" for state, x in program.stores]
    row = len(program.results)
    lines += [f"out[{row} * i + {k}] = {names[id(x)]};" for k, x in enumerate(program.results)]
    name = head(rule, each, program.level)
    return f'extern "C" __global__ void {name}({", ".join(parameters)}) {{\n' + _indented(lines, 1) + "}\n"


def _cuda_elements(rule: Rule, each: Pass) -> str:
    """elements(coefficients, [partial sums,] params, grads, moments, sizes, starts): the loop over chunks of
    update.cuh.
    """
    program, arrays = each.elements, ["param", "grad", *rule.moments]
    written, touched = [name for name, _ in program.stores], _touched(program, arrays)
    parameters = ["const double* coefficients", *["double* sums"][: len(program.results)]]
    parameters += [f"Arrays<{'const ' * (name not in written)}real> {name}_" for name in arrays]
    parameters += ["const Table sizes", "const Counts starts"]
    names, inside = _statements(program, lambda name: f"{name}_part.element[j]", "cuda")
    count = len(each.coefficients)
    row = f"coefficients + {count} * i" if each.row == PARAMETER else "coefficients"
    before = [f"const double* row = {row};"] if count else []
    before += [f"const real c{i} = real(row[{i}]);" for i in range(count)]
    inside += [f"{state}_part.element[j] = {names[id(x)]};" for state, x in program.stores]
    after: list[str] = []
    summed = len(program.results)
    for i, x in enumerate(program.results):
        before.append(f"double sum{i} = 0;")
        term = " * ".join(f"double({names[id(y)]})" for y in x.operands)
        inside.append(f"if (first + j < n) sum{i} += {term};")
        after.append(f"sum{i} = block_reduce(sum{i}, 0.0, scratch[{i}], Sum());")
        after.append(f"if (threadIdx.x == 0) sums[{summed} * blockIdx.x + {i}] = sum{i};")
    if summed:
        after.insert(0, f"__shared__ double scratch[{summed}][33];")
    body = [f"Reals {', '.join(f'{name}_part' for name in touched)};"]
    body += [f"load({name}_.at[i], first, n, {name}_part);" for name in touched if name in program.loaded]
    return "".join(
        [
            f'extern "C" __global__ void {head(rule, each, ELEMENT)}({", ".join(parameters)}) {{\n',
            _indented(["const int i = member(starts);", *before], 1),
            _indented(["each_pack(i, sizes, starts, [&](i64 n, i64 first) {"], 1),
            _indented(body, 2),
            "#pragma unroll\n",
            _indented(["for (int j = 0; j < WIDTH; ++j) {"], 2),
            _indented(inside, 3),
            _indented(["}", *(f"store({name}_.at[i], first, n, {name}_part);" for name in written)], 2),
            _indented(["});", *after], 1),
            "}\n",
        ]
    )


# ---- what both sources share


def _statements(
    program: Program, place: Callable[[str], str], language: str
) -> tuple[dict[int, str], list[str]]:
    """The names of all expressions by id, and the line `t = a + b` for each, operands first. Constants and
    coefficients have a name alone.
    """
    names: dict[int, str] = {}
    lines: list[str] = []
    for x in program.steps:
        real = {"i": "i64", "b": "bool"}.get(x.kind, "real" if x.level == ELEMENT else "double")
        where = program.place(x)
        if where is None and x.op == "constant":
            word = "number" if language == "numba" else real
            names[id(x)] = f"{word}({x.value!r})" if x.level == ELEMENT else repr(x.value)
            continue
        if where is None and x.op == "coefficient":
            names[id(x)] = f"c{sum(name[0] == 'c' for name in names.values())}"
            continue
        name = names[id(x)] = f"t{len(lines)}"
        if where is not None:
            text = place(where)
        else:
            text = getattr(OPERATIONS[x.op], language).format(*(names[id(y)] for y in x.operands), real=real)
        lines.append(f"{name} = {text}" if language == "numba" else f"const {real} {name} = {text};")
    return names, lines


def _indented(lines: Sequence[str], depth: int) -> str:
    return "".join(f"{'    ' * depth}{line}\n" for line in lines)
