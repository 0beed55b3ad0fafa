"""What a module calls on those below it is their own: train, apply, state_dict, load_state_dict, to."""

from __future__ import annotations

import numpy as np
import pytest
from tinydl_kernels.machine.errors import GraphError, ShapeError

import tinydl as td
from tinydl import nn


class Frozen(nn.BatchNorm1d):
    """Stays in evaluation, as in fine-tuning."""

    def train(self, mode=True):
        return super().train(False)


def pair(inner) -> nn.Module:
    """Two levels above the module in question."""
    return nn.Sequential(nn.Sequential(inner, nn.Dropout(0.5)), nn.Linear(2, 2))


class TestModes:
    def test_a_frozen_norm_stays_frozen(self) -> None:
        model = pair(Frozen(2).eval())
        norm = model[0][0]
        for _ in range(2):
            assert model.train() is model
            assert (model.training, model[0][1].training, norm.training) == (True, True, False)
            model(td.randn(4, 2))
            assert norm.num_batches_tracked.item() == 0
            assert not model.eval()[0][1].training

    def test_shared_modules_and_gaps(self) -> None:
        shared = nn.Dropout(0.5)
        model = nn.Sequential(shared, nn.Sequential(shared))
        model.gap = None
        model.add_module("empty", None)
        assert not model.eval()[1][0].training

    def test_apply(self) -> None:
        class Closed(nn.Linear):
            def apply(self, function):
                return self

        seen = []
        model = pair(Closed(2, 2))
        assert model.apply(seen.append) is model
        assert seen == [model[0][1], model[0], model[1], model]


class Doubled(nn.Linear):
    """Saves twice its weight under another name, without its bias."""

    def state_dict(self, *args, **kwargs):
        return {"double": self.weight.detach() * 2.0}

    def load_state_dict(self, state_dict, strict=True):
        if "double" not in state_dict:
            raise KeyError("double")
        more = [name for name in state_dict if name != "double"]
        super().load_state_dict({"weight": np.asarray(state_dict["double"]) / 2.0}, strict=False)
        return ["bias"], more


class PyTorchs(nn.Linear):
    """An override in PyTorch's form."""

    def state_dict(self, *args, destination=None, prefix="", keep_vars=False):
        found = super().state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)
        found[prefix + "version"] = td.tensor(2)
        return found

    def load_state_dict(self, state_dict, strict=True):
        state_dict = dict(state_dict)
        assert int(state_dict.pop("version")) == 2
        return super().load_state_dict(state_dict, strict)


class TestState:
    def test_there_and_back(self) -> None:
        model, other = pair(Doubled(2, 2)), pair(Doubled(2, 2))
        state = model.state_dict()
        assert list(state) == ["0.0.double", "1.weight", "1.bias"]
        np.testing.assert_array_equal(state["0.0.double"].numpy(), 2 * model[0][0].weight.detach().numpy())
        left = other.load_state_dict(state)
        assert left == (["0.0.bias"], [])
        assert left.missing_keys == ["0.0.bias"]
        np.testing.assert_array_equal(
            other[0][0].weight.detach().numpy(), model[0][0].weight.detach().numpy()
        )
        np.testing.assert_array_equal(other[1].bias.detach().numpy(), model[1].bias.detach().numpy())
        assert other.load_state_dict({**state, "0.0.x": 1, "y": 2}, strict=False).unexpected_keys == [
            "y",
            "0.0.x",
        ]

    def test_pytorchs_form(self) -> None:
        model = pair(PyTorchs(2, 2))
        state = model.state_dict()
        assert list(state)[:3] == ["0.0.weight", "0.0.bias", "0.0.version"]
        assert model.load_state_dict(state) == ([], [])
        assert list(model[0][0].state_dict(prefix="p.")) == ["p.weight", "p.bias", "p.version"]

    def test_nothing_is_written_unless_all_fits(self) -> None:
        model = pair(Doubled(2, 2))
        state = {name: np.array(x) + 1 for name, x in model.state_dict().items()}
        before = {name: np.array(x) for name, x in model.state_dict().items()}
        for bad, error in (
            ({**state, "1.bias": np.zeros(3)}, ShapeError),
            ({"1.bias": state["1.bias"]}, ShapeError),
        ):
            with pytest.raises(error, match="load_state_dict of Sequential"):
                model.load_state_dict(bad)
        with pytest.raises(KeyError, match="double"):  # the module's own refusal comes before the writes
            model.load_state_dict({name: x for name, x in state.items() if "double" not in name})
        for name, x in model.state_dict().items():
            np.testing.assert_array_equal(x.numpy(), before[name])

    def test_keep_vars(self) -> None:
        model = nn.Sequential(nn.Linear(1, 1))
        assert model.state_dict(keep_vars=True)["0.weight"] is model[0].weight
        destination = {"first": 1}
        assert model.state_dict(destination, "m.") is destination
        assert list(destination) == ["first", "m.0.weight", "m.0.bias"]

    def test_to(self) -> None:
        class Single(nn.Linear):
            def to(self, *args, **kwargs):
                kwargs.pop("dtype", None)
                return super().to(**kwargs)

        model = pair(Single(2, 2))
        assert model.double() is model
        assert {name: p.dtype.name for name, p in model.named_parameters()} == {
            "0.0.weight": "float32",
            "0.0.bias": "float32",
            "1.weight": "float64",
            "1.bias": "float64",
        }
        with pytest.raises(td.DeviceError, match="to: expected device 'cpu', 'cuda'"):
            model.to(device="tpu")


class TestRefusedBatches:
    @pytest.mark.parametrize("momentum", [0.1, None])
    @pytest.mark.parametrize("shape", [(4, 3), (1, 2), (4,), (2, 2, 2, 2)])
    def test_they_do_not_count(self, shape, momentum) -> None:
        norm = nn.BatchNorm1d(2, momentum=momentum)
        norm(td.randn(4, 2))
        before = [np.array(b) for b in norm.buffers()]
        with pytest.raises((ShapeError, ValueError)):
            norm(td.ones(shape))
        for b, a in zip(norm.buffers(), before, strict=True):
            np.testing.assert_array_equal(b.numpy(), a)

    def test_the_cumulative_average_counts_first(self, backend) -> None:
        norm = nn.BatchNorm1d(1, momentum=None)
        for value in (1.0, 3.0, 8.0):
            norm(td.tensor([[value], [value]]))
        assert norm.running_mean.item() == 4.0
        assert norm.num_batches_tracked.item() == 3


class TestBuffers:
    def test_register(self) -> None:
        module = nn.Module()
        x = td.ones(2)
        module.register_buffer("kept", x)
        module.register_buffer("passing", td.zeros(1), persistent=False)
        module.register_buffer("absent", None)
        x[...] = 5.0
        assert module.kept.tolist() == [5.0, 5.0]
        assert isinstance(module.kept, nn.Buffer)
        assert list(module.state_dict()) == ["kept"]
        assert [name for name, _ in module.named_buffers()] == ["kept", "passing"]
        module.double()
        assert module.passing.dtype == "float64"
        assert module.load_state_dict({"kept": np.zeros(2)}) == ([], [])
        module.register_buffer("passing", td.zeros(1))
        assert list(module.state_dict()) == ["kept", "passing"]
        with pytest.raises(GraphError, match="Buffer: expected a tensor off the tape"):
            module.register_buffer("w", td.ones(1, requires_grad=True))

    def test_assignment(self) -> None:
        """An exponential moving average as it is written in PyTorch, eager and recorded."""

        def run(wrap) -> list:
            module = nn.Module()
            module.register_buffer("average", td.zeros(2))

            def step(x):
                module.average = 0.5 * module.average + x
                return module.average * 2.0

            step = wrap(step)
            found = [step(td.tensor([1.0, i])).tolist() for i in range(4)]
            assert isinstance(module.average, nn.Buffer)
            assert list(module.state_dict()) == ["average"]
            return [*found, module.average.tolist()]

        assert run(td.record) == run(lambda f: f)
        module = nn.Module()
        module.register_buffer("b", td.zeros(2))
        with pytest.raises(GraphError, match="Buffer: expected a tensor off the tape"):
            module.b = td.ones(2, requires_grad=True) * 2.0


class TestTree:
    def test_children_and_own_parameters(self) -> None:
        shared = nn.Linear(1, 1)
        model = nn.Sequential(shared, shared, nn.Sequential(nn.Linear(1, 1)))
        model.scale = nn.Parameter([1.0])
        assert [name for name, _ in model.named_children()] == ["0", "2"]
        assert list(model.parameters(recurse=False)) == [model.scale]
        assert len(list(model.parameters())) == 5
        assert [name for name, _ in model.named_parameters("m", recurse=False)] == ["m.scale"]
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        assert names == ["scale", "0.weight", "0.bias", "1.weight", "1.bias", "2.0.weight", "2.0.bias"]
        assert list(model.buffers(recurse=False)) == []
        assert [name for name, _ in model[2].named_modules(prefix="x")] == ["x", "x.0"]

    def test_settings_before_the_constructor(self) -> None:
        class Net(nn.Module):
            def __init__(self) -> None:
                self.width = 3
                super().__init__()
                self.layer = nn.Linear(self.width, 1)

        assert Net().layer(td.ones(1, 3)).shape == (1, 1)

        class Wrong(nn.Module):
            def __init__(self) -> None:
                self.layer = nn.Linear(1, 1)

        with pytest.raises(
            AttributeError, match=r"Wrong: expected super\(\).__init__\(\) before assigning 'layer'"
        ):
            Wrong()

    def test_zero_grad(self) -> None:
        layer = nn.Linear(2, 1)
        optimizer = td.optim.SGD(layer.parameters(), lr=1.0)
        layer.bias.requires_grad_(False)
        for clear in (layer.zero_grad, optimizer.zero_grad):
            layer(td.ones(1, 2)).sum().backward()
            layer.weight.grad[...] = np.nan
            clear(set_to_none=False)
            assert layer.weight.grad.tolist() == [[0.0, 0.0]]
            assert layer.bias.grad is None
            clear(set_to_none=True)
            assert layer.weight.grad is None

    def test_zero_grad_recorded(self) -> None:
        def run(wrap) -> list:
            w = nn.Parameter(np.ones(2))
            optimizer = td.optim.SGD([w], lr=0.1)
            w.grad = td.full((2,), 7.0, dtype=td.float64)

            @wrap
            def step(x):
                optimizer.zero_grad(set_to_none=False)
                (w * w * x).sum().backward()
                optimizer.step()

            return [
                (step(td.tensor([1.0, i], dtype=td.float64)), w.tolist(), w.grad.tolist()) for i in range(3)
            ]

        assert run(td.record) == run(lambda f: f)


def test_handles_remove_hooks() -> None:
    layer, seen = nn.Linear(1, 1), []
    x = td.ones(1, 1, requires_grad=True)
    handles = [
        layer.register_forward_hook(lambda *_: seen.append("after")),
        layer.register_forward_pre_hook(lambda *_: seen.append("before")),
        x.register_hook(lambda g: seen.append("gradient")),
    ]
    layer(x).sum().backward()
    assert seen == ["before", "after", "gradient"]
    for handle in handles:
        handle.remove()
        handle.remove()
    with layer.register_forward_hook(lambda *_: seen.append("scope")):
        layer(x)
    layer(x).sum().backward()
    assert seen == ["before", "after", "gradient", "scope"]
