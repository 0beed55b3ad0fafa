"""Sequences of unequal lengths, padded or packed, by the names of torch.nn.utils.rnn.

The recurrent layers take `lengths` of a padded batch directly; a packed batch is the same for those who are
used to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ...devices import constant, on_host
from ...engine.core import Tensor
from ...ops.creation import as_tensor
from ...ops.elementwise import where
from ...ops.indexing import index_select
from ...ops.padding import pad
from ...ops.shape import reshape, stack, transpose

__all__: list[str] = []  # not for the flat names of nn.utils

Lengths = Tensor | np.ndarray | Sequence[int]


class PackedSequence(NamedTuple):
    """The steps of N sequences, step after step, the longest sequence first.

    Attributes:
        data: (sum of the lengths, *).
        batch_sizes: int64 (T,): how many sequences have a step t.
        sorted_indices, unsorted_indices: int64 (N,): the sequence at each place, and back; None where the
            sequences came sorted.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def to(self, *arguments: Any, **keywords: Any) -> PackedSequence:
        """With its data on another device or in another dtype."""
        return self._replace(data=self.data.to(*arguments, **keywords))

    @property
    def lengths(self) -> np.ndarray:
        """int64 (N,), in the order in which the sequences came."""
        sizes = on_host(self.batch_sizes)
        lengths = (sizes[:, None] > np.arange(sizes[0])).sum(0)
        return lengths if self.unsorted_indices is None else lengths[on_host(self.unsorted_indices)]


def _order(packed: PackedSequence) -> np.ndarray:
    n = int(packed.batch_sizes[0].item())
    return np.arange(n) if packed.sorted_indices is None else on_host(packed.sorted_indices)


def packed_like(padded: Tensor, packed: PackedSequence) -> PackedSequence:
    """Padded sequences (T, N, *) packed in the order of another packed batch."""
    steps, batch = padded.shape[:2]
    order, sizes = _order(packed), on_host(packed.batch_sizes)
    rows = np.concatenate([t * batch + order[:size] for t, size in enumerate(sizes)])
    flat = reshape(padded, (steps * batch, *padded.shape[2:]))
    return packed._replace(data=index_select(flat, 0, constant(flat, rows)))


def pack_padded_sequence(
    input: Tensor, lengths: Lengths, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Padded sequences (T, N, *), or (N, T, *) with `batch_first`, without their padding.

    Raises:
        ShapeError: lengths that are not N whole numbers from 1 to T, or do not descend under
            `enforce_sorted`.
    """
    input = transpose(input, 0, 1) if batch_first else input
    steps, batch = input.shape[:2]
    ends = np.asarray(on_host(lengths) if isinstance(lengths, Tensor) else lengths)
    if (
        ends.shape != (batch,)
        or ends.dtype.kind not in "iu"
        or not batch
        or not 1 <= ends.min() <= ends.max()
    ):
        raise ShapeError(f"pack_padded_sequence: expected {batch} lengths of at least 1, got {ends.tolist()}")
    if ends.max() > steps:
        raise ShapeError(f"pack_padded_sequence: expected lengths of at most {steps}, got {ends.max()}")
    descends = bool((np.diff(ends) <= 0).all())
    if enforce_sorted and not descends:
        raise ShapeError(
            f"pack_padded_sequence: expected lengths that descend (or enforce_sorted=False), got "
            f"{ends.tolist()}"
        )
    sizes = (ends > np.arange(ends.max())[:, None]).sum(1)
    places: tuple[Tensor, ...] = ()
    if not enforce_sorted:
        order = np.argsort(-ends, kind="stable")
        places = as_tensor(order), as_tensor(np.argsort(order))
    return packed_like(input[: ends.max()], PackedSequence(input, as_tensor(sizes), *places))


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(padded sequences in the order in which they came, their lengths int64 (N,)).

    Raises:
        ShapeError: a total_length below the longest sequence.
    """
    order, sizes = _order(sequence), on_host(sequence.batch_sizes)
    steps = len(sizes) if total_length is None else total_length
    if steps < len(sizes):
        raise ShapeError(f"pad_packed_sequence: expected total_length of at least {len(sizes)}, got {steps}")
    rows = np.full((steps, len(order)), -1)
    starts = np.cumsum([0, *sizes[:-1]])
    for t, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        rows[t, order[:size]] = np.arange(start, start + size)
    data = sequence.data
    found = index_select(data, 0, constant(data, np.maximum(rows, 0).reshape(-1)))
    there = constant(data, (rows >= 0).reshape(-1, *[1] * (data.ndim - 1)))
    padded = reshape(where(there, found, padding_value), (*rows.shape, *data.shape[1:]))
    return transpose(padded, 0, 1) if batch_first else padded, as_tensor(sequence.lengths)


def pad_sequence(
    sequences: Tensor | Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Sequences (T_n, *) as one tensor (T, N, *), or (N, T, *) with `batch_first`, T the longest.

    Raises:
        ShapeError: no sequences.
        ValueError: a padding_side that is neither "right" nor "left".
    """
    if padding_side not in ("right", "left"):
        raise ValueError(f"pad_sequence: expected padding_side 'right' or 'left', got {padding_side!r}")
    parts = list(sequences)
    if not parts:
        raise ShapeError("pad_sequence: expected at least one sequence")
    steps = max(len(x) for x in parts)
    missing = [steps - len(x) for x in parts]
    sides = [(n, 0) if padding_side == "left" else (0, n) for n in missing]
    padded = [
        pad(x, (0, 0) * (x.ndim - 1) + side, value=padding_value) if any(side) else x
        for x, side in zip(parts, sides, strict=True)
    ]
    return stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Lengths, batch_first: bool = False) -> list[Tensor]:
    """The sequences (T_n, *) of a padded batch."""
    rows = padded_sequences if batch_first else transpose(padded_sequences, 0, 1)
    ends = on_host(lengths) if isinstance(lengths, Tensor) else lengths
    return [rows[n, : int(end)] for n, end in enumerate(ends)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (T_n, *) packed; see `pack_padded_sequence`."""
    return pack_padded_sequence(pad_sequence(sequences), [len(x) for x in sequences], False, enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences (T_n, *) in the order in which they came."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))
