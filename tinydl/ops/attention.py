"""Attention."""

from __future__ import annotations

import math

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Tensor, add
from ..engine.public import public
from .elementwise import mul, ne, where
from .indexing import repeat_interleave
from .matmul import matmul
from .random import Generator, dropout, require_probability
from .reduce import any, max
from .shape import common_shape, transpose, unsqueeze
from .softmax import softmax
from .update import broadcasts

__all__ = [
    "scaled_dot_product_attention",
]


@public
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """softmax(query keyᵀ · scale + mask) value: query (*, L, E), key (*, S, E),
    value (*, S, V) give (*, L, V).

    attn_mask broadcasts to (*, L, S): booleans say which keys take part, numbers are added. `is_causal` lets
    position i see keys up to i. A row whose keys are all masked gives 0 and has no gradient; a key that no
    query sees may hold NaN, one that some query sees may not. Scores that are all -inf without a mask give
    NaN, as with `softmax`. scale is by default 1/√E. Vaswani et al., arXiv 1706.03762. With `enable_gqa`
    heads of the queries (*, Hq, L, E) share those of keys and values (*, H, S, E), in groups of Hq / H that
    follow one another. Ainslie et al., arXiv 2305.13245.
    """
    if enable_gqa:
        key, value = _of_groups(query, key), _of_groups(query, value)
    if key.ndim > 1 and (value.ndim < 2 or value.shape[-2] != key.shape[-2]):
        got = f"{value.shape} and {key.shape}"
        raise ShapeError(
            f"scaled_dot_product_attention: expected value (*, S, V) for key (*, S, E), got {got}"
        )
    weights = attention_weights(query, key, attn_mask, dropout_p, is_causal, scale, generator)
    return matmul(weights, without_unseen(value, attn_mask))


def _of_groups(query: Tensor, x: Tensor) -> Tensor:
    """Keys or values (*, H, S, E), each head as often as it serves one of the queries."""
    heads, shared = (y.shape[-3] if y.ndim > 2 else 0 for y in (query, x))
    if not heads or not shared or heads % shared:
        raise ShapeError(
            "scaled_dot_product_attention: expected heads (*, H, S, E) of keys and values that divide those "
            f"of the queries, got {x.shape} and {query.shape}"
        )
    return x if heads == shared else repeat_interleave(x, heads // shared, -3)


def without_unseen(x: Tensor, mask: Tensor | None, heads: tuple[int, ...] = ()) -> Tensor:
    """Keys or values (*, S, E), with 0 for those that the mask (*, L, S) hides from every query, of all heads
    where those are dims of the mask: what stands there, be it NaN, reaches neither result nor gradient.
    """
    if mask is None or not mask.ndim:
        return x
    sees = mask if mask.dtype.kind == "b" else ne(mask.detach(), -math.inf)
    if mask.ndim > 1:
        sees = any(sees, (*heads, -2))
    return where(unsqueeze(sees, -1), x, 0.0)


def attention_weights(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """The (*, L, S) weights of `scaled_dot_product_attention`."""
    if query.ndim < 2 or key.ndim < 2 or query.shape[-1] != key.shape[-1]:
        got = f"{query.shape} and {key.shape}"
        raise ShapeError(
            f"scaled_dot_product_attention: expected query (*, L, E) and key (*, S, E), got {got}"
        )
    require_probability("scaled_dot_product_attention", dropout_p)
    if is_causal and attn_mask is not None:
        raise ValueError("scaled_dot_product_attention: expected attn_mask or is_causal, got both")
    sizes = query.shape[-2], key.shape[-2]
    if attn_mask is not None and not broadcasts(attn_mask.shape[-2:], sizes):
        raise ShapeError(
            f"scaled_dot_product_attention: expected shapes that broadcast, got "
            f"{(*query.shape[:-2], *sizes)}, {attn_mask.shape}"
        )
    key = without_unseen(key, attn_mask)
    scale = 1 / math.sqrt(query.shape[-1] or 1) if scale is None else scale
    scores = mul(matmul(query, transpose(key, -2, -1)), scale)
    if is_causal:
        attn_mask = constant(query, np.tri(query.shape[-2], key.shape[-2], dtype=np.bool_))
    if attn_mask is not None:
        common_shape("scaled_dot_product_attention", scores, attn_mask)
        if attn_mask.dtype.kind == "b":
            seen = any(attn_mask, -1, keepdim=True) if attn_mask.ndim else attn_mask
            scores = where(attn_mask, scores, where(seen, -math.inf, 0.0))
        else:
            seen = _seen(attn_mask)
            scores = add(scores, where(seen, attn_mask, 0.0))
    weights = softmax(scores, -1)
    if attn_mask is not None and not is_causal:  # of a causal row the first key is seen
        weights = where(seen, weights, 0.0)
    return dropout(weights, dropout_p, dropout_p > 0, generator=generator)


def _seen(mask: Tensor) -> Tensor:
    """Is a number of the rows (*, S) that are added to the scores above -inf?"""
    if not mask.ndim or not mask.shape[-1]:
        return ne(mask, -math.inf)
    return ne(max(mask.detach(), -1, keepdim=True)[0], -math.inf)
