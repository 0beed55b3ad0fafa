"""Transformers against PyTorch: values and derivatives, masks, settings, names of parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree

import tinydl as td
from tinydl import nn

RANDOM = np.random.default_rng(0)
SRC, TGT = RANDOM.normal(size=(4, 2, 6)), RANDOM.normal(size=(3, 2, 6))
PADDED = np.array([[0, 0, 0, 1], [0, 0, 1, 1]], bool)
CAUSAL = np.triu(np.ones((4, 4), bool), 1)
SMALL = {"dim_feedforward": 5, "dropout": 0.0}
pytestmark = pytest.mark.usefixtures("reference")


def twins(make: Any) -> tuple[Any, Any, tuple[list[Any], list[Any]]]:
    """The same module of both libraries, with equal weights of equal names, no two of which are alike."""
    torch = pytest.importorskip("torch")
    theirs = make(torch, {"dtype": torch.float64})
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.5)
    ours = make(td, {"dtype": np.float64})
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    return ours, theirs, (list(ours.parameters()), list(theirs.parameters()))


def agree(make: Any, arrays: list[np.ndarray], order: int = 2, **masks: Any) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs, parameters = twins(make)

    def given(tensor: Any) -> dict[str, Any]:
        return {name: tensor(m) if isinstance(m, np.ndarray) else m for name, m in masks.items()}

    def twice(*x: Any) -> Any:  # PyTorch's fused attention has no second derivative
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return theirs(*x, **given(torch.tensor))

    assert_agree(
        lambda *x: ours(*x, **given(td.tensor)),
        twice,
        arrays, parameters, order, 1e-9,
    )  # fmt: skip


@pytest.mark.parametrize("settings", [
    {}, {"norm_first": True}, {"activation": "gelu"}, {"bias": False}, {"layer_norm_eps": 0.1},
    {"batch_first": True},
])  # fmt: skip
def test_encoder_layer(settings: dict[str, Any]) -> None:
    agree(lambda t, d: t.nn.TransformerEncoderLayer(6, 2, **SMALL, **settings, **d), [SRC])


@pytest.mark.parametrize("masks", [
    {"src_mask": CAUSAL}, {"src_key_padding_mask": PADDED}, {"src_mask": CAUSAL, "is_causal": True},
    {"src_mask": RANDOM.normal(size=(4, 4))},
])  # fmt: skip
def test_masks_of_an_encoder_layer(masks: dict[str, Any]) -> None:
    agree(lambda t, d: t.nn.TransformerEncoderLayer(6, 2, **SMALL, **d), [SRC], **masks)


@pytest.mark.parametrize("settings", [{}, {"norm_first": True, "activation": "gelu", "bias": False}])
def test_decoder_layer(settings: dict[str, Any]) -> None:
    masks = {"tgt_mask": CAUSAL[:3, :3], "memory_key_padding_mask": PADDED, "memory_mask": CAUSAL[:3]}
    agree(lambda t, d: t.nn.TransformerDecoderLayer(6, 2, **SMALL, **settings, **d), [TGT, SRC], **masks)


def test_one_sample_without_a_batch() -> None:
    agree(lambda t, d: t.nn.TransformerEncoderLayer(6, 2, **SMALL, **d), [SRC[:, 0]])
    agree(lambda t, d: t.nn.TransformerDecoderLayer(6, 2, **SMALL, **d), [TGT[:, 0], SRC[:, 0]])


def test_stacks() -> None:
    agree(
        lambda t, d: t.nn.TransformerEncoder(
            t.nn.TransformerEncoderLayer(6, 2, **SMALL, **d), 2, t.nn.LayerNorm(6, **d), False
        ),
        [SRC], mask=CAUSAL, src_key_padding_mask=np.zeros((2, 4), bool), order=1,
    )  # fmt: skip
    agree(
        lambda t, d: t.nn.TransformerDecoder(t.nn.TransformerDecoderLayer(6, 2, **SMALL, **d), 2),
        [TGT, SRC], tgt_mask=CAUSAL[:3, :3], tgt_is_causal=True, order=1,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_the_pair() -> None:
    agree(
        lambda t, d: t.nn.Transformer(6, 2, 1, 2, **SMALL, **d),
        [SRC, TGT], tgt_mask=CAUSAL[:3, :3], memory_key_padding_mask=PADDED, order=1,
    )  # fmt: skip
    torch = pytest.importorskip("torch")
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    np.testing.assert_array_equal(
        mask.numpy(), torch.nn.Transformer.generate_square_subsequent_mask(3).numpy()
    )


def test_copies_have_weights_of_their_own_and_one_generator() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 3, 0.5, generator=td.Generator(0))
    stack = nn.TransformerEncoder(layer, 2)
    first, second = stack.layers
    assert first.linear1.weight is not second.linear1.weight
    np.testing.assert_array_equal(first.linear1.weight.numpy(), second.linear1.weight.numpy())
    assert first.dropout.generator is second.dropout1.generator is layer.self_attn.generator
    x = td.ones(3, 1, 4)
    assert not td.equal(stack(x), stack(x))
    stack.eval()
    assert td.equal(stack(x), stack(x))


def test_causal_without_a_mask() -> None:
    """PyTorch wants the mask beside the flag."""
    layer = nn.TransformerEncoderLayer(6, 2, **SMALL, dtype=np.float64)
    x = td.tensor(SRC)
    np.testing.assert_allclose(
        layer(x, is_causal=True).numpy(), layer(x, td.tensor(CAUSAL)).numpy(), atol=1e-12
    )


def test_refused() -> None:
    with pytest.raises(
        ValueError, match="TransformerEncoderLayer: expected activation 'relu', 'gelu' or a func"
    ):
        nn.TransformerEncoderLayer(4, 2, activation="silu")
    with pytest.raises(ValueError, match="TransformerEncoder: expected"):
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 3), 0)


def test_a_number_is_refused_by_name() -> None:
    with pytest.raises(td.ShapeError, match=r"^Transformer: expected src and tgt of as many dims"):
        nn.Transformer(4, 2, 1, 1)(td.tensor(1.0), td.tensor(1.0))
