"""Multi-head attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Tensor, add
from ..ops.attention import attention_weights
from ..ops.elementwise import where
from ..ops.matmul import linear, matmul
from ..ops.random import Generator, require_probability
from ..ops.reduce import mean
from ..ops.shape import permute, reshape, squeeze, transpose, unsqueeze
from ..ops.subscript import getitem
from . import init
from .checks import layer_dtype, require_sizes
from .linear import Linear
from .module import Module
from .parameter import Parameter

__all__ = [
    "MultiheadAttention",
]


class MultiheadAttention(Module):
    """Attention in `num_heads` subspaces. Vaswani et al., arXiv 1706.03762.

    query (L, N, E), key and value (S, N, E), or (N, L, E) and (N, S, E) with `batch_first`. in_proj_weight
    (3E, E) maps to queries, keys and values. Returns (output shaped as the query, weights (N, L, S) or None).
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        batch_first: bool = False,
        generator: Generator | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(self, embed_dim=embed_dim, num_heads=num_heads)
        require_probability("MultiheadAttention", dropout)
        if embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: expected embed_dim divisible by num_heads={num_heads}, got {embed_dim}"
            )
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.batch_first, self.generator = batch_first, generator
        self.in_proj_weight = init.xavier_uniform_(Parameter(np.empty((3 * embed_dim, embed_dim), dtype)))
        self.in_proj_bias = Parameter(np.zeros(3 * embed_dim, dtype)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Masks are PyTorch's here: True in `key_padding_mask` (N, S) or a boolean
        `attn_mask` leaves a key *out*.

        attn_mask is (L, S), or (N · num_heads, L, S); numbers in it are added to the scores. `is_causal`
        leaves keys out beside what the masks do. A query without a key has weights of 0. One sample may
        come without N.
        """
        if any(
            x.ndim != query.ndim or x.ndim not in (2, 3) or x.shape[-1] != self.embed_dim
            for x in (query, key, value)
        ):
            raise ShapeError(
                f"MultiheadAttention: expected query, key, value of 2 or 3 dims, the last {self.embed_dim}, "
                f"got {query.shape}, {key.shape}, {value.shape}"
            )
        if query.ndim == 2:
            batch = 0 if self.batch_first else 1
            query, key, value = (unsqueeze(x, batch) for x in (query, key, value))
            padding = None if key_padding_mask is None else unsqueeze(key_padding_mask, 0)
            out, shown = self.forward(
                query, key, value, padding, need_weights, attn_mask, average_attn_weights, is_causal
            )
            return squeeze(out, batch), None if shown is None else squeeze(shown, 0)
        heads = [self._heads(x, part) for part, x in enumerate((query, key, value))]
        mask = self._mask(heads[0], heads[1], key_padding_mask, attn_mask)
        if is_causal and mask is not None:
            before = constant(query, np.tri(heads[0].shape[2], heads[1].shape[2], dtype=np.bool_))
            mask = where(before, mask, -math.inf)
        rate = self.dropout if self.training else 0.0
        weights = attention_weights(
            heads[0], heads[1], mask, rate, is_causal and mask is None, None, self.generator
        )
        merged = reshape(
            permute(matmul(weights, heads[2]), 0, 2, 1, 3), (heads[0].shape[0], -1, self.embed_dim)
        )
        out = self.out_proj(merged)
        shown = None if not need_weights else mean(weights, 1) if average_attn_weights else weights
        return out if self.batch_first else transpose(out, 0, 1), shown

    def _heads(self, x: Tensor, part: int) -> Tensor:
        """The part-th third of the projection, as (N, heads, length, E / heads)."""
        rows = slice(part * self.embed_dim, (part + 1) * self.embed_dim)
        bias = None if self.in_proj_bias is None else getitem(self.in_proj_bias, rows)
        y = linear(x if self.batch_first else transpose(x, 0, 1), getitem(self.in_proj_weight, rows), bias)
        return permute(
            reshape(y, (*y.shape[:2], self.num_heads, self.embed_dim // self.num_heads)), 0, 2, 1, 3
        )

    @staticmethod
    def _mask(query: Tensor, key: Tensor, padding: Tensor | None, attn_mask: Tensor | None) -> Tensor | None:
        """Both masks as one that is added to the scores (N, heads, L, S)."""
        (batch, heads, steps), keys = query.shape[:3], key.shape[2]
        added: Any = None
        for name, mask, shapes in (
            ("key_padding_mask", padding, {(batch, keys): (batch, 1, 1, keys)}),
            (
                "attn_mask",
                attn_mask,
                {(steps, keys): (steps, keys), (batch * heads, steps, keys): (batch, heads, steps, keys)},
            ),
        ):
            if mask is not None:
                if mask.shape not in shapes:
                    wanted = " or ".join(map(str, shapes))
                    raise ShapeError(f"MultiheadAttention: expected {name} {wanted}, got {mask.shape}")
                m = reshape(mask, shapes[mask.shape])
                m = where(m, -math.inf, query.dtype.type(0)) if m.dtype.kind == "b" else m
                added = m if added is None else add(added, m)
        return added

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, batch_first={self.batch_first}"
