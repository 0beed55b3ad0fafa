"""The optimizers' steps and other writes in place: effects, which return nothing.

Formulas, defaults and order of operations are PyTorch's. What varies between steps comes as an array: `lr` float64 and `step`
int64, 0-d or (1,). A group of parameters is updated by one call: lists of arrays of the same lengths.
"""

from __future__ import annotations

import numpy as np

from .dispatch import operation


@operation(portable=True)
def sgd(lr, step, params, grads, buffers, momentum, dampening, nesterov, weight_decay):
    """param -= lr d, with d the gradient + weight_decay param, smoothed where momentum != 0:

    buffer = d at step 0, else momentum buffer + (1 - dampening) d;  d = d + momentum buffer if nesterov, else buffer.
    `step` counts the steps done before; `buffers` is None when momentum is 0. Sutskever et al., ICML 2013.
    """
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        d = grad + weight_decay * param
        if momentum != 0:
            buffer = buffers[i]
            buffer[...] = np.where(step == 0, d, momentum * buffer + (1 - dampening) * d)
            d = d + momentum * buffer if nesterov else buffer
        param -= (lr * d).astype(param.dtype)


@operation(portable=True)
def adam(lr, step, params, grads, m, v, beta1, beta2, eps, weight_decay, decoupled):
    """Adam (Kingma & Ba, arXiv 1412.6980, algorithm 1), or AdamW (Loshchilov & Hutter, arXiv 1711.05101) if `decoupled`:

    m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g²;  m̂ = m / (1 - beta1^step);  v̂ = v / (1 - beta2^step)
    param -= lr m̂ / (√v̂ + eps), where weight decay adds weight_decay param to g, or takes lr weight_decay param off first.
    `step` counts this step too: 1 at the first.
    """
    for param, g, first, second in zip(params, grads, m, v, strict=True):
        if decoupled:
            param -= (lr * weight_decay * param).astype(param.dtype)
        else:
            g = g + weight_decay * param
        first[...] = beta1 * first + (1 - beta1) * g
        second[...] = beta2 * second + (1 - beta2) * g * g
        root = np.sqrt(second / (1 - beta2**step))
        param -= (lr * first / (1 - beta1**step) / (root + eps)).astype(param.dtype)


@operation(portable=True)
def increment(counter):
    """counter += 1."""
    counter += 1


@operation(portable=True)
def assign(target, value):
    """target = value, which broadcasts to it and is cast to its dtype."""
    target[...] = value


@operation(portable=True)
def fill(target, scalar):
    """target = scalar everywhere."""
    target[...] = scalar
