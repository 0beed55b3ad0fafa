"""Module: the tree and its names, state_dicts and their exchange with PyTorch, hooks,
interception, functional calls.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import nn


class Block(nn.Module):
    """A parameter of its own before and a child after another, a buffer, an absent
    parameter: every case of the order.
    """

    def __init__(self, nn: Any, parameter: Any, buffer: Any) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.scale = parameter(np.ones(4, np.float32))
        self.register_buffer("offset", buffer(np.zeros(4, np.float32)))
        self.body = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU())
        self.register_parameter("absent", None)
        self.last = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.last(self.body(self.first(x) * self.scale + self.offset))


def block() -> Block:
    return Block(nn, nn.Parameter, nn.Buffer)


def torch_twin() -> Any:
    torch = pytest.importorskip("torch")
    body = {name: Block.__dict__[name] for name in ("forward",)}

    def __init__(self: Any) -> None:  # noqa: N807
        torch.nn.Module.__init__(self)
        self.first = torch.nn.Linear(3, 4)
        self.scale = torch.nn.Parameter(torch.ones(4))
        self.register_buffer("offset", torch.zeros(4))
        self.body = torch.nn.Sequential(
            torch.nn.Linear(4, 4, bias=False), torch.nn.BatchNorm1d(4), torch.nn.ReLU()
        )
        self.register_parameter("absent", None)
        self.last = torch.nn.Linear(4, 2)

    return type("Block", (torch.nn.Module,), {**body, "__init__": __init__})()


def some(*shape: int) -> td.Tensor:
    return td.randn(*shape, generator=td.Generator(1))


# The tree
# ------------------------------------------------------------------------------------------------------------


def test_names_and_their_order_are_those_of_torch() -> None:
    ours, theirs = block(), torch_twin()
    for each in ("named_modules", "named_parameters", "named_buffers"):
        assert [name for name, _ in getattr(ours, each)()] == [name for name, _ in getattr(theirs, each)()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in ours.named_modules()] == [
        "",
        "first",
        "body",
        "body.0",
        "body.1",
        "body.2",
        "last",
    ]


def test_names_of_the_published_networks() -> None:
    assert [name for name, _ in nn.models.LeNet("batchnorm").named_parameters()] == [
        f"{layer}.{kind}"
        for layer in ("conv1", "conv2", "conv3", "fc1", "between", "fc2")
        for kind in ("weight", "bias")
    ]
    names = list(nn.models.resnet20().state_dict())
    assert names[1:6] == [
        f"bn1.{s}" for s in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    ]
    assert [names[0], *names[6:8]] == ["conv1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.weight"]
    assert names[-2:] == ["linear.weight", "linear.bias"]
    assert len(names) == 97 + 19


def test_assignment_registers_and_moves_between_the_homes() -> None:
    model = nn.Module()
    model.x = nn.Parameter(np.ones(2, np.float32))
    assert list(model.state_dict()) == ["x"]
    model.x = nn.Buffer(np.ones(2, np.float32))
    assert (list(model.parameters()), [name for name, _ in model.named_buffers()]) == ([], ["x"])
    model.x = None  # the name stays registered
    assert model.x is None
    assert list(model.state_dict()) == []
    model.x = nn.Buffer(np.zeros(3, np.float32))
    del model.x
    assert not hasattr(model, "x")
    model.plain = 3
    model.plain = nn.ReLU()
    assert [name for name, _ in model.named_modules()] == ["", "plain"]
    model.plain = None
    assert list(model.modules()) == [model]
    assert list(model.children()) == []


@pytest.mark.parametrize("value", [np.ones((2, 3)), td.ones(2, 3), 1.0])
def test_a_registered_name_refuses_other_types(value: Any) -> None:
    layer = nn.Linear(3, 2)
    with pytest.raises(TypeError, match=r"Linear: expected a Parameter or None for 'weight', got"):
        layer.weight = value
    with pytest.raises(TypeError, match=r"Sequential: expected a Module or None for '0', got"):
        setattr(nn.Sequential(layer), "0", value)
    assert len(list(layer.parameters())) == 2


def test_messages_of_the_tree() -> None:
    class Early(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.ReLU()

    with pytest.raises(
        AttributeError, match=r"Early: expected super\(\).__init__\(\) before assigning 'layer'"
    ):
        Early()
    with pytest.raises(AttributeError, match="Linear has no attribute 'wieght'"):
        nn.Linear(1, 1).wieght  # noqa: B018
    with pytest.raises(ValueError, match=r"\w+: expected a name without dots, got 'a.b'"):
        nn.Module().add_module("a.b", nn.ReLU())
    with pytest.raises(AttributeError, match=r"expected one of 0, 1, 2 in Sequential, got '3' of 'body.3'"):
        block().get_submodule("body.3")
    with pytest.raises(NotImplementedError, match=r"Module.forward"):
        nn.Module()(some(1))


def test_train_eval_freeze_apply_and_zero_grad() -> None:
    model = block()
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    model.body.train()
    assert [name for name, m in model.named_modules() if m.training] == ["body", "body.0", "body.1", "body.2"]
    assert model.train().requires_grad_(False) is model
    assert not any(p.requires_grad for p in model.parameters())
    assert not model(some(5, 3)).requires_grad
    model.last.requires_grad_()
    model(some(5, 3)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == [
        "last.weight",
        "last.bias",
    ]
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    seen: list[nn.Module] = []
    model.apply(seen.append)
    assert set(seen) == set(model.modules())
    assert all(
        seen.index(child) < seen.index(parent) for parent in model.modules() for child in parent.children()
    )


def test_repr_shows_the_tree() -> None:
    assert repr(
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()))
    ) == (
        "Sequential(\n"
        "  (0): Conv2d(1, 2, kernel_size=(3, 3), padding=1, bias=False)\n"
        "  (1): Sequential(\n"
        "    (0): BatchNorm2d(2, eps=1e-05, momentum=0.1)\n"
        "    (1): ReLU()\n"
        "  )\n"
        ")"
    )


def test_dtypes() -> None:
    model = block()
    model(some(5, 3)).sum().backward()
    assert model.double() is model
    assert {p.dtype.name for p in model.parameters()} == {"float64"}
    assert {name: b.dtype.name for name, b in model.named_buffers()} == {
        "offset": "float64",
        "body.1.running_mean": "float64",
        "body.1.running_var": "float64",
        "body.1.num_batches_tracked": "int64",
    }
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert model(some(5, 3).double()).dtype == np.float64
    assert model.float()(some(5, 3)).dtype == np.float32
    assert model.to("float64").to(np.float32).scale.dtype == np.float32
    with pytest.raises(td.DtypeError, match="float16"):
        model.to("float16")


def test_deepcopy_is_independent_down_to_the_random_streams() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5, generator=td.Generator(3)))
    model[0].weight.requires_grad_(False)
    twin = copy.deepcopy(model)
    x = some(8, 3)
    np.testing.assert_array_equal(model(x).detach().numpy(), twin(x).detach().numpy())
    assert not twin[0].weight.requires_grad
    model(x).sum().backward()
    assert all(p.grad is None for p in twin.parameters())
    with td.no_grad():
        nn.init.zeros_(model[0].bias)
    assert twin[0].bias.numpy().any()
    assert twin[1].num_batches_tracked.item() == 1
    assert model[1].num_batches_tracked.item() == 2
    assert twin[2].generator.state_dict() != model[2].generator.state_dict()
    assert isinstance(twin[1].running_mean, nn.Buffer)


# State
# ------------------------------------------------------------------------------------------------------------


def test_state_dicts_go_to_torch_and_back() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = block(), torch_twin()
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    theirs(torch.from_numpy(x))  # moves the running statistics
    theirs.scale.data.mul_(3)
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    np.testing.assert_allclose(
        ours(td.tensor(x)).detach().numpy(), theirs(torch.from_numpy(x)).detach().numpy(), atol=1e-6
    )
    ours(td.tensor(x))
    back = {name: torch.from_numpy(np.array(value)) for name, value in ours.state_dict().items()}
    assert back["body.1.num_batches_tracked"].shape == ()
    assert not theirs.load_state_dict(back).missing_keys
    assert theirs.body[1].num_batches_tracked.item() == 3
    ours.eval(), theirs.eval()
    np.testing.assert_allclose(
        ours(td.tensor(x)).detach().numpy(), theirs(torch.from_numpy(x)).detach().numpy(), atol=1e-6
    )


def test_every_problem_of_a_state_dict_in_one_message_and_nothing_written() -> None:
    model = block()
    before = {name: np.array(value) for name, value in model.state_dict().items()}
    bad = {name: np.array(value) + 1 for name, value in model.state_dict().items()}
    del bad["scale"], bad["body.1.running_var"]
    bad |= {"first.weight": np.zeros((4, 5)), "last.bias": np.zeros(3), "other": np.zeros(1)}
    with pytest.raises(ShapeError) as raised:
        model.load_state_dict(bad)
    for part in (
        "load_state_dict of Block",
        "first.weight: expected (4, 3), got (4, 5)",
        "last.bias: expected (2,), got (3,)",
        "missing scale",
        "missing body.1.running_var",
        "unexpected other",
    ):
        assert part in str(raised.value)
    with pytest.raises(ShapeError):
        model.load_state_dict(bad, strict=False)  # shapes stay an error
    with pytest.raises((ValueError, TypeError)):
        model.load_state_dict({**before, "last.bias": np.array(["not", "numbers"])})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(np.array(value), before[name])


def test_what_is_not_strict_names_the_rest() -> None:
    model = block()
    assert model.load_state_dict({"scale": np.full(4, 5.0), "more": 1}, strict=False) == (
        [name for name in model.state_dict() if name != "scale"],
        ["more"],
    )
    np.testing.assert_array_equal(model.scale.detach().numpy(), np.full(4, 5, np.float32))


def test_an_absent_counter_counts_as_zero_where_its_statistics_are_present() -> None:
    model = block()
    model(some(5, 3))
    state = {name: np.array(value) for name, value in model.state_dict().items()}
    del state["body.1.num_batches_tracked"]
    model.load_state_dict({"scale": state["scale"]}, strict=False)
    assert model.body[1].num_batches_tracked.item() == 1
    assert model.load_state_dict(state) == ([], [])
    assert model.body[1].num_batches_tracked.item() == 0


def test_loading_casts_copies_and_keeps_identity() -> None:
    layer = nn.Linear(2, 2)
    weight, source = layer.weight, np.arange(4.0).reshape(2, 2)
    layer.load_state_dict({"weight": source, "bias": td.zeros(2)})
    source[:] = 9
    assert layer.weight is weight
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight.detach().numpy(), [[0, 1], [2, 3]])
    assert np.shares_memory(layer.state_dict()["weight"].numpy(), weight.numpy())
    x = td.ones(1, 2, requires_grad=True)
    y = layer(x).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(td.GraphError, match="written before the backward pass"):
        y.backward()


class Tied(nn.Module):
    """One layer under two names, and one parameter in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = self.a
        self.c = nn.Linear(3, 3, bias=False)
        self.c.weight = self.a.weight

    def forward(self, x: td.Tensor) -> td.Tensor:
        return self.c(self.b(self.a(x)))


def test_shared_layers_and_parameters() -> None:
    model = Tied()
    assert [name for name, _ in model.named_parameters()] == ["a.weight", "a.bias"]
    assert [name for name, _ in model.named_modules()] == ["", "a", "c"]
    assert list(model.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias", "c.weight"]  # as torch
    other = Tied()
    other.load_state_dict(model.state_dict())
    x = some(2, 3)
    np.testing.assert_array_equal(other(x).detach().numpy(), model(x).detach().numpy())
    assert other.c.weight is other.a.weight
    twin = copy.deepcopy(model)
    assert twin.c.weight is twin.a.weight
    assert twin.b is twin.a
    assert nn.summary(model, (1, 3)).parameters == 12


# Calls
# ------------------------------------------------------------------------------------------------------------


def test_hooks_see_replace_and_go() -> None:
    layer, seen = nn.Linear(2, 2), []
    x = some(3, 2)
    plain = layer(x).detach().numpy()
    removers = [
        layer.register_forward_pre_hook(lambda module, inputs: seen.append(("before", module, inputs))),
        layer.register_forward_pre_hook(lambda module, inputs: inputs[0] * 0),
        layer.register_forward_hook(lambda module, inputs, output: seen.append(("after", module, inputs))),
        layer.register_forward_hook(lambda module, inputs, output: output + 1),
    ]
    y = layer(x)
    assert [(when, module is layer) for when, module, _ in seen] == [("before", True), ("after", True)]
    assert seen[0][2][0] is x
    assert not seen[1][2][0].numpy().any()
    np.testing.assert_allclose(y.detach().numpy(), np.broadcast_to(layer.bias.numpy() + 1, (3, 2)))
    for remove in removers:
        remove()
    np.testing.assert_array_equal(layer(x).detach().numpy(), plain)


def test_intercept_reads_and_replaces_in_a_second_pass_of_the_same_draws() -> None:
    model = nn.Sequential(
        nn.Linear(4, 6), nn.Sequential(nn.Dropout(0.5), nn.ReLU()), nn.Linear(6, 3), nn.Dropout(0.2)
    )
    x, seen = some(5, 4), []
    with td.remember() as draws, nn.intercept(model, "1.1", lambda h: seen.append(h)):
        first = model(x)
    state = td.default_generator.state_dict()
    with td.repeat(draws), nn.intercept(model, "1.1", lambda h: h + 0.0 * h):
        second = model(x)
    assert len(draws) == 2
    assert td.default_generator.state_dict() == state
    np.testing.assert_array_equal(first.detach().numpy(), second.detach().numpy())
    (h,) = seen
    assert h.shape == (5, 6)
    assert td.grad(first.sum(), h)[0].numpy().any()  # what is read is on the tape
    with td.repeat(draws), nn.intercept(model, "1.1", lambda h: h * 0):
        third = model(x)
    assert (third.detach().numpy() != second.detach().numpy()).any()
    assert (model(x).detach().numpy() != second.detach().numpy()).any()  # new draws, no interception
    with pytest.raises(td.GraphError, match="repeat: expected at most the 1 draws"), td.repeat(draws[:1]):
        model(x)
    with pytest.raises(ZeroDivisionError), nn.intercept(model, "0", lambda h: 1 / 0):
        model(x)
    assert not model[0]._forward_hooks


def test_functional_call_differentiates_and_restores() -> None:
    model, x = block(), some(5, 3)
    before = list(model.parameters())
    other = {name: td.tensor(np.array(p) + 1).requires_grad_() for name, p in model.named_parameters()}
    y = td.functional_call(model, other, (x,))
    twin = copy.deepcopy(model)
    twin.load_state_dict(other, strict=False)
    np.testing.assert_array_equal(y.detach().numpy(), twin(x).detach().numpy())
    gradients = td.grad(y.square().sum(), list(other.values()))
    expected = td.grad(twin(x).square().sum(), list(twin.parameters()))
    for g, e in zip(gradients, expected, strict=True):
        np.testing.assert_array_equal(g.numpy(), e.numpy())
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(
        KeyError, match=r"functional_call: expected a parameter or buffer of Block, got 'first.wieght'"
    ):
        td.functional_call(model, {"first.wieght": x}, x)
    with pytest.raises(ShapeError):
        td.functional_call(model, {"scale": td.ones(7)}, x)
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))


def test_functional_call_replaces_a_shared_parameter_wherever_it_stands() -> None:
    model, x = Tied(), some(2, 3)
    for name in ("a.weight", "b.weight", "c.weight"):
        y = td.functional_call(
            model, {name: td.tensor(2 * np.eye(3, dtype=np.float32)), "b.bias": td.zeros(3)}, x
        )
        np.testing.assert_array_equal(y.numpy(), 8 * x.numpy())
    with pytest.raises(
        ValueError, match=r"expected one tensor for what 'c.weight' shares with another name, got two"
    ):
        td.functional_call(model, {"a.weight": td.zeros(3, 3), "c.weight": td.ones(3, 3)}, x)
    assert model.c.weight is model.a.weight


def test_gradients_through_the_parameters_of_parameters() -> None:
    """One unrolled step of gradient descent: d loss(w - lr dloss/dw) / d lr."""
    model, x = nn.Linear(3, 1).double(), some(4, 3).double()
    lr = td.tensor(np.array(0.1), requires_grad=True)

    def after(lr: td.Tensor) -> td.Tensor:
        named = dict(model.named_parameters())
        gradients = td.grad(model(x).square().mean(), list(named.values()), create_graph=True)
        moved = {name: p - lr * g for (name, p), g in zip(named.items(), gradients, strict=True)}
        return td.functional_call(model, moved, x).square().mean()

    (slope,) = td.grad(after(lr), lr)
    ahead, behind = (after(td.tensor(np.array(0.1 + h))).item() for h in (1e-5, -1e-5))
    np.testing.assert_allclose(slope.item(), (ahead - behind) / 2e-5, rtol=1e-8)


def test_errors_carry_the_path_of_the_layer() -> None:
    model = nn.models.resnet20()
    model.layer1[0].conv1 = nn.Conv2d(3, 16, 3)
    with pytest.raises(ShapeError, match=r"^layer1\.0\.conv1: conv2d: x has C=16, weight expects C=3"):
        model(td.zeros(1, 3, 8, 8))
    # no layer's name before the layer's own call
    with pytest.raises(ShapeError, match=r"^linear: expected input"):
        nn.Linear(2, 2)(td.zeros(1, 3))

    class Deep(nn.Module):
        """Calls a grandchild past its child, and holds one layer under two names."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
            self.again = self.inner

        def forward(self, x: td.Tensor) -> td.Tensor:
            return self.inner[1](x)

    with pytest.raises(ShapeError, match=r"^0\.inner\.1: linear: expected input"):
        nn.Sequential(Deep())(td.zeros(1, 3))


def test_any_error_tells_the_path_of_its_layer() -> None:
    def fails(x: td.Tensor) -> td.Tensor:
        raise IndexError("out of here")

    model = nn.Sequential(nn.Identity(), nn.Sequential(nn.Lambda(fails), nn.Softplus(0)))
    with pytest.raises(IndexError, match="out of here") as caught:
        model(td.ones(2))
    assert caught.value.__notes__ == ["in layer 1.0"]
    model[1].add_module("0", nn.Identity())
    with pytest.raises(ValueError, match="softplus: expected beta other than 0") as told:
        model(td.ones(2))
    assert told.value.__notes__ == ["in layer 1.1"]
