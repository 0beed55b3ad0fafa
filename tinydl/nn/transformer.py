"""Transformers: layers of attention and of two linear maps, stacks of them, and the pair of an encoder and a
decoder. Vaswani et al., arXiv 1706.03762; `norm_first`: Xiong et al., arXiv 2002.04745.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, add
from ..ops.activations import gelu
from ..ops.creation import tensor
from ..ops.elementwise import relu
from ..ops.random import Generator
from . import init
from .attention import MultiheadAttention
from .checks import layer_dtype, require_sizes
from .containers import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .normalization import LayerNorm

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]

Activation = str | Callable[[Tensor], Tensor]
NAMED: dict[str, Callable[[Tensor], Tensor]] = {"relu": relu, "gelu": gelu}


class _Layer(Module):
    """What the layers of encoders and decoders share: the sublayers' order, and the two linear maps."""

    def _made(
        self, norms: int, d_model: int, dim_feedforward: int, dropout: float, activation: Activation,
        layer_norm_eps: float, norm_first: bool, bias: bool, generator: Generator | None, dtype: Any,
    ) -> None:  # fmt: skip
        require_sizes(self, d_model=d_model, dim_feedforward=dim_feedforward)
        if isinstance(activation, str) and activation not in NAMED:
            raise ValueError(
                f"{type(self).__name__}: expected activation 'relu', 'gelu' or a function, got {activation!r}"
            )
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype)
        self.dropout = Dropout(dropout, generator=generator)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype)
        self.norm_first = norm_first
        for number in range(1, norms + 1):
            setattr(self, f"norm{number}", LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype))
        for number in range(1, norms + 1):
            setattr(self, f"dropout{number}", Dropout(dropout, generator=generator))
        self.activation: Any = NAMED[activation] if isinstance(activation, str) else activation

    def _around(self, number: int, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """x + dropout(sublayer(x)), normalized behind the sum, or before the sublayer (`norm_first`)."""
        norm, dropout = getattr(self, f"norm{number}"), getattr(self, f"dropout{number}")
        if self.norm_first:
            return add(x, dropout(sublayer(norm(x))))
        return norm(add(x, dropout(sublayer(x))))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_Layer):
    """Self-attention, then linear, activation, linear, each with dropout and a skip connection.

    src (S, N, E), or (N, S, E) where `batch_first`, or (S, E). Masks as those of `MultiheadAttention`: True
    leaves a key out. dtype is that of the parameters, float32 for None.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        generator: Generator | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, generator=generator, dtype=dtype
        )
        self._made(2, d_model, dim_feedforward, dropout, activation, layer_norm_eps, norm_first, bias,
                   generator, dtype)  # fmt: skip

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Shaped as src. `is_causal` leaves later keys out, with or without a mask."""

        def attention(x: Tensor) -> Tensor:
            return self.self_attn(
                x, x, x, src_key_padding_mask, need_weights=False, attn_mask=src_mask, is_causal=is_causal
            )[0]

        return self._around(2, self._around(1, src, attention), self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's output (`memory`), then linear, activation, linear.

    tgt (T, N, E) and memory (S, N, E), N first where `batch_first`, or without N. As
    `TransformerEncoderLayer` otherwise.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        generator: Generator | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        self.self_attn, self.multihead_attn = (
            MultiheadAttention(
                d_model, nhead, dropout, bias, batch_first=batch_first, generator=generator, dtype=dtype
            )
            for _ in range(2)
        )
        self._made(3, d_model, dim_feedforward, dropout, activation, layer_norm_eps, norm_first, bias,
                   generator, dtype)  # fmt: skip

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Shaped as tgt."""

        def to_itself(x: Tensor) -> Tensor:
            return self.self_attn(
                x, x, x, tgt_key_padding_mask, need_weights=False, attn_mask=tgt_mask, is_causal=tgt_is_causal
            )[0]

        def to_memory(x: Tensor) -> Tensor:
            return self.multihead_attn(
                x, memory, memory, memory_key_padding_mask,
                need_weights=False, attn_mask=memory_mask, is_causal=memory_is_causal,
            )[0]  # fmt: skip

        x = self._around(2, self._around(1, tgt, to_itself), to_memory)
        return self._around(3, x, self._feed_forward)


def _copies(who: Module, layer: Module, count: int) -> ModuleList:
    """Layers with equal weights, as in PyTorch; generators stay one stream for all."""
    require_sizes(who, num_layers=count)
    shared = {id(m.generator): m.generator for m in layer.modules() if getattr(m, "generator", None)}
    return ModuleList([copy.deepcopy(layer, dict(shared)) for _ in range(count)])


class TransformerEncoder(Module):
    """`num_layers` copies of a layer, one behind the other, then `norm` if there is one.

    `enable_nested_tensor` and `mask_check` are taken for PyTorch's sake and have no meaning.
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = _copies(self, encoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Shaped as src."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """`num_layers` copies of a decoder's layer, one behind the other, then `norm` if there is one."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _copies(self, decoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Shaped as tgt."""
        for layer in self.layers:
            tgt = layer(
                tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                bool(tgt_is_causal), memory_is_causal,
            )  # fmt: skip
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """An encoder of src (S, N, E) and a decoder of tgt (T, N, E) that sees what the encoder puts out.

    N first where `batch_first`, or without N. `custom_encoder` and `custom_decoder` take the places of those
    that the sizes describe.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = relu,
        custom_encoder: Any = None,
        custom_decoder: Any = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        generator: Generator | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dtype = layer_dtype(self, dtype)
        settings = (
            d_model,
            nhead,
            dim_feedforward,
            dropout,
            activation,
            layer_norm_eps,
            batch_first,
            norm_first,
            bias,
        )

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*settings, generator=generator, dtype=dtype), num_encoder_layers, norm()
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*settings, generator=generator, dtype=dtype), num_decoder_layers, norm()
        )
        for p in self.parameters():
            if p.ndim > 1:
                init.xavier_uniform_(p)
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Shaped as tgt."""
        if src.ndim != tgt.ndim or {src.shape[-1:], tgt.shape[-1:]} != {(self.d_model,)}:
            raise ShapeError(
                f"Transformer: expected src and tgt of as many dims, the last {self.d_model}, got "
                f"{src.shape} and {tgt.shape}"
            )
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
            tgt_is_causal, memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """(sz, sz): 0 up to the diagonal and -inf above it, to be added to scores."""
        mask = np.triu(np.full((sz, sz), -math.inf, np.float32), 1)
        return tensor(mask, dtype=dtype or np.float32, device=device or "cpu")
