"""Attention, and what stands beside it in a language model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....engine.core import Tensor
from . import operations as td
from .shapes import moved, taken
from .table import Node, Value, on_host, operator, require, tensor


@operator("Attention", host=(6,))
def attention(
    node: Node,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Value = None,
    past_key: Value = None,
    past_value: Value = None,
    lengths: Any = None,
) -> Any:
    """softmax(softcap(scale · q kᵀ) + mask) v over heads (opsets 23 to 25), 0 where nothing is seen.

    Shapes are (N, heads, L, size), or (N, L, heads · size); a key head serves several query heads.
    """
    precision = node.get("softmax_precision", 1)
    require(node, precision in (1, 11), f"softmax_precision {precision}")
    flat = q.ndim == 3
    if flat:
        heads, key_heads = node.get("q_num_heads"), node.get("kv_num_heads")
        q, k, v = _heads(q, heads), _heads(k, key_heads), _heads(v, key_heads)
    if past_key is not None:
        k, v = td.cat([past_key, k], 2), td.cat([past_value, v], 2)
    present = k, v
    if k.shape[1] != q.shape[1]:
        k, v = (td.repeat_interleave(x, q.shape[1] // k.shape[1], 1) for x in (k, v))
    scale = node.get("scale")
    part = math.sqrt(1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    scores = td.matmul(td.mul(q, part), moved(td.mul(k, part), (0, 1, 3, 2)))
    cap = node.get("softcap", 0.0)
    if cap:
        scores = td.mul(td.tanh(td.div(scores, cap)), cap)
    masked = scores
    if mask is not None and mask.dtype != np.bool_:
        masked = td.add(scores, _reaching(mask, scores, -math.inf))
        mask = None
    seen = _seen(node, scores, mask, 0 if past_key is None else past_key.shape[2], lengths)
    if seen is not None:
        masked = td.where(tensor(seen, scores), masked, -math.inf)
    blind = td.eq(td.amax(masked, -1, True), -math.inf)
    sure = td.where(blind, 0.0, masked)
    sure = td.cast(sure, dtype=np.dtype(np.float64)) if precision == 11 else sure
    weights = td.where(blind, 0.0, td.cast(td.softmax(sure, -1), dtype=q.dtype))
    y = td.matmul(weights, v)
    if flat:
        y = moved(y, (0, 2, 1, 3)).reshape((y.shape[0], y.shape[2], -1))
    kept = (scores, scores if cap else masked, masked, weights)[node.get("qk_matmul_output_mode", 0)]
    return (y, *present, kept)[: len(node.outputs)]


def _heads(x: Tensor, heads: int) -> Tensor:
    """(N, L, heads · size) -> (N, heads, L, size)."""
    return moved(x.reshape((*x.shape[:2], heads, -1)), (0, 2, 1, 3))


def _reaching(mask: Value, scores: Tensor, fill: Any) -> Value:
    """A mask over all keys; what it does not reach has `fill`."""
    rest = scores.shape[-1] - mask.shape[-1]
    if rest <= 0:
        return mask
    if isinstance(mask, Tensor):
        return td.pad(mask, [0, rest], value=fill)
    return np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, rest)], constant_values=fill)


def _seen(node: Node, scores: Tensor, mask: Value, past: int, lengths: Any) -> np.ndarray | None:
    """Which keys a query sees, by the mask, its place and the window around it; None: all."""
    causal, left, right = (
        node.get("is_causal", 0),
        node.get("left_window_size", -1),
        node.get("right_window_size", -1),
    )
    seen = None if mask is None else np.asarray(_reaching(on_host(mask), scores, False))
    if not causal and left < 0 and right < 0 and lengths is None:
        return seen
    rows, columns = scores.shape[-2:]
    key = np.arange(columns)[None, None, None, :]
    first = past if lengths is None else np.reshape(lengths, (-1, 1, 1, 1)) - rows
    query = np.arange(rows)[None, None, :, None] + first
    near = np.ones((1, 1, rows, columns), bool)
    near = near & (key <= query) if causal else near
    near = near & (query - key <= left) if left >= 0 else near
    near = near & (key - query <= right) if right >= 0 else near
    near = near if lengths is None else near & (key < np.reshape(lengths, (-1, 1, 1, 1)))
    return near if seen is None else near & seen


@operator("RotaryEmbedding", host=(3,))
def rotary_embedding(node: Node, x: Tensor, cos: Tensor, sin: Tensor, places: Any = None) -> Tensor:
    """Pairs of the first numbers of each head turned by the angle of its place; x as in Attention."""
    flat = x.ndim == 3
    heads = _heads(x, node.get("num_heads")) if flat else x
    size = node.get("rotary_embedding_dim", 0) or heads.shape[-1]
    if places is not None:
        cos, sin = (taken(v, places, 0) for v in (cos, sin))
    cos, sin = (v.reshape((v.shape[0], 1, *v.shape[1:])) for v in (cos, sin))  # (N, 1, L, size / 2)
    if node.get("interleaved", 0):
        a, b = heads[..., 0:size:2], heads[..., 1:size:2]
    else:
        a, b = heads[..., : size // 2], heads[..., size // 2 : size]
    parts = [td.sub(td.mul(cos, a), td.mul(sin, b)), td.add(td.mul(sin, a), td.mul(cos, b))]
    turned = td.cat(parts, -1)
    if node.get("interleaved", 0):
        turned = td.stack(parts, -1).reshape(turned.shape)
    y = td.cat([turned, heads[..., size:]], -1)
    return moved(y, (0, 2, 1, 3)).reshape(x.shape) if flat else y


@operator("TensorScatter", arrays=True, host=(2,))
def tensor_scatter(node: Node, past: Value, update: Value, first: Any = None) -> Value:
    """A cache (N, ...) with new entries from a place of each sample on."""
    axis, steps = node.get("axis", -2) % past.ndim, update.shape[node.get("axis", -2)]
    places = np.arange(steps) + np.reshape(0 if first is None else first, (-1, 1))  # (N, steps)
    if node.get("mode", "linear") == "circular":
        places = places % past.shape[axis]
    line = places.reshape((-1, *[1] * (axis - 1), steps, *[1] * (past.ndim - axis - 1)))
    index = np.ascontiguousarray(np.broadcast_to(line, update.shape))
    if isinstance(past, Tensor):
        return td.scatter(past, axis, tensor(index, past), update)
    y = past.copy()
    np.put_along_axis(y, index, update, axis)
    return y


@operator("CausalConvWithState", trained=(1, 2))
def causal_conv(node: Node, x: Tensor, w: Tensor, bias: Value = None, past: Value = None) -> Any:
    """Each channel of (N, C, L) with those before it; also the last of them, for the next call."""
    size = w.shape[2] - 1
    longer = td.pad(x, [size, 0]) if past is None else td.cat([past, x], 2)
    y = td.conv1d(longer, w, bias, groups=x.shape[1])
    y = td.silu(y) if node.get("activation", "none") in ("silu", "swish") else y
    return (y, longer[:, :, longer.shape[2] - size :])[: len(node.outputs)]


@operator("LinearAttention")
def linear_attention(
    node: Node, q: Tensor, k: Tensor, v: Tensor, past: Value = None, decay: Value = None, beta: Value = None
) -> Any:
    """A state (N, heads, size of a key, size of a value) that step by step decays, takes up k vᵀ and gives qᵀ
    state; the delta rule takes up what is not there yet. Inputs as in Attention.
    """
    heads, key_heads = node.get("q_num_heads"), node.get("kv_num_heads")
    q, k, v = _heads(q, heads), _heads(k, key_heads), _heads(v, key_heads)
    scale = node.get("scale", 0.0) or 1 / math.sqrt(k.shape[-1])
    state = tensor(np.zeros((*k.shape[:2], k.shape[-1], v.shape[-1]), q.dtype), q) if past is None else past
    factors = None if decay is None else td.unsqueeze(td.exp(_heads(decay, key_heads)), -1)
    rates = None if beta is None else _heads(beta, beta.shape[-1])
    rows = []
    for t in range(q.shape[2]):
        key, new = td.unsqueeze(k[:, :, t], -1), td.unsqueeze(v[:, :, t], -2)
        if factors is not None:
            state = td.mul(state, factors[:, :, t])
        if rates is not None:
            new = td.mul(td.sub(new, td.sum(td.mul(state, key), -2, True)), td.unsqueeze(rates[:, :, t], -1))
        state = td.add(state, td.mul(key, new))
        read = td.repeat_interleave(state, heads // key_heads, 1)
        rows.append(td.sum(td.mul(read, td.unsqueeze(td.mul(q[:, :, t], scale), -1)), -2))
    y = td.stack(rows, 1)  # (N, L, heads, size)
    return (y.reshape((*y.shape[:2], -1)), state)[: len(node.outputs)]
