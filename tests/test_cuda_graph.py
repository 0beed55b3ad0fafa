"""A recorded step on "cuda" is one CUDA graph that gives the bits of the eager step and never
asks the host; on a stand-in.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import fake_cupy
import numpy as np
import pytest
from tinydl_kernels import emulator, resample
from tinydl_kernels.machine import dispatch

import tinydl as td
from tinydl.regularizers import L2, ConfidencePenalty, DataGrad, FrobeniusJacobian, Objective, SpectReg

pytestmark = [
    pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable())),
    pytest.mark.usefixtures("gpu"),
]


class Scaled(td.nn.Module):
    """Elementwise only: x w + b."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = td.nn.Parameter([0.5, -1.0, 2.0]), td.nn.Parameter(0.1)

    def forward(self, x: td.Tensor) -> td.Tensor:
        return x * self.w + self.b


def scaled() -> td.nn.Module:
    return td.nn.Sequential(Scaled(), td.nn.Dropout(0.4), td.nn.Tanh(), Scaled())


def lenet() -> td.nn.Module:
    """The paper's layers at a size for the emulator: images (B, 1, 8, 8), 3 classes."""
    td.manual_seed(7)
    return td.nn.Sequential(
        *(
            td.nn.Conv2d(1, 3, 3),
            td.nn.BatchNorm2d(3),
            td.nn.ReLU(),
            td.nn.MaxPool2d(2),
            td.nn.Conv2d(3, 4, 2),
        ),
        *(
            td.nn.ReLU(),
            td.nn.Flatten(),
            td.nn.Dropout(0.3),
            td.nn.Linear(16, 5),
            td.nn.ReLU(),
            td.nn.Linear(5, 3),
        ),
    )


def squares(model: td.nn.Module) -> Callable[..., td.Tensor]:
    return lambda x: (model(x) ** 2).mean()


def penalized(model: td.nn.Module) -> Callable[..., td.Tensor]:
    objective = Objective(model, td.cross_entropy, [DataGrad(0.5), SpectReg(0.1)])
    return lambda x, y: objective(x, y).total


def scheduled(model: td.nn.Module) -> Callable[..., td.Tensor]:
    """The count of steps and the weights that follow from it live on the device, too."""
    terms = [L2(lambda step: 0.1 * td.exp(-step)), FrobeniusJacobian(lambda step: 0.1 * step)]
    objective = Objective(model, td.cross_entropy, [*terms, ConfidencePenalty(0.5)])

    def loss(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        total = objective(x, y).total
        objective.after()
        return total

    return loss


class Training:
    """A model on the GPU with all that changes while it trains."""

    def __init__(
        self, make: Callable[[], td.nn.Module], loss_of: Callable[..., Any], record: bool, lr: float = 0.05
    ) -> None:
        td.manual_seed(3)
        self.model = make().cuda()
        self.optimizer = td.optim.Adam(self.model.parameters(), lr=lr)
        self.schedule = td.optim.MultiStepLR(self.optimizer, [2, 3])
        loss = loss_of(self.model)

        def step(*batch: td.Tensor) -> td.Tensor:
            self.optimizer.zero_grad()
            value = loss(*batch)
            value.backward()
            self.optimizer.step()
            self.schedule.step()
            return value.detach()

        self.step = td.record(step) if record else step

    def state(self) -> list[np.ndarray]:
        kept = [x for own in self.optimizer.state.values() for x in own.values()]
        lr = self.optimizer.param_groups[0].buffer("lr")
        return [x.cpu().numpy() for x in (*self.model.parameters(), *self.model.buffers(), *kept, lr)]


def batches(*shape: int, classes: int = 0, count: int = 4) -> list[tuple[td.Tensor, ...]]:
    random = np.random.default_rng(0)
    found = []
    for _ in range(count):
        x = td.tensor(random.standard_normal(shape, np.float32), device="cuda")
        found.append(
            (x, td.tensor(random.integers(0, classes, shape[0]), device="cuda")) if classes else (x,)
        )
    return found


def same_bits(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return [x.tobytes() for x in first] == [x.tobytes() for x in second]


def check(gpu: Any, make: Any, loss_of: Any, data: list[tuple[td.Tensor, ...]]) -> list[float]:
    """Train eagerly and recorded on the same batches: the same bits all along, and after the
    first two steps no host at all.
    """
    eager = Training(make, loss_of, record=False)
    losses = []
    for i, batch in enumerate(data):
        before = len(gpu.host)
        losses.append(eager.step(*batch))
        assert "get" not in gpu.host[before:], "an eager step waits for the GPU"
        assert "synchronize" not in gpu.host[before:]
        assert i < 1 or gpu.host[before:] == [], "an eager step copies from the host"
    recorded = Training(make, loss_of, record=True)
    replayed = []
    for i, batch in enumerate(data):
        before, graphs, launches = len(gpu.host), gpu.graphs, len(gpu.launches)
        replayed.append(recorded.step(*batch))
        if i:
            assert gpu.host[before:] == []
            assert gpu.graphs == graphs + 1, "a replay is one graph"
            assert len(gpu.launches) > launches
    assert same_bits([x.cpu().numpy() for x in losses], [x.cpu().numpy() for x in replayed])
    assert same_bits(eager.state(), recorded.state())
    return [x.item() for x in losses]


def test_a_step_of_elementwise_layers(gpu: Any) -> None:
    """Dropout draws anew at each replay, Adam counts its steps, the schedule changes
    the rate: all on the device.
    """
    losses = check(gpu, scaled, squares, batches(5, 3))
    assert len(set(losses)) == 4


@pytest.mark.parametrize("order", emulator.ORDERS)
def test_a_step_of_lenet_with_double_backpropagation(gpu: Any, order: str) -> None:
    """The penalties' second backward pass and the update included, in each order of threads."""
    with emulator.mode(order, seed=1):
        check(gpu, lenet, penalized, batches(4, 1, 8, 8, classes=3, count=3))


def test_a_step_with_scheduled_weights(gpu: Any) -> None:
    check(gpu, lenet, scheduled, batches(4, 1, 8, 8, classes=3, count=3))


def test_lenet_on_cuda_trains_as_on_the_cpu() -> None:
    """The same draws, so the same masks; the numbers to rounding."""
    data = batches(4, 1, 8, 8, classes=3, count=2)
    there = Training(lenet, penalized, record=False)
    on_cuda = [there.step(*batch).item() for batch in data]
    model = lenet()
    optimizer = td.optim.Adam(model.parameters(), lr=0.05)
    loss = penalized(model)
    for batch, expected in zip(data, on_cuda, strict=True):
        optimizer.zero_grad()
        with td.backend("reference"):
            value = loss(*(x.cpu() for x in batch))
            value.backward()
            optimizer.step()
        assert value.item() == pytest.approx(expected, rel=1e-4)


def test_draws_elsewhere_between_replays(gpu: Any) -> None:
    """The counter goes to the CPU and comes back to the place that the graph reads."""
    data = batches(5, 3)
    found = []
    for record in (False, True):
        training = Training(scaled, squares, record)
        losses = []
        for batch in data:
            losses.append(training.step(*batch).item())
            losses.append(td.randn(1).item())
        found.append(losses)
    assert found[0] == found[1]


def test_replays_take_no_more_memory(gpu: Any) -> None:
    training = Training(scaled, squares, record=True)
    data = batches(5, 3)
    for batch in data:
        training.step(*batch)
    before = td.cuda.memory_allocated()
    for _ in range(3):
        for batch in data:
            training.step(*batch)
    assert td.cuda.memory_allocated() == before


def test_new_shapes_and_rates(gpu: Any) -> None:
    """Another shape is another graph; a rate that the user writes is seen by the one that is there."""
    training = Training(scaled, squares, record=True)
    for rows in (5, 2, 5, 2):
        training.step(*batches(rows, 3, count=1)[0])
    assert gpu.graphs == 2
    before = training.state()[0]
    for base in training.schedule.bases:
        td.ops.update.assign(base, 0.0)
    training.optimizer.param_groups[0]["lr"] = 0.0
    training.step(*batches(5, 3, count=1)[0])
    assert same_bits([before], training.state()[:1])


def test_what_cannot_be_captured_says_so() -> None:
    """A kernel that reads values back, or copies from the host, breaks its capture and not the program."""

    class Peeks(td.nn.Module):
        def forward(self, x: td.Tensor) -> td.Tensor:
            return peek(x)

    @td.engine.core.primitive
    def peek(x: Any) -> Any:
        return dispatch.operations["elementwise.neg"](x) if float(x.sum()) else x

    try:
        step = td.record(lambda x: peek(x))
        x = td.ones(3, device="cuda")
        assert step(x).tolist() == [-1.0] * 3
        with pytest.raises(RuntimeError, match="cudaErrorStreamCaptureUnsupported: get"):
            step(x)
        assert (x + 1).tolist() == [2.0] * 3
    finally:
        td.engine.core.primitives.pop("test_cuda_graph.peek")


def test_a_graph_keeps_the_matrices_that_it_reads(gpu: Any) -> None:
    """They go to the GPU in the step that is recorded, and stay there as long as the recording."""
    step = td.record(lambda x: td.interpolate(x, scale_factor=2, mode="bilinear"))
    x = td.tensor(np.random.default_rng(0).standard_normal((1, 2, 3, 3)), device="cuda")
    expected = step(x).tolist()
    for replays in range(2):
        resample.linear.cache_clear()
        gc.collect()
        with fake_cupy.no_waiting():
            found = step(x)
        assert found.tolist() == expected
        assert gpu.graphs == replays + 1
