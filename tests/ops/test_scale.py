"""Functions that know only directions, or lengths: they and their derivatives are the same at any scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinydl as td

X, Y = np.random.default_rng(0).standard_normal((2, 3, 4))

# f(c x) = c^degree f(x)
FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "norm": (1, lambda x, y: td.norm(x, dim=1)),
    "norm 3": (1, lambda x, y: td.norm(x, 3, dim=1)),
    "norm -1": (1, lambda x, y: td.norm(x, -1, dim=1)),
    "std": (1, lambda x, y: td.std(x, 1)),
    "mean": (1, lambda x, y: td.mean(x, 1)),
    "hypot": (1, td.hypot),
    "cdist": (1, td.cdist),
    "cdist 3": (1, lambda x, y: td.cdist(x, y, 3.0)),
    "pairwise_distance": (1, lambda x, y: td.pairwise_distance(x, y, eps=0.0)),
    "pairwise_distance 3": (1, lambda x, y: td.pairwise_distance(x, y, 3.0, eps=0.0)),
    "triplet_margin_loss": (
        1,
        lambda x, y: td.triplet_margin_loss(x, y, y.flip(0), 0.0, eps=0.0, reduction="none"),
    ),
    "normalize": (0, lambda x, y: td.normalize(x, eps=0.0)),
    "normalize 3": (0, lambda x, y: td.normalize(x, 3.0, eps=0.0)),
    "rms_norm": (0, lambda x, y: td.rms_norm(x, (4,), eps=0.0)),
    "cosine_similarity": (0, lambda x, y: td.cosine_similarity(x, y, eps=0.0)),
    "atan2": (0, td.atan2),
    "div": (0, td.div),
}


def derivatives(f: Callable[..., Any], arrays: list[np.ndarray], dtype: str) -> list[np.ndarray]:
    def dotted(z: td.Tensor, phase: float) -> td.Tensor:
        return (z * td.tensor(np.cos(phase + np.arange(z.numel())).reshape(z.shape), dtype=dtype)).sum()

    inputs = [td.tensor(x, dtype=dtype, requires_grad=True) for x in arrays]
    y = f(*inputs)
    first = td.grad(dotted(y, 0.0), inputs, create_graph=True, allow_unused=True)
    known = [(x, dx) for x, dx in zip(inputs, first, strict=True) if dx is not None]
    moving, slopes = zip(*known, strict=True)
    again = sum(dotted(dx, 1.0) for dx in slopes if dx.requires_grad)
    second = td.grad(again, moving, allow_unused=True) if isinstance(again, td.Tensor) else ()
    return [z.detach().numpy() for z in (y, *slopes, *second) if z is not None]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("dtype", "c", "tolerance"),
    [
        ("float64", 2.0**600, 1e-12),
        ("float64", 2.0**-600, 1e-12),
        ("float32", 2.0**100, 1e-4),
        ("float32", 2.0**-100, 1e-4),
    ],
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_scale(name: str, dtype: str, c: float, tolerance: float, backend: str) -> None:
    degree, f = FUNCTIONS[name]
    with td.backend(backend), np.errstate(all="ignore"):  # what is beyond the range is not looked at
        plain = derivatives(f, [X, Y], "float64")
        found = derivatives(f, [(c * x).astype(dtype) for x in (X, Y)], dtype)
    moving = len(plain) // 2  # inputs that have a gradient, and a second one or none
    powers = [degree, *[degree - 1] * moving, *[degree - 2] * moving]
    for y, expected, power in zip(found, plain, powers, strict=False):  # the last may be missing
        largest = np.abs(expected).max(initial=1e-9)
        if abs(power * np.log2(c)) + 8 < -np.finfo(dtype).minexp:  # else beyond the range of the dtype
            y = y.astype(np.float64) * c ** float(-power)
            np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance * largest)
