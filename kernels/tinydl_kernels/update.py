"""The optimizers' steps and other writes in place: effects, which return nothing.

Formulas and their order of operations are PyTorch's. What varies between steps comes as an array and is read
by the kernel: `lr` float64 and `steps` int64, 0-d or (1,). A group of parameters is updated by one call:
lists of arrays of equal lengths, `steps` among them, because a parameter that got no gradient did not age.
Cost: one pass over every array of the group; on a GPU one launch for 64 of its members.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from .cpu.compiler import kernel, parallel
from .cuda import launching
from .machine.dispatch import operation
from .machine.validate import report

Array = Any
GRAIN = 1 << 12
CHUNK = 1 << 11
"""Elements that a block of a launch works on."""


def _launch(
    kernel: str, before: tuple[Any, ...], lists: Sequence[Sequence[Array]], settings: tuple[Any, ...]
) -> None:
    """kernel(*before, *lists, sizes, starts, *settings) on the members of a group, by dtype
    and as many as a launch takes.
    """
    for dtype in {array.dtype: None for array in lists[0]}:
        members = [
            arrays for arrays in zip(*lists, strict=True) if arrays[0].size and arrays[0].dtype == dtype
        ]
        for at in range(0, len(members), launching.GROUP):
            taken = members[at : at + launching.GROUP]
            sizes = [arrays[0].size for arrays in taken]
            *starts, blocks = accumulate((-(-size // CHUNK) for size in sizes), initial=0)
            starts += [blocks] * (launching.GROUP - len(starts))
            arguments = (
                *map(list, zip(*taken, strict=True)),
                launching.table(sizes),
                launching.table(starts),
            )
            function = launching.module("update", dtype).get_function(kernel)
            function((blocks,), (launching.THREADS,), (*before, *arguments, *settings))


@kernel
def _normal(x):
    """x, or 0 where it is subnormal: a moment of a gradient that has become 0 would decay to there and stay
    for ever, and a processor takes a hundred times longer for such a number.
    """
    return type(x)(0) if abs(x) < np.finfo(x).tiny else x


@parallel
def _sgd(start, stop, lr, step, param, grad, buffer, momentum, dampening, nesterov, weight_decay):
    number = param.dtype.type
    rate, decay, keep, fresh = number(lr[0]), number(weight_decay), number(momentum), number(1 - dampening)
    p, g = param[start:stop], grad[start:stop]  # from 0: vector code
    if buffer is None:
        for k in range(stop - start):
            p[k] -= rate * (g[k] + decay * p[k])
    else:
        smooth = buffer[start:stop]
        if step[0] == 0:
            keep, fresh = number(0), number(1)
        ahead = number(momentum)
        for k in range(stop - start):
            d = g[k] + decay * p[k]
            smooth[k] = _normal(keep * smooth[k] + fresh * d)
            p[k] -= rate * (d + ahead * smooth[k] if nesterov else smooth[k])


@operation
def sgd(lr, params, grads, buffers, steps, momentum, dampening, nesterov, weight_decay):
    """param -= lr d, with d the gradient + weight_decay param, smoothed where there are buffers:

    buffer = d at step 0, else momentum buffer + (1 - dampening) d;
    d = d + momentum buffer if nesterov, else buffer.
    `steps` count the steps done before; `buffers` and `steps` are None when momentum is 0.
    Sutskever et al., ICML 2013.
    """
    lr = lr.reshape(())
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        d = grad + weight_decay * param
        if buffers is not None:
            buffers[i][...] = np.where(
                steps[i].reshape(()) == 0, d, momentum * buffers[i] + (1 - dampening) * d
            )
            d = d + momentum * buffers[i] if nesterov else buffers[i]
        param -= lr * d


@sgd.loops
def _(lr, params, grads, buffers, steps, momentum, dampening, nesterov, weight_decay):
    lr, settings = lr.reshape(-1), (float(momentum), float(dampening), nesterov, float(weight_decay))
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        buffer, step = (None, None) if buffers is None else (buffers[i].reshape(-1), steps[i].reshape(-1))
        _sgd(param.size, GRAIN, lr, step, param.reshape(-1), grad.reshape(-1), buffer, *settings)


@sgd.cuda
def _(lr, params, grads, buffers, steps, momentum, dampening, nesterov, weight_decay):
    if buffers is None:
        _launch("sgd", (lr,), (params, grads), (np.float64(weight_decay),))
    else:
        settings = np.float64(momentum), np.float64(dampening), np.bool_(nesterov), np.float64(weight_decay)
        _launch("momentum", (lr,), (params, grads, buffers, steps), settings)


@parallel
def _adam(start, stop, lr, step, param, grad, m, v, beta1, beta2, eps, weight_decay, decoupled):
    number = param.dtype.type
    rate, floor = number(lr[0] / (1 - beta1 ** step[0])), number(eps)
    keep1, fresh1, keep2, fresh2 = number(beta1), number(1 - beta1), number(beta2), number(1 - beta2)
    spread = number(1 / math.sqrt(1 - beta2 ** step[0]))
    decay = number(0 if decoupled else weight_decay)
    shrink = number(1 - lr[0] * weight_decay if decoupled else 1)
    # from 0: vector code
    p, g, first, second = param[start:stop], grad[start:stop], m[start:stop], v[start:stop]
    for k in range(stop - start):
        d = g[k] + decay * p[k]
        first[k] = _normal(keep1 * first[k] + fresh1 * d)
        second[k] = keep2 * second[k] + fresh2 * d * d
        p[k] = shrink * p[k] - rate * first[k] / (np.sqrt(second[k]) * spread + floor)


@operation
def adam(lr, params, grads, m, v, steps, beta1, beta2, eps, weight_decay, decoupled):
    """Adam (Kingma & Ba, arXiv 1412.6980, algorithm 1), or AdamW (Loshchilov & Hutter,
    arXiv 1711.05101) if `decoupled`:

    m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g²
    m̂ = m / (1 - beta1^step);  v̂ = v / (1 - beta2^step)
    param -= lr m̂ / (√v̂ + eps), where weight decay adds weight_decay param to g, or takes lr weight_decay
    param off first. `steps` count this step too: 1 at the first.
    """
    lr = lr.reshape(())
    for param, grad, first, second, step in zip(
        params, grads, m, v, [s.reshape(()) for s in steps], strict=True
    ):
        g = grad if decoupled else grad + weight_decay * param
        if decoupled:
            param -= lr * weight_decay * param
        first[...] = beta1 * first + (1 - beta1) * g
        second[...] = beta2 * second + (1 - beta2) * g * g
        param -= lr * first / (1 - beta1**step) / (np.sqrt(second / (1 - beta2**step)) + eps)


@adam.loops
def _(lr, params, grads, m, v, steps, beta1, beta2, eps, weight_decay, decoupled):
    lr, settings = lr.reshape(-1), (float(beta1), float(beta2), float(eps), float(weight_decay), decoupled)
    for step, *arrays in zip(steps, params, grads, m, v, strict=True):
        _adam(
            arrays[0].size, GRAIN, lr, step.reshape(-1), *[array.reshape(-1) for array in arrays], *settings
        )


@adam.cuda
def _(lr, params, grads, m, v, steps, beta1, beta2, eps, weight_decay, decoupled):
    settings = (*map(np.float64, (beta1, beta2, eps, weight_decay)), np.bool_(decoupled))
    _launch("adam", (lr,), (params, grads, m, v, steps), settings)


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


def main() -> None:
    """Validate every operation against its reference, then time it."""
    random = np.random.default_rng(0)
    lr, steps = np.array(0.1), [np.array(3), np.array(4)]
    for dtype in (np.float32, np.float64):
        shapes = ((500, 800), (500,))
        params, grads, m = (
            [random.standard_normal(shape).astype(dtype) for shape in shapes] for _ in range(3)
        )
        v = [np.square(x) for x in m]
        report(sgd, lr, params, grads, None, None, 0.0, 0.0, False, 1e-4)
        report(sgd, lr, params, grads, m, steps, 0.9, 0.0, True, 1e-4)
        for decoupled in (False, True):
            report(adam, lr, params, grads, m, v, steps, 0.9, 0.999, 1e-8, 1e-2, decoupled)


if __name__ == "__main__":
    main()
