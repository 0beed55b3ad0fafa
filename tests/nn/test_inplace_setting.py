"""`inplace=` is taken where PyTorch has it, by name and by place, and changes nothing."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import tinydl as td
import tinydl.nn.functional as F
from tinydl import nn

FUNCTIONS = [
    *("relu", "leaky_relu", "elu", "selu", "celu", "silu", "mish", "hardtanh", "relu6", "hardsigmoid"),
    *("hardswish", "threshold", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"),
]
MORE = {"threshold": (0.1, 0.5), "hardtanh": (-0.5, 0.5)}
LAYERS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardtanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "threshold": nn.Threshold,
    "dropout": nn.Dropout,
    "dropout1d": nn.Dropout1d,
    "dropout2d": nn.Dropout2d,
    "dropout3d": nn.Dropout3d,
    "alpha_dropout": nn.AlphaDropout,
}


def inputs(name: str):
    dims = {"dropout1d": 3, "dropout2d": 4, "dropout3d": 5}.get(name, 2)
    return td.randn(*(2, 3, 4, 4, 2)[:dims], generator=td.Generator(1))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name) -> None:
    for wrap in (lambda f: f, td.record):
        results = []
        for inplace in (False, True):
            x, before = inputs(name), inputs(name)
            run = wrap(lambda x, inplace: getattr(F, name)(x, *MORE.get(name, ()), inplace=inplace))
            td.manual_seed(0)
            results.append(run(x, inplace).numpy())
            np.testing.assert_array_equal(x.numpy(), before.numpy())
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layers(name) -> None:
    for mode in (True, False):
        plain, layer = (LAYERS[name](*MORE.get(name, ()), **k).train(mode) for k in ({}, {"inplace": True}))
        assert (plain.inplace, layer.inplace) == (False, True)
        assert ("inplace=True" in repr(layer)) == ("dropout" not in name)
        assert "inplace" not in repr(plain)
        results = []
        for each in (plain, layer):
            td.manual_seed(0)
            results.append(each(inputs(name)).numpy())
        np.testing.assert_array_equal(*results)


def test_by_place() -> None:
    x = td.randn(3, 4)
    assert nn.ReLU(True)(x).tolist() == F.relu(x, True).tolist() == td.relu(x).tolist()
    assert nn.LeakyReLU(0.2, True)(x).tolist() == td.leaky_relu(x, 0.2).tolist()
    assert nn.Dropout(0.5, False).generator is None
    assert nn.Dropout(0.5, True).eval()(x) is x
    assert F.dropout(x, 0.5, False, True) is x


@pytest.mark.parametrize("name", FUNCTIONS)
def test_places_are_pytorchs(name) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = LAYERS[name], getattr(torch.nn, LAYERS[name].__name__)
    places = [list(inspect.signature(layer).parameters).index("inplace") for layer in (ours, theirs)]
    assert places[0] == places[1]
    place = list(inspect.signature(getattr(F, name)).parameters).index("inplace")
    assert place == list(inspect.signature(getattr(torch.nn.functional, name)).parameters).index("inplace")


def test_a_generator_is_no_flag() -> None:
    for call in (
        lambda g: nn.Dropout(0.5, g),
        lambda g: td.dropout(td.ones(2), 0.5, True, g),
        lambda g: td.alpha_dropout(td.ones(2), 0.5, True, g),
        lambda g: td.dropout2d(td.ones(1, 1, 1, 1), 0.5, True, g),
    ):
        with pytest.raises(TypeError, match=r"ropout.*: expected inplace True or False, got Generator"):
            call(td.Generator(1))
