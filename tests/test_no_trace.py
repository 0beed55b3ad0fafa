"""Extra forwards leave no trace: running statistics, counters and all streams but the
penalty's own keep their bits.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import nn
from tinydl.regularizers import DataGrad, Objective, Penalty, SpectReg

STEPS = 3


def network(generator: td.Generator) -> nn.Module:
    """Every kind of state that a forward pass moves: tracked and cumulative statistics,
    the default stream and another.
    """
    td.manual_seed(1)
    return nn.Sequential(
        *(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.InstanceNorm2d(4, track_running_stats=True),
            nn.Dropout2d(0.3),
        ),
        *(nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8, momentum=None)),
        *(nn.Dropout(0.5, generator=generator), nn.Dropout(0.5), nn.Linear(8, 3)),
    )


def state(model: nn.Module, generator: td.Generator) -> list[Any]:
    buffers = [(name, np.array(b).tobytes()) for name, b in model.named_buffers()]
    return [buffers, generator.state_dict(), td.noise_generator.state_dict()]


def run(*penalties: Penalty) -> list[list[Any]]:
    """What each of a few training passes saw and left: batch, activations behind each mask, loss, state."""
    generator = td.Generator(9)
    model = network(generator)
    objective, seen = Objective(model, td.cross_entropy, penalties), []
    for _ in range(STEPS):
        x = td.randn(6, 1, 6, 6)
        terms = objective(x, td.randint(0, 3, 6))
        terms.total.backward()
        seen.append(
            [a.detach().numpy().tobytes() for a in (x, terms.logits, terms.loss)] + state(model, generator)
        )
    return seen


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    "penalties",
    [
        lambda: [DataGrad(1.0)],
        lambda: [SpectReg(1.0)],
        lambda: [SpectReg(1.0, forward="second")],
        lambda: [
            SpectReg(1.0, "batch", "second"),
            DataGrad(1.0),
            SpectReg(1.0, forward="second", generator=td.Generator(5)),
        ],
    ],
)
def test_main_passes_are_the_same_with_and_without_penalties(backend: str, penalties: Any) -> None:
    with td.backend(backend):
        assert run(*penalties()) == run()


def test_the_second_forward_still_uses_the_statistics_of_the_batch() -> None:
    """Without tracking nothing could move; the penalty is the same."""
    values = []
    for tracked in (True, False):
        td.manual_seed(1)
        model = nn.Sequential(
            nn.Linear(4, 5), nn.BatchNorm1d(5, track_running_stats=tracked), nn.Tanh(), nn.Linear(5, 3)
        )
        objective = Objective(model, td.cross_entropy, [SpectReg(1.0, forward="second")])
        values.append(objective(td.randn(6, 4), td.tensor([0, 1, 2, 0, 1, 2])).penalties[0].item())
    assert values[0] == values[1]


def test_extra_forward_freezes_statistics_and_redirects_every_draw() -> None:
    generator, own = td.Generator(9), td.Generator(2)
    model = network(generator)
    x = td.randn(6, 1, 6, 6)
    before = state(model, generator)
    with nn.extra_forward(own):
        first = model(x).detach().numpy()
        moved = own.state_dict()
        with nn.extra_forward(td.Generator(77)):
            model(x)
        assert own.state_dict() == moved
    assert state(model, generator) == before
    assert own.state_dict()["counter"] > 0
    with nn.extra_forward(td.Generator(2)):
        np.testing.assert_array_equal(model(x).detach().numpy(), first)
    model(x)
    assert state(model, generator) != before


def test_without_a_generator_only_the_statistics_are_frozen() -> None:
    generator = td.Generator(9)
    model = network(generator)
    before = state(model, generator)
    with nn.extra_forward():
        model(td.ones(6, 1, 6, 6))
    after = state(model, generator)
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_extra_forward_ends_with_its_scope_and_its_thread() -> None:
    generator = td.Generator(9)
    model, x = network(generator), td.ones(6, 1, 6, 6)
    with pytest.raises(td.ShapeError), nn.extra_forward(td.Generator()):
        model(x[0])
    before = state(model, generator)
    with nn.extra_forward(td.Generator()):
        worker = threading.Thread(target=model, args=(x,))
        worker.start()
        worker.join()
    assert all(a != b for a, b in zip(state(model, generator), before, strict=True))


def test_draws_of_an_extra_forward_are_remembered_and_repeated() -> None:
    """So a whole penalized step can be made again."""
    objective = Objective(network(td.Generator(9)), td.cross_entropy, [SpectReg(1.0, forward="second")])
    x, target = td.randn(6, 1, 6, 6), td.tensor([0, 1, 2, 0, 1, 2])
    with td.remember() as draws:
        first = objective(x, target)
    with td.repeat(draws):
        second = objective(x, target)
    assert len(draws) == 7  # three masks, twice, and r
    assert first.total.item() == second.total.item()


def test_a_penalty_has_its_own_stream() -> None:
    """What the main stream does changes no draw of the penalty, and its generator alone makes it go on."""
    x, target = td.randn(6, 1, 6, 6), td.tensor([0, 1, 2, 0, 1, 2])

    def values(penalty: SpectReg, between: int) -> list[float]:
        objective = Objective(network(td.Generator(9)), td.cross_entropy, [penalty])
        found = []
        for _ in range(STEPS):
            found.append(objective(x, target).penalties[0].item())
            td.randn(between)
        return found

    assert values(SpectReg(1.0, forward="second"), 0) == values(SpectReg(1.0, forward="second"), 17)
    penalty = SpectReg(1.0, forward="second", generator=td.Generator(0, 4))
    start = penalty.generator.state_dict()
    first = values(penalty, 0)
    assert values(penalty, 0) != first
    penalty.generator.load_state_dict(start)
    assert values(penalty, 0) == first
