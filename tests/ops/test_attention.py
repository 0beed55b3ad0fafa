"""Attention, embedding and bilinear forms against PyTorch, to second order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td

pytestmark = pytest.mark.usefixtures("reference")
RANDOM = np.random.default_rng(0)
Q, K, V = (RANDOM.normal(size=shape) for shape in ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 2)))
MASK = RANDOM.random((4, 6)) < 0.6
MASK[:, 0] = True

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "boolean": {"attn_mask": MASK},
    "added": {"attn_mask": RANDOM.normal(size=(2, 1, 4, 6))},
    "causal": {"is_causal": True},
    "scaled": {"scale": 0.7},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_attention_against_torch(settings: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")

    def call(framework: Any, function: Any) -> Any:
        given = {k: framework.tensor(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
        return lambda q, k, v: function(q, k, v, **given)

    theirs = call(torch, torch.nn.functional.scaled_dot_product_attention)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert_agree(call(td, td.scaled_dot_product_attention), theirs, [Q, K, V])


def test_a_mask_carries_a_gradient() -> None:
    inputs = [td.tensor(x, requires_grad=True) for x in (Q, K, V, RANDOM.normal(size=(4, 6)))]
    assert td.gradcheck(td.scaled_dot_product_attention, inputs)


def test_dropout_of_weights() -> None:
    ones = [td.tensor(np.ones(shape)) for shape in ((1, 400, 3), (1, 500, 3), (1, 500, 1))]
    y = td.scaled_dot_product_attention(*ones, dropout_p=0.4, generator=td.Generator(1)).numpy()
    assert abs(y.mean() - 1) < 0.01
    assert y.std() > 0.01
    again = td.scaled_dot_product_attention(*ones, dropout_p=0.4, generator=td.Generator(1)).numpy()
    np.testing.assert_array_equal(again, y)


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_embedding_against_torch(padding_idx: int | None) -> None:
    functional = pytest.importorskip("torch").nn.functional
    index, table = np.array([[0, 2, 2], [4, 3, 0]]), RANDOM.normal(size=(5, 3))
    ours, theirs = (lambda i, w, f=f: f.embedding(i, w, padding_idx) ** 3 for f in (td, functional))
    assert_agree(ours, theirs, [index, table])


def test_embedding_edges() -> None:
    table = td.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    assert td.embedding(td.tensor(np.zeros((0, 4), np.int64)), table).shape == (0, 4, 2)
    np.testing.assert_array_equal(td.embedding(td.tensor(2), table).detach().numpy(), [4, 5])
    for index, weight, error, message in (
        ([0], td.ones(3), ShapeError, r"embedding: expected weight \(V, D\), got \(3,\)"),
        ([3], table, IndexError, r"embedding: expected indices from 0 to 2, got 3 to 3"),
        ([-1], table, IndexError, r"embedding: expected indices from 0 to 2, got -1 to -1"),
        ([0.5], table, DtypeError, r"embedding: expected an index of integers, got float32"),
    ):
        with pytest.raises(error, match=message):
            td.embedding(td.tensor(index), weight)
    with pytest.raises(ShapeError, match=r"embedding: expected dim in \[-3, 2\], got 3"):
        td.embedding(td.tensor([0]), table, 3)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_bilinear_against_torch(batch: tuple[int, ...], bias: bool) -> None:
    functional = pytest.importorskip("torch").nn.functional
    shapes = [(*batch, 3), (*batch, 2), (5, 3, 2), *[(5,)] * bias]
    if batch:  # torch wants a batch
        assert_agree(td.bilinear, functional.bilinear, [RANDOM.normal(size=shape) for shape in shapes])
    x = [td.tensor(RANDOM.normal(size=shape), requires_grad=True) for shape in shapes]
    expected = np.einsum("...i,oij,...j->...o", *(x[i].detach().numpy() for i in (0, 2, 1)))
    np.testing.assert_allclose(td.bilinear(*x[:3]).detach().numpy(), expected)


def test_refused() -> None:
    a, b = td.ones(2, 3), td.ones(2, 4)
    for call, error, message in (
        (
            lambda: td.scaled_dot_product_attention(a, b, b),
            ShapeError,
            r"attention: expected query .* got \(2, 3\) and \(2, 4\)",
        ),
        (
            lambda: td.scaled_dot_product_attention(a, a, a, td.ones(2, 2), is_causal=True),
            ValueError,
            "attention: expected attn_mask or is_causal, got both",
        ),
        (
            lambda: td.bilinear(a, b, td.ones(5, 4, 3)),
            ShapeError,
            r"bilinear: expected .* got input1 \(2, 3\), input2 \(2, 4\), weight \(5, 4, 3\)",
        ),
    ):
        with pytest.raises(error, match=message):
            call()
