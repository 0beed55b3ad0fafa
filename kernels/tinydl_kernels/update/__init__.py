"""The optimizers' steps and other writes in place: effects, which return nothing.

What an optimizer computes is a rule (rule.py), traced from the formulas that it states; this file runs any
rule on a group of parameters. A parameter that got no gradient is not in the lists and does not age. What
varies between steps, options and states, comes as arrays. Cost: one pass over every array of the group; on a
GPU one launch for the elements of 64 members, and one for their scalars.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from ..cpu.compiler import Parallel, kernel, parallel
from ..cuda import launching
from ..machine import memory
from ..machine.dispatch import operation
from . import emission
from .emission import CHUNK
from .expression import GROUP, OPTIMIZER, PARAMETER
from .rule import Program, Rule
from .rule import State as State
from .rule import trace as trace

Array = Any
GRAIN = 1 << 12


@operation
def optimizer_step(params, grads, moments, numbers, shared, options, rule, leads):
    """One step of a rule on a group, in place: programs of numbers first, then every element of every
    parameter.

    Args:
        params, grads: lists of M arrays, each gradient of its parameter's shape and dtype. moments, numbers,
        shared, options: a list for each name in `rule.moments` and `rule.numbers`, of M arrays
            (those of `numbers` 0-d); an array for each in `rule.shared` and `rule.options`.
        leads: is it the optimizer's first group in this step? Only then are the optimizer's numbers computed.
    """
    common = dict(zip((*rule.shared, *rule.options), (*shared, *options), strict=True))
    computed: dict[int, Any] = {}
    with np.errstate(all="ignore"):
        for program in _before(rule, leads):
            computed = emission.run(program, common)
        for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
            if PARAMETER in rule.programs:
                own = {name: arrays[i] for name, arrays in zip(rule.numbers, numbers, strict=True)}
                computed = emission.run(rule.programs[PARAMETER], common | own)
            own = {name: arrays[i] for name, arrays in zip(rule.moments, moments, strict=True)}
            emission.run_elements(rule, computed, own | {"param": param, "grad": grad})


def _before(rule: Rule, leads: bool) -> list[Program]:
    """The programs that run once for the whole group."""
    levels = (OPTIMIZER, GROUP) if leads else (GROUP,)
    return [rule.programs[level] for level in levels if level in rule.programs]


class _Loops(NamedTuple):
    """The compiled loops of a rule."""

    programs: dict[int, Parallel]  # by level
    elements: Parallel


@functools.cache
def loops(rule: Rule) -> _Loops:
    """The loops of a rule in Numba; equal rules have the same."""

    def made(source: str) -> Parallel:
        namespace: dict[str, Any] = {"np": np, "normal": normal, "__name__": __name__}
        exec(compile(source, f"<rule {rule.name}>", "exec"), namespace)
        return Parallel(namespace[source[len("def ") : source.index("(")]])

    programs = {level: made(emission.numba_program(rule, x)) for level, x in rule.programs.items()}
    return _Loops(programs, made(emission.numba_elements(rule)))


@kernel
def normal(x):
    """x, or 0 where it is subnormal (expression.py says why)."""
    return type(x)(0) if abs(x) < np.finfo(x).tiny else x


@optimizer_step.loops
def _(params, grads, moments, numbers, shared, options, rule, leads):
    programs, elements = loops(rule)
    own_rows = rule.row == PARAMETER
    out = memory.empty((len(params) if own_rows else 1, len(rule.coefficients)), np.float64, params[0])
    for program in _before(rule, leads):
        programs[program.level](1, 1, out[0], *options, *shared)
    rows = out if own_rows else [out[0]] * len(params)
    for param, grad, row, own, arrays in zip(
        params, grads, rows, _transposed(numbers, params), _transposed(moments, params), strict=True
    ):
        if own_rows:
            programs[PARAMETER](1, 1, row, *options, *shared, *own)
        lines = [array.reshape(-1) for array in arrays]
        elements(param.size, GRAIN, row, param.reshape(-1), grad.reshape(-1), *lines)


def _transposed(lists: Sequence[Sequence[Array]], params: Sequence[Array]) -> Sequence[Sequence[Array]]:
    """For each member of a group its arrays out of all lists."""
    return list(zip(*lists, strict=True)) if lists else [()] * len(params)


def cuda_module(rule: Rule, real: np.dtype) -> launching.Module:
    """The kernels of a rule for parameters of that dtype."""
    return launching.generated(rule.name, real, functools.partial(emission.cuda, rule))


@optimizer_step.cuda
def _(params, grads, moments, numbers, shared, options, rule, leads):
    members = list(
        zip(params, grads, _transposed(moments, params), _transposed(numbers, params), strict=True)
    )
    out = memory.empty((1, len(rule.coefficients)), np.float64, params[0])
    for program in _before(rule, leads):
        function = cuda_module(rule, params[0].dtype).get_function(emission.HEADS[program.level])
        function((1,), (launching.WARP,), (*options, *shared, out, np.int64(1)))
    for dtype in {array.dtype: None for array in params}:
        alike = [member for member in members if member[0].dtype == dtype]
        for at in range(0, len(alike), launching.GROUP):
            taken = alike[at : at + launching.GROUP]
            if rule.row == PARAMETER:
                out = memory.empty((len(taken), len(rule.coefficients)), np.float64, params[0])
                own = map(list, zip(*(member[3] for member in taken), strict=True))
                arguments = (*options, *shared, *own, out, np.int64(len(taken)))
                function = cuda_module(rule, dtype).get_function(emission.HEADS[PARAMETER])
                function((1,), (launching.GROUP,), arguments)
            sizes = [member[0].size for member in taken]
            *starts, blocks = accumulate((-(-size // CHUNK) for size in sizes), initial=0)
            starts += [blocks] * (launching.GROUP - len(starts))
            if blocks:
                lists = map(list, zip(*((param, grad, *own) for param, grad, own, _ in taken), strict=True))
                function = cuda_module(rule, dtype).get_function("elements")
                tables = launching.table(sizes), launching.counts(starts)
                function((blocks,), (launching.THREADS,), (out, *lists, *tables))


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
