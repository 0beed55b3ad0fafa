"""`record(step, recompute=True)`: the bits of the eager step in less memory; what may not be made again is
kept.
"""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np
import pytest
from training_steps import OPTIMIZERS, PENALTIES, Training, assert_same_bits, eager

import tinydl as td
from tinydl import nn
from tinydl.engine.core import primitives
from tinydl.record import plan, recompute
from tinydl.record.normalization import PASSES


def sparing(step):
    return td.record(step, recompute=True)


@pytest.fixture
def everything(monkeypatch):
    """Small arrays count, too."""
    monkeypatch.setattr(recompute, "LARGE", 512)
    monkeypatch.setattr(plan, "WORTH", 1)


class Recording(NamedTuple):
    names: collections.Counter  # of the calls
    size: int  # of the planned memory


def recording(step) -> Recording:
    ((found,),) = step.recordings.values()
    blocks = {}
    for call in found.calls:
        for buffer in call.buffers:
            owner = plan.owner(buffer)
            blocks[id(owner)] = owner.nbytes
    return Recording(
        collections.Counter(call.run.func.__name__ for call in found.calls), sum(blocks.values())
    )


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x):
        y = self.bn2(self.conv2(td.relu(self.bn1(self.conv1(x)))))
        return td.relu(y + x)


class BlockTraining(Training):
    """A residual net under a penalty on gradients."""

    def __init__(self, wrap, blocks: int = 5, channels: int = 8) -> None:
        super().__init__(wrap, OPTIMIZERS["Adam"], PENALTIES["DataGrad"])
        td.manual_seed(1)
        parts = [Block(channels) for _ in range(blocks)]
        self.model = nn.Sequential(
            nn.Conv2d(1, channels, 1), *parts, nn.Flatten(), nn.Linear(64 * channels, 4)
        )
        self.optimizer = td.optim.Adam(self.model.parameters(), lr=0.01)
        self.schedule = td.optim.PiecewiseConstant(self.optimizer, (3,), (0.1,))
        self.objective = td.regularizers.Objective(
            self.model, td.cross_entropy, [td.regularizers.DataGrad(0.5)]
        )
        random = np.random.default_rng(0)
        self.x = random.standard_normal((3, 16, 1, 8, 8)).astype(np.float32)
        self.y = random.integers(0, 4, (3, 16))


class TestBits:
    @pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
    def test_training(self, backend, everything, penalties) -> None:
        settings = OPTIMIZERS["Adam"], penalties
        expected = Training(eager, *settings).bits()
        training = Training(sparing, *settings)
        assert_same_bits(expected, training.bits())
        kept = Training(td.record, *settings)
        kept.bits()
        assert recording(training.run).size <= recording(kept.run).size
        assert recording(training.run).names["_dropout"] == recording(kept.run).names["_dropout"] > 0

    def test_residual_blocks(self, everything) -> None:
        expected = BlockTraining(eager).bits()
        whole = BlockTraining(td.record)
        assert_same_bits(expected, whole.bits())
        half = BlockTraining(sparing)
        assert_same_bits(expected, half.bits())
        assert recording(half.run).size < 0.65 * recording(whole.run).size
        more = recording(half.run).names - recording(whole.run).names
        assert {"_normalized", "_normalized_dx"} <= {*more}
        assert not {"_conv", "_conv_dx", "_conv_dw", "_linear", "_running_update", "_optimizer_step"} & {
            *more
        }

    def test_higher_orders(self, everything) -> None:
        def step(x):
            y = (td.exp(td.sin(x)) * td.tanh(x)).sum()
            for _ in range(2):
                (g,) = td.grad(y, [x], create_graph=True)
                y = (g * g).sum() + y
            return td.grad(y, [x])[0]

        recorded = sparing(step)
        for _ in range(3):
            x = td.randn(30, 30, dtype=td.float64).requires_grad_()
            assert_same_bits([step(x).numpy()], [recorded(x).numpy()])


class Deep(NamedTuple):
    """relu(x + b), kept for the backward pass through some layers of matrices."""

    shift: td.Tensor
    weights: list

    def features(self, x):
        return td.relu(x + self.shift)

    def loss(self, y):
        for w in self.weights:
            y = td.tanh(y @ w)
        return y.sum()


@pytest.fixture
def deep(everything) -> Deep:
    td.manual_seed(3)
    weights = [nn.Parameter(0.2 * td.randn(32, 32)) for _ in range(6)]
    return Deep(nn.Buffer(td.randn(32, 32).array), weights)


class TestWhatIsKept:
    """Each test counts how often the features are made, which one call does, named after relu."""

    def made(self, step) -> int:
        return sum(count for name, count in recording(step).names.items() if name.endswith("relu"))

    def same(self, deep, step, before=lambda: None) -> int:
        """The same results in three steps, eager and recorded: how often are the features made?"""
        found = []
        first = deep.shift.numpy().copy()
        for run in (step, recorded := sparing(step)):
            deep.shift.array[...] = first
            td.manual_seed(5)
            results = []
            for seed in range(3):
                x = td.from_numpy(np.random.default_rng(seed).standard_normal((32, 32)).astype(np.float32))
                results += [y.numpy() for y in run(x)]
            found.append(results)
        assert_same_bits(*found)
        return self.made(recorded)

    def test_made_again(self, deep) -> None:
        assert self.same(deep, lambda x: td.grad(deep.loss(deep.features(x)), deep.weights)) == 2

    def test_an_input_that_is_written_between(self, deep) -> None:
        def step(x):
            loss = deep.loss(deep.features(x))
            with td.no_grad():
                td.ops.update.assign(deep.shift, x)
            return td.grad(loss, deep.weights)

        assert self.same(deep, step) == 1

    def test_an_input_that_is_written_through_a_view(self, deep) -> None:
        part = deep.shift[3:5]

        def step(x):
            loss = deep.loss(deep.features(x))
            with td.no_grad():
                td.ops.update.assign(part, x[:2])
            return td.grad(loss, deep.weights)

        assert self.same(deep, step) == 1

    def test_an_input_that_is_written_afterwards(self, deep) -> None:
        def step(x):
            found = td.grad(deep.loss(deep.features(x)), deep.weights)
            with td.no_grad():
                td.ops.update.assign(deep.shift, x)
            return found

        assert self.same(deep, step) == 2

    def test_what_is_itself_written(self, deep) -> None:
        def step(x):
            with td.no_grad():
                y = deep.features(x)
                y += x
            return td.grad(deep.loss(y), deep.weights)

        assert self.same(deep, step) == 1

    def test_what_is_returned(self, deep) -> None:
        def step(x):
            y = deep.features(x)
            return (*td.grad(deep.loss(y), deep.weights), y)

        assert self.same(deep, step) == 1

    def test_random_numbers(self, deep) -> None:
        """Noise is drawn once, and what was made of it is made again."""

        def step(x):
            noise = td.randn(32, 32)
            y = td.relu(x + noise)
            return (*td.grad(deep.loss(td.dropout(y, 0.5)) + deep.loss(y), deep.weights), noise)

        assert self.same(deep, step) == 2
        whole, half = td.record(step), sparing(step)
        for run in (whole, half):
            run(td.randn(32, 32))
        draws = ["_dropout", "_normal"]
        assert [recording(half).names[name] for name in draws] == [1, 1]
        assert [recording(whole).names[name] for name in draws] == [1, 1]


class TestForms:
    def test_a_decorator_with_an_option(self) -> None:
        class Steps:
            factor = 3.0

            @td.record(recompute=True)
            def triple(self, x):
                return x * self.factor

            @td.record()
            def plain(self, x):
                return x * self.factor

        steps = Steps()
        for value in (1.0, 2.0):
            assert steps.triple(td.ones(1) * value).tolist() == [3.0 * value]
            assert steps.plain(td.ones(1) * value).tolist() == [3.0 * value]
        assert steps.triple.recompute
        assert not steps.plain.recompute

    def test_an_option_of_another_kind(self) -> None:
        with pytest.raises(TypeError, match="record: expected recompute to be True or False, got 'relu'"):
            td.record(lambda x: x, recompute="relu")

    def test_tables_name_primitives(self) -> None:
        assert {*recompute.CHEAP, *PASSES} <= {*primitives}


class TestNormalization:
    """The second pass of batch normalization with what follows, bit for bit."""

    def names(self, step, *arguments) -> list[str]:
        recorded = td.record(step)
        for _ in range(3):
            assert_same_bits([y.numpy() for y in step(*arguments)], [y.numpy() for y in recorded(*arguments)])
        ((found,),) = recorded.recordings.values()
        return [
            call.run.func.__name__ for call in found.calls if not call.run.func.__name__.startswith("_run")
        ]

    def batch_norm(self, x, **settings):
        return td.nn.functional.batch_norm(x, None, None, training=True, **settings)

    @pytest.mark.parametrize("shape", [(16, 8, 12, 12), (600, 40)])
    def test_what_joins(self, shape) -> None:
        x, other = td.randn(*shape), td.randn(*shape)
        x.array[0, 0], other.array[0, 1] = np.nan, -0.0
        norm = self.batch_norm
        assert self.names(lambda x: [td.relu(norm(x))], x) == ["_statistics", "_normalized"]
        assert self.names(lambda x: [norm(x) + other], x) == ["_statistics", "_normalized"]
        assert self.names(lambda x: [td.relu(other + norm(x))], x) == ["_statistics", "_normalized"]
        twice = lambda x: [td.relu(norm(x) + norm(other))]  # noqa: E731
        assert self.names(twice, x) == ["_statistics", "_statistics", "_normalized", "_normalized"]

    def test_what_does_not(self) -> None:
        """What is read twice, returned, broadcast, or added to itself."""
        x, row = td.randn(16, 8, 12, 12), td.randn(12)
        norm = self.batch_norm

        def twice(x):
            y = norm(x)
            return [td.relu(y), y.exp()]

        def returned(x):
            y = norm(x)
            return [td.relu(y), y]

        def doubled(x):
            y = norm(x)
            return [y + y]

        begin = ["_statistics", "_normalized"]
        assert self.names(twice, x) == [*begin, "relu", "exp"]
        assert self.names(returned, x) == [*begin, "relu"]
        assert self.names(doubled, x) == [*begin, "add"]
        assert self.names(lambda x: [norm(x) + row], x) == [*begin, "add"]

    def test_an_input_that_is_written_between(self) -> None:
        state = nn.Buffer(np.zeros((16, 8, 12, 12), np.float32))

        @td.record
        def step(x):
            with td.no_grad():
                y = self.batch_norm(state)
                td.ops.update.assign(state, x)
                return td.relu(y)

        first, second = td.randn(16, 8, 12, 12), td.randn(16, 8, 12, 12)
        step(first), step(first)
        got = step(second).numpy()
        np.testing.assert_array_equal(got, td.relu(self.batch_norm(first)).numpy())

    def test_running_statistics(self) -> None:
        """They are updated where they were, though the second pass comes later."""

        def run(wrap) -> list:
            td.manual_seed(0)
            model = nn.BatchNorm2d(8)
            step = wrap(lambda x, s: td.relu(s * 2.0 + model(x)) * model.running_mean.sum())
            found = [step(td.randn(16, 8, 12, 12), td.randn(16, 8, 12, 12)).numpy() for _ in range(3)]
            return [*found, model.running_mean.numpy(), model.running_var.numpy()]

        assert_same_bits(run(eager), run(td.record))
