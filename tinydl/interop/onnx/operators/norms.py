"""Normalizations and attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....engine.core import Tensor
from . import operations as td
from .shapes import moved
from .table import Node, Value, on_host, operator, require, tensor


def _per_channel(v: Tensor, ndim: int) -> Tensor:
    return v.reshape((1, -1) + (1,) * (ndim - 2))


def _scaled(x: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if scale is None else td.mul(x, scale)
    return x if bias is None else td.add(x, bias)


@operator("BatchNormalization", trained=(1, 2))
def batch_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Any:
    """In training also the running statistics that follow: those of the population, old · momentum + new ·
    (1 - momentum).
    """
    eps, momentum = node.get("epsilon", 1e-5), node.get("momentum", 0.9)
    if not node.get("training_mode", 0):
        return td.batch_norm(x, mean, var, scale, bias, eps=eps)
    require(node, node.opset >= 14, "training mode below opset 14")
    y = td.batch_norm(x, None, None, scale, bias, training=True, eps=eps)
    found_var, found_mean = td.var_mean(x, [0, *range(2, x.ndim)], correction=0)
    running = [
        td.add(td.mul(old, momentum), td.mul(new, 1 - momentum))
        for old, new in ((mean, found_mean), (var, found_var))
    ]
    return (y, *running)[: len(node.outputs)]


@operator("InstanceNormalization", trained=(1, 2))
def instance_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return td.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@operator("LayerNormalization", trained=(1, 2))
def layer_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    axis, eps = node.get("axis", -1) % x.ndim, node.get("epsilon", 1e-5)
    dims = tuple(range(axis, x.ndim))
    whole = scale.shape == x.shape[axis:] and (bias is None or bias.shape == scale.shape)
    if len(node.outputs) == 1 and whole:
        return td.layer_norm(x, x.shape[axis:], scale, bias, eps)
    var, mean = td.var_mean(x, dims, keepdim=True, correction=0)
    spread = td.rsqrt(td.add(var, eps))
    return (_scaled(td.mul(td.sub(x, mean), spread), scale, bias), mean, spread)[: len(node.outputs)]


@operator("GroupNormalization", trained=(1, 2))
def group_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Before opset 21 scale and bias are of groups."""
    groups = node.get("num_groups")
    if node.opset < 21:
        each = x.shape[1] // groups
        scale, bias = (td.repeat_interleave(v, each) for v in (scale, bias))
    return td.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


@operator("RMSNormalization", trained=(1,))
def rms_normalization(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    dims = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    squares = td.mean(td.square(x), dims, True)
    return td.mul(td.mul(x, td.rsqrt(td.add(squares, node.get("epsilon", 1e-5)))), scale)


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, x: Tensor) -> Tensor:
    dims = tuple(node.get("axes", [0, 2, 3]))
    var, mean = td.var_mean(x, dims, keepdim=True, correction=0)
    return td.div(td.sub(x, mean), td.add(td.sqrt(var), 1e-9))


@operator("LRN")
def lrn(node: Node, x: Tensor) -> Tensor:
    """The window of an even size has its odd cell at the end."""
    size, alpha, beta, k = (
        node.get("size"),
        node.get("alpha", 1e-4),
        node.get("beta", 0.75),
        node.get("bias", 1.0),
    )
    squares = td.pad(td.square(x), [0, 0] * (x.ndim - 2) + [(size - 1) // 2, size // 2])
    total = squares[:, : x.shape[1]]
    for i in range(1, size):
        total = td.add(total, squares[:, i : i + x.shape[1]])
    return td.div(x, td.pow(td.add(td.mul(total, alpha / size), k), beta))


@operator("LpNormalization")
def lp_normalization(node: Node, x: Tensor) -> Tensor:
    """Zeros stay zeros."""
    length = td.norm(x, node.get("p", 2), node.get("axis", -1), True)
    zero = td.eq(length, 0.0)
    return td.where(zero, 0.0, td.div(x, td.where(zero, 1.0, length)))


# ---- Attention


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
    precision = node.get("softmax_precision")
    require(node, precision in (None, 1) or (precision, q.dtype.name) == (11, "float64"), "softmax_precision")
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
    weights = td.where(blind, 0.0, td.softmax(td.where(blind, 0.0, masked), -1))
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
