"""The recorder: a replay is the eager step, bit for bit, and what a replay would not see is refused."""

from __future__ import annotations

import threading
import weakref
from typing import NamedTuple

import numpy as np
import pytest
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import GraphError
from training_steps import OPTIMIZERS, PENALTIES, Training, assert_same_bits, eager, network

import tinydl as td
from tinydl import nn
from tinydl.engine.core import Tensor, state


class TestReplayIsEager:
    @pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
    @pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
    def test_training(self, backend, optimizer, penalties) -> None:
        assert_same_bits(
            Training(eager, optimizer, penalties).bits(), Training(td.record, optimizer, penalties).bits()
        )

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
                [a[k].numpy() for k in ("y", "z", "wide", "none")],
                [b[k].numpy() for k in ("y", "z", "wide", "none")],
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
        """A step that adds to what is there, and adds twice, as eager steps do;
        nobody else's array is written.
        """

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
        with pytest.raises(
            GraphError, match=r"record: expected a leaf \(2,\) without .grad .* got it with a .grad"
        ):
            step()
        np.testing.assert_array_equal(w.grad.numpy(), [1.0, 1.0])
        w.grad = None
        step()
        add = td.record(lambda: w.sum().backward())
        add()
        w.grad = None
        with pytest.raises(
            GraphError, match=r"expected a leaf \(2,\) with a .grad .* got it without .grad: call zero_grad"
        ):
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
            GraphError,
            match=r"record: expected the tensor \(1, 2\) that was recorded, got it bound to another array",
        ):
            step(x)

    @pytest.mark.parametrize(
        "read", [lambda x: x.item(), float, lambda x: x.numpy(), bool, lambda x: x.tolist(), np.asarray]
    )
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
        with pytest.raises(
            TypeError, match=r"record: expected tensors, arrays and hashable constants, got \(Tensor, list\)"
        ):
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
        for arguments in (
            (x, 2.0),
            (x, 3.0),
            (td.ones(3), 2.0),
            (td.ones(2, dtype=td.float64), 2.0),
            (x, 2),
            (x, True),
        ):
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


class TestStructures:
    def test_what_a_step_depends_on_is_part_of_its_key(self) -> None:
        """Each state of an owner has its recording; that of an owner who is gone stays valid."""

        class Owner:
            factor = 2.0

        def factor(owner: Owner) -> float:
            return owner.factor

        owner = Owner()

        @td.record
        def step(x):
            if owner is not None:
                state.recorder.seen.depends(owner, factor)
                return x * owner.factor
            return x

        x = td.ones(2)
        for value, count in ((2.0, 1), (3.0, 2), (2.0, 2), (3.0, 2), (5.0, 3)):
            owner.factor = value
            assert step(x).tolist() == [value] * 2
            (recordings,) = step.recordings.values()
            assert len(recordings) == count
        kept = weakref.ref(owner)
        owner = None
        assert kept() is None
        assert step(x).tolist() == [2.0] * 2


class TestThreads:
    def test_another_thread_is_not_recorded(self) -> None:
        x, results = td.ones(3), []

        @td.record
        def step(x):
            thread = threading.Thread(
                target=lambda: results.append((x * 5.0).item() if x.ndim == 0 else (x * 5.0).numpy())
            )
            thread.start()
            thread.join()
            return x + 1.0

        step(x)
        step(x)
        assert len(results) == 1
        ((recording,),) = step.recordings.values()
        assert len(recording.calls) == 1

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
