"""Activations against PyTorch: to second order between the kinks, to first order at them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from pytorch_differences import limit
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td

pytestmark = pytest.mark.usefixtures("reference")

CASES: list[tuple[str, dict[str, Any]]] = [
    ("leaky_relu", {}),
    ("leaky_relu", {"negative_slope": 0.3}),
    ("elu", {}),
    ("elu", {"alpha": 1.7}),
    ("selu", {}),
    ("celu", {"alpha": 0.6}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("silu", {}),
    ("mish", {}),
    ("softplus", {}),
    ("softplus", {"beta": 2.0, "threshold": 3.0}),
    ("softsign", {}),
    ("hardtanh", {}),
    ("hardtanh", {"min_val": -0.5, "max_val": 2.0}),
    ("hardswish", {}),
    ("hardsigmoid", {}),
    ("relu6", {}),
    ("threshold", {"threshold": 0.4, "value": -7.0}),
    ("logsigmoid", {}),
    ("relu", {}),
    ("softmin", {"dim": 0}),
]


each = pytest.mark.parametrize(("name", "settings"), CASES, ids=lambda value: str(value))


@each
def test_against_torch(name: str, settings: dict[str, Any]) -> None:
    functional = pytest.importorskip("torch").nn.functional
    x = np.random.default_rng(0).normal(scale=3, size=(4, 30))
    ours, theirs = getattr(td, name), getattr(functional, name)
    order, tolerance = limit(name)
    assert_agree(
        lambda x: ours(x, **settings),
        lambda x: theirs(x, **settings),
        [x],
        order=order,
        tolerance=tolerance,
    )


@each
def test_kinks_and_far_ends(name: str, settings: dict[str, Any]) -> None:
    functional = pytest.importorskip("torch").nn.functional
    x = np.array([-1e4, -800, -3, -1, -0.5, -0.0, 0.0, 0.4, 1, 2, 3, 6, 800, 1e4])
    ours, theirs = getattr(td, name), getattr(functional, name)
    assert_agree(
        lambda x: ours(x, **settings),
        lambda x: theirs(x, **settings),
        [x],
        order=1,
        tolerance=limit(name)[1],
    )


@pytest.mark.parametrize(
    ("shape", "weights"), [((3, 4), 1), ((3, 4), 4), ((2, 3, 4, 2), 3), ((5,), 1), ((), 1)], ids=str
)
def test_prelu(shape: tuple[int, ...], weights: int) -> None:
    functional = pytest.importorskip("torch").nn.functional
    random = np.random.default_rng(0)
    assert_agree(td.prelu, functional.prelu, [random.normal(size=shape), random.uniform(0.1, 0.5, weights)])


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_glu(dim: int) -> None:
    functional = pytest.importorskip("torch").nn.functional
    x = np.random.default_rng(0).normal(size=(4, 6, 2))
    assert_agree(lambda x: td.glu(x, dim), lambda x: functional.glu(x, dim), [x])


def test_maxout_is_the_largest_of_neighbours() -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 3))
    assert_agree(lambda x: td.maxout(x, 3), lambda x: x.reshape(2, 2, 3, 3).max(2)[0], [x])
    np.testing.assert_array_equal(td.maxout(td.tensor(x), 3, dim=-1).numpy()[..., 0], x.max(-1))


def test_infinite_inputs_have_finite_gradients() -> None:
    for name in ("elu", "selu", "celu", "softplus", "relu6", "hardsigmoid", "leaky_relu"):
        x = td.tensor([-np.inf, np.inf], requires_grad=True)
        assert np.isfinite(td.grad(getattr(td, name)(x), x, td.ones(2))[0].numpy()).all(), name


def test_refused() -> None:
    x = td.ones(3, 5)
    for call, error, message in (
        (
            lambda: td.prelu(x, td.ones(3)),
            ShapeError,
            r"prelu: expected weight \(1,\) or \(C,\) .* got \(3,\) for \(3, 5\)",
        ),
        (lambda: td.gelu(x, "fast"), ValueError, "gelu: expected approximate 'none' or 'tanh', got 'fast'"),
        (lambda: td.glu(x), ShapeError, r"glu: expected an even size along dim 1, got \(3, 5\)"),
        (lambda: td.glu(x, 2), ShapeError, r"glu: expected dim in \[-2, 1\], got 2"),
        (
            lambda: td.maxout(x, 2),
            ShapeError,
            r"maxout: expected a size along dim 1 divisible by num_pieces=2, got \(3, 5\)",
        ),
        (lambda: td.softmin(x, 2), ShapeError, r"softmin: expected dim in \[-2, 1\], got 2"),
    ):
        with pytest.raises(error, match=message):
            call()
