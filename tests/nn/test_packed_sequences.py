"""nn.utils.rnn: padding, packing, and recurrent layers over packed batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import nn
from tinydl.nn.utils import rnn

LENGTHS = [2, 5, 1, 5]
PADDED = np.random.default_rng(0).normal(size=(5, 4, 3))


def sequences(library: Any = td) -> list[Any]:
    return [library.tensor(PADDED[:end, n], requires_grad=True) for n, end in enumerate(LENGTHS)]


@pytest.mark.parametrize("batch_first", [False, True])
def test_there_and_back(batch_first: bool) -> None:
    given = td.tensor(PADDED.swapaxes(0, 1) if batch_first else PADDED)
    packed = rnn.pack_padded_sequence(given, td.tensor(LENGTHS), batch_first, enforce_sorted=False)
    assert packed.batch_sizes.tolist() == [4, 3, 2, 2, 2]
    assert packed.sorted_indices.tolist() == [1, 3, 0, 2]
    np.testing.assert_array_equal(packed.data[:4].numpy(), PADDED[0, [1, 3, 0, 2]])
    padded, lengths = rnn.pad_packed_sequence(packed, batch_first, padding_value=-1.0, total_length=6)
    assert lengths.tolist() == LENGTHS
    padded = padded.numpy().swapaxes(0, 1) if batch_first else padded.numpy()
    assert padded.shape == (6, 4, 3)
    for n, end in enumerate(LENGTHS):
        np.testing.assert_array_equal(padded[:end, n], PADDED[:end, n])
        assert (padded[end:, n] == -1).all()
    for part, whole in zip(rnn.unpack_sequence(packed), sequences(), strict=True):
        np.testing.assert_array_equal(part.numpy(), whole.detach().numpy())
    assert packed.to(td.float32).data.dtype == td.float32


def test_derivatives() -> None:
    def back(x: td.Tensor) -> td.Tensor:
        packed = rnn.pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
        return rnn.pad_packed_sequence(packed._replace(data=packed.data**2), total_length=6)[0]

    td.gradcheck(back, [td.tensor(PADDED).requires_grad_()], order=2)
    for side in ("left", "right"):
        td.gradcheck(
            lambda *x, side=side: rnn.pad_sequence([v**2 for v in x], padding_side=side),
            [td.tensor(x).requires_grad_() for x in (PADDED[:2, 0], PADDED[:3, 1])],
            order=2,
        )


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_layer_gives_what_it_gives_with_lengths(kind: str, batch_first: bool) -> None:
    layer = getattr(nn, kind)(
        3, 2, num_layers=2, bidirectional=True, batch_first=batch_first, dtype=np.float64
    )
    x = td.tensor(PADDED.swapaxes(0, 1) if batch_first else PADDED)
    start = td.randn(4, 4, 2, dtype="float64")
    state = (start, start + 1) if kind == "LSTM" else start
    expected, end = layer(x, state, td.tensor(LENGTHS))
    output, last = layer(rnn.pack_padded_sequence(x, LENGTHS, batch_first, False), state)
    padded, _ = rnn.pad_packed_sequence(output, batch_first)
    np.testing.assert_array_equal(padded.numpy(), expected.numpy())
    for mine, wanted in zip(*((s if isinstance(s, tuple) else (s,)) for s in (last, end)), strict=True):
        np.testing.assert_array_equal(mine.numpy(), wanted.numpy())


def test_refusals() -> None:
    x = td.tensor(PADDED)
    for lengths, message in (
        ([2, 5, 1, 5], "lengths that descend"),
        ([5, 5, 2, 0], "4 lengths of at least 1"),
        ([5, 5, 2], "4 lengths of at least 1"),
        ([5.0, 5.0, 2.0, 1.0], "4 lengths of at least 1"),
        ([6, 5, 2, 1], "lengths of at most 5, got 6"),
    ):
        with pytest.raises(ShapeError, match=message):
            rnn.pack_padded_sequence(x, lengths)
    packed = rnn.pack_sequence([x[:, 0], x[:2, 1]])
    assert packed.sorted_indices is None
    with pytest.raises(ShapeError, match="total_length of at least 5, got 4"):
        rnn.pad_packed_sequence(packed, total_length=4)
    with pytest.raises(ShapeError, match="at least one sequence"):
        rnn.pad_sequence([])
    with pytest.raises(ValueError, match="'right' or 'left', got 'top'"):
        rnn.pad_sequence([x], padding_side="top")


@pytest.mark.torch
@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_as_pytorch(batch_first: bool, sort: bool) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for library in (td, torch):
        own = library.nn.utils.rnn
        parts = sequences(library)
        leaves = parts
        if sort:
            parts = sorted(parts, key=len, reverse=True)
        padded = own.pad_sequence(parts, batch_first=batch_first, padding_value=0.5)
        left = own.pad_sequence(parts, batch_first=batch_first, padding_side="left")
        packed = own.pack_sequence(parts, enforce_sorted=sort)
        lengths = library.tensor([len(x) for x in parts])
        again = own.pack_padded_sequence(padded, lengths, batch_first=batch_first, enforce_sorted=sort)
        layer = library.nn.LSTM(3, 2, num_layers=2, bidirectional=True, batch_first=batch_first)
        layer = layer.to(library.float64)
        rng = np.random.default_rng(1)
        with library.no_grad():
            for p in layer.parameters():
                p.copy_(library.tensor(rng.normal(size=tuple(p.shape))))
        output, (h, c) = layer(again)
        back, ends = own.pad_packed_sequence(
            output, batch_first=batch_first, padding_value=-2.0, total_length=7
        )
        # a copy: PyTorch transposes what it is given
        pieces = own.unpad_sequence(back.clone(), ends, batch_first=batch_first)
        total = (back**2).sum() + (h * c).sum() + (left**3).sum()
        slopes = library.autograd.grad(total, leaves)
        found.append(
            [padded, left, *packed[:2], *again[:2], *output[:2], back, ends, h, c, *pieces, *slopes]
            + [x for x in again[2:] if x is not None]
            + own.unpack_sequence(packed)
        )
    for mine, theirs in zip(*found, strict=True):
        mine, theirs = mine.detach().numpy(), theirs.detach().numpy()
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
