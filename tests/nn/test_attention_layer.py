"""Multi-head attention, embedding and bilinear layers against PyTorch; that attention
and group normalization learn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from learning import assert_learns
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import nn

RANDOM = np.random.default_rng(0)
PADDING = np.array([[0, 0, 1, 0], [0, 0, 0, 1]], bool)
FORBIDDEN = RANDOM.random((3, 4)) < 0.3
FORBIDDEN[:, 0] = False
ADDED = RANDOM.normal(size=(3, 4))
reference = pytest.mark.usefixtures("reference")


def loaded(ours: nn.Module, theirs: Any) -> tuple[list[Any], list[Any]]:
    """The parameters of both, made equal."""
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    return list(ours.parameters()), list(theirs.parameters())


@reference
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    "masks",
    [
        {},
        {"key_padding_mask": PADDING},
        {"attn_mask": FORBIDDEN},
        {"attn_mask": ADDED},
        {"attn_mask": FORBIDDEN, "key_padding_mask": PADDING},
        {"attn_mask": np.tile(FORBIDDEN, (4, 1, 1))},
    ],
    ids=["none", "padding", "forbidden", "added", "both", "each head"],
)
@pytest.mark.parametrize("average", [True, False])
def test_multihead_attention_against_torch(
    batch_first: bool, masks: dict[str, np.ndarray], average: bool
) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.MultiheadAttention(6, 2, dtype=torch.float64, batch_first=batch_first)
    ours = nn.MultiheadAttention(6, 2, dtype=np.float64, batch_first=batch_first)
    torch.nn.init.normal_(theirs.in_proj_bias)
    parameters = loaded(ours, theirs)
    arrays = [RANDOM.normal(size=(n, 2, 6)) for n in (3, 4, 4)]
    arrays = [x.swapaxes(0, 1).copy() for x in arrays] if batch_first else arrays

    def call(layer: Any, tensor: Any) -> Any:
        given = {name: tensor(mask) for name, mask in masks.items()}
        return lambda *x: layer(*x, **given, average_attn_weights=average)

    assert_agree(call(ours, td.tensor), call(theirs, torch.tensor), arrays, parameters, tolerance=1e-9)


@reference
def test_a_position_sees_no_later_one() -> None:
    layer, x = nn.MultiheadAttention(4, 2), RANDOM.normal(size=(5, 1, 4)).astype(np.float32)
    changed = x.copy()
    changed[3:] += 1
    first, second = (
        layer(*[td.tensor(values)] * 3, is_causal=True, need_weights=False) for values in (x, changed)
    )
    assert first[1] is None
    np.testing.assert_array_equal(first[0].detach().numpy()[:3], second[0].detach().numpy()[:3])
    assert (first[0].detach().numpy()[3:] != second[0].detach().numpy()[3:]).any()


def test_attention_learns_to_find() -> None:
    """The first feature marks one of the positions; the class stands there in the second."""
    random = np.random.default_rng(1)
    marked, classes = random.integers(0, 5, 16), random.integers(0, 2, 16)
    x = random.normal(scale=0.5, size=(16, 5, 4)).astype(np.float32)
    x[..., 0] = np.arange(5) == marked[:, None]
    x[np.arange(16), marked, 1] = 2.0 * classes - 1

    class Finder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.norm = nn.Linear(4, 8), nn.LayerNorm(8)
            self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 2)

        def forward(self, x: td.Tensor) -> td.Tensor:
            h = self.norm(self.enter(x))
            return self.head((h + self.attention(h, h, h)[0]).mean(1))

    assert_learns(Finder, lambda model, x, classes: td.cross_entropy(model(x), classes), x, classes, 40, 0.03)


def test_group_normalization_learns() -> None:
    random = np.random.default_rng(2)
    classes = random.integers(0, 2, 12)
    x = random.normal(scale=0.3, size=(12, 1, 6, 6)).astype(np.float32)
    x[classes == 1, :, 2:4] += 1
    x[classes == 0, :, :, 2:4] += 1

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)
        )

    assert_learns(build, lambda model, x, classes: td.cross_entropy(model(x), classes), x, classes, 30, 0.02)


# Embedding, bilinear
# ------------------------------------------------------------------------------------------------------


@reference
@pytest.mark.parametrize("padding_idx", [None, 1, -1])
def test_embedding_against_torch(padding_idx: int | None) -> None:
    torch = pytest.importorskip("torch")
    theirs, ours = (
        torch.nn.Embedding(5, 3, padding_idx, dtype=torch.float64),
        nn.Embedding(5, 3, padding_idx, dtype=np.float64),
    )
    if padding_idx is not None:
        assert not ours.weight.numpy()[padding_idx].any()
        assert ours.weight.numpy()[2].any()
    parameters = loaded(ours, theirs)
    assert_agree(
        lambda i: ours(i) ** 2, lambda i: theirs(i) ** 2, [np.array([[0, 1, 1], [4, 4, 2]])], parameters
    )


@reference
def test_pretrained_embeddings() -> None:
    table = np.arange(6.0).reshape(3, 2)
    layer = nn.Embedding.from_pretrained(table)
    table[:] = 0
    np.testing.assert_array_equal(layer(td.tensor([2, 0])).numpy(), [[4, 5], [0, 1]])
    assert not layer.weight.requires_grad
    assert nn.Embedding.from_pretrained(td.ones(3, 2), freeze=False, padding_idx=-1).padding_idx == 2
    assert list(layer.state_dict()) == ["weight"]


def test_embeddings_learn() -> None:
    index, classes = np.arange(6), np.array([0, 1, 1, 0, 1, 0])

    def build() -> nn.Module:
        return nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 2))

    assert_learns(
        build, lambda model, i, classes: td.cross_entropy(model(i), classes), index, classes, 30, 0.05
    )


@reference
def test_bilinear_against_torch() -> None:
    torch = pytest.importorskip("torch")
    theirs, ours = torch.nn.Bilinear(3, 2, 4, dtype=torch.float64), nn.Bilinear(3, 2, 4, dtype=np.float64)
    assert_agree(ours, theirs, [RANDOM.normal(size=(5, n)) for n in (3, 2)], loaded(ours, theirs))
    bound = 1 / np.sqrt(300)
    w = nn.Bilinear(300, 20, 10).weight.numpy()
    assert 0.99 * bound < np.abs(w).max() <= bound
    assert nn.Bilinear(3, 2, 4, bias=False).bias is None


@reference
def test_refused() -> None:
    x = td.ones(3, 2, 6)
    for call, error, message in (
        (
            lambda: nn.MultiheadAttention(6, 4),
            ValueError,
            "MultiheadAttention: expected embed_dim divisible by num_heads=4, got 6",
        ),
        (
            lambda: nn.MultiheadAttention(4, 2)(x, x, x),
            ShapeError,
            r"MultiheadAttention: expected .* the last 4, got \(3, 2, 6\)",
        ),
        (
            lambda: nn.MultiheadAttention(6, 2)(x, x, x, attn_mask=td.ones(2, 3)),
            ShapeError,
            r"MultiheadAttention: expected attn_mask \(3, 3\) or \(4, 3, 3\), got \(2, 3\)",
        ),
        (lambda: nn.Embedding(3, 2, 3), ShapeError, r"Embedding: expected dim in \[-3, 2\], got 3"),
        (
            lambda: nn.Embedding.from_pretrained(td.ones(3)),
            ShapeError,
            r"Embedding.from_pretrained: expected embeddings \(V, D\), got \(3,\)",
        ),
        (
            lambda: nn.Embedding(3, 2)(td.tensor([3])),
            IndexError,
            "embedding: expected indices from 0 to 2, got 3 to 3",
        ),
        (lambda: nn.Bilinear(3, 2, 4)(x, x), ShapeError, r"bilinear: expected .* got input1 \(3, 2, 6\)"),
    ):
        with pytest.raises(error, match=message):
            call()
