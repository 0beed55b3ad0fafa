"""Initialization: fans, variances, gains, streams, and the signal that He's variance keeps alive through a deep net."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.errors import ShapeError

import tinydl as td
from tinydl import nn
from tinydl.nn import init

SHAPES = [(300, 200), (60, 40, 5, 5)]


def variance(scheme: str, shape: tuple[int, ...]) -> float:
    """What the papers ask for; n_in = k² c."""
    field = math.prod(shape[2:])
    n_in, n_out = shape[1] * field, shape[0] * field
    return {"xavier": 2 / (n_in + n_out), "he": 2 / n_in, "he out": 2 / n_out, "leaky": 1 / n_in, "lecun": 1 / n_in}[scheme]


DRAWS: list[tuple[str, str, Callable[..., Any]]] = [
    ("xavier", "uniform", init.xavier_uniform_),
    ("xavier", "normal", init.xavier_normal_),
    ("he", "uniform", init.kaiming_uniform_),
    ("he", "normal", init.kaiming_normal_),
    ("he out", "normal", lambda w, **o: init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu", **o)),
    ("leaky", "uniform", lambda w, **o: init.kaiming_uniform_(w, a=1.0, **o)),
    ("lecun", "normal", init.lecun_normal_),
    ("lecun", "uniform", init.lecun_uniform_),
]


def test_fans() -> None:
    assert init.fans(td.zeros(7, 5)) == (5, 7)
    assert init.fans(td.zeros(8, 3, 5, 5)) == (75, 200)
    assert init.fans(td.zeros(8, 3, 2, 4, 3)) == (72, 192)
    with pytest.raises(ShapeError, match=r"fans: expected a weight \(out, in, \*kernel\), got \(3,\)"):
        init.xavier_normal_(td.zeros(3))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("scheme", "kind", "draw"), DRAWS)
def test_variances(scheme: str, kind: str, draw: Callable[..., Any], shape: tuple[int, ...]) -> None:
    weight = nn.Parameter(np.zeros(shape))
    assert draw(weight, generator=td.Generator(1)) is weight
    values, wanted = weight.detach().numpy(), variance(scheme, shape)
    assert abs(values.mean()) < 5 * math.sqrt(wanted / values.size)
    excess = {"uniform": 0.8, "normal": 2.0}[kind]  # the variance of x² over that of x squared
    assert abs(values.var() / wanted - 1) < 5 * math.sqrt(excess / values.size)
    if kind == "uniform":
        assert np.abs(values).max() <= math.sqrt(3 * wanted)
        assert np.abs(values).max() > 0.999 * math.sqrt(3 * wanted)
    else:
        assert np.abs(values).max() > 3.5 * math.sqrt(wanted)


@pytest.mark.parametrize("slope", [None, 0.0, 0.2, math.sqrt(5)])
def test_gains_are_those_of_torch(slope: float | None) -> None:
    torch = pytest.importorskip("torch")
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert init.calculate_gain(name, slope) == pytest.approx(torch.nn.init.calculate_gain(name, slope), rel=1e-15)
    with pytest.raises(ValueError, match=r"calculate_gain: expected one of \[.*\], got 'swish'"):
        init.calculate_gain("swish")


def test_gain_scales_the_deviation() -> None:
    plain, scaled = (init.xavier_normal_(td.zeros(9, 9), gain=gain, generator=td.Generator(1)).numpy() for gain in (1.0, 3.0))
    np.testing.assert_allclose(scaled, 3 * plain, rtol=1e-6)
    leaky = init.kaiming_uniform_(td.zeros(500, 100), a=math.sqrt(5), generator=td.Generator(1)).numpy()
    assert 0.999 < np.abs(leaky).max() * math.sqrt(100) <= 1  # a = √5 is PyTorch's default of U(±1/√n_in)
    with pytest.raises(ValueError, match=r"kaiming: expected mode 'fan_in' or 'fan_out', got 'fan'"):
        init.kaiming_normal_(td.zeros(2, 2), mode="fan")


def test_constants_and_ranges() -> None:
    x = nn.Parameter(np.full((3, 4), 7, np.float32))
    assert (init.zeros_(x).numpy() == 0).all()
    assert (init.ones_(x).numpy() == 1).all()
    assert (init.constant_(x, 2.5).numpy() == 2.5).all()
    values = init.uniform_(td.zeros(1000), -3, 5, td.Generator(1)).numpy()
    assert (values >= -3).all()
    assert (values < 5).all()
    assert values.max() - values.min() > 7.8
    values = init.normal_(td.zeros(10_000), 4, 0.5, td.Generator(1)).numpy()
    assert abs(values.mean() - 4) < 0.025
    assert abs(values.std() / 0.5 - 1) < 0.04
    assert x.requires_grad
    assert x.is_leaf


def test_defaults_of_layers() -> None:
    for layer, n_in in ((nn.Linear(50, 400), 50), (nn.Conv2d(8, 100, 5, groups=4), 50)):
        for p in layer.parameters():
            assert 0.98 < np.abs(p.numpy()).max() * math.sqrt(n_in) <= 1
        before = np.array(layer.weight)
        layer.reset_parameters()
        assert (layer.weight.numpy() != before).any()


def test_lenet_starts_as_its_authors_had_it() -> None:
    model = nn.models.LeNet("none")
    assert sum(p.numel() for p in model.parameters()) == 61_706
    for name, channels in (("conv1", (1, 6)), ("conv2", (6, 16)), ("conv3", (16, 120))):
        layer, bound = model.get_submodule(name), math.sqrt(3 * 4 / (25 * sum(channels)))
        assert 0.95 * bound < np.abs(layer.weight.numpy()).max() <= bound
    for layer in (model.fc1, model.fc2):
        bound = math.sqrt(6 / sum(layer.weight.shape))
        assert 0.98 * bound < np.abs(layer.weight.numpy()).max() <= bound
    assert not any(p.numpy().any() for name, p in model.named_parameters() if name.endswith("bias"))


def test_he_keeps_the_signal_through_twenty_layers_of_relu() -> None:
    width, generator = 800, td.Generator(2)
    start = td.randn(100, width, generator=generator)
    sizes = {}
    for name, draw in (("he", init.kaiming_normal_), ("lecun", init.lecun_normal_)):
        x = start
        for _ in range(20):
            x = td.relu(x @ draw(td.zeros(width, width), generator=generator).T)
        sizes[name] = float(x.square().mean())
    assert 0.5 < sizes["he"] < 2
    assert 0.5 < sizes["lecun"] * 2**20 < 2  # each layer halves it


@pytest.mark.parametrize(("scheme", "kind", "draw"), DRAWS)
def test_draws_are_reproducible_and_of_their_own_stream(scheme: str, kind: str, draw: Callable[..., Any]) -> None:
    default, other = td.default_generator.state_dict(), td.Generator(1, stream=7)
    first = draw(td.zeros(40, 50), generator=td.Generator(1)).numpy()
    td.randn(13, generator=other)
    generator = td.Generator(1)
    np.testing.assert_array_equal(draw(td.zeros(40, 50), generator=generator).numpy(), first)
    assert td.default_generator.state_dict() == default
    second = draw(td.zeros(40, 50), generator=generator).numpy()  # the stream goes on
    of_other_stream = draw(td.zeros(40, 50), generator=td.Generator(1, stream=7)).numpy()
    of_other_seed = draw(td.zeros(40, 50), generator=td.Generator(2)).numpy()
    for values in (second, of_other_stream, of_other_seed):
        assert abs(np.corrcoef(first.ravel(), values.ravel())[0, 1]) < 5 / math.sqrt(first.size)


def test_a_seed_makes_a_network() -> None:
    def weights(seed: int) -> list[np.ndarray]:
        td.manual_seed(seed)
        return [p.numpy() for p in nn.models.LeNet("batchnorm").parameters()]

    first, again, other = weights(3), weights(3), weights(4)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()


def test_dtype_is_that_of_the_parameter() -> None:
    for dtype in (np.float32, np.float64):
        assert init.kaiming_normal_(td.zeros(3, 3, dtype=dtype)).dtype == dtype
