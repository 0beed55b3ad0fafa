"""Transformers and what they are made of; without dropout, which has rows of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from tinydl import nn

from .layers import _attention, layer
from .row import Row, V

E, HIDDEN = 4, 3
ATTENTION = [(3 * E, E), (3 * E,), (E, E), (E,)]
LINEAR = [(HIDDEN, E), (HIDDEN,), (E, HIDDEN), (E,)]
NORM = [(E,), (E,)]
ENCODER, DECODER = [*ATTENTION, *LINEAR, *NORM * 2], [*ATTENTION * 2, *LINEAR, *NORM * 3]
SIZES = (E, 2, HIDDEN, 0.0)


def _norm(x: Any, w: Any, b: Any) -> Any:
    centered = x - x.mean(-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5) * w + b


def _linear(x: Any, w: Any, b: Any, v: Any, c: Any) -> Any:
    return np.maximum(x @ w.T + b, 0) @ v.T + c


def _encoder_layer(x: Any, *p: Any) -> Any:
    x = _norm(x + _attention(x, x, x, *p[:4])[0], *p[8:10])
    return _norm(x + _linear(x, *p[4:8]), *p[10:])


def _encoder_layer_norm_first(x: Any, *p: Any) -> Any:
    z = _norm(x, *p[8:10])
    x = x + _attention(z, z, z, *p[:4])[0]
    return x + _linear(_norm(x, *p[10:]), *p[4:8])


def _decoder_layer(x: Any, memory: Any, *p: Any) -> Any:
    x = _norm(x + _attention(x, x, x, *p[:4])[0], *p[12:14])
    x = _norm(x + _attention(x, memory, memory, *p[4:8])[0], *p[14:16])
    return _norm(x + _linear(x, *p[8:12]), *p[16:])


def _encoder(x: Any, *p: Any) -> Any:
    for first in range(0, len(p) - 2, len(ENCODER)):
        x = _encoder_layer(x, *p[first : first + len(ENCODER)])
    return _norm(x, *p[-2:])


def _decoder(x: Any, memory: Any, *p: Any) -> Any:
    return _norm(_decoder_layer(x, memory, *p[:-2]), *p[-2:])


def _transformer(x: Any, y: Any, *p: Any) -> Any:
    ends = len(ENCODER) + 2
    return _decoder(y, _encoder(x, *p[:ends]), *p[ends:])


def _made(kind: str, count: int) -> Any:
    """A stack with a norm at its end."""
    return lambda dtype: getattr(nn, f"Transformer{kind}")(
        getattr(nn, f"Transformer{kind}Layer")(*SIZES, dtype=dtype), count, nn.LayerNorm(E, dtype=dtype)
    )


ROWS: list[Row] = [
    *layer(
        "TransformerEncoderLayer",
        lambda dtype: nn.TransformerEncoderLayer(*SIZES, dtype=dtype),
        [[(3, 2, E), *ENCODER]],
        _encoder_layer,
        order=2,
        bad=[((V,), ShapeError, "expected")],
    ),
    *layer(
        "TransformerEncoderLayer norm_first",
        lambda dtype: nn.TransformerEncoderLayer(*SIZES, norm_first=True, dtype=dtype),
        [[(3, 2, E), *ENCODER]],
        _encoder_layer_norm_first,
        order=2,
    ),
    *layer(
        "TransformerDecoderLayer",
        lambda dtype: nn.TransformerDecoderLayer(*SIZES, dtype=dtype),
        [[(3, 2, E), (5, 2, E), *DECODER]],
        _decoder_layer,
        inputs=2,
        order=2,
        bad=[((V, V), ShapeError, "expected")],
    ),
    *layer(
        "TransformerEncoder",
        _made("Encoder", 2),
        [[(2, 2, E), *ENCODER * 2, *NORM]],
        _encoder,
        order=2,
    ),
    *layer(
        "TransformerDecoder",
        _made("Decoder", 1),
        [[(2, 2, E), (3, 2, E), *DECODER, *NORM]],
        _decoder,
        inputs=2,
        order=2,
    ),
    *layer(
        "Transformer",
        lambda dtype: nn.Transformer(E, 2, 1, 1, HIDDEN, 0.0, dtype=dtype),
        [[(2, 2, E), (3, 2, E), *ENCODER, *NORM, *DECODER, *NORM]],
        _transformer,
        inputs=2,
        order=2,
        bad=[((V, V), ShapeError, "Transformer: expected src and tgt of as many dims, the last 4, got")],
    ),
]
