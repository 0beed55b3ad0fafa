"""Functions of one element against PyTorch: derivatives inside of their domains, values at its ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree

import tinydl as td

pytestmark = pytest.mark.usefixtures("reference")

UNIT, POSITIVE, ABOVE_ONE, ANY = (-0.9, 0.9), (0.2, 3.0), (1.2, 3.0), (-2.0, 2.0)
DOMAINS = {
    **dict.fromkeys(("exp2", "expm1", "sin", "cos", "sinh", "cosh", "asinh", "atan", "erf", "erfc"), ANY),
    **dict.fromkeys(("log1p", "log2", "log10", "rsqrt", "reciprocal", "lgamma", "digamma"), POSITIVE),
    **dict.fromkeys(("tan", "asin", "acos", "atanh"), UNIT),
    "acosh": ABOVE_ONE,
}
ROUNDING = ("floor", "ceil", "round", "trunc")
EDGES = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, 1e-300, 1e300, -1e300, 30.0, -30.0, np.inf, -np.inf, np.nan]
)


def some(low: float, high: float, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, shape)


@pytest.mark.parametrize("name", DOMAINS)
def test_unary(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert_agree(getattr(td, name), getattr(torch, name), [some(*DOMAINS[name], 4, 5)])


@pytest.mark.parametrize("name", [*DOMAINS, *ROUNDING])
def test_values_at_the_ends(name: str) -> None:
    torch = pytest.importorskip("torch")
    points = EDGES[np.abs(EDGES) < 1e3] if name in ("sin", "cos", "tan", "digamma", "lgamma") else EDGES
    found, expected = (
        getattr(td, name)(td.tensor(points)).numpy(),
        getattr(torch, name)(torch.tensor(points)).numpy(),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", ["logsigmoid"])
def test_logsigmoid(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert_agree(td.logsigmoid, torch.nn.functional.logsigmoid, [np.linspace(-40, 40, 17)])


@pytest.mark.parametrize("name", ROUNDING)
def test_rounding_has_derivative_zero(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert_agree(getattr(td, name), getattr(torch, name), [some(-3, 3, 9)])
    assert getattr(td, name)(td.tensor([1, -2])).dtype == np.int64


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_polygamma(n: int) -> None:
    torch = pytest.importorskip("torch")
    assert_agree(lambda x: td.polygamma(n, x), lambda x: torch.polygamma(n, x), [some(0.3, 4, 7)])


@pytest.mark.parametrize("name", ["atan2", "hypot"])
@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((3, 1), (4,)), ((), (2, 1))], ids=str)
def test_binary(name: str, shapes: Any) -> None:
    torch = pytest.importorskip("torch")
    a, b = (some(0.3, 2.0, *shape) * sign for shape, sign in zip(shapes, (1, -1), strict=True))
    assert_agree(getattr(td, name), getattr(torch, name), [a, b])


def test_angles_of_every_quadrant() -> None:
    a, b = np.meshgrid([-2.0, -0.0, 0.0, 1.0, np.inf], [-1.0, -0.0, 0.0, 3.0, -np.inf])
    np.testing.assert_array_equal(td.atan2(td.tensor(a), td.tensor(b)).numpy(), np.arctan2(a, b))
    assert td.hypot(td.tensor(np.array([3e300])), td.tensor(np.array([4e300]))).item() == 5e300


def test_mixtures() -> None:
    torch = pytest.importorskip("torch")
    a, b, c = (some(0.5, 2.0, *shape) for shape in ((3, 4), (4,), (3, 1)))
    assert_agree(
        td.lerp, torch.lerp, [a, np.broadcast_to(b, a.shape).copy(), np.broadcast_to(c, a.shape).copy()]
    )
    assert_agree(lambda x, y: td.lerp(x, y, 0.3), lambda x, y: torch.lerp(x, y, 0.3), [a, a[::-1].copy()])
    for name in ("addcmul", "addcdiv"):
        ours, theirs = getattr(td, name), getattr(torch, name)
        assert_agree(lambda *x, f=ours: f(*x, value=0.7), lambda *x, f=theirs: f(*x, value=0.7), [a, b, c])


def test_queries() -> None:
    x, y = td.tensor(EDGES), td.tensor(EDGES[::-1].copy())
    np.testing.assert_array_equal(td.isnan(x).numpy(), np.isnan(EDGES))
    np.testing.assert_array_equal(td.isinf(x).numpy(), np.isinf(EDGES))
    np.testing.assert_array_equal(td.logical_xor(x, y).numpy(), np.logical_xor(EDGES, EDGES[::-1]))


def test_integers_become_float32() -> None:
    for name in DOMAINS:
        assert getattr(td, name)(td.tensor([2])).dtype == np.float32
