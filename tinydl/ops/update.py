"""The optimizers' steps, as effects on whole groups of parameters."""

from __future__ import annotations

from collections.abc import Sequence

from tinydl_kernels import update as kernels

from ..core import Array, Tensor
from ..effect import effect


def _written(*lists: int, of: int, after: int) -> object:
    """Positions of some of the `of` equally long lists that follow `after` single inputs."""
    return lambda inputs: [
        after + i for which in lists for i in range(which * ((inputs - after) // of), (which + 1) * ((inputs - after) // of))
    ]


def _split(arrays: Sequence[Array], parts: int) -> list[list[Array]]:
    k = len(arrays) // parts
    return [list(arrays[i * k : (i + 1) * k]) for i in range(parts)]


@effect(writes=_written(0, of=2, after=2))
def _sgd(lr: Array, step: Array, *arrays: Array, weight_decay: float) -> None:
    params, grads = _split(arrays, 2)
    kernels.sgd(lr, step, params, grads, None, 0.0, 0.0, False, weight_decay)


@effect(writes=_written(0, 2, of=3, after=2))
def _momentum(
    lr: Array, step: Array, *arrays: Array, momentum: float, dampening: float, nesterov: bool, weight_decay: float
) -> None:
    params, grads, buffers = _split(arrays, 3)
    kernels.sgd(lr, step, params, grads, buffers, momentum, dampening, nesterov, weight_decay)


@effect(writes=_written(0, 2, 3, of=4, after=2))
def _adam(
    lr: Array, step: Array, *arrays: Array, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool
) -> None:
    params, grads, first, second = _split(arrays, 4)
    kernels.adam(lr, step, params, grads, first, second, beta1, beta2, eps, weight_decay, decoupled)


@effect(writes=("counter",))
def _increment(counter: Array) -> None:
    kernels.increment(counter)


def sgd(
    lr: Tensor,
    step: Tensor,
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    buffers: Sequence[Tensor] | None,
    *,
    momentum: float,
    dampening: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """One step of stochastic gradient descent on a group; `step` counts the steps done before."""
    if buffers is None:
        _sgd(lr, step, *params, *grads, weight_decay=weight_decay)
    else:
        _momentum(
            lr,
            step,
            *params,
            *grads,
            *buffers,
            momentum=momentum,
            dampening=dampening,
            nesterov=nesterov,
            weight_decay=weight_decay,
        )


def adam(
    lr: Tensor,
    step: Tensor,
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    *,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """One step of Adam (AdamW if `decoupled`) on a group; `step` counts this step too."""
    _adam(
        lr,
        step,
        *params,
        *grads,
        *first,
        *second,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        weight_decay=weight_decay,
        decoupled=decoupled,
    )


def increment(counter: Tensor) -> None:
    """counter += 1."""
    _increment(counter)
