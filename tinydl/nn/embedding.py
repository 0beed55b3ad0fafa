"""Embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from ..ops.embedding import embedding
from ..ops.shape import normalize_dim
from . import init
from .checks import layer_dtype, require_real, require_sizes
from .module import Module
from .parameter import Parameter

__all__ = [
    "Embedding",
]


class Embedding(Module):
    """A table of `num_embeddings` vectors: indices (*) to (*, embedding_dim). weight
    (num_embeddings, embedding_dim), N(0, 1).

    The row `padding_idx` starts as zeros and gets no gradient. With `max_norm` the rows that a call asks for
    are first scaled down in place to that norm, of order `norm_type`. `_weight` is the table, which is
    copied; `_freeze` leaves it untrained. dtype is that of the table, float32 for None.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        *,
        _weight: Any = None,
        _freeze: bool = False,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(self, 0, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = (
            None if padding_idx is None else normalize_dim("Embedding", padding_idx, num_embeddings)
        )
        require_real(self, norm_type=norm_type, max_norm=1.0 if max_norm is None else max_norm)
        self.max_norm, self.norm_type = max_norm, norm_type
        self.weight = Parameter(
            np.empty((num_embeddings, embedding_dim), dtype) if _weight is None else _weight
        )
        if self.weight.shape != (num_embeddings, embedding_dim):
            raise ShapeError(
                f"Embedding: expected _weight {(num_embeddings, embedding_dim)}, got {self.weight.shape}"
            )
        if _weight is None:
            self.reset_parameters()
        self.weight.requires_grad_(not _freeze)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
    ) -> Embedding:
        """An Embedding with the rows of `embeddings` (V, D), which are copied; trained
        only without `freeze`.
        """
        weight = Parameter(embeddings)
        if weight.ndim != 2:
            raise ShapeError(f"Embedding.from_pretrained: expected embeddings (V, D), got {weight.shape}")
        rows, columns = weight.shape
        return cls(
            rows,
            columns,
            padding_idx,
            max_norm,
            norm_type,
            _weight=weight,
            _freeze=freeze,
            dtype=weight.dtype,
        )

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            init.zeros_(Tensor(self.weight.array[self.padding_idx], self.weight.version))

    def forward(self, input: Tensor) -> Tensor:
        return embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        bound = "" if self.max_norm is None else f", max_norm={self.max_norm}"
        order = "" if self.norm_type == 2 else f", norm_type={self.norm_type}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}{bound}{order}"
