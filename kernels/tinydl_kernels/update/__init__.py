"""The optimizers' steps and other writes in place: effects, which return nothing.

What an optimizer computes is a rule (rule.py), traced from the formulas that it states; this file runs any
rule on a group of parameters. A parameter that got no gradient is not in the lists and does not age. What
varies between steps, options and states, comes as arrays. Cost: one pass over every array of the group, or
two of a rule with sums (those of pieces are added up in their order, so the bits depend on sizes alone); on a
GPU one launch for the elements of 64 members, and one for their scalars.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ..cpu.compiler import Parallel, kernel, parallel
from ..cuda import launching
from ..machine import memory
from ..machine.dispatch import operation
from . import emission
from .emission import CHUNK, GRAIN
from .expression import ELEMENT, GROUP, OPTIMIZER, PARAMETER
from .rule import Pass, Program, Rule
from .rule import State as State
from .rule import trace as trace

Array = Any


@operation
def optimizer_step(params, grads, moments, numbers, shared, options, rule, leads, sums=None, overall=None):
    """One pass of a rule's step on a group, in place: programs of numbers first, then every element of every
    parameter.

    Args:
        params, grads: lists of M arrays, each gradient of its parameter's shape and dtype. moments, numbers,
        shared, options: a list for each name in `rule.moments` and `rule.numbers`, of M arrays
            (those of `numbers` 0-d); an array for each in `rule.shared` and `rule.options`.
        leads: is it the optimizer's first group in this step? Only then are the optimizer's numbers computed.
        sums, overall: for the second pass of a rule with sums: what the first one has returned, and that
            added up over all parameters of the optimizer.

    Returns:
        Of the first pass of a rule with S sums these, float64 (M, S); else None.
    """
    this = rule.passes[sums is not None]
    common = dict(zip((*rule.shared, *rule.options), (*shared, *options), strict=True)) | {"overall": overall}
    computed: dict[int, Any] = {}
    found = np.empty((len(params), len(this.elements.results)))
    with np.errstate(all="ignore"):
        for program in _before(this, leads):
            computed = emission.run(program, common)
        for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
            if PARAMETER in this.programs:
                own = {name: arrays[i] for name, arrays in zip(rule.numbers, numbers, strict=True)}
                own["sums"] = None if sums is None else sums[i]
                computed = emission.run(this.programs[PARAMETER], common | own)
            own = {name: arrays[i] for name, arrays in zip(rule.moments, moments, strict=True)}
            own |= {"param": param, "grad": grad}
            found[i] = emission.run_elements(this.elements, computed, own)
    return found if found.shape[1] else None


def _before(this: Pass, leads: bool) -> list[Program]:
    """The programs that run once for the whole group."""
    levels = (OPTIMIZER, GROUP) if leads else (GROUP,)
    return [this.programs[level] for level in levels if level in this.programs]


@functools.cache
def loops(rule: Rule) -> list[dict[int, Parallel]]:
    """The loops of a rule in Numba, by pass and level; equal rules have the same."""

    def made(source: str) -> Parallel:
        namespace: dict[str, Any] = {"np": np, "normal": normal, "added": added, "__name__": __name__}
        exec(compile(source, f"<rule {rule.name}>", "exec"), namespace)
        return Parallel(namespace[source[len("def ") : source.index("(")]])

    return [
        {
            level: made(
                emission.numba_elements(rule, each)
                if level == ELEMENT
                else emission.numba_program(rule, each, program)
            )
            for level, program in each.programs.items()
        }
        for each in rule.passes
    ]


@kernel
def normal(x):
    """x, or 0 where it is subnormal (expression.py says why)."""
    return type(x)(0) if abs(x) < np.finfo(x).tiny else x


@kernel(fastmath={"reassoc"})
def added(line):
    """The sum of a line, in vectors."""
    total = 0.0
    for k in range(line.size):
        total += line[k]
    return total


@parallel
def _fold(start, stop, parts, sums):
    for k in range(start, stop):
        total = 0.0
        for part in range(len(parts)):
            total += parts[part, k]
        sums[0, k] = total


@optimizer_step.loops
def _(params, grads, moments, numbers, shared, options, rule, leads, sums=None, overall=None):
    number = int(sums is not None)
    this, compiled = rule.passes[number], loops(rule)[number]
    own_rows, count = this.row == PARAMETER, len(this.elements.results)
    out = memory.empty((len(params) if own_rows else 1, len(this.coefficients)), np.float64, params[0])
    found = memory.empty((len(params), count), np.float64, params[0]) if count else None
    for program in _before(this, leads):
        whole = [overall] if program.sums else []
        compiled[program.level](1, 1, out[0], *options, *shared, *whole)
    for i, (param, grad, own, arrays) in enumerate(
        zip(params, grads, _transposed(numbers, params), _transposed(moments, params), strict=True)
    ):
        row = out[i] if own_rows else out[0]
        if own_rows:
            read = {"overall": overall, "sums": None if sums is None else sums[i]}
            given = [read[name] for name in this.programs[PARAMETER].sums]
            compiled[PARAMETER](1, 1, row, *options, *shared, *given, *own)
        lines = [array.reshape(-1) for array in (param, grad, *arrays)]
        if found is None:
            compiled[ELEMENT](param.size, GRAIN, row, *lines)
            continue
        pieces, mine = -(-param.size // GRAIN), found[i : i + 1]
        parts = mine if pieces == 1 else memory.empty((pieces, count), np.float64, param)
        compiled[ELEMENT](param.size, GRAIN, row, parts, *lines)
        if pieces != 1:
            _fold(count, count, parts, mine)
    return found


def _transposed(lists: Sequence[Sequence[Array]], params: Sequence[Array]) -> Sequence[Sequence[Array]]:
    """For each member of a group its arrays out of all lists."""
    return list(zip(*lists, strict=True)) if lists else [()] * len(params)


def cuda_module(rule: Rule, real: np.dtype) -> launching.Module:
    """The kernels of a rule for parameters of that dtype."""
    return launching.generated(rule.name, real, functools.partial(emission.cuda, rule))


@optimizer_step.cuda
def _(params, grads, moments, numbers, shared, options, rule, leads, sums=None, overall=None):
    this = rule.passes[sums is not None]
    count, width = len(this.elements.results), len(this.coefficients)
    found = memory.empty((len(params), count), np.float64, params[0]) if count else None
    given = [[None] * len(params) if x is None else list(x) for x in (sums, found)]
    members = list(
        zip(params, grads, _transposed(moments, params), _transposed(numbers, params), *given, strict=True)
    )

    def function(level: int, dtype: np.dtype) -> launching.Function:
        return cuda_module(rule, dtype).get_function(emission.head(rule, this, level))

    common = memory.empty((1, width), np.float64, params[0])
    for program in _before(this, leads):
        whole = [overall] if program.sums else []
        arguments = (*options, *shared, *whole, common, np.int64(1))
        function(program.level, params[0].dtype)((1,), (launching.WARP,), arguments)
    for dtype in {array.dtype: None for array in params}:
        alike = [member for member in members if member[0].dtype == dtype]
        for at in range(0, len(alike), launching.GROUP):
            taken = alike[at : at + launching.GROUP]
            out = common
            if this.row == PARAMETER:
                out = memory.empty((len(taken), width), np.float64, params[0])
                read = {"overall": overall, "sums": [member[4] for member in taken]}
                own = [read[name] for name in this.programs[PARAMETER].sums]
                own += map(list, zip(*(member[3] for member in taken), strict=True))
                arguments = (*options, *shared, *own, out, np.int64(len(taken)))
                function(PARAMETER, dtype)((1,), (launching.GROUP,), arguments)
            sizes = [member[0].size for member in taken]
            *starts, blocks = accumulate((-(-size // CHUNK) for size in sizes), initial=0)
            starts += [blocks] * (launching.GROUP - len(starts))
            parts = [memory.empty((blocks, count), np.float64, params[0])] if count else []
            if blocks:
                lists = map(list, zip(*((param, grad, *own) for param, grad, own, *_ in taken), strict=True))
                tables = launching.table(sizes), launching.counts(starts)
                function(ELEMENT, dtype)((blocks,), (launching.THREADS,), (out, *parts, *lists, *tables))
            if count:
                mine = [member[5] for member in taken]
                launching.module("counters").get_function("fold")(
                    (count * len(taken),),
                    (launching.WARP,),
                    (*parts, mine, launching.counts(starts), np.int32(blocks), np.int32(count)),
                )
    return found


@operation
def increment(*counters):
    """counter += 1 for each, int64."""
    for counter in counters:
        counter += 1


@increment.loops
def _(*counters):
    for counter in counters:
        _increment(counter.size, GRAIN, counter.reshape(-1))


@parallel
def _increment(start, stop, counter):
    for i in range(start, stop):
        counter[i] += 1


@increment.cuda
def _(*counters):
    for at in range(0, len(counters), launching.GROUP):
        taken = list(counters[at : at + launching.GROUP])
        sizes = launching.table([counter.size for counter in taken])
        launching.module("counters").get_function("increment")(
            (len(taken),), (launching.WARP,), (taken, sizes)
        )


@operation(portable=True)
def assign(target, value):
    """target = value, which broadcasts to it and is cast to its dtype."""
    target[...] = value


@operation(portable=True)
def fill(target, scalar):
    """target = scalar everywhere."""
    target[...] = scalar
