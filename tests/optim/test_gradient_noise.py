"""Noise on gradients: its law, its stream, recorded and resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import nn
from tinydl.optim import SGD, GradientNoise
from tinydl.training import checkpoint


@pytest.mark.parametrize(("eta", "gamma"), [(0.3, 0.55), (2.0, 1.0), (0.5, 0.0)])
def test_its_law(eta: float, gamma: float) -> None:
    """Mean 0, variance eta / (1 + t)^gamma, added to what is there; one draw is no other."""
    p, noise, seen = nn.Parameter(np.zeros(200_000)), GradientNoise(eta, gamma), []
    for t in range(4):
        p.grad = td.full(p.shape, 5.0, dtype=np.float64)
        noise(p)
        seen.append(p.grad.numpy() - 5.0)
        variance = eta / (1 + t) ** gamma
        assert abs(seen[-1].mean()) < 5 * np.sqrt(variance / p.array.size)
        np.testing.assert_allclose(seen[-1].var(), variance, rtol=5 * np.sqrt(2 / p.array.size))
    assert abs(np.corrcoef(seen) - np.eye(4)).max() < 0.02
    assert noise.count.item() == 4


def test_only_gradients_that_are_there() -> None:
    a, b, c = (nn.Parameter(np.zeros(1000, dtype)) for dtype in (np.float32, np.float64, np.float64))
    for p in (a, b):
        p.grad = td.zeros(1000, dtype=p.dtype)
    held = a.grad
    GradientNoise()(iter([a, b, c]))
    assert (a.grad.dtype, b.grad.dtype, c.grad) == (np.float32, np.float64, None)
    assert not held.numpy().any()
    assert abs(np.corrcoef(a.grad.numpy(), b.grad.numpy())[0, 1]) < 0.2


def test_its_stream_is_its_own() -> None:
    """The main streams do not move; the seed, or a generator, decides."""
    p = nn.Parameter(np.zeros(3))

    def draw(noise: GradientNoise) -> bytes:
        p.grad = td.zeros(3, dtype=np.float64)
        noise(p)
        return p.grad.numpy().tobytes()

    before = td.default_generator.state_dict(), td.noise_generator.state_dict()
    first = draw(GradientNoise())
    assert first == draw(GradientNoise())
    assert (td.default_generator.state_dict(), td.noise_generator.state_dict()) == before
    td.manual_seed(1)
    assert first != draw(GradientNoise())
    given = td.Generator(7)
    assert draw(GradientNoise(generator=given)) == draw(GradientNoise(generator=td.Generator(7)))
    assert given.state_dict()["counter"] > 0


class Loop:
    def __init__(self, wrap: Callable[[Any], Any]) -> None:
        td.manual_seed(0)
        self.model, self.noise = nn.Linear(3, 2), GradientNoise(0.1)
        self.optimizer = SGD(self.model.parameters(), lr=0.1)

        def step(x: td.Tensor) -> None:
            self.optimizer.zero_grad()
            self.model(x).square().mean().backward()
            self.noise(self.model.parameters())
            self.optimizer.step()

        self.step = wrap(step)

    def run(self, steps: range) -> list[bytes]:
        for i in steps:
            self.step(td.tensor(np.random.default_rng(i).standard_normal((4, 3)), dtype=td.float32))
        return [p.numpy().tobytes() for p in self.model.parameters()]


def test_recorded_is_eager(backend: str) -> None:
    found = []
    for wrap in (lambda step: step, td.record):
        loop = Loop(wrap)
        found.append(loop.run(range(4)))
        loop.noise.eta = 0.7
        found[-1] += loop.run(range(4, 7))
    assert found[0] == found[1]
    assert sum(map(len, loop.step.recordings.values())) == 2


@pytest.mark.parametrize("wrap", [lambda step: step, td.record])
def test_goes_on_with_the_same_bits(wrap: Any, tmp_path: Path) -> None:
    first, second = Loop(wrap), Loop(wrap)
    first.run(range(3))
    checkpoint.save(tmp_path / "c", model=first.model, noise=first.noise)
    second.run(range(1))
    checkpoint.load(tmp_path / "c", model=second.model, noise=second.noise)
    assert second.run(range(3, 6)) == first.run(range(3, 6))


def test_refusals() -> None:
    for x in (-0.1, float("nan")):
        with pytest.raises(ValueError, match=f"GradientNoise: eta: expected at least 0, got {x}"):
            GradientNoise(x)
        with pytest.raises(ValueError, match=f"GradientNoise: gamma: expected at least 0, got {x}"):
            GradientNoise(gamma=x)
    noise = GradientNoise()
    with pytest.raises(
        ValueError, match=r"GradientNoise.load_state_dict: expected the keys \['count', 'eta'"
    ):
        noise.load_state_dict({"count": 3})
    assert repr(noise) == "GradientNoise(eta=0.3, gamma=0.55)"
