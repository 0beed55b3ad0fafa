"""Rows of a table by their indices, and bags of such rows reduced to one."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels import elementwise
from tinydl_kernels import indexing as kernels
from tinydl_kernels.indexing import check_index
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Array, Tensor, add, no_grad, primitive
from ..engine.public import public
from .creation import zeros
from .elementwise import div, eq, gt, logical_and, maximum, mul, sub, where
from .indexing import _filled, _gather, _scatter, _scatter_add, index_select, places, scatter
from .inplace import copy_
from .scan import cumsum
from .shape import flip, narrow, normalize_dim, reshape, unsqueeze
from .sort import argsort
from .statistics import norm

__all__ = [
    "embedding",
    "embedding_bag",
]

MODES = ("sum", "mean", "max")


@primitive(constant=("index", "times"))
def _shared_rows(weight: Array, index: Array, times: Array) -> Array:
    """weight[index], index (n, 1). Back to the table goes each row's gradient divided by `times` (n, 1),
    which is no derivative but what is asked for.
    """
    return kernels.gather(weight, index, 0)


@primitive(constant=("index", "times"))
def _shared_sums(g: Array, index: Array, times: Array, *, size: int) -> Array:
    """Zeros (size, D) with g / times added at `index`."""
    return kernels.scatter_add(elementwise.div(g, times), index, size, 0)


_shared_rows.rule(
    weight=lambda g, index, times, weight_shape: _shared_sums(g, index, times, size=weight_shape[0])
)
_shared_sums.rule(g=lambda h, index: _gather(h, index, dim=0))  # PyTorch's: once divided is enough


@public
def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows weight[input]: indices (*) and a table (V, D) give (*, D).

    No gradient flows into the row `padding_idx`, which may count from the end. With `max_norm` the rows that
    are asked for and whose norm (of order `norm_type`) is above it are first scaled down to it, in place.
    With `scale_grad_by_freq` the gradient of a row is divided by how often it is asked for. `sparse` changes
    nothing: gradients are dense. As torch.nn.functional.embedding.
    """
    index = _looked_up("embedding", input, weight, max_norm, norm_type)
    rows = reshape(_rows(weight, reshape(index, -1), scale_grad_by_freq), (*index.shape, weight.shape[1]))
    if padding_idx is None:
        return rows
    padding = eq(index, normalize_dim("embedding", padding_idx, weight.shape[0]))
    return where(unsqueeze(padding, -1), rows.detach(), rows)


@public
def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The rows weight[input] of each bag, reduced to one: (bags, D) of a table (V, D). Empty bags give zeros.

    Args:
        input: indices (bags, n), or (n,) of all bags one after the other.
        offsets: of an input (n,) alone: where each bag begins, (bags,); the first at 0, none before the last.
        max_norm, norm_type, scale_grad_by_freq, sparse: as of `embedding`. "max" takes no scaled gradients.
        mode: "sum", "mean" or "max"; of equal largest values the first has the gradient.
        per_sample_weights: in the shape of the input and the dtype of the table, for "sum": what each row is
            multiplied by.
        include_last_offset: the offsets end with one that begins no bag.
        padding_idx: this row takes no part in its bags.

    As torch.nn.functional.embedding_bag.
    """
    if mode not in MODES:
        raise ValueError(f"embedding_bag: expected mode of {', '.join(MODES)}, got {mode!r}")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("embedding_bag: expected scale_grad_by_freq=False in mode 'max', got True")
    index = _looked_up("embedding_bag", input, weight, max_norm, norm_type)
    bag, bags = _bags(index, offsets, include_last_offset)
    shape, index = index.shape, reshape(index, -1)
    rows = _rows(weight, index, scale_grad_by_freq)
    if per_sample_weights is not None:
        if mode != "sum":
            raise ValueError(f"embedding_bag: expected per_sample_weights in mode 'sum' alone, got {mode!r}")
        if per_sample_weights.shape != shape:
            raise ShapeError(
                f"embedding_bag: expected per_sample_weights {shape} as the input, got "
                f"{per_sample_weights.shape}"
            )
        rows = mul(rows, reshape(per_sample_weights, -1, 1))
    bag = unsqueeze(bag, 1)
    if padding_idx is not None:  # to a bag behind all others
        padding = eq(index, normalize_dim("embedding_bag", padding_idx, weight.shape[0]))
        bag = where(unsqueeze(padding, 1), bags, bag)
    if mode == "max":
        return _largest(rows, bag, bags)
    sums = narrow(_scatter_add(rows, bag, size=bags + 1, dim=0), 0, 0, bags)
    if mode == "sum":
        return sums
    count = narrow(_scatter_add(_filled(rows, bag.shape, 1), bag, size=bags + 1, dim=0), 0, 0, bags)
    return div(sums, maximum(count, 1.0))


def _looked_up(who: str, input: Any, weight: Tensor, max_norm: float | None, norm_type: float) -> Tensor:
    """The indices, which are rows of the table; these are scaled down to `max_norm`."""
    if weight.ndim != 2:
        raise ShapeError(f"{who}: expected weight (V, D), got {weight.shape}")
    index = places(who, input, weight)
    check_index(who, index.array, 0, weight.shape[0])
    if max_norm is not None:
        _renormalize(weight, reshape(index, -1), max_norm, norm_type)
    return index


def _rows(weight: Tensor, index: Tensor, shared: bool) -> Tensor:
    """weight[index]; shared: the gradient of a row is divided by how often it is asked for."""
    if not shared:
        return index_select(weight, 0, index)
    ones = _filled(weight, index.shape, 1)
    times = index_select(_scatter_add(ones, index, size=weight.shape[0], dim=0), 0, index)
    return _shared_rows(weight, unsqueeze(index, 1), unsqueeze(times, 1))


def _bags(index: Tensor, offsets: Tensor | None, include_last_offset: bool) -> tuple[Tensor, int]:
    """The bag of each index, (n,), and how many bags there are."""
    if index.ndim == 2 and offsets is None:
        bags, n = index.shape
        return constant(index, np.repeat(np.arange(bags), n)), bags
    if index.ndim != 1 or offsets is None:
        got = "none" if offsets is None else "some"
        raise ShapeError(
            f"embedding_bag: expected input (bags, n), or (n,) with offsets, got {index.shape} with {got}"
        )
    starts, n = places("embedding_bag", offsets, index), index.shape[0]
    if starts.ndim != 1 or not starts.shape[0]:
        raise ShapeError(f"embedding_bag: expected offsets (bags,), one at least, got {starts.shape}")
    check_index("embedding_bag", starts.array, 0, n + 1)
    told = starts.array
    if isinstance(told, np.ndarray) and (told[0] or (told[1:] < told[:-1]).any()):
        raise ValueError(
            f"embedding_bag: expected offsets that begin at 0 and do not fall, got {told.tolist()}"
        )
    bags = starts.shape[0] - include_last_offset
    starts = narrow(starts, 0, 0, bags)
    begun = _scatter_add(_filled(index, starts.shape, 1), starts, size=n + 1, dim=0)
    return sub(narrow(cumsum(begun, 0), 0, 0, n), 1), bags


def _largest(rows: Tensor, bag: Tensor, bags: int) -> Tensor:
    """The largest of each column (bags, D). Put to their bags from the smallest on, the best stays."""
    if not rows.array.size:
        return narrow(_scatter_add(rows, bag, size=bags + 1, dim=0), 0, 0, bags)
    order = flip(argsort(rows.detach(), 0, descending=True), (0,))  # of equal ones the first comes last
    owner = index_select(reshape(bag, -1), 0, reshape(order, -1))
    nobody = _filled(order, (bags + 1, rows.shape[1]), -1)
    best = narrow(_scatter(nobody, order, reshape(owner, order.shape), dim=0), 0, 0, bags)
    empty = eq(best, -1)
    return where(empty, 0.0, _gather(rows, where(empty, 0, best), dim=0))


def _renormalize(weight: Tensor, index: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale the rows of these numbers down to `max_norm`; the others keep their bits."""
    with no_grad():
        table = weight.detach()
        asked = scatter(zeros(weight.shape[0], dtype="bool", device=weight.device), 0, index, True)
        lengths = norm(table, norm_type, 1)
        beyond = unsqueeze(logical_and(asked, gt(lengths, table.dtype.type(max_norm))), 1)
        factor = div(table.dtype.type(max_norm), add(lengths, table.dtype.type(1e-7)))  # PyTorch's
        copy_(weight, where(beyond, mul(table, unsqueeze(factor, 1)), table))
