"""What a recording depends on besides its arguments: the modes of the modules that ran, which tensors require
grad; and tensors that the step itself makes.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
from tinydl_kernels.machine.errors import GraphError

import tinydl as td
from tinydl import nn


def count(step) -> int:
    return sum(map(len, step.recordings.values()))


class TestModes:
    def test_eval_after_train_is_recorded_anew(self, backend) -> None:
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Dropout(0.5)))
        twin = copy.deepcopy(model)
        step, x = td.record(model), td.randn(8, 3)
        for mode, recordings in ((True, 1), (False, 2), (True, 2), (False, 2)):
            td.manual_seed(0)
            expected = twin.train(mode)(x)
            td.manual_seed(0)
            np.testing.assert_array_equal(model.train(mode) and step(x).numpy(), expected.numpy())
            assert count(step) == recordings
        model[1].train()  # one layer alone
        step(x)
        assert count(step) == 3

    def test_a_step_that_sets_the_mode_itself(self) -> None:
        model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))

        @td.record
        def step(x):
            model.eval()
            y = model(x)
            model[1].training = True
            model.train()
            return y

        x = td.randn(2, 3)
        for _ in range(3):
            np.testing.assert_array_equal(step(x).numpy(), model[0](x).numpy())
        assert count(step) == 1
        assert model.training

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: setattr(m[1], "p", 0.25),
            lambda m: setattr(m[2], "momentum", 0.5),
            lambda m: setattr(m[2], "eps", 0.5),
            lambda m: m.__setitem__(0, nn.Linear(3, 3)),
            lambda m: setattr(m[0], "weight", nn.Parameter(td.ones(3, 3))),
            lambda m: m[0].register_forward_hook(lambda module, inputs, output: output * 2.0),
            lambda m: m.append(nn.ReLU()),
        ],
        ids=["p", "momentum", "eps", "layer", "parameter", "hook", "append"],
    )
    def test_a_changed_setting_is_recorded_anew(self, change, backend) -> None:
        model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
        twin, x = copy.deepcopy(model), td.randn(8, 3)
        step = td.record(lambda x: model(x))
        for recordings in (1, 1, 2, 2):
            if recordings == 2 and count(step) == 1:
                for m in (model, twin):
                    td.manual_seed(1)
                    change(m)
            td.manual_seed(0)
            expected = twin(x)
            td.manual_seed(0)
            np.testing.assert_array_equal(step(x).numpy(), expected.numpy())
            np.testing.assert_array_equal(model[2].running_mean.numpy(), twin[2].running_mean.numpy())
            assert count(step) == recordings

    def test_a_setting_that_the_step_changes_is_a_constant(self) -> None:
        class Counting(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.calls = 0

            def forward(self, x: td.Tensor) -> td.Tensor:
                self.calls += 1
                return x * 2.0

        model = Counting()
        step = td.record(lambda x: model(x))
        for _ in range(3):
            assert step(td.ones(1)).item() == 2
        assert (model.calls, count(step)) == (1, 1)

    def test_modules_that_did_not_run_do_not_matter(self) -> None:
        used, other = nn.Dropout(0.5), nn.Dropout(0.5)
        step = td.record(lambda x: used(x))
        step(td.ones(2))
        other.eval()
        step(td.ones(2))
        assert count(step) == 1


class TestFrozen:
    def test_freezing_and_thawing(self, backend) -> None:
        """A fine-tuning run: the head alone, then all, then the head again; as the eager steps."""

        def run(wrap) -> list:
            model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
            for p in model.parameters():
                td.nn.init.constant_(p, 0.3)
            optimizer = td.optim.SGD(model.parameters(), lr=0.1)

            @wrap
            def step(x):
                optimizer.zero_grad()
                loss = model(x).square().mean()
                loss.backward()
                optimizer.step()
                return loss

            found = []
            for thawed in (True, False, False, True, False):
                model[0].requires_grad_(thawed)
                found += [step(td.tensor([[1.0, 2.0, 3.0]])).numpy(), model[0].weight.detach().numpy().copy()]
                assert (model[0].weight.grad is None) is not thawed
            return found

        for a, b in zip(run(lambda f: f), run(td.record), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_one_recording_each(self) -> None:
        model = nn.Linear(2, 1)
        step = td.record(lambda x: model(x))
        for thawed, recordings in ((True, 1), (False, 2), (True, 2), (False, 2)):
            model.requires_grad_(thawed)
            step(td.ones(1, 2))
            assert count(step) == recordings

    def test_a_step_that_freezes_and_thaws(self) -> None:
        """The two halves of an adversarial step; and one that leaves a parameter frozen, as eager ones do."""
        w = nn.Parameter(np.array([2.0]))

        @td.record
        def step(x):
            w.requires_grad_(False)
            y = (w * x).sum()
            w.requires_grad_(True)
            return y

        @td.record
        def freeze(x):
            y = (w * x).sum()
            w.requires_grad_(False)
            return y

        x = td.ones(1, dtype=td.float64)
        for _ in range(3):
            step(x)
            assert w.requires_grad
        assert count(step) == 1
        for _ in range(3):
            w.requires_grad_(True)
            freeze(x)
            assert not w.requires_grad
        assert count(freeze) == 1

    def test_an_argument_that_is_made_a_leaf(self) -> None:
        @td.record
        def step(x):
            return td.grad(x.requires_grad_(True).square().sum(), x)[0]

        for value in (1.0, 2.0, 3.0):
            assert step(td.tensor([value])).tolist() == [2 * value]
        assert count(step) == 1


MAKERS = {
    "ones": lambda x: td.ones(2),
    "full": lambda x: td.full((2,), 1.0),
    "full of a tensor": lambda x: td.full((2,), td.tensor(1.0)),
    "full_like": lambda x: td.full_like(x, 1.0),
    "ones_like": lambda x: td.ones_like(x),
    "tensor": lambda x: td.tensor([1.0, 1.0]),
    "tensor of a tensor": lambda x: td.tensor(x * 0.0 + 1.0),
    "eye": lambda x: td.eye(2)[0] + td.eye(2)[1],
    "arange": lambda x: td.arange(1.0, 2.5, 1.0)[:1].expand(2).clone(),
    "linspace": lambda x: td.linspace(1.0, 1.0, 2),
    "deepcopy": lambda x: copy.deepcopy(td.ones(2)),
    "Buffer": lambda x: nn.Buffer([1.0, 1.0]),
    "Parameter": lambda x: nn.Parameter([1.0, 1.0], requires_grad=False),
}
WRITES = {
    "assignment": lambda made: made.__setitem__(..., 0.0),
    "a part": lambda made: made.__setitem__(slice(0, 1), 5.0),
    "by a mask": lambda made: made.__setitem__(td.tensor([True, False]), 7.0),
    "through a view": lambda made: made[1:].__setitem__(0, 3.0),
    "init": lambda made: nn.init.constant_(made, 2.0),
}


class TestMadeInside:
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    @pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
    def test_a_tensor_that_is_written_begins_anew(self, make, write) -> None:
        def step(x):
            made = make(x)
            before = (x * made).sum()
            write(made)
            return before, made * x, made

        recorded = td.record(step)
        for i in range(3):
            x = td.tensor([1.0, 2.0 + i])
            for a, b in zip(step(x), recorded(x), strict=True):
                np.testing.assert_array_equal(a.detach().numpy(), b.numpy())

    def test_every_backend(self, backend) -> None:
        @td.record
        def step(x):
            made = td.ones(2)
            total = (x * made).sum()
            made[...] = 0.0
            return total

        assert [step(td.tensor([1.0, 2.0])).item() for _ in range(3)] == [3.0, 3.0, 3.0]

    def test_a_generator_made_inside(self) -> None:
        step = td.record(lambda: td.randn(3, generator=td.Generator(5)))
        first = step().tolist()
        assert step().tolist() == step().tolist() == first

    def test_values_are_not_frozen(self) -> None:
        """Tensors made of the step's own: each replay sees its values, and gradients flow through `full`."""

        @td.record
        def step(x):
            (g,) = td.grad(td.full((3,), x.sum()).square().sum(), x)
            return td.full_like(x, 2.0), td.full((2,), 3), td.full((), x[0]), td.tensor(x), td.as_tensor(x), g

        for value in (1.0, 2.0, 3.0):
            given = td.tensor([value, 1.0], requires_grad=True)
            got = [y.tolist() for y in step(given)]
            g = 6 * (value + 1)
            assert got == [[2.0, 2.0], [3, 3], value, [value, 1.0], [value, 1.0], [g, g]]

    def test_state_goes_on(self) -> None:
        """A Buffer of a module that is made at the first call is state: replays go on from it."""

        def run(wrap) -> list:
            model = nn.Module()

            def step(x):
                if not hasattr(model, "total"):
                    model.total = nn.Buffer(np.zeros(2, np.float32))
                model.total[...] = model.total + x
                return model.total * 1.0

            step = wrap(step)
            return [step(td.ones(2)).tolist() for _ in range(3)]

        assert run(td.record) == run(lambda f: f) == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]

    def test_refused(self) -> None:
        kept = []

        @td.record
        def step(x):
            kept.append(td.zeros(2))
            kept[-1][...] = kept[-1] + x
            return x * 1.0

        with pytest.raises(GraphError, match=r"expected a tensor \(2,\) that the step makes .* lives on"):
            step(td.ones(2))

        @td.record
        def shared(x):
            made = td.from_numpy(np.zeros(2, np.float32))
            made[...] = x
            return made * 1.0

        with pytest.raises(GraphError, match="assign: expected no write to an array that came from NumPy"):
            shared(td.ones(2))
