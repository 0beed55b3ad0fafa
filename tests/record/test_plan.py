"""What a recording holds and calls: shared buffers, no more than is read, chains of
elementwise operations in one loop.
"""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from tinydl_kernels import elementwise
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.dispatch import operations
from training_steps import OPTIMIZERS, PENALTIES, Training, assert_same_bits, eager

import tinydl as td
from tinydl import nn
from tinydl.engine.core import primitives
from tinydl.record import plan


class TestMemory:
    def test_outputs_are_copies(self) -> None:
        step = td.record(lambda x: (x * 2.0, x))
        first, second, third = (step(td.full(2, value)) for value in (1.0, 2.0, 3.0))
        for results, value in ((first, 1.0), (second, 2.0), (third, 3.0)):
            np.testing.assert_array_equal(results[0].numpy(), [2 * value] * 2)
            np.testing.assert_array_equal(results[1].numpy(), [value] * 2)

    @pytest.mark.parametrize(
        "penalties", [PENALTIES["plain"], PENALTIES["DataGrad"]], ids=["plain", "DataGrad"]
    )
    def test_buffers_are_shared(self, backend, penalties) -> None:
        """What a recording holds is well below the sum of what an eager step allocates,
        and every result lies in it.
        """
        training = Training(td.record, OPTIMIZERS["Adam"], penalties)
        training.bits()
        ((recording,),) = training.run.recordings.values()
        blocks, buffers = {}, [buffer for call in recording.calls for buffer in call.buffers]
        for buffer in buffers:
            owner = buffer
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            blocks[id(owner)] = owner.nbytes
        assert sum(blocks.values()) < 0.8 * sum(buffer.nbytes for buffer in buffers)

    def test_every_output_is_a_planned_buffer(self, backend) -> None:
        training = Training(td.record, OPTIMIZERS["momentum"], PENALTIES["SpectReg"])
        training.bits()
        ((recording,),) = training.run.recordings.values()
        for call in recording.calls:
            planned, supply = {id(buffer) for buffer in call.buffers}, iter(call.buffers)
            with memory.supplied_by(lambda shape, dtype, like: next(supply)), td.backend(call.backend):  # noqa: B023
                results = call.run()
            for out in results if isinstance(results, tuple) else (results,):
                assert out is None or id(out) in planned, call.run.func.__name__
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
        ((recording,),) = step.recordings.values()
        assert [call.run.func.__name__ for call in recording.calls] == ["add", "_assign", "mul"]

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
        ((recording,),) = step.recordings.values()
        return [call.run.func.__name__ for call in recording.calls]

    @pytest.mark.full
    def test_training_with_every_chain(self, monkeypatch) -> None:
        monkeypatch.setattr(plan, "WORTH", 1)
        settings = OPTIMIZERS["Adam"], PENALTIES["DataGrad"]
        assert_same_bits(Training(eager, *settings).bits(), Training(td.record, *settings).bits())

    def test_chains_and_their_ends(self) -> None:
        """A result that is returned, read twice, of another shape or dtype, or small, is stored."""
        w, b = td.randn(64, 1, 16, 16), td.randn(1, 32, 1, 1)

        def step(x):
            y = td.relu(x * w + b)
            kept = y.exp() - x
            return (
                kept,
                (kept * kept).sqrt().sum(),
                (y * y - x + w + b * b).neg().sum((1, 2)),
                (x[0] - b + 1.0) * (w - x),
            )

        recorded = td.record(step)
        for _ in range(2):
            x = td.randn(64, 32, 16, 16)
            assert_same_bits([y.numpy() for y in step(x)], [y.numpy() for y in recorded(x)])
        assert self.names(recorded) == [
            *("mul_add_relu", "exp_sub", "mul_sqrt", "_sum", "mul", "mul_sub_add_add_neg", "_sum"),
            *("sub", "add", "sub_mul"),
        ]

    @pytest.mark.parametrize("images", [1, 9])
    @pytest.mark.parametrize("channels", [5, 40])
    def test_relu_joins_what_comes_before(self, images, channels) -> None:
        """A convolution of either way and a product, small or in tiles; not where what
        comes before is read by another.
        """
        conv, linear = nn.Conv2d(3, channels, 3), nn.Linear(channels * 144, 150)
        for parameter in (*conv.parameters(), *linear.parameters()):
            parameter.array[0] = np.nan

        def step(x):
            h = td.relu(conv(x))
            y = linear(h.flatten(1))
            return td.relu(y), td.relu(
                linear(td.relu(y).flatten(1).repeat(1, channels * 144 // 150 + 1)[:, : channels * 144])
            )

        recorded = td.record(step)
        for _ in range(2):
            x = td.randn(images, 3, 14, 14)
            assert_same_bits([y.numpy() for y in step(x)], [y.numpy() for y in recorded(x)])
        names = self.names(recorded)
        assert names[0] == "_conv_relu"
        assert names.count("_linear") == 1  # two read it
        assert names.count("_linear_relu") == 1

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
                if made.key.startswith("bits."):  # which floating numbers do not join
                    operands = (100 * operands).astype(np.int64)
                (operation,) = [op for name, op in operations.items() if name.endswith(f".{made.name}")]
                with td.backend("reference"):
                    np.testing.assert_array_equal(made.function(*operands), operation(*operands))
                seen.append(made.name)
        assert {"add", "mul", "relu", "gate", "between", "exp", "sin"} <= {*seen}
