"""Layer-wise weight decay in its running form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import assert_close, batch, network

import tinydl as td
from tinydl.regularizers import RunningDecay, layerwise_groups

LAYERS = {"0.weight": 1.0, "2.weight": 1.0}


class Training:
    """SGD of two layers with a running decay."""

    def __init__(self, c: float = 0.1, beta: float = 0.0, wrap: Callable[[Any], Any] = lambda f: f) -> None:
        self.model = network()
        self.optimizer = td.optim.SGD(layerwise_groups(self.model, 1.0, LAYERS), lr=0.5)
        self.decay = RunningDecay(c, beta)
        self.handle = self.decay.attach(self.optimizer)
        self.play = wrap(self.step)

    def step(self, x: td.Tensor, y: td.Tensor) -> td.Tensor:
        self.optimizer.zero_grad()
        loss = td.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def go(self, *steps: int) -> list[list[float]]:
        """The decays of all groups after each step."""
        found = []
        for i in steps:
            self.play(*batch(i))
            found.append([group["weight_decay"] for group in self.optimizer.param_groups])
        return found

    def weights(self) -> list[np.ndarray]:
        return [self.model[i].weight.detach().numpy().copy() for i in (0, 2)]


def rms(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).mean()))


def test_without_a_mean_the_decay_is_c_of_the_gradient_in_every_layer() -> None:
    training = Training(0.1)
    biases = [training.model[i].bias.detach().numpy().copy() for i in (0, 2)]
    for i in range(3):
        before = training.weights()
        (decays,) = training.go(i)
        gradients = [training.model[j].weight.grad.numpy() for j in (0, 2)]
        for decay, w, g, after in zip(decays, before, gradients, training.weights(), strict=False):
            np.testing.assert_allclose(rms(decay * w) / rms(g), 0.1, rtol=1e-12)
            np.testing.assert_allclose(after, w - 0.5 * (g + decay * w), rtol=1e-12)
        assert decays[2] == 0  # the biases'
    training.handle.remove()
    assert training.go(3)[0] == decays
    assert any(
        (b != training.model[j].bias.detach().numpy()).any() for b, j in zip(biases, (0, 2), strict=True)
    )


def test_the_mean_is_over_the_steps_so_far() -> None:
    ratios, training = [], Training(0.1, 0.9)
    for i in range(3):
        before = training.weights()
        (decays,) = training.go(i)
        gradients = [training.model[j].weight.grad.numpy() for j in (0, 2)]
        ratios.append([rms(g) / rms(w) for g, w in zip(gradients, before, strict=True)])
        shares = 0.9 ** np.arange(i, -1, -1)
        expected = 0.1 * (shares[:, None] * ratios).sum(0) / shares.sum()
        np.testing.assert_allclose(decays[:2], expected, rtol=1e-12)


def test_recorded_as_eager_and_resumed_bit_for_bit() -> None:
    eager, recorded = Training(0.1, 0.9), Training(0.1, 0.9, td.record)
    assert eager.go(0, 1, 2, 3) == recorded.go(0, 1, 2, 3)
    assert_close(eager.weights(), recorded.weights(), 0)
    first, second = Training(0.1, 0.9), Training(0.1, 0.9)
    first.go(0, 1)
    second.go(5)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.decay.load_state_dict(first.decay.state_dict())
    second.go(2, 3)
    assert_close(second.weights(), eager.weights(), 0)


def test_weights_of_zero_get_no_decay_and_layers_without_a_gradient_keep_theirs() -> None:
    training = Training(0.1, 0.9)
    with td.no_grad():
        td.ops.update.assign(training.model[0].weight, 0.0)
    decays = training.go(0)[0]
    assert decays[0] == 0 < decays[1]
    training.optimizer.zero_grad()
    training.optimizer.step()
    assert [group["weight_decay"] for group in training.optimizer.param_groups] == decays


def test_float32_and_decoupled() -> None:
    """Squares of small gradients do not vanish: sums are in float64."""
    model = network().float()
    optimizer = td.optim.AdamW(layerwise_groups(model, 1.0, LAYERS), lr=1e-3)
    RunningDecay(0.1, 0.0).attach(optimizer)
    for p in model.parameters():
        p.grad = td.full(p.shape, 1e-30)
    optimizer.step()
    assert model[0].weight.dtype == np.float32
    assert optimizer.param_groups[0]["weight_decay"] > 0


def test_misuse_is_refused_by_name() -> None:
    for bad in ({"c": -1.0}, {"c": float("nan")}, {"c": 0.1, "beta": 1.0}):
        with pytest.raises(
            ValueError, match=r"^RunningDecay: expected c of at least 0, beta in \[0, 1\), got"
        ):
            RunningDecay(**bad)
    plain = td.optim.SGD(network().parameters(), 0.1)
    wanted = r"^RunningDecay.attach: expected groups with a weight decay above 0, got none in SGD"
    with pytest.raises(ValueError, match=wanted):
        RunningDecay(0.1).attach(plain)
    training = Training()
    with pytest.raises(ValueError, match=r"^RunningDecay.attach: expected one optimizer, got another"):
        training.decay.attach(plain)
    wanted = r"^RunningDecay.load_state_dict: expected means of 3 groups, got 1"
    with pytest.raises(ValueError, match=wanted.replace("3", "2")):
        training.decay.load_state_dict({"count": 1, "means": [0.1]})
