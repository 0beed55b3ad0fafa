"""Writes in place: the optimizers' steps on whole groups of parameters, counters, assignment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tinydl_kernels import update as kernels
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Array, Tensor
from ..engine.effect import effect
from ..engine.promotion import is_scalar


def _written(*lists: int, of: int) -> Callable[[int], list[int]]:
    """Positions of some of the `of` equally long lists that follow the learning rate."""
    return lambda inputs: [
        1 + which * ((inputs - 1) // of) + i for which in lists for i in range((inputs - 1) // of)
    ]


def _split(arrays: Sequence[Array], parts: int) -> list[list[Array]]:
    k = len(arrays) // parts
    return [list(arrays[i * k : (i + 1) * k]) for i in range(parts)]


@effect(writes=_written(0, of=2))
def _sgd(lr: Array, *arrays: Array, weight_decay: float) -> None:
    params, grads = _split(arrays, 2)
    kernels.sgd(lr, params, grads, None, None, 0.0, 0.0, False, weight_decay)


@effect(writes=_written(0, 2, 3, of=4))
def _momentum(
    lr: Array, *arrays: Array, momentum: float, dampening: float, nesterov: bool, weight_decay: float
) -> None:
    params, grads, buffers, steps = _split(arrays, 4)
    kernels.sgd(lr, params, grads, buffers, steps, momentum, dampening, nesterov, weight_decay)
    kernels.increment(*steps)


@effect(writes=_written(0, 2, 3, 4, of=5))
def _adam(
    lr: Array, *arrays: Array, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool
) -> None:
    params, grads, first, second, steps = _split(arrays, 5)
    kernels.increment(*steps)
    kernels.adam(lr, params, grads, first, second, steps, beta1, beta2, eps, weight_decay, decoupled)


@effect(writes=("counter",))
def _increment(counter: Array) -> None:
    kernels.increment(counter)


@effect(writes=("target",))
def _assign(target: Array, value: Array) -> None:
    kernels.assign(target, value)


def sgd(
    lr: Tensor,
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    buffers: Sequence[Tensor] = (),
    steps: Sequence[Tensor] = (),
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """One step of stochastic gradient descent on a group. Momentum needs the buffers and
    `steps`, which count the steps.
    """
    if momentum:
        smoothing = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov}
        _momentum(lr, *params, *grads, *buffers, *steps, **smoothing, weight_decay=weight_decay)
    else:
        _sgd(lr, *params, *grads, weight_decay=weight_decay)


def adam(
    lr: Tensor,
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    steps: Sequence[Tensor],
    *,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """One step of Adam (AdamW if `decoupled`) on a group, with the moments `first` and
    `second`; `steps` count the steps.
    """
    settings = {
        "beta1": beta1,
        "beta2": beta2,
        "eps": eps,
        "weight_decay": weight_decay,
        "decoupled": decoupled,
    }
    _adam(lr, *params, *grads, *first, *second, *steps, **settings)


def increment(counter: Tensor) -> None:
    """counter += 1."""
    _increment(counter)


def assign(target: Tensor, value: Any) -> None:
    """target = value, which broadcasts to it and is cast to its dtype: a tensor, an
    array, a number or lists of them.
    """
    if is_scalar(value):
        value = Tensor(memory.array_module(target.array).full((), value, target.dtype))
    elif isinstance(value, (list, tuple)):
        value = constant(target, np.asarray(value, target.dtype))
    if not _broadcasts(value.shape, target.shape):
        raise ShapeError(f"assign: expected a value that broadcasts to {target.shape}, got {value.shape}")
    _assign(target, value)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False))
