"""Lists of modules are edited as lists are, and as PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

import tinydl as td
from tinydl import nn

EDITS = {
    "append": lambda c, new: c.append(new(5)),
    "extend": lambda c, new: c.extend([new(5), new(6)]),
    "insert at 0": lambda c, new: c.insert(0, new(5)),
    "insert at 1": lambda c, new: c.insert(1, new(5)),
    "insert at the end": lambda c, new: c.insert(3, new(5)),
    "set": lambda c, new: c.__setitem__(1, new(5)),
    "set from behind": lambda c, new: c.__setitem__(-1, new(5)),
    "delete": lambda c, new: c.__delitem__(0),
    "delete a slice": lambda c, new: c.__delitem__(slice(0, 2)),
    "pop": lambda c, new: c.pop(1),
    "+=": lambda c, new: c.__iadd__([new(5)] if type(c).__name__ == "ModuleList" else type(c)(new(5))),
}


def sizes(container) -> list:
    return [(name, module.normalized_shape[0]) for name, module in container.named_children()]


@pytest.mark.parametrize("kind", ["ModuleList", "Sequential"])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_edits_are_pytorchs(kind, edit) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for library in (nn, torch.nn):
        members = [library.LayerNorm(n) for n in (1, 2, 3)]
        container = getattr(library, kind)(*([members] if kind == "ModuleList" else members))
        edit(container, library.LayerNorm)
        found.append(sizes(container))
    assert found[0] == found[1]


def test_values() -> None:
    layers = nn.ModuleList([nn.LayerNorm(n) for n in (1, 2, 3)])
    assert layers.append(nn.LayerNorm(4)) is layers.insert(0, nn.LayerNorm(9)) is layers
    assert sizes(layers) == [("0", 9), ("1", 1), ("2", 2), ("3", 3), ("4", 4)]
    last = layers[-1]
    assert layers.pop() is last
    assert list(layers.state_dict())[:2] == ["0.weight", "0.bias"]
    both = layers[:1] + nn.ModuleList([nn.LayerNorm(7)])
    assert (type(both), sizes(both), len(layers)) == (nn.ModuleList, [("0", 9), ("1", 7)], 4)
    layers += layers
    assert len(layers) == 8
    before = list(layers)
    for wrong in (
        lambda: layers.append(3),
        lambda: layers.insert(0, "x"),
        lambda: layers.__setitem__(0, td.relu),
        lambda: layers.extend(5),
    ):
        with pytest.raises(TypeError, match="ModuleList: expected"):
            wrong()
        assert list(layers) == before
    with pytest.raises(IndexError):
        layers[9] = nn.LayerNorm(1)


def test_a_net_that_grows() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    x = td.randn(3, 2)
    net.append(nn.ReLU()).extend([nn.Linear(2, 1)])
    assert net(x).shape == (3, 1)
    twice = nn.Sequential(nn.Flatten()) + net
    assert (type(twice), len(twice), len(net)) == (nn.Sequential, 4, 3)
    np.testing.assert_array_equal(twice(x).detach().numpy(), net(x).detach().numpy())
    net[0] = nn.Identity()
    assert isinstance(net[0], nn.Identity)
    assert [name for name, _ in net.named_parameters()] == ["2.weight", "2.bias"]


def test_module_dict() -> None:
    layers = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.ReLU()})
    layers.update({"b": nn.Tanh(), "c": nn.Identity()})
    first = layers["a"]
    assert layers.pop("a") is first
    del layers["b"]
    assert list(layers) == ["c"]
    layers.clear()
    assert not len(layers)
