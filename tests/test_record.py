"""The recorder: a replay is the eager step, bit for bit, and what a replay would not see is refused."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import NamedTuple

import numpy as np
import pytest
from tinydl_kernels import elementwise, memory
from tinydl_kernels.dispatch import operations
from tinydl_kernels.errors import GraphError

import tinydl as td
from tinydl import nn, plan
from tinydl.core import Tensor, primitives, state


@pytest.fixture(params=["reference", "cpu"])
def backend(request):
    with td.backend(request.param):
        yield request.param


def eager(step):
    return step


def network(dtype=np.float32) -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(27, 8),
        nn.BatchNorm1d(8, momentum=None),
        nn.Tanh(),
        nn.Linear(8, 4),
    )
    return model.to(dtype)


class Training:
    """A few steps on fixed batches; `bits` is all that they leave behind."""

    penalties: tuple = ()

    def __init__(self, wrap, optimizer, penalties=(), dtype=np.float32) -> None:
        td.manual_seed(1)
        self.model = network(dtype)
        self.optimizer = optimizer(td.optim.decay_groups(self.model, 0.01))
        self.objective = td.regularizers.Objective(self.model, td.cross_entropy, [make() for make in penalties])
        self.schedule = td.optim.PiecewiseConstant(self.optimizer, (3,), (0.1,))
        self.run = wrap(self.step)
        random = np.random.default_rng(0)
        self.x = random.standard_normal((6, 5, 1, 6, 6)).astype(dtype)
        self.y = random.integers(0, 4, (6, 5))

    def step(self, x, y):
        self.optimizer.zero_grad()
        terms = self.objective(x, y)
        terms.total.backward()
        self.optimizer.step()
        return terms

    def bits(self) -> list:
        found = []
        for x, y in zip(self.x, self.y, strict=True):
            terms = self.run(td.from_numpy(x), td.from_numpy(y))
            self.schedule.step()
            found += [terms.total, terms.loss, *terms.penalties, terms.logits]
        found += self.model.state_dict().values()
        found += [t for own in self.optimizer.state.values() for t in own.values()]
        found += [p.grad for p in self.model.parameters()]
        return [x.detach().numpy() for x in found]


def assert_same_bits(first: list, second: list) -> None:
    for a, b in zip(first, second, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)


OPTIMIZERS = {
    "momentum": lambda groups: td.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda groups: td.optim.Adam(groups, lr=0.01),
}
PENALTIES = {
    "plain": (),
    "DataGrad": (lambda: td.regularizers.DataGrad(0.5),),
    "SpectReg": (lambda: td.regularizers.SpectReg(0.5),),
    "SpectReg, second pass": (lambda: td.regularizers.SpectReg(0.5, per="batch", forward="second"),),
}


class TestReplayIsEager:
    @pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
    @pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
    def test_training(self, backend, optimizer, penalties) -> None:
        assert_same_bits(Training(eager, optimizer, penalties).bits(), Training(td.record, optimizer, penalties).bits())

    def test_training_in_float64(self, backend) -> None:
        settings = OPTIMIZERS["Adam"], PENALTIES["DataGrad"], np.float64
        assert_same_bits(Training(eager, *settings).bits(), Training(td.record, *settings).bits())

    def test_evaluation(self, backend) -> None:
        model = network().eval()
        x = td.randn(3, 5, 1, 6, 6)
        with td.no_grad():
            replay = td.record(model)
            for part in x:
                np.testing.assert_array_equal(replay(part).numpy(), model(part).numpy())

    def test_views_and_scalars(self, backend) -> None:
        """Every kind of view of a buffer: reversed, transposed, expanded, 0-d, empty."""

        def step(x):
            y = (x * 2.0).T[::-1, 1:]
            z = y.sum(1)[0]
            return {"y": y, "z": z, "wide": z.expand(3, 2), "none": y[:0] + 1.0, "list": [y.exp(), None]}

        recorded = td.record(step)
        for _ in range(3):
            x = td.randn(4, 3)
            a, b = step(x), recorded(x)
            assert b["list"][1] is None
            assert_same_bits(
                [a[k].numpy() for k in ("y", "z", "wide", "none")], [b[k].numpy() for k in ("y", "z", "wide", "none")]
            )
            assert_same_bits([a["list"][0].numpy()], [b["list"][0].numpy()])

    def test_a_step_in_two_backends(self) -> None:
        def step(x):
            with td.backend("reference"):
                y = (x * x).exp()
            return y.sum() + x.tanh().sum()

        recorded, x = td.record(step), td.randn(50)
        for _ in range(3):
            np.testing.assert_array_equal(recorded(x).numpy(), step(x).numpy())

    def test_random_numbers_move_on(self, backend) -> None:
        def run(wrap) -> list:
            generator = td.Generator(3)
            draw = wrap(lambda: td.randn(4, generator=generator) + td.dropout(td.ones(4), 0.5))
            td.manual_seed(0)
            return [draw().numpy() for _ in range(4)]

        first, second = run(eager), run(td.record)
        assert_same_bits(first, second)
        assert not np.array_equal(second[1], second[2])


class TestGradients:
    def test_grad_after_a_replay(self, backend) -> None:
        w = nn.Parameter(np.array([1.0, 2.0]))

        @td.record
        def step(x):
            w.grad = None
            (w * x).square().sum().backward()

        for value in (1.0, 2.0, 3.0):
            step(td.tensor([value, -value], dtype=td.float64))
            np.testing.assert_array_equal(w.grad.numpy(), 2 * w.numpy() * value**2)
            assert w.grad.is_leaf

    def test_gradients_add_up(self, backend) -> None:
        """A step that adds to what is there, and adds twice, as eager steps do; nobody else's array is written."""

        def run(wrap) -> list:
            w = nn.Parameter(np.array([1.0, 2.0]))
            w.grad = first = td.ones(2, dtype=td.float64)

            def step(x):
                (w * x).sum().backward()
                (w * w * x).sum().backward()

            step, found = wrap(step), []
            for i in range(4):
                step(td.tensor([float(i), 1.0], dtype=td.float64))
                found.append(w.grad.numpy().copy())
            w.grad = td.tensor([100.0, 200.0], dtype=td.float64)
            step(td.ones(2, dtype=td.float64))
            return [*found, w.grad.numpy(), first.numpy()]

        assert_same_bits(run(eager), run(td.record))

    def test_a_gradient_that_is_only_read_stays(self) -> None:
        w = nn.Parameter(np.zeros(2))
        optimizer = td.optim.SGD([w], lr=1.0)
        step = td.record(optimizer.step)
        for value in (1.0, 10.0, 100.0):
            w.grad = given = td.full(2, value, dtype=td.float64)
            step()
            assert w.grad is given
        np.testing.assert_array_equal(w.numpy(), [-111.0, -111.0])

    def test_a_gradient_that_is_taken_away(self) -> None:
        w = nn.Parameter(np.ones(2))

        @td.record
        def step():
            w.sum().backward()
            w.grad = None

        for _ in range(3):
            step()
            assert w.grad is None

    def test_the_pattern_of_gradients(self) -> None:
        w = nn.Parameter(np.ones(2))
        step = td.record(lambda: w.sum().backward())
        step()
        with pytest.raises(GraphError, match=r"record: expected a leaf \(2,\) without .grad .* got it with a .grad"):
            step()
        np.testing.assert_array_equal(w.grad.numpy(), [1.0, 1.0])
        w.grad = None
        step()
        add = td.record(lambda: w.sum().backward())
        add()
        w.grad = None
        with pytest.raises(GraphError, match=r"expected a leaf \(2,\) with a .grad .* got it without .grad: call zero_grad"):
            add()

    def test_gradients_of_arguments_stay_outside(self) -> None:
        x = td.ones(3, requires_grad=True)

        @td.record
        def step(x):
            (x * x).sum().backward()
            return x.grad

        for _ in range(3):
            np.testing.assert_array_equal(step(x).numpy(), [2.0, 2.0, 2.0])
            assert x.grad is None


class TestRefused:
    def test_rebinding(self) -> None:
        model = nn.Linear(2, 1)
        step = td.record(lambda x: model(x))
        x = td.ones(1, 2)
        step(x)
        model.double()
        with pytest.raises(
            GraphError, match=r"record: expected the tensor \(1, 2\) that was recorded, got it bound to another array"
        ):
            step(x)

    def test_freezing(self) -> None:
        model = nn.Linear(2, 1)
        step = td.record(lambda x: model(x))
        step(td.ones(1, 2))
        model.requires_grad_(False)
        with pytest.raises(GraphError, match="got it whose requires_grad was changed since"):
            step(td.ones(1, 2))

    @pytest.mark.parametrize("read", [lambda x: x.item(), float, lambda x: x.numpy(), bool, lambda x: x.tolist(), np.asarray])
    def test_values(self, read) -> None:
        step = td.record(lambda x: x * float(read(x.sum())))
        with pytest.raises(GraphError, match="expected no values to be read inside a recorded step"):
            step(td.ones(2))
        self.nothing_left()

    def test_recordings_in_recordings(self) -> None:
        inner = td.record(lambda x: x * 2.0)
        outer = td.record(lambda x: inner(x) + 1.0)
        for _ in range(2):  # also when the inner one is there already
            with pytest.raises(GraphError, match="record: expected no recorded step inside a recorded step"):
                outer(td.ones(2))
            self.nothing_left()
            inner(td.ones(2))

    def test_an_exception_in_the_step(self) -> None:
        fail = True

        @td.record
        def step(x):
            y = x * 2.0
            if fail:
                raise ZeroDivisionError
            return y

        with pytest.raises(ZeroDivisionError):
            step(td.ones(2))
        self.nothing_left()
        fail = False
        for _ in range(2):
            np.testing.assert_array_equal(step(td.ones(2)).numpy(), [2.0, 2.0])

    def test_an_exception_that_the_step_catches(self) -> None:
        @td.record
        def step(x):
            try:
                x @ td.ones(7)
            except td.ShapeError:
                x = x * 3.0
            return x + 1.0

        for _ in range(3):
            np.testing.assert_array_equal(step(td.ones(2)).numpy(), [4.0, 4.0])

    def test_results_and_arguments(self) -> None:
        with pytest.raises(GraphError, match=r"record: expected the step to return tensors, .* got float"):
            td.record(lambda x: 1.0)(td.ones(2))
        with pytest.raises(TypeError, match=r"record: expected tensors, arrays and hashable constants, got \(Tensor, list\)"):
            td.record(lambda x, sizes: x)(td.ones(2), [1])

    def nothing_left(self) -> None:
        assert state.recorder is None
        assert not memory.planned()


class TestRecordedAnew:
    def test_signatures(self) -> None:
        seen = []

        @td.record
        def step(x, factor):
            seen.append((x.shape, x.dtype.name, factor))
            return x * factor

        x = td.ones(2)
        for arguments in ((x, 2.0), (x, 3.0), (td.ones(3), 2.0), (td.ones(2, dtype=td.float64), 2.0), (x, 2), (x, True)):
            for _ in range(2):
                got = step(*arguments)
                np.testing.assert_array_equal(got.numpy(), (arguments[0] * arguments[1]).numpy())
        assert len(seen) == 6
        with td.no_grad():
            step(x, 2.0)
        with td.backend("reference"):
            step(x, 2.0)
        assert len(seen) == 8

    def test_a_python_number_is_a_constant(self) -> None:
        number = 2.0
        step = td.record(lambda x: x * number)
        step(td.ones(1))
        number = 3.0
        assert step(td.ones(1)).item() == 2.0

    def test_named_tuples_come_back(self) -> None:
        class Pair(NamedTuple):
            a: Tensor
            b: Tensor

        step = td.record(lambda x: Pair(x + 1.0, x * 2.0))
        for _ in range(2):
            assert step(np.ones(1)).b.item() == 2.0


class TestMemory:
    def test_outputs_are_copies(self) -> None:
        step = td.record(lambda x: (x * 2.0, x))
        first, second, third = (step(td.full(2, value)) for value in (1.0, 2.0, 3.0))
        for results, value in ((first, 1.0), (second, 2.0), (third, 3.0)):
            np.testing.assert_array_equal(results[0].numpy(), [2 * value] * 2)
            np.testing.assert_array_equal(results[1].numpy(), [value] * 2)

    @pytest.mark.parametrize("penalties", [PENALTIES["plain"], PENALTIES["DataGrad"]], ids=["plain", "DataGrad"])
    def test_buffers_are_shared(self, backend, penalties) -> None:
        """What a recording holds is well below the sum of what an eager step allocates, and every result lies in it."""
        training = Training(td.record, OPTIMIZERS["Adam"], penalties)
        training.bits()
        (recording,) = training.run.recordings.values()
        blocks = {}
        for buffer in recording.buffers:
            owner = buffer
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            blocks[id(owner)] = owner.nbytes
        assert sum(blocks.values()) < 0.8 * sum(buffer.nbytes for buffer in recording.buffers)

    def test_every_output_is_a_planned_buffer(self, backend) -> None:
        training = Training(td.record, OPTIMIZERS["momentum"], PENALTIES["SpectReg"])
        training.bits()
        (recording,) = training.run.recordings.values()
        planned = {id(buffer) for buffer in recording.buffers}
        supply = iter(recording.buffers)
        with memory.supplied_by(lambda shape, dtype, like: next(supply)):
            for name, calls in recording.calls:
                with td.backend(name):
                    for call in calls:
                        results = call()
                        for out in results if isinstance(results, tuple) else (results,):
                            assert out is None or id(out) in planned, call.func.__name__
        assert next(supply, None) is None

    def test_a_replay_allocates_nothing(self) -> None:
        """Nothing but the copies of its outputs: no tensors are left over, and no nodes."""
        training = Training(td.record, OPTIMIZERS["Adam"], PENALTIES["DataGrad"])
        x, y = td.from_numpy(training.x[0]), td.from_numpy(training.y[0])
        training.run(x, y)
        training.run(x, y)
        gc.collect()
        gc.disable()
        try:
            before = len(gc.get_objects())
            for _ in range(20):
                training.run(x, y)
            assert len(gc.get_objects()) - before < 20
        finally:
            gc.enable()

    def test_what_nobody_reads_is_not_replayed(self, backend) -> None:
        weight = td.nn.Buffer(np.zeros(2))

        @td.record
        def step(x):
            unused = (x * 2.0).exp()
            with td.no_grad():
                td.ops.update.assign(weight, x + 1.0)
            return unused.shape and x * 3.0

        for value in (1.0, 2.0):
            assert step(td.full(2, value)).tolist() == [3 * value] * 2
            assert weight.tolist() == [value + 1] * 2
        (recording,) = step.recordings.values()
        assert [call.func.__name__ for _, calls in recording.calls for call in calls] == ["add", "_assign", "mul"]

    def test_recording_holds_no_arrays(self) -> None:
        """Those of the step die as they do in an eager one."""
        seen = []

        @td.record
        def step(x):
            y = x * 2.0
            seen.append(weakref.ref(y.array))
            y = y.exp()
            assert seen[0]() is None
            return y + 1.0

        step(td.ones(2))
        assert step(td.zeros(2)).tolist() == [2.0, 2.0]

    def test_an_array_that_the_step_makes_is_its_own(self) -> None:
        """Two recordings of one step do not share buffers."""
        step = td.record(lambda x: x * 2.0 + 1.0)
        a, b = step(td.ones(2)), step(td.ones(3))
        np.testing.assert_array_equal(step(td.zeros(2)).numpy(), [1.0, 1.0])
        np.testing.assert_array_equal(a.numpy(), [3.0, 3.0])
        np.testing.assert_array_equal(b.numpy(), [3.0, 3.0, 3.0])


class TestFusion:
    """Elementwise chains in one loop: the bits are those of the single calls."""

    def names(self, step) -> list[str]:
        (recording,) = step.recordings.values()
        return [call.func.__name__ for _, calls in recording.calls for call in calls]

    def test_training(self, monkeypatch) -> None:
        monkeypatch.setattr(plan, "WORTH", 1)
        settings = OPTIMIZERS["Adam"], PENALTIES["DataGrad"]
        assert_same_bits(Training(eager, *settings).bits(), Training(td.record, *settings).bits())

    def test_chains_and_their_ends(self) -> None:
        """A result that is returned, read twice, of another shape or dtype, or small, is stored."""
        w, b = td.randn(64, 1, 16, 16), td.randn(1, 32, 1, 1)

        def step(x):
            y = td.relu(x * w + b)
            kept = y.exp() - x
            return kept, (kept * kept).sqrt().sum(), (y * y - x + w + b * b).neg().sum((1, 2)), (x[0] - b + 1.0) * (w - x)

        recorded = td.record(step)
        for _ in range(2):
            x = td.randn(64, 32, 16, 16)
            assert_same_bits([y.numpy() for y in step(x)], [y.numpy() for y in recorded(x)])
        assert self.names(recorded) == [
            *("mul_add_relu", "exp_sub", "mul_sqrt", "_sum", "mul", "mul_sub_add_add_neg", "_sum"),
            *("sub", "add", "sub_mul"),
        ]

    def test_what_is_written_between(self) -> None:
        counter = td.nn.Buffer(np.zeros(1 << 14))

        @td.record
        def step(x):
            y = counter * 2.0
            with td.no_grad():
                td.ops.update.assign(counter, x)
            return y + 1.0

        x = td.ones(1 << 14, dtype=td.float64)
        assert [step(x * value)[0].item() for value in (5.0, 6.0, 7.0)] == [1.0, 11.0, 13.0]

    def test_primitives_run_the_operation_of_their_name(self) -> None:
        random = np.random.default_rng(0)
        seen = []
        for made in primitives.values():
            if made.elementwise and not made.settings and made.name in elementwise.scalars:
                operands = random.uniform(0.1, 0.9, (len(made.inputs), 50))
                (operation,) = [op for name, op in operations.items() if name.endswith(f".{made.name}")]
                with td.backend("reference"):
                    np.testing.assert_array_equal(made.function(*operands), operation(*operands))
                seen.append(made.name)
        assert {"add", "mul", "relu", "gate", "between", "exp", "sin"} <= {*seen}


class TestVersions:
    def test_a_graph_from_before_the_replay(self) -> None:
        w = nn.Parameter(np.array([2.0]))
        optimizer = td.optim.SGD([w], lr=0.1)

        @td.record
        def step():
            optimizer.zero_grad()
            w.square().sum().backward()
            optimizer.step()

        step()
        y = w.square().sum()
        step()
        with pytest.raises(GraphError, match="was written before the backward pass"):
            y.backward()

    def test_a_gradient_that_a_graph_has_read(self) -> None:
        w, v = nn.Parameter(np.array([2.0])), nn.Parameter(np.array([3.0]))

        @td.record
        def step():
            w.grad = None
            w.square().sum().backward()

        step()
        step()
        y = (w.grad * v).sum()
        step()
        with pytest.raises(GraphError, match="was written before the backward pass"):
            y.backward()

    def test_views_and_counters(self) -> None:
        counter = td.nn.Buffer(np.zeros(3))
        view = counter[1:]

        @td.record
        def step(x):
            counter[1] = x
            return counter * 1.0

        for value in (1.0, 2.0, 3.0):
            step(td.tensor(value, dtype=td.float64))
            np.testing.assert_array_equal(view.numpy(), [value, 0.0])
        assert view.version.count == counter.version.count == 3


class TestThreads:
    def test_another_thread_is_not_recorded(self) -> None:
        x, results = td.ones(3), []

        @td.record
        def step(x):
            thread = threading.Thread(target=lambda: results.append((x * 5.0).item() if x.ndim == 0 else (x * 5.0).numpy()))
            thread.start()
            thread.join()
            return x + 1.0

        step(x)
        step(x)
        assert len(results) == 1
        (recording,) = step.recordings.values()
        assert sum(len(calls) for _, calls in recording.calls) == 1

    def test_one_recording_serves_many_threads(self) -> None:
        step, wrong = td.record(lambda x: (x * 2.0).exp().sum()), []
        step(td.ones(1000))

        def work(value: float) -> None:
            x = td.full(1000, value)
            expected = (x * 2.0).exp().sum().item()
            wrong.extend(i for i in range(50) if step(x).item() != expected)

        threads = [threading.Thread(target=work, args=(0.1 * i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
