"""Rows of a table by their indices."""

from __future__ import annotations

from tinydl_kernels.indexing import check_index
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, add, no_grad
from ..engine.public import public
from .creation import zeros
from .elementwise import and_masks, div, eq, gt, mul, where
from .indexing import index_select, places, scatter
from .inplace import copy_
from .shape import normalize_dim, reshape, unsqueeze
from .statistics import norm

__all__ = [
    "embedding",
]


@public
def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
) -> Tensor:
    """The rows weight[input]: indices (*) and a table (V, D) give (*, D).

    No gradient flows into the row `padding_idx`, which may count from the end. With `max_norm` the rows that
    are asked for and whose norm (of order `norm_type`) is above it are first scaled down to it, in place. As
    torch.nn.functional.embedding.
    """
    if weight.ndim != 2:
        raise ShapeError(f"embedding: expected weight (V, D), got {weight.shape}")
    index = places("embedding", input, weight)
    check_index("embedding", index.array, 0, weight.shape[0])
    if max_norm is not None:
        _renormalize(weight, reshape(index, -1), max_norm, norm_type)
    rows = reshape(index_select(weight, 0, reshape(index, -1)), (*index.shape, weight.shape[1]))
    if padding_idx is None:
        return rows
    padding = eq(index, normalize_dim("embedding", padding_idx, weight.shape[0]))
    return where(unsqueeze(padding, -1), rows.detach(), rows)


def _renormalize(weight: Tensor, index: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale the rows of these numbers down to `max_norm`; the others keep their bits."""
    with no_grad():
        table = weight.detach()
        asked = scatter(zeros(weight.shape[0], dtype="bool", device=weight.device), 0, index, True)
        lengths = norm(table, norm_type, 1)
        beyond = unsqueeze(and_masks(asked, gt(lengths, table.dtype.type(max_norm))), 1)
        factor = div(table.dtype.type(max_norm), add(lengths, table.dtype.type(1e-7)))  # PyTorch's
        copy_(weight, where(beyond, mul(table, unsqueeze(factor, 1)), table))
