"""The cases in JAX on the CPU: one function under `jax.jit` for each."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .cases import LEARNING_RATE, PENALTIES, Arrays, Case
from .models_jax import MODELS, conv, losses, max_pool, normalize, statistics
from .models_jax import adam as adam_update

VERSION = jax.__version__
Contenders = dict[str, Any]


def start(threads: int) -> None:
    """The environment and the processors that the process may use have set the threads."""
    jax.config.update("jax_platforms", "cpu")


def arrays(result: Any) -> list[np.ndarray]:
    parts = result if isinstance(result, (tuple, list)) else [result]
    return [np.asarray(part) for part in parts]


def _contender(function: Any, *args: Any) -> Contenders:
    """A compiled function of arrays on the device; a call waits for its result."""
    compiled, placed = jax.jit(function), [jnp.asarray(a) for a in args]
    return {"": lambda: jax.block_until_ready(compiled(*placed))}


def _conv(case: Case) -> Any:
    s = case.settings
    return lambda x, w: conv(x, w, s.stride, s.pad, s.dilation, s.groups)


def conv_forward(case: Case, d: Arrays) -> Contenders:
    return _contender(_conv(case), d["x"], d["w"])


def conv_grad_input(case: Case, d: Arrays) -> Contenders:
    apply, x = _conv(case), jax.ShapeDtypeStruct(d["x"].shape, d["x"].dtype)
    return _contender(lambda w, g: jax.linear_transpose(lambda x: apply(x, w), x)(g)[0], d["w"], d["g"])


def conv_grad_weight(case: Case, d: Arrays) -> Contenders:
    apply, w = _conv(case), jax.ShapeDtypeStruct(d["w"].shape, d["w"].dtype)
    return _contender(lambda x, g: jax.linear_transpose(lambda w: apply(x, w), w)(g)[0], d["x"], d["g"])


def matmul(case: Case, d: Arrays) -> Contenders:
    return _contender(jnp.matmul, d["a"], d["b"])


def _normalized(x: Any, gamma: Any, beta: Any) -> Any:
    return normalize(x, gamma, beta)[0]


def norm_forward(case: Case, d: Arrays) -> Contenders:
    return _contender(_normalized, d["x"], d["gamma"], d["beta"])


def norm_backward(case: Case, d: Arrays) -> Contenders:
    return _contender(
        lambda g, *args: jax.vjp(_normalized, *args)[1](g), d["g"], d["x"], d["gamma"], d["beta"]
    )


def norm_second(case: Case, d: Arrays) -> Contenders:
    def backward(g: Any, x: Any, gamma: Any) -> Any:
        return jax.vjp(lambda x: _normalized(x, gamma, jnp.zeros_like(gamma)), x)[1](g)[0]

    return _contender(lambda v, *args: jax.vjp(backward, *args)[1](v), d["v"], d["g"], d["x"], d["gamma"])


def pool_forward(case: Case, d: Arrays) -> Contenders:
    s = case.settings
    return _contender(lambda x: max_pool(x, s.k, s.stride, s.pad), d["x"])


def pool_backward(case: Case, d: Arrays) -> Contenders:
    s = case.settings
    return _contender(
        lambda x, g: jax.vjp(lambda x: max_pool(x, s.k, s.stride, s.pad), x)[1](g)[0], d["x"], d["g"]
    )


def loss(case: Case, d: Arrays) -> Contenders:
    return _contender(losses, d["x"], d["target"])


def loss_backward(case: Case, d: Arrays) -> Contenders:
    return _contender(
        lambda x, y, g: jax.vjp(lambda x: losses(x, y), x)[1](g)[0], d["x"], d["target"], d["g"]
    )


def dropout(case: Case, d: Arrays) -> Contenders:
    def apply(key: Any, x: Any) -> Any:
        key, own = jax.random.split(key)
        return key, jnp.where(jax.random.bernoulli(own, 0.5, x.shape), x * 2, 0)

    return _contender(apply, jax.random.key_data(jax.random.PRNGKey(0)), d["x"])


def adam(case: Case, d: Arrays) -> Contenders:
    params, grads = ([jnp.asarray(a) for a in d[name]] for name in ("params", "grads"))
    zeros = [jnp.zeros_like(p) for p in params]

    def update(state: Any, grads: Any) -> Any:
        params, m, v, count = state
        return *adam_update(params, grads, m, v, count + 1, LEARNING_RATE), count + 1

    compiled = jax.jit(update, donate_argnums=0)
    state: Any = (params, zeros, [jnp.zeros_like(p) for p in params], jnp.zeros((), jnp.int32))

    def call() -> Any:
        nonlocal state
        state = jax.block_until_ready(compiled(state, grads))
        return state[0][0]

    return {"": call}


def step(case: Case, d: Arrays) -> Contenders:
    """() -> (loss, penalty), on a minibatch that stays. Recurrent networks are not among them."""
    if case.settings.model not in MODELS:
        return {}
    forward, penalty = MODELS[case.settings.model], case.settings.penalty
    x, y, r = (jnp.asarray(d[name]) for name in "xyr")

    def total(params: Any, stats: Any, x: Any, y: Any, r: Any) -> Any:
        def objective(x: Any) -> Any:
            logits, moved = forward(params, stats, x)
            each = losses(logits, y)
            return (logits * r).sum() if penalty == "spectreg" else each.sum(), (each, moved)

        if penalty == "plain":
            each, moved = objective(x)[1]
            return each.mean(), (moved, (each.mean(),))
        g, (each, moved) = jax.grad(objective, has_aux=True)(x)
        squared = jnp.square(g).sum() / len(x)
        return each.mean() + PENALTIES[penalty] * squared, (moved, (each.mean(), squared))

    def training_step(state: Any, x: Any, y: Any, r: Any) -> Any:
        params, m, v, count, stats = state
        grads, (stats, terms) = jax.grad(total, has_aux=True)(params, stats, x, y, r)
        return (*adam_update(params, grads, m, v, count + 1, LEARNING_RATE), count + 1, stats), terms

    compiled = jax.jit(training_step, donate_argnums=0)
    params = {name: jnp.asarray(p) for name, p in d["params"].items()}
    m, v = ({name: jnp.zeros_like(p) for name, p in params.items()} for _ in range(2))
    state: Any = (params, m, v, jnp.zeros((), jnp.int32), statistics(params))

    def call() -> Any:
        nonlocal state
        state, terms = jax.block_until_ready(compiled(state, x, y, r))
        return terms

    return {"": call}
