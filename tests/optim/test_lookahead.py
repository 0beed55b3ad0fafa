"""Lookahead: its closed form on a parabola, its trajectory, what it saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wrapped import Loop, plain, require_recorded_is_eager, require_resumes

import tinydl as td
from tinydl import nn
from tinydl.optim import SAM, SGD, Adam, Lookahead


def made(params: Any) -> Lookahead:
    return Lookahead(Adam(params, lr=0.05), k=4, alpha=0.6)


def test_on_a_parabola(backend: str) -> None:
    """In a period gradient descent on a x² / 2 multiplies the slow weights by 1 - alpha + alpha (1 - lr a)^k;
    between, it does what it always does.
    """
    a, start = np.array([1.0, 4.0, 9.0]), np.array([1.0, -2.0, 3.0])
    x = nn.Parameter(start)
    optimizer = Lookahead(SGD([x], lr=0.1), k=5, alpha=0.3)
    factor = 1 - 0.3 + 0.3 * (1 - 0.1 * a) ** 5
    for t in range(1, 41):
        x.grad = x.detach() * td.tensor(a)
        optimizer.step()
        periods, rest = divmod(t, 5)
        np.testing.assert_allclose(x.numpy(), start * factor**periods * (1 - 0.1 * a) ** rest, rtol=1e-12)
        np.testing.assert_allclose(optimizer.slow(x).numpy(), start * factor**periods, rtol=1e-12)


def test_trajectory() -> None:
    """Beside NumPy: momentum goes on, a parameter without a gradient stays, the first period counts."""
    random = np.random.default_rng(0)
    arrays = [random.standard_normal(shape) for shape in ((3, 4), (4,), (2,))]
    params = [nn.Parameter(x) for x in arrays]
    optimizer = Lookahead(SGD(params, lr=0.1, momentum=0.9), k=3)
    slow, velocities = [x.copy() for x in arrays], [0.0] * 3
    for t in range(1, 61):
        grads = [random.standard_normal(x.shape) for x in arrays[:2]]
        for p, g in zip(params, grads, strict=False):
            p.grad = td.tensor(g)
        optimizer.step()
        velocities = [0.9 * v + g for v, g in zip(velocities, [*grads, 0.0], strict=True)]
        arrays = [p - 0.1 * v for p, v in zip(arrays, velocities, strict=True)]
        if t % 3 == 0:
            slow = [s + 0.5 * (p - s) for s, p in zip(slow, arrays, strict=True)]
            arrays = [s.copy() for s in slow]
        for p, expected in zip(params, arrays, strict=True):
            np.testing.assert_allclose(p.numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_recorded_is_eager(dtype: Any, backend: str) -> None:
    def change(optimizer: Any) -> None:
        optimizer.k, optimizer.alpha = 2, 0.25

    require_recorded_is_eager(made, dtype, change)


@pytest.mark.parametrize("wrap", [plain, td.record])
@pytest.mark.parametrize("make", [made, lambda params: Lookahead(SAM(SGD(params, lr=0.1)), 3)])
def test_goes_on_with_the_same_bits(make: Any, wrap: Any, tmp_path: Path) -> None:
    """Between two synchronizations; around SAM, too."""
    require_resumes(make, tmp_path / "c", wrap)


def test_around_sam() -> None:
    """With alpha 1 it changes nothing: closures go through."""
    a, b = (
        Loop(lambda params: Lookahead(SAM(SGD(params, lr=0.1)), 2, 1.0)),
        Loop(lambda p: SAM(SGD(p, lr=0.1))),
    )
    td.manual_seed(0)
    found = a.run(range(2))
    td.manual_seed(0)
    for x, y in zip(found, b.run(range(2)), strict=True):
        np.testing.assert_allclose(np.frombuffer(x, np.float32), np.frombuffer(y, np.float32), rtol=1e-5)


@pytest.mark.parametrize("wrap", [plain, td.record])
def test_parameters_added_later(wrap: Any) -> None:
    """Their slow weights begin as they are then, by either door."""
    a, b, c = (nn.Parameter(np.full(2, x)) for x in (1.0, 2.0, 3.0))
    optimizer = Lookahead(SGD([a], lr=0.5), k=2)
    step = wrap(optimizer.step)
    for p in (a, b, c):
        p.grad = td.ones(2, dtype=np.float64)
    step()
    optimizer.add_param_group({"params": b})
    optimizer.base.add_param_group({"params": c})
    for _ in range(3):
        step()
    for p, expected in ((a, 0.0), (b, 1.0), (c, 2.0)):
        # two synchronizations: a after two and four steps, b and c after one and three of their own
        periods = [1.0, 1.0] if p is a else [0.5, 1.0]
        np.testing.assert_allclose(p.numpy(), expected + 1.0 - sum(periods) / 2)


def test_on_a_gpu(gpu: Any) -> None:
    """It follows its model there, and the host asks for nothing."""
    found = []
    for device in ("cpu", "cuda"):
        td.manual_seed(0)
        model = nn.Linear(3, 2, dtype=np.float64)
        optimizer = Lookahead(SGD(model.parameters(), lr=0.1), k=2)
        model.to(device)
        for i in range(4):
            optimizer.zero_grad()
            model(td.ones(4, 3, device=device, dtype=np.float64)).square().mean().backward()
            before = len(gpu.host)
            optimizer.step()
            assert i == 0 or gpu.host[before:] == []
        found.append([p.cpu().numpy() for p in model.parameters()])
    for x, y in zip(*found, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_refusals() -> None:
    p = nn.Parameter(np.ones(2))
    with pytest.raises(TypeError, match="Lookahead: expected an optimizer to wrap, got list"):
        Lookahead([p])  # type: ignore[arg-type]
    for k in (0, 2.5):
        with pytest.raises(ValueError, match=f"Lookahead: k: expected a whole number of at least 1, got {k}"):
            Lookahead(SGD([p]), k)  # type: ignore[arg-type]
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(
            ValueError, match=rf"Lookahead: alpha: expected a number in \[0, 1\], got {alpha}"
        ):
            Lookahead(SGD([p]), alpha=alpha)
    optimizer, other = Lookahead(SGD([p])), Lookahead(SGD([nn.Parameter(np.ones(3))]))
    saved = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"Lookahead.load_state_dict: slow: expected \{0: \(3,\)\}, got"):
        other.load_state_dict(saved)
    with pytest.raises(ValueError, match=r"Lookahead.load_state_dict: expected the keys \['alpha', 'base', "):
        optimizer.load_state_dict({name: x for name, x in saved.items() if name != "k"})
