"""Writes in place: the optimizers' steps on whole groups of parameters, counters, assignment."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from tinydl_kernels import update as kernels
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import DtypeError, ShapeError
from tinydl_kernels.update import Rule

from ..devices import constant
from ..engine.core import Array, Tensor
from ..engine.effect import effect, made
from ..engine.promotion import is_scalar, number


@functools.lru_cache(maxsize=256)
def _lists(rule: Rule, members: int, again: bool) -> dict[str, range]:
    """Where the arrays of `optimizer_step` stand: those that are written, then those that are read."""
    sizes = {
        "params": members,
        "moments": members * len(rule.moments),
        "numbers": members * len(rule.numbers),
        "shared": len(rule.shared),
        "grads": members,
        "options": len(rule.options),
        "sums": 2 if again and rule.sums else 0,
    }
    ends = accumulate(sizes.values())
    return {name: range(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}


def _written(inputs: int, settings: dict[str, Any]) -> range:
    return range(_lists(settings["rule"], settings["members"], settings["again"])["shared"].stop)


@effect(writes=_written)
def _optimizer_step(*arrays: Array, rule: Rule, members: int, leads: bool, again: bool) -> Array | None:
    places = _lists(rule, members, again)
    lists = {name: list(arrays[at.start : at.stop]) for name, at in places.items()}
    moments, numbers = (
        [whole[at : at + members] for at in range(0, len(whole), members)]
        for whole in (lists["moments"], lists["numbers"])
    )
    rest = lists["shared"], lists["options"], rule, leads, *lists["sums"]
    return kernels.optimizer_step(lists["params"], lists["grads"], moments, numbers, *rest)


@effect(writes=("counter",))
def _increment(counter: Array) -> None:
    kernels.increment(counter)


@effect(writes=("target",))
def _assign(target: Array, value: Array) -> None:
    kernels.assign(target, value)


def optimizer_step(
    rule: Rule,
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    states: Sequence[Sequence[Tensor]],
    shared: Sequence[Tensor],
    options: Sequence[Tensor],
    leads: bool,
    sums: Sequence[Tensor] = (),
) -> Tensor | None:
    """One pass of an optimizer's rule on a group. `states`: for each name in `rule.moments` and then in
    `rule.numbers` a list with a tensor per parameter; `shared` and `options` by `rule.shared` and
    `rule.options`. `leads`: is it the first group of the step?

    The first pass of a rule with S sums returns them, float64 (parameters, S); the second has as `sums` these
    and what all groups' add up to, (S,).
    """
    kept = [x for state in states for x in state]
    arrays = (*params, *kept, *shared, *grads, *options, *sums)
    return _optimizer_step(*arrays, rule=rule, members=len(params), leads=leads, again=bool(sums))


def increment(counter: Tensor) -> None:
    """counter += 1."""
    _increment(counter)


def assign(target: Tensor, value: Any) -> None:
    """target = value, which broadcasts to it and is cast to its dtype: a tensor, an
    array, a number or lists of them.
    """
    if is_scalar(value):
        value = Tensor(
            memory.array_module(target.array).full((), number("assign", value, target.dtype), target.dtype)
        )
    elif isinstance(value, (list, tuple)):
        try:
            value = constant(target, np.asarray(value, target.dtype))
        except OverflowError as error:
            raise DtypeError(f"assign: expected numbers that {target.dtype} can hold: {error}") from None
    if not broadcasts(value.shape, target.shape):
        raise ShapeError(f"assign: expected a value that broadcasts to {target.shape}, got {value.shape}")
    _assign(target, value)


def clear_gradients(tensors: Iterable[Tensor], set_to_none: bool) -> None:
    """Set `.grad` of each to None; or, where it is there, to zeros."""
    for x in tensors:
        if set_to_none:
            x.grad = None
        elif x.grad is not None:
            x.grad = made(Tensor(memory.array_module(x.array).zeros_like(x.grad.array)))


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Does an array of a shape fill one of another?"""
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False))
