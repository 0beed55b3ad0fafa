"""Embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from ..ops.embedding import MODES, embedding, embedding_bag
from ..ops.shape import normalize_dim
from . import init
from .checks import layer_dtype, require_real, require_sizes
from .module import Module
from .parameter import Parameter

__all__ = [
    "Embedding",
    "EmbeddingBag",
]


DEFAULTS = {"max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False}


class _Table(Module):
    """A table `weight` (num_embeddings, embedding_dim), and how its rows are looked up."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
        weight: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        dtype, who = layer_dtype(self, dtype), type(self).__name__
        require_sizes(self, 0, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else normalize_dim(who, padding_idx, num_embeddings)
        require_real(self, norm_type=norm_type, max_norm=1.0 if max_norm is None else max_norm)
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        shape = (num_embeddings, embedding_dim)
        self.weight = Parameter(np.empty(shape, dtype) if weight is None else weight)
        if self.weight.shape != shape:
            raise ShapeError(f"{who}: expected _weight {shape}, got {self.weight.shape}")
        if weight is None:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            init.zeros_(Tensor(self.weight.array[self.padding_idx], self.weight.version))

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        sparse = ", sparse=True" if self.sparse else ""
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}{self._settings()}{sparse}"

    def _settings(self) -> str:
        return "".join(
            f", {name}={getattr(self, name)}"
            for name, default in DEFAULTS.items()
            if getattr(self, name) != default
        )


def _given(cls: type, embeddings: Any) -> tuple[int, int, dict[str, Any]]:
    """The sizes of a table that is given, and the settings with which it becomes the weight of a layer."""
    weight = Parameter(embeddings)
    if weight.ndim != 2:
        raise ShapeError(f"{cls.__name__}.from_pretrained: expected embeddings (V, D), got {weight.shape}")
    return (*weight.shape, {"_weight": weight, "dtype": weight.dtype})


class Embedding(_Table):
    """A table of `num_embeddings` vectors: indices (*) to (*, embedding_dim). weight
    (num_embeddings, embedding_dim), N(0, 1).

    The row `padding_idx` starts as zeros and gets no gradient. With `max_norm` the rows that a call asks for
    are first scaled down in place to that norm, of order `norm_type`. With `scale_grad_by_freq` the gradient
    of a row is divided by how often a call asks for it. `sparse` changes nothing: gradients are dense.
    `_weight` is the table, which is copied; `_freeze` leaves it untrained. dtype is the table's, float32 for
    None.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Any = None,
        _freeze: bool = False,
        *,
        dtype: Any = None,
    ) -> None:
        settings = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        super().__init__(num_embeddings, embedding_dim, *settings, _weight, dtype)
        self.weight.requires_grad_(not _freeze)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """An Embedding with the rows of `embeddings` (V, D), which are copied; trained
        only without `freeze`.
        """
        rows, columns, table = _given(cls, embeddings)
        settings = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        return cls(rows, columns, *settings, _freeze=freeze, **table)

    def forward(self, input: Tensor) -> Tensor:
        return embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq
        )


class EmbeddingBag(_Table):
    """A table of `num_embeddings` vectors, and bags of indices: (bags, n), or (n,) of all bags one after the
    other with `offsets` (bags,) where each begins, give (bags, embedding_dim). weight
    (num_embeddings, embedding_dim), N(0, 1).

    A bag gives the "sum", the "mean" or the "max" of its rows, an empty one zeros; a sum takes
    `per_sample_weights`. The row `padding_idx` starts as zeros and takes no part. With `include_last_offset`
    the offsets end with one that begins no bag. The other settings are those of `Embedding`.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Any = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        *,
        dtype: Any = None,
    ) -> None:
        settings = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        super().__init__(num_embeddings, embedding_dim, *settings, _weight, dtype)
        if mode not in MODES:
            raise ValueError(f"EmbeddingBag: expected mode of {', '.join(MODES)}, got {mode!r}")
        self.mode, self.include_last_offset = mode, include_last_offset

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """An EmbeddingBag with the rows of `embeddings` (V, D), which are copied; trained only without
        `freeze`.
        """
        rows, columns, table = _given(cls, embeddings)
        made = cls(
            rows,
            columns,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            mode,
            sparse,
            include_last_offset=include_last_offset,
            padding_idx=padding_idx,
            **table,
        )
        made.weight.requires_grad_(not freeze)
        return made

    def forward(
        self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        return embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{self._settings()}, mode={self.mode!r}{padding}"
