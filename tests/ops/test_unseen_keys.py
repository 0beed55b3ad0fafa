"""What stands in keys and values that no query sees reaches neither outputs nor gradients of any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinydl as td

N, HEADS, L, S, E = 2, 2, 3, 4, 4
PADDED = np.array([[False, False, True, True], [False, False, False, True]])  # (N, S)


def derivatives(call: Callable[..., Any], *arrays: np.ndarray, more: Any = ()) -> list[np.ndarray]:
    """Output, gradients and gradients of these, of the arrays and of `more` tensors."""
    leaves = [td.tensor(x, requires_grad=True) for x in arrays]
    out = call(*leaves)
    first = td.grad((out * out).sum(), [*leaves, *more], create_graph=True)
    second = td.grad(sum((g * g).sum() for g in first), [*leaves, *more], allow_unused=True)
    kept = [x for x in second if x is not None]
    return [x.detach().numpy() for x in (out, *first, *kept)]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("added", [False, True])
def test_attention(bad: float, backend: str, added: bool) -> None:
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal((N, n, E)) for n in (L, S, S))
    mask = td.tensor(~PADDED[:, None, :])
    mask = td.where(mask, 0.0, -np.inf).double() if added else mask

    def call(q: Any, k: Any, v: Any) -> Any:
        return td.scaled_dot_product_attention(q, k, v, mask)

    with td.backend(backend):
        clean = derivatives(call, q, k, v)
        k[PADDED] = v[PADDED] = bad
        for x, y in zip(clean, derivatives(call, q, k, v), strict=True):
            np.testing.assert_allclose(y, x, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "settings", [{}, {"kdim": 4, "vdim": 3}, {"add_bias_kv": True, "add_zero_attn": True}]
)
@pytest.mark.parametrize("is_causal", [False, True])
def test_the_layer(settings: dict[str, Any], is_causal: bool) -> None:
    random = np.random.default_rng(1)
    with td.backend("reference"):
        layer = td.nn.MultiheadAttention(E, HEADS, batch_first=True, dtype="float64", **settings)
        q = random.standard_normal((N, L, E))
        k = random.standard_normal((N, S, layer.kdim))
        v = random.standard_normal((N, S, layer.vdim))

        def call(q: Any, k: Any, v: Any) -> Any:
            return layer(q, k, v, key_padding_mask=td.tensor(PADDED), is_causal=is_causal)[0]

        more = list(layer.parameters())
        clean = derivatives(call, q, k, v, more=more)
        k[PADDED] = v[PADDED] = np.nan
        for x, y in zip(clean, derivatives(call, q, k, v, more=more), strict=True):
            np.testing.assert_allclose(y, x, rtol=1e-12, atol=1e-13)
