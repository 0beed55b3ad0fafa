"""Embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from ..ops.embedding import embedding
from ..ops.shape import normalize_dim
from . import init
from .checks import layer_dtype, require_sizes
from .module import Module
from .parameter import Parameter

__all__ = [
    "Embedding",
]


class Embedding(Module):
    """A table of `num_embeddings` vectors: indices (*) to (*, embedding_dim). weight
    (num_embeddings, embedding_dim), N(0, 1).

    The row `padding_idx` starts as zeros and gets no gradient.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, dtype: Any = None
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        require_sizes(self, 0, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = (
            None if padding_idx is None else normalize_dim("Embedding", padding_idx, num_embeddings)
        )
        self.weight = Parameter(np.empty((num_embeddings, embedding_dim), dtype))
        self.reset_parameters()

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None
    ) -> Embedding:
        """An Embedding with the rows of `embeddings` (V, D), which are copied; trained
        only without `freeze`.
        """
        weight = Parameter(embeddings)
        if weight.ndim != 2:
            raise ShapeError(f"Embedding.from_pretrained: expected embeddings (V, D), got {weight.shape}")
        layer = cls(weight.shape[0], weight.shape[1], padding_idx, weight.dtype)
        layer.weight = weight.requires_grad_(not freeze)
        return layer

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            init.zeros_(Tensor(self.weight.array[self.padding_idx], self.weight.version))

    def forward(self, input: Tensor) -> Tensor:
        return embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
