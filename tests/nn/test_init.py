"""Initialization: what each distribution promises, and that signals keep their size through many layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from comparisons import comparison
from scipy import stats
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import nn
from tinydl.nn import init

pytestmark = pytest.mark.usefixtures("reference")


def drawn(fill: Callable[..., Any], *shape: int, **settings: Any) -> np.ndarray:
    tensor = td.zeros(*shape, dtype="float64")
    assert fill(tensor, generator=td.Generator(3), **settings) is tensor
    return tensor.numpy()


def test_fans_count_the_kernel() -> None:
    assert init.fans(td.zeros(8, 3, 5, 4)) == (60, 160)  # n_in = k² c
    assert init.fans(td.zeros(8, 3)) == (3, 8)


VARIANCES = {
    "xavier": (lambda fan_in, fan_out: 2 / (fan_in + fan_out), {}),
    "kaiming": (lambda fan_in, fan_out: 2 / fan_in, {}),
    "kaiming out": (lambda fan_in, fan_out: 2 / fan_out, {"mode": "fan_out"}),
    "kaiming tanh": (lambda fan_in, fan_out: (5 / 3) ** 2 / fan_in, {"nonlinearity": "tanh"}),
    "lecun": (lambda fan_in, fan_out: 1 / fan_in, {}),
}


@pytest.mark.parametrize("name", VARIANCES)
def test_variances(name: str) -> None:
    variance, settings = VARIANCES[name]
    expected = variance(40 * 9, 60 * 9)
    flat = drawn(getattr(init, f"{name.split()[0]}_uniform_"), 60, 40, 3, 3, **settings).ravel()
    bell = drawn(getattr(init, f"{name.split()[0]}_normal_"), 60, 40, 3, 3, **settings).ravel()
    bound = math.sqrt(3 * expected)
    assert stats.kstest(flat, stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.01
    assert stats.kstest(bell, stats.norm(0, math.sqrt(expected)).cdf).pvalue > 0.01


def test_gains_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    for name, param in (
        ("linear", None),
        ("conv2d", None),
        ("sigmoid", None),
        ("tanh", None),
        ("relu", None),
        ("selu", None),
    ):
        with comparison():
            assert init.calculate_gain(name, param) == torch.nn.init.calculate_gain(name, param)
    for param in (None, 0.2):
        assert init.calculate_gain("leaky_relu", param) == torch.nn.init.calculate_gain("leaky_relu", param)


@pytest.mark.parametrize(("activation", "nonlinearity"), [(td.relu, "relu"), (td.leaky_relu, "leaky_relu")])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_signals_keep_their_size_through_20_layers(activation: Any, nonlinearity: str, kind: str) -> None:
    """Forward by fan_in and backward by fan_out."""
    generator = td.Generator(11)
    slope = 0.01 if nonlinearity == "leaky_relu" else 0.0
    for mode in ("fan_in", "fan_out"):
        x = td.randn(256, 256, generator=generator, dtype="float64").requires_grad_()
        h, weights = x, []
        for _ in range(20):
            w = td.zeros(256, 256, dtype="float64")
            weights.append(getattr(init, f"kaiming_{kind}_")(w, slope, mode, nonlinearity, generator))
            h = activation(td.linear(h, weights[-1]))
        (g,) = td.grad(h, x, td.randn(256, 256, generator=generator, dtype="float64"))
        power = (h * h).mean().item() if mode == "fan_in" else (g * g).mean().item()
        assert 0.4 < power < 2.5


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"), [(0, 1, -2, 2), (0.5, 2.0, -1.0, 1.5), (0, 1, 2.0, 3.0), (1, 0.1, -9, 9)]
)
def test_truncated_normal(mean: float, std: float, a: float, b: float) -> None:
    x = drawn(init.trunc_normal_, 100, 60, mean=mean, std=std, a=a, b=b).ravel()
    assert a <= x.min() <= x.max() <= b
    expected = stats.truncnorm((a - mean) / std, (b - mean) / std, mean, std)
    assert stats.kstest(x, expected.cdf).pvalue > 0.01


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 2, 3, 3), (30, 2, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = drawn(init.orthogonal_, *shape, gain=1.5).reshape(shape[0], -1)
    short = w if w.shape[0] <= w.shape[1] else w.T
    np.testing.assert_allclose(short @ short.T, 1.5**2 * np.eye(len(short)), atol=1e-12)


def test_orthogonal_is_uniform() -> None:
    """An entry of a random rotation of the plane is the cosine of a uniform angle."""
    entries = [
        init.orthogonal_(td.zeros(2, 2, dtype="float64"), generator=td.Generator(k)).numpy()[0, 0]
        for k in range(300)
    ]
    assert stats.kstest(entries, stats.arcsine(-1, 2).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("shape", "groups"), [((4, 4, 3), 1), ((6, 2, 3, 3), 2), ((2, 5, 1, 3, 3), 1), ((6, 2, 3), 3)]
)
def test_dirac_passes_channels_on(shape: tuple[int, ...], groups: int) -> None:
    torch = pytest.importorskip("torch")
    with comparison():
        expected = torch.nn.init.dirac_(torch.empty(shape), groups)
        np.testing.assert_array_equal(init.dirac_(td.ones(*shape), groups).numpy(), expected.numpy())


def test_sparse_has_zeros_in_each_column() -> None:
    w = drawn(init.sparse_, 50, 30, sparsity=0.33, std=0.5)
    assert ((w == 0).sum(0) == 17).all()
    assert abs(w[w != 0].std() - 0.5) < 0.05
    assert len({tuple(column == 0) for column in w.T}) > 1


def test_constants() -> None:
    for fill, value in ((init.zeros_, 0), (init.ones_, 1), (lambda t: init.constant_(t, 2.5), 2.5)):
        np.testing.assert_array_equal(fill(td.full((2, 3), 7.0)).numpy(), value)
    np.testing.assert_array_equal(init.eye_(td.ones(2, 3)).numpy(), np.eye(2, 3))


def test_parameters_are_filled_in_place() -> None:
    layer = nn.Linear(4, 4)
    weight = layer.weight
    init.orthogonal_(layer.weight)
    assert layer.weight is weight
    assert weight.requires_grad
    assert weight.is_leaf


def test_refused() -> None:
    for call, error, message in (
        (
            lambda: init.xavier_normal_(td.zeros(3)),
            ShapeError,
            r"xavier_normal_: expected a weight .*, got \(3,\)",
        ),
        (
            lambda: init.calculate_gain("sine"),
            ValueError,
            r"calculate_gain: expected one of .*'tanh'.*, got 'sine'",
        ),
        (
            lambda: init.kaiming_normal_(td.zeros(3, 3), mode="fan"),
            ValueError,
            "kaiming_normal_: expected mode .* got 'fan'",
        ),
        (
            lambda: init.trunc_normal_(td.zeros(3), a=2, b=1),
            ValueError,
            "trunc_normal_: expected std > 0 and a < b",
        ),
        (
            lambda: init.orthogonal_(td.zeros(3)),
            ShapeError,
            r"orthogonal_: expected at least 2 dims, got \(3,\)",
        ),
        (lambda: init.eye_(td.zeros(3)), ShapeError, r"eye_: expected a matrix, got \(3,\)"),
        (
            lambda: init.dirac_(td.zeros(3, 3)),
            ShapeError,
            r"dirac_: expected a weight \(out, in, \*kernel\) .* got \(3, 3\)",
        ),
        (
            lambda: init.dirac_(td.zeros(3, 3, 3), 2),
            ShapeError,
            r"dirac_: expected .* out divisible by 2, got \(3, 3, 3\)",
        ),
        (lambda: init.sparse_(td.zeros(3), 0.1), ShapeError, r"sparse_: expected a matrix, got \(3,\)"),
        (
            lambda: init.sparse_(td.zeros(3, 3), 1.1),
            ValueError,
            r"sparse_: expected sparsity in \[0, 1\], got 1.1",
        ),
    ):
        with pytest.raises(error, match=message):
            call()
