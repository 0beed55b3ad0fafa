"""Rows of a table by their indices."""

from __future__ import annotations

from tinydl_kernels.indexing import check_index
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from ..engine.public import public
from .elementwise import eq, where
from .indexing import index_select, places
from .shape import normalize_dim, reshape, unsqueeze

__all__ = [
    "embedding",
]


@public
def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows weight[input]: indices (*) and a table (V, D) give (*, D).

    No gradient flows into the row `padding_idx`, which may count from the end. As
    torch.nn.functional.embedding.
    """
    if weight.ndim != 2:
        raise ShapeError(f"embedding: expected weight (V, D), got {weight.shape}")
    index = places("embedding", input, weight)
    check_index("embedding", index.array, 0, weight.shape[0])
    rows = reshape(index_select(weight, 0, reshape(index, -1)), (*index.shape, weight.shape[1]))
    if padding_idx is None:
        return rows
    padding = eq(index, normalize_dim("embedding", padding_idx, weight.shape[0]))
    return where(unsqueeze(padding, -1), rows.detach(), rows)
