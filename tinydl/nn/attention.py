"""Multi-head attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Tensor, add
from ..ops.attention import attention_weights, without_unseen
from ..ops.elementwise import where
from ..ops.matmul import linear, matmul
from ..ops.padding import pad
from ..ops.random import Generator, require_probability
from ..ops.reduce import mean
from ..ops.shape import broadcast_to, cat, permute, reshape, squeeze, transpose, unsqueeze
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

    query (L, N, E), key (S, N, kdim) and value (S, N, vdim), or with N in front where `batch_first`.
    in_proj_weight (3E, E) maps to queries, keys and values; where kdim or vdim is not E, q_proj_weight,
    k_proj_weight and v_proj_weight do. `add_bias_kv` adds a learnt key and value that every query sees,
    `add_zero_attn` a key and value of zeros. Returns (output shaped as the query, weights (N, L, S) or None),
    with the added keys in S.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        generator: Generator | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        self.kdim, self.vdim = (embed_dim if size is None else size for size in (kdim, vdim))
        require_sizes(self, embed_dim=embed_dim, num_heads=num_heads, kdim=self.kdim, vdim=self.vdim)
        require_probability("MultiheadAttention", dropout)
        if embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: expected embed_dim divisible by num_heads={num_heads}, got {embed_dim}"
            )
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.batch_first, self.generator = batch_first, generator
        self.add_zero_attn = add_zero_attn
        self.in_proj_weight: Any = None
        self.q_proj_weight: Any = None
        self.k_proj_weight: Any = None
        self.v_proj_weight: Any = None
        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight = self._drawn(3 * embed_dim, embed_dim, dtype)
        else:
            self.q_proj_weight = self._drawn(embed_dim, embed_dim, dtype)
            self.k_proj_weight = self._drawn(embed_dim, self.kdim, dtype)
            self.v_proj_weight = self._drawn(embed_dim, self.vdim, dtype)
        self.in_proj_bias = Parameter(np.zeros(3 * embed_dim, dtype)) if bias else None
        self.bias_k: Any = None
        self.bias_v: Any = None
        if add_bias_kv:
            self.bias_k, self.bias_v = (
                init.xavier_normal_(Parameter(np.empty((1, 1, embed_dim), dtype))) for _ in range(2)
            )
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    @staticmethod
    def _drawn(rows: int, columns: int, dtype: Any) -> Tensor:
        return init.xavier_uniform_(Parameter(np.empty((rows, columns), dtype)))

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
            x.ndim != query.ndim or x.ndim not in (2, 3) or x.shape[-1] != size
            for x, size in ((query, self.embed_dim), (key, self.kdim), (value, self.vdim))
        ):
            sizes = ", ".join(map(str, dict.fromkeys((self.embed_dim, self.kdim, self.vdim))))
            raise ShapeError(
                f"MultiheadAttention: expected query, key, value of 2 or 3 dims, the last {sizes}, "
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
        if not self.batch_first:
            query, key, value = (transpose(x, 0, 1) for x in (query, key, value))
        mask = self._mask(query, key, key_padding_mask, attn_mask)
        heads = () if mask is None or mask.ndim == 2 else (1,)
        key, value = (without_unseen(x, mask, heads) for x in (key, value))
        if is_causal:
            before = constant(query, np.tri(query.shape[1], key.shape[1], dtype=np.bool_))
            mask = where(before, query.dtype.type(0) if mask is None else mask, -math.inf)
        q, k, v = (self._heads(x, part) for part, x in enumerate((query, key, value)))
        k, v, mask = self._extended(k, v, mask)
        rate = self.dropout if self.training else 0.0
        weights = attention_weights(q, k, mask, rate, False, None, self.generator)
        merged = reshape(permute(matmul(weights, v), 0, 2, 1, 3), (q.shape[0], q.shape[2], self.embed_dim))
        out = self.out_proj(merged)
        shown = None if not need_weights else mean(weights, 1) if average_attn_weights else weights
        return out if self.batch_first else transpose(out, 0, 1), shown

    def _heads(self, x: Tensor, part: int) -> Tensor:
        """The part-th third of the projection of x (N, length, size), as (N, heads, length, E / heads)."""
        rows = slice(part * self.embed_dim, (part + 1) * self.embed_dim)
        bias = None if self.in_proj_bias is None else getitem(self.in_proj_bias, rows)
        if self.in_proj_weight is not None:
            weight = getitem(self.in_proj_weight, rows)
        else:
            weight = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[part]
        return self._split(linear(x, weight, bias))

    def _split(self, y: Tensor) -> Tensor:
        """(N, length, E) as (N, heads, length, E / heads)."""
        return permute(
            reshape(y, (*y.shape[:2], self.num_heads, self.embed_dim // self.num_heads)), 0, 2, 1, 3
        )

    def _extended(self, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values with those that are added, which every query sees."""
        size = (k.shape[0], k.shape[1], 1, k.shape[3])
        added = 0
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (
                cat([x, broadcast_to(self._split(b), size)], 2)
                for x, b in ((k, self.bias_k), (v, self.bias_v))
            )
            added += 1
        if self.add_zero_attn:
            nothing = constant(k, np.zeros(size, k.dtype))
            k, v = cat([k, nothing], 2), cat([v, nothing], 2)
            added += 1
        return k, v, pad(mask, (0, added)) if added and mask is not None else mask

    def _mask(
        self, query: Tensor, key: Tensor, padding: Tensor | None, attn_mask: Tensor | None
    ) -> Tensor | None:
        """Both masks as one that is added to the scores (N, heads, L, S)."""
        (batch, steps), keys, heads = query.shape[:2], key.shape[1], self.num_heads
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
