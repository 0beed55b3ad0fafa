"""Optimizer steps against their references and against torch."""

import numpy as np
import pytest
from tinydl_kernels import update
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.validate import agree

SETTINGS = [
    ("SGD", {}),
    ("SGD", {"weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {"weight_decay": 0.1}),
    ("AdamW", {"weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-6}),
]


def draw(dtype, random=None, shapes=((3, 4), (), (40000,), (0, 2))):
    random = random or np.random.default_rng(0)
    return [np.asarray(random.standard_normal(shape), dtype) for shape in shapes]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_steps_are_torch_s(name, settings, dtype, backend):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    params = draw(dtype)
    theirs = [torch.nn.Parameter(torch.tensor(p)) for p in params]
    optimizer = getattr(torch.optim, name)(theirs, lr=0.1, **settings)
    m, v = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
    lr, steps = np.array([0.1]), [np.array([0]) for _ in params]
    momentum, weight_decay = settings.get("momentum", 0), settings.get("weight_decay", 0)
    for _ in range(4):
        grads = draw(dtype, random)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        with dispatch.use(backend):
            if name == "SGD":
                rest = momentum, settings.get("dampening", 0), settings.get("nesterov", False), weight_decay
                update.sgd(lr, params, grads, *((m, steps) if momentum else (None, None)), *rest)
                update.increment(*steps)
            else:
                update.increment(*steps)
                rest = (
                    *settings.get("betas", (0.9, 0.999)),
                    settings.get("eps", 1e-8),
                    weight_decay,
                    name == "AdamW",
                )
                update.adam(lr, params, grads, m, v, steps, *rest)
        for a, b in zip(params, theirs, strict=True):
            tolerance = 2e-5 if dtype == np.float32 else 1e-12
            np.testing.assert_allclose(a, b.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_the_reference(dtype):
    """The gradients, the rate and the count are left alone: `agree` compares the arguments afterwards."""
    params, grads, m = draw(dtype), draw(dtype), draw(dtype)
    v = [np.asarray(abs(x)) for x in m]
    lr, before, after = np.array(0.1), [np.array(i) for i in range(4)], [np.array([i + 1]) for i in range(4)]
    agree(update.sgd, lr, params, grads, None, None, 0.0, 0.0, False, 0.1)
    for nesterov in (False, True):
        agree(update.sgd, lr, params, grads, m, before, 0.9, 0.2, nesterov, 0.1)
    for decoupled in (False, True):
        agree(update.adam, lr, params, grads, m, v, after, 0.9, 0.999, 1e-8, 0.1, decoupled)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_of_a_gradient_that_stays_zero_end_at_zero(dtype):
    """They would stop at the smallest subnormal numbers, with which processors compute slowly."""
    tiny = np.finfo(dtype).tiny
    m = np.array([1.05 * tiny, -1.05 * tiny, 2 * tiny, np.nan, 0, 3 * tiny / 1e6] * 9, dtype)
    expected = np.where(abs(m) > 1.5 * tiny, dtype(0.9) * m, np.where(np.isnan(m), m, 0))
    zeros, steps = np.zeros_like(m), [np.array(5)]
    smoothed, first = m.copy(), m.copy()
    update.sgd(np.array(0.1), [zeros.copy()], [zeros], [smoothed], steps, 0.9, 0.0, False, 0.0)
    update.adam(
        np.array(0.1),
        [zeros.copy()],
        [zeros],
        [first],
        [np.ones_like(m)],
        steps,
        0.9,
        0.999,
        1e-8,
        0.0,
        False,
    )
    for moment in (smoothed, first):
        np.testing.assert_array_equal(moment, expected)


def test_small_effects():
    counter, other, target = np.array([41]), np.array(0), np.zeros((2, 3), np.float32)
    assert update.increment(counter, other) is None
    assert counter == 42
    assert other == 1
    update.assign(target, np.arange(3))
    np.testing.assert_array_equal(target, [[0, 1, 2], [0, 1, 2]])
    update.fill(target, 0.5)
    assert (target == 0.5).all()
