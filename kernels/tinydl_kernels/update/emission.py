"""A rule as NumPy computes it, as source for Numba, and as source for CUDA: the same operations in the same
order.

What is read from memory comes first, what is written last, so that a processor can do several elements at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .expression import ELEMENT, GROUP, OPERATIONS, OPTIMIZER, PARAMETER, Expression
from .rule import Program, Rule

Array = Any
HEADS = {OPTIMIZER: "optimizer_scalars", GROUP: "group_scalars", PARAMETER: "parameter_scalars"}
"""Names of the functions that run the programs, by level."""
CHUNK = 1 << 11
"""Elements that a block of a launch works on."""


# ---- NumPy


def run(program: Program, arrays: Mapping[str, Array]) -> dict[int, Any]:
    """Run a program on 0-d and 1-d arrays, and write to them; the values of what it has computed, by id."""

    def read(name: str) -> Any:
        name, _, entry = name.partition("[")
        return arrays[name][int(entry[:-1]) if entry else ()]

    values = _values(program.steps(), read, {i: read(state) for i, state in program.leaves.items()})
    for state, x in program.stores:
        arrays[state][...] = values[id(x)]
    return values


def run_elements(rule: Rule, coefficients: dict[int, Any], arrays: Mapping[str, Array]) -> None:
    """Update a parameter and its moments in place."""
    values = _values(rule.elements, arrays.__getitem__, coefficients, arrays["param"].dtype.type)
    for state, x in [*rule.stores, ("param", rule.update)]:
        arrays[state][...] = values[id(x)]


def _values(
    steps: Sequence[Expression],
    read: Callable[[str], Any],
    values: dict[int, Any],
    number: Callable[[Any], Any] = lambda x: x,
) -> dict[int, Any]:
    """The values of expressions, operands first, beside those that are there; `number` types constants."""
    values = dict(values)
    for x in steps:
        if x.op == "load":
            values[id(x)] = read(x.value)
        elif x.op == "constant":
            values[id(x)] = number(x.value)
        elif x.op == "coefficient":
            values[id(x)] = number(values[id(x.operands[0])])
        else:
            values[id(x)] = OPERATIONS[x.op].numpy(*(values[id(y)] for y in x.operands))
    return values


# ---- Numba


def numba_program(rule: Rule, program: Program) -> str:
    """The body of a loop over one item: program(start, stop, out, *options, *shared, *numbers)."""
    given = [*rule.options, *rule.shared, *(rule.numbers if program.level == PARAMETER else ())]

    def place(name: str) -> str:
        name, bracket, entry = name.partition("[")
        return f"{name}_{bracket}{entry}" if bracket else f"{name}_[()]"

    names = {i: place(state) for i, state in program.leaves.items()}
    lines = [*_statements(program.steps(), names, place, "numba").values()]
    lines += [f"{place(state)} = {names[id(x)]}" for state, x in program.stores]
    lines += [f"out[{i}] = {names[id(x)]}" for i, x in enumerate(program.results)]
    arguments = ", ".join(["start", "stop", "out", *(f"{name}_" for name in given)])
    return f"def {rule.name}_{HEADS[program.level]}({arguments}):\n" + _indented(lines, 1)


def numba_elements(rule: Rule) -> str:
    """The body of a loop over elements: elements(start, stop, coefficients, param, grad, *moments)."""
    arrays = ["param", "grad", *rule.moments]
    names: dict[int, str] = {}
    inside = [*_statements(rule.elements, names, lambda name: f"{name}_part[k]", "numba").values()]
    before = ["number = param_.dtype.type"]
    before += [f"c{i} = number(coefficients[{i}])" for i in range(len(rule.coefficients))]
    before += [f"{name}_part = {name}_[start:stop]" for name in arrays]  # from 0: vector code
    inside += [f"{state}_part[k] = {names[id(x)]}" for state, x in [*rule.stores, ("param", rule.update)]]
    arguments = ", ".join(["start", "stop", "coefficients", *(f"{name}_" for name in arrays)])
    head = f"def {rule.name}_elements({arguments}):\n"
    return head + _indented([*before, "for k in range(stop - start):"], 1) + _indented(inside, 2)


# ---- CUDA


def cuda(rule: Rule) -> str:
    """The source of the rule's kernels, with `real` for the dtype of the parameters."""
    return "\n".join(
        [
            f"constexpr int CHUNK = {CHUNK};",
            '#include "update.cuh"',
            "",
            *(_cuda_program(rule, x) for x in rule.programs.values()),
            _cuda_elements(rule),
        ]
    )


def _cuda_program(rule: Rule, program: Program) -> str:
    """program(options, shared, numbers, out, members): a thread per parameter, or one."""
    many = program.level == PARAMETER

    def place(name: str) -> str:
        name, bracket, entry = name.partition("[")
        if bracket:
            return f"{name}_[{entry}"
        return f"*{name}_.at[i]" if name in rule.numbers else f"*{name}_"

    def type_of(name: str) -> str:
        return "long long" if name in rule.whole else "double"

    parameters = [f"const double* {name}_" for name in rule.options]
    parameters += [f"{type_of(name)}* {name}_" for name in rule.shared]
    parameters += [f"Arrays<{type_of(name)}> {name}_" for name in rule.numbers if many]
    parameters += ["double* out", "long long members"]
    names = {i: place(state) for i, state in program.leaves.items()}
    lines = ["const int i = threadIdx.x;", "if (i >= members) return;"]
    lines += _statements(program.steps(), names, place, "cuda").values()
    lines += [f"{place(state)} = {names[id(x)]};" for state, x in program.stores]
    row = len(program.results)
    lines += [f"out[{row} * i + {k}] = {names[id(x)]};" for k, x in enumerate(program.results)]
    head = f'extern "C" __global__ void {HEADS[program.level]}({", ".join(parameters)}) {{\n'
    return head + _indented(lines, 1) + "}\n"


def _cuda_elements(rule: Rule) -> str:
    """elements(coefficients, params, grads, moments, sizes, starts): the loop over chunks of update.cuh."""
    arrays = ["param", "grad", *rule.moments]
    written = ["param", *(state for state, _ in rule.stores)]
    parameters = ["const double* coefficients"]
    parameters += [f"Arrays<{'const ' * (name not in written)}real> {name}_" for name in arrays]
    parameters += ["const Table sizes", "const Counts starts"]
    names: dict[int, str] = {}
    inside = [*_statements(rule.elements, names, lambda name: f"{name}_part.element[j]", "cuda").values()]
    row = f"coefficients + {len(rule.coefficients)} * i" if rule.row == PARAMETER else "coefficients"
    before = [f"const double* row = {row};"] if rule.coefficients else []
    before += [f"const real c{i} = real(row[{i}]);" for i in range(len(rule.coefficients))]
    stores = [*rule.stores, ("param", rule.update)]
    inside += [f"{state}_part.element[j] = {names[id(x)]};" for state, x in stores]
    body = [f"Reals {', '.join(f'{name}_part' for name in arrays)};"]
    body += [f"load({name}_.at[i], first, n, {name}_part);" for name in arrays]
    return "".join(
        [
            f'extern "C" __global__ void elements({", ".join(parameters)}) {{\n',
            _indented(["const int i = member(starts);", *before], 1),
            _indented(["each_pack(i, sizes, starts, [&](i64 n, i64 first) {"], 1),
            _indented(body, 2),
            "#pragma unroll\n",
            _indented(["for (int j = 0; j < WIDTH; ++j) {"], 2),
            _indented(inside, 3),
            _indented(["}", *(f"store({name}_.at[i], first, n, {name}_part);" for name in written)], 2),
            _indented(["});"], 1),
            "}\n",
        ]
    )


# ---- what both sources share


def _statements(
    steps: Sequence[Expression], names: dict[int, str], place: Callable[[str], str], language: str
) -> dict[int, str]:
    """The line `t = a + b` for each of the expressions by id, operands first; `names` is filled in. Constants
    and coefficients have a name alone.
    """
    lines: dict[int, str] = {}
    for x in steps:
        real = {"i": "i64", "b": "bool"}.get(x.kind, "real" if x.level == ELEMENT else "double")
        if x.op == "constant":
            word = "number" if language == "numba" else real
            names[id(x)] = f"{word}({x.value!r})" if x.level == ELEMENT else repr(x.value)
            continue
        if x.op == "coefficient":
            names[id(x)] = f"c{sum(name[0] == 'c' for name in names.values())}"
            continue
        name = names[id(x)] = f"t{len(lines)}"
        if x.op == "load":
            text = place(x.value)
        else:
            text = getattr(OPERATIONS[x.op], language).format(*(names[id(y)] for y in x.operands), real=real)
        lines[id(x)] = f"{name} = {text}" if language == "numba" else f"const {real} {name} = {text};"
    return lines


def _indented(lines: Sequence[str], depth: int) -> str:
    return "".join(f"{'    ' * depth}{line}\n" for line in lines)
